/**
 * Manifests: both shapes, JSON and YAML, what is refused and how.
 *
 * @module
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { FormationError, memberDocument, readManifest, RESTART_NEVER } from "#lib/formation/mod.ts";
import { campaign } from "#tests/support/campaign.ts";

const FLAT = {
  name: "build-1",
  coordinator: "lead",
  members: [{ id: "lead" }, { id: "worker-a", authorizedBy: "lead" }],
};

function problemsOf(run: () => unknown): readonly string[] {
  try {
    run();
  } catch (error) {
    assert(error instanceof FormationError, String(error));
    assertEquals(error.kind, "BadRequest");
    return error.problems;
  }
  return [];
}

Deno.test("manifest: the flat shape and kubectl's come to the same", () => {
  const flat = readManifest(FLAT);
  const { name, ...spec } = FLAT;
  const head = { apiVersion: "cellos.io/v1", kind: "Formation" };
  const shapes = [
    { ...head, metadata: { name }, spec },
    { ...head, spec: FLAT },
    { ...head, name, spec },
    { ...head, ...FLAT },
    { ...FLAT, coordinator: { id: "lead" } },
  ];
  for (const document of shapes) {
    const read = readManifest(document);
    assertEquals([read.name, read.coordinators, read.members], [
      "build-1",
      ["lead"],
      flat.members,
    ]);
    assertEquals(read.document === document, true);
  }
});

Deno.test("manifest: members that nobody knows stay in the document", () => {
  const document = { ...FLAT, odd: { deep: [1, null] }, members: [{ id: "lead", note: "x" }] };
  assertEquals(readManifest(document).document, document);
});

Deno.test("manifest: a coordinator may be marked at the member, and several are all found", () => {
  const named = (fields: object, members: object[]) =>
    readManifest({ name: "n", members, ...fields }).coordinators;
  assertEquals(named({}, [{ id: "a", role: "coordinator" }, { id: "b" }]), ["a"]);
  assertEquals(named({}, [{ id: "a", coordinator: true }, { id: "b", coordinator: true }]), [
    "a",
    "b",
  ]);
  assertEquals(named({ coordinator: "a" }, [{ id: "a", coordinator: true }]), ["a"]);
  assertEquals(named({ coordinators: ["a", { id: "b" }] }, [{ id: "a" }]), ["a", "b"]);
  assertEquals(named({ coordinator: null }, [{ id: "a" }]), []);
});

Deno.test("manifest: replicas, restart and critical of a member, restart of the formation", () => {
  const { members } = readManifest({
    name: "n",
    coordinator: "a",
    restart: "OnFailure",
    members: [
      { id: "a", critical: false },
      { id: "b", replicas: 3, restart: "never" },
      { id: "c", restart: { policy: "always", backoffSeconds: 2, maxBackoffSeconds: 1 } },
      { id: "d", restart: { policy: "on-failure", maxRestarts: 0 } },
    ],
  });
  assertEquals(members.map(({ replicas, restart }) => [replicas, restart.when]), [
    [1, "on-failure"],
    [3, "never"],
    [1, "always"],
    [1, "on-failure"],
  ]);
  assertEquals(members.map(({ restart }) => restart.maxRestarts), [5, undefined, undefined, 0]);
  assertEquals([members[2].restart.backoffMs, members[2].restart.backoffMaxMs], [2000, 2000]);
  assertEquals(members[0].critical, false);
  assertEquals(readManifest(FLAT).members[0].restart, RESTART_NEVER);
});

Deno.test("manifest: all problems are told at once, each with its path", () => {
  const problems = problemsOf(() =>
    readManifest({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "" },
      spec: {
        coordinator: 7,
        restart: "sometimes",
        members: [
          3,
          { id: "a", replicas: -1, authorizedBy: [], spec: "x", critical: "yes" },
          { id: "a" },
          { restart: { policy: "always", maxRestarts: 1.5 } },
        ],
      },
    })
  );
  assertEquals(problems, [
    'apiVersion: found "v1", want "cellos.io/v1"',
    'kind: found "Pod", want "Formation"',
    'name: found "", want text of 1 to 253 characters',
    'spec.restart: found "sometimes", want "never", "on-failure" or "always"',
    "spec.members[0]: found 3, want an object",
    "spec.members[1].authorizedBy: found a list, want text of 1 to 253 characters",
    'spec.members[1].spec: found "x", want an object',
    'spec.members[1].critical: found "yes", want true or false',
    "spec.members[1].replicas: found -1, want an integer from 0 to 1000",
    "spec.members[3].id: found nothing, want text of 1 to 253 characters",
    "spec.members[3].restart.maxRestarts: found 1.5, want an integer from 0 to 1000000",
    'spec.members: found "a" twice, want each id once',
    "spec.coordinator: found 7, want text of 1 to 253 characters",
  ]);
});

Deno.test("manifest: no members, no name, no object, a name with control characters", () => {
  for (const members of [undefined, [], {}, "x"]) {
    assertEquals(problemsOf(() => readManifest({ ...FLAT, members })).length, 1);
  }
  assertEquals(problemsOf(() => readManifest({ members: [{ id: "a" }] })).length, 1);
  for (const document of [null, [], "x", 7]) {
    assertEquals(problemsOf(() => readManifest(document)).length, 1);
  }
  assertEquals(problemsOf(() => readManifest({ ...FLAT, name: "a\u001b[31m" })).length, 1);
  assertEquals(problemsOf(() => readManifest({ ...FLAT, name: "  " })).length, 1);
});

Deno.test("manifest: a member's bare spec gets its envelope, a complete one stays", () => {
  const bare = { run: { argv: ["true"] } };
  const document = { apiVersion: "cellos.io/v1", kind: "ExecutionCell", spec: bare };
  const members = [{ id: "a", spec: bare }, { id: "b", spec: document }, { id: "c" }];
  const [a, b, c] = readManifest({ ...FLAT, members }).members;
  assertEquals(memberDocument(a), { ...document, spec: { id: "a", ...bare } });
  assertEquals(memberDocument(b) === document, true);
  assertEquals(memberDocument(c), undefined);
});

Deno.test("manifest: reading never throws anything but a BadRequest", () => {
  const property = fc.property(fc.anything(), fc.anything(), fc.anything(), (a, b, c) => {
    problemsOf(() => readManifest(a));
    problemsOf(() => readManifest({ name: "n", coordinator: a, members: [b], restart: c }));
    problemsOf(() => readManifest({ spec: a, metadata: b, kind: c }));
    problemsOf(() => readManifest({ name: "n", members: [{ id: "a", restart: a, spec: b }] }));
  });
  fc.assert(property, { numRuns: campaign(200, 20_000) });
});

Deno.test("refusals: the message says all, the list is bounded", () => {
  assertThrows(
    () => readManifest(7),
    FormationError,
    "Cannot accept the formation: ",
  );
  const members = Array.from({ length: 200 }, () => 1);
  assertEquals(problemsOf(() => readManifest({ ...FLAT, members })).length, 50);
});
