import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { diffDocuments } from "#lib/cli/document_diff.ts";
import { ApiClient, findEndpoint, findToken } from "#lib/client/mod.ts";
import { type FormationRecord, refuse } from "#lib/http/mod.ts";
import { FORMATION_ID, startedEvent, TOKENS } from "#tests/lib/http/plane.ts";
import { type ServedPlane, withServedPlane } from "#tests/support/served_plane.ts";
import { type FakeIo, fakeIo, type FakeIoOptions, run } from "./fake_io.ts";

const FORMATION = `name: build-1
coordinator: lead
members:
  - { id: lead }
  - { id: worker, authorizedBy: lead }
`;
const CELL = `apiVersion: cellos.io/v1\nkind: ExecutionCell\nspec: { id: fetch }\n`;
const FILES = { "formation.yaml": FORMATION, "cell.yaml": CELL, "other.yaml": "a: 1" };

/** Runs a command against a server over its Unix socket, as the local root does. */
function ask(
  served: ServedPlane,
  args: string,
  options: FakeIoOptions | FakeIo = { files: FILES },
): Promise<{ code: number; out: string; err: string }> {
  const openApi = (given: { server?: string | undefined; token?: string | undefined }) => {
    const discovery = { ...given, socketPath: served.socketPath, tokenPath: "/nowhere/token" };
    const endpoint = findEndpoint(discovery);
    return Promise.resolve(new ApiClient(endpoint, { token: findToken(endpoint, discovery) }));
  };
  return run(args.split(" "), { openApi }, options);
}

Deno.test("apply gives a formation or a cell to the server, as it was written", async () => {
  await withServedPlane(async (served) => {
    assertEquals(await ask(served, "apply -f formation.yaml"), {
      code: 0,
      out: "formation/build-1 created (state=PENDING)\n",
      err: "",
    });
    assertEquals(
      (await ask(served, "apply -f cell.yaml")).out,
      "cell/cell-1 created (run=run-1)\n",
    );
    assertEquals(served.plane.commands[1], `run ${CELL}`);
    const stdin = await ask(served, "apply -f - --json", { stdin: CELL });
    assertEquals(JSON.parse(stdin.out), { cellId: "cell-1", runId: "run-1" });
    const bad = await ask(served, "apply -f other.yaml");
    assertEquals(bad.code, 2);
    assertMatch(bad.err, /neither a formation nor a cell\n {2}give it kind: /);
    assertEquals((await ask(served, "apply -f nowhere.yaml")).code, 2);
  });
});

Deno.test("what the server refuses is 3, with its words; problems of a spec with their places", async () => {
  await withServedPlane(async (served) => {
    served.plane.refusal = refuse("conflict", "Cannot create it: the name is taken");
    const taken = await ask(served, "apply -f formation.yaml");
    assertEquals([taken.code, taken.err], [3, "celld: Cannot create it: the name is taken\n"]);
    const errors = [{ path: "spec.id", found: "1", wanted: "a text" }];
    served.plane.refusal = refuse("spec-invalid", "Cannot use it", { errors });
    const bad = await ask(served, "apply -f cell.yaml");
    assertEquals(bad.code, 3);
    assertStringIncludes(bad.err, "spec.id\n    found   1\n    wanted  a text\n");
  });
});

Deno.test("no server is 4, and says how to start one", async () => {
  await withServedPlane(async (served) => {
    for (const args of ["get cells", "top", "logs a", "events -f"]) {
      const { code, err } = await ask(served, `${args} --server http://127.0.0.1:4`);
      assertEquals(code, 4, args);
      assertMatch(err, /^celld: Cannot reach celld at .*\n.*celld serve/, args);
    }
    const json = await ask(served, "get cells --json --server unix:/nowhere");
    assertEquals(JSON.parse(json.err).error.exitCode, 4);
    assertEquals((await ask(served, "get cells --server nonsense")).code, 2);
  });
});

Deno.test("server and token come from flags before the environment", async () => {
  await withServedPlane(async (served) => {
    const env = { CELLD_SERVER: served.url, CELLD_TOKEN: "wrong" };
    const wrong = await ask(served, "get hosts", { env });
    assertEquals(wrong.code, 3);
    assertStringIncludes(wrong.err, "invalid token\n  give a token with --token or CELLD_TOKEN");
    assertEquals((await ask(served, `get hosts --token ${TOKENS.read}`, { env })).code, 0);
  });
});

Deno.test("get lists what there is as table, wide, names and JSON", async () => {
  await withServedPlane(async (served) => {
    const { plane } = served;
    plane.addFormation(FORMATION_ID, "build-1");
    plane.addCell("c-1", { spec_id: "worker", formation_id: FORMATION_ID, exit_code: 3 });
    plane.addCell("c-2", { state: "destroyed" });
    plane.ruleList = [{ cell_id: "c-1", allowed: 7, bytes_in: 2048 } as { cell_id: string }];
    plane.hostList = [{ name: "host-1", state: "up" } as { name: string }];
    const out = async (args: string) => (await ask(served, args)).out;
    assertMatch(await out("get formations"), /^NAME +STATE.*\nbuild-1 +PENDING/);
    assertStringIncludes(await out("get formations -o wide"), FORMATION_ID);
    assertEquals(await out("get cells -o name"), "cell/c-1\ncell/c-2\n");
    assertEquals(await out("get cells -o name --state destroyed"), "cell/c-2\n");
    assertEquals(await out("get cells -o name --formation build-1"), "cell/c-1\n");
    assertEquals(await out("get cells -o name --limit 1"), "cell/c-1\n");
    assertEquals(JSON.parse(await out("get cells --json --limit 1")).exit_code, 3);
    assertMatch(await out("get rules"), /\nc-1 +7 .*2\.0 KiB\n/);
    assertMatch(await out("get hosts"), /\nhost-1 +up/);
    const refused = await ask(served, "get hosts --formation a");
    assertEquals(refused.code, 2);
    assertEquals((await ask(served, "get cells --state odd")).code, 3);
  });
});

Deno.test("describe shows one formation with its cells, or one cell", async () => {
  await withServedPlane(async (served) => {
    const { plane } = served;
    const cell = plane.addCell("c-1", { spec_id: "worker", reason: "oom\x1b[2J" });
    const formation = plane.addFormation(FORMATION_ID, "build-1");
    assertStringIncludes((await ask(served, "describe formation build-1")).out, "(none reported)");
    plane.formationById.set(FORMATION_ID, { ...formation, cells: [cell] } as FormationRecord);
    const shown = await ask(served, `describe formation ${FORMATION_ID}`);
    assertMatch(shown.out, /^Name: +build-1\nID: +6f1c.*\nState: +PENDING\nCells:\n {2}ID /);
    const one = await ask(served, "describe cell c-1");
    assertMatch(one.out, /^ID: +c-1\nSpec: +worker\nState: +running\n/);
    assert(!one.out.includes("\x1b"), "control characters are made harmless");
    assertEquals(
      (await ask(served, "describe cell nobody")).err,
      'celld: Cannot find cell "nobody"\n',
    );
  });
});

Deno.test("delete cancels a formation and stops a cell, by force where told", async () => {
  await withServedPlane(async (served) => {
    const { plane } = served;
    plane.addFormation(FORMATION_ID, "build-1");
    plane.addCell("c-1");
    assertEquals(
      (await ask(served, "delete formation build-1")).out,
      "formation/build-1 cancelled\n",
    );
    assertEquals((await ask(served, "delete cell c-1")).out, "cell/c-1 is stopping\n");
    assertEquals((await ask(served, "delete cell c-1 --force")).out, "cell/c-1 is being killed\n");
    assertEquals(plane.commands, [`cancel ${FORMATION_ID}`, "stop c-1 false", "stop c-1 true"]);
    assertEquals((await ask(served, "delete formation build-1 --force")).code, 2);
  });
});

Deno.test("logs keeps the streams apart, and ends by a signal when it follows", async () => {
  await withServedPlane(async (served) => {
    const { plane } = served;
    plane.addCell("c-1");
    const bytes = (text: string) => new TextEncoder().encode(text);
    plane.output = [
      { stream: "stdout", bytes: bytes("out\n") },
      { stream: "stderr", bytes: bytes("err\n") },
    ];
    assertEquals(await ask(served, "logs c-1"), { code: 0, out: "out\n", err: "err\n" });
    assertEquals((await ask(served, "logs c-1 --stream stderr")).out, "");
    assertEquals((await ask(served, "logs c-1 --json")).out.split("\n").length, 3);
    await ask(served, "logs c-1 --tail 5");
    assertStringIncludes(plane.commands.at(-1)!, '"tailLines":5');
    const io = fakeIo();
    const ends = { ...io, writeErr: () => io.raise("SIGINT") };
    assertEquals((await ask(served, "logs c-1 -f", ends)).code, 130);
    assertEquals(io.listenerCount(), 0);
    await plane.append(startedEvent("c-1"));
    const { out } = await ask(served, "logs c-1 --events");
    assertEquals(JSON.parse(out).data.cellId, "c-1");
    assertEquals((await ask(served, "logs c-1 --events --stream stdout")).code, 2);
  });
});

Deno.test("rollout status answers with the end: 0, 1, or 124 where time was up", async () => {
  await withServedPlane(async (served) => {
    const { plane } = served;
    const formation = plane.addFormation(FORMATION_ID, "build-1");
    const end = async (status: string) => {
      plane.formationById.set(FORMATION_ID, { ...formation, status });
      plane.revision += 1;
      return await ask(served, "rollout status build-1 --timeout 100ms");
    };
    assertEquals(await end("SUCCEEDED"), {
      code: 0,
      out: "formation/build-1 SUCCEEDED\n",
      err: "",
    });
    assertEquals((await end("FAILED")).code, 1);
    assertEquals((await end("CANCELLED")).code, 1);
    const late = await end("RUNNING");
    assertEquals([late.code, late.err], [124, "celld: formation/build-1 has not ended in 100ms\n"]);
    assertEquals((await ask(served, "rollout status build-1 --timeout 5")).code, 2);
    const io = fakeIo();
    const ends = { ...io, writeOut: () => io.raise("SIGTERM") };
    assertEquals((await ask(served, "rollout status build-1", ends)).code, 143);
  });
});

Deno.test("diff answers 0 where nothing differs, and names every difference", async () => {
  await withServedPlane(async (served) => {
    const { plane } = served;
    const absent = await ask(served, "diff -f formation.yaml");
    assertEquals(absent.code, 1);
    assertStringIncludes(absent.out, "does not exist: apply would create it");
    const formation = plane.addFormation(FORMATION_ID, "build-1");
    const document = {
      coordinator: "lead",
      name: "build-1",
      members: [{ id: "lead" }, { id: "worker", authorizedBy: "lead" }],
    };
    plane.formationById.set(FORMATION_ID, { ...formation, document } as FormationRecord);
    assertEquals(
      (await ask(served, "diff -f formation.yaml")).out,
      "formation/build-1 is the same\n",
    );
    const files = { "new.yaml": FORMATION.replace("coordinator: lead", "coordinator: worker") };
    const differs = await ask(served, "diff -f new.yaml", { files });
    assertEquals([differs.code, differs.out], [
      1,
      "formation/build-1 differs (- server, + file):\n" +
      '  coordinator\n    - "lead"\n    + "worker"\n',
    ]);
    assertEquals((await ask(served, "diff -f cell.yaml")).code, 2);
  });
});

Deno.test("documents are compared by member, and lists by the ids of their items", () => {
  const before = { a: 1, list: [{ id: "x", n: 1 }, { id: "y" }], plain: [1, 2] };
  const after = { list: [{ id: "y" }, { id: "x", n: 2 }, { id: "z" }], plain: [1], b: null };
  assertEquals(diffDocuments(before, after), [
    { path: "a", before: 1 },
    { path: "list[x].n", before: 1, after: 2 },
    { path: "list[z]", after: { id: "z" } },
    { path: "plain[1]", before: 2 },
    { path: "b", after: null },
  ]);
  assertEquals(diffDocuments([], {}), [{ path: ".", before: [], after: {} }]);
  assertEquals(diffDocuments(before, structuredClone(before)), []);
});

Deno.test("scale says which member and how many, of a formation by name", async () => {
  await withServedPlane(async (served) => {
    served.plane.addFormation(FORMATION_ID, "build-1");
    const { out } = await ask(served, "scale build-1 worker=3");
    assertEquals(out, "formation/build-1 scaled (worker=3)\n");
    assertEquals(served.plane.commands, ['scale {"member":"worker","replicas":3}']);
    assertEquals((await ask(served, "scale build-1 worker")).code, 2);
    assertEquals((await ask(served, "scale nobody worker=3")).code, 3);
  });
});

Deno.test("top shows the cells that run, those that moved the most first", async () => {
  await withServedPlane(async (served) => {
    const { plane } = served;
    for (const id of ["a", "b", "c"]) plane.addCell(id);
    plane.addCell("gone", { state: "destroyed" });
    plane.ruleList = [
      { cell_id: "b", allowed: 4, denied: 1, bytes_out: 4096 } as { cell_id: string },
    ];
    const { out } = await ask(served, "top --limit 2");
    assertMatch(out, /^3 running; 4 flows allowed, 1 denied; 4\.0 KiB out, 0 B in\nCELL/);
    assertMatch(out, /\nb .*\na /);
    const json = await ask(served, "top --json");
    assertEquals(json.out.trimEnd().split("\n").map((line) => JSON.parse(line).id), [
      "b",
      "a",
      "c",
    ]);
    const io = fakeIo({ isTerminal: true });
    const ends = { ...io, writeOut: () => io.raise("SIGINT") };
    assertEquals((await ask(served, "top --watch", ends)).code, 130);
  });
});

Deno.test("events and flows read the log of the server that is named", async () => {
  await withServedPlane(async (served) => {
    await served.plane.appendCells("a", "b");
    const { out } = await ask(served, `events --json --server unix:${served.socketPath}`);
    assertEquals(out.trimEnd().split("\n").map((line) => JSON.parse(line).seq), [1, 2]);
    const io = fakeIo();
    const ends = { ...io, writeOut: () => io.raise("SIGINT") };
    const env = { CELLD_SERVER: served.url, CELLD_TOKEN: TOKENS.read };
    const followed = ask(served, "events -f --since 1", { ...ends, env });
    assertEquals((await followed).code, 130);
    assertEquals((await ask(served, "flows", { env })).code, 0);
  });
});
