/**
 * Admission: each rule, its kind, and the order in which members start.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import {
  admitFormation,
  type AuthorityScope,
  checkScale,
  FormationError,
  type FormationRefusal,
  planAdmitted,
  readManifest,
} from "#lib/formation/mod.ts";

const NOBODY: ReadonlyMap<string, AuthorityScope> = new Map();

interface Fields {
  readonly [name: string]: unknown;
}

function admit(
  fields: Fields,
  scopes: ReadonlyMap<string, AuthorityScope> = NOBODY,
  isNameTaken = false,
) {
  const manifest = readManifest({ name: "n", coordinator: "lead", ...fields });
  return admitFormation(manifest, { scopes, guarded: ["169.254.0.0/16"], isNameTaken });
}

function refusalOf(run: () => unknown): [FormationRefusal, readonly string[]] {
  try {
    run();
  } catch (error) {
    assert(error instanceof FormationError, String(error));
    return [error.kind, error.problems];
  }
  throw new Error("it was admitted");
}

const LEAD = { id: "lead" };
const WORKER = { id: "worker", authorizedBy: "lead" };

function scope(...hosts: string[]): AuthorityScope {
  return {
    mode: "enforce",
    secretRefs: [],
    egressRules: hosts.map((host) => ({ host, ports: [{ from: 443, to: 443 }], protocol: "tcp" })),
  };
}

Deno.test("admission: members start in the order of authority, else of the manifest", () => {
  const plan = admit({
    members: [
      { id: "deep", authorizedBy: "mid" },
      { id: "b", authorizedBy: "lead" },
      { id: "mid", authorizedBy: "lead" },
      LEAD,
    ],
  });
  assertEquals(plan.members.map(({ id, rank }) => [id, rank]), [
    ["lead", 0],
    ["b", 1],
    ["mid", 1],
    ["deep", 2],
  ]);
  assertEquals(plan.members.map(({ critical }) => critical), [true, false, false, false]);
  assertEquals([plan.name, plan.coordinator], ["n", "lead"]);
});

Deno.test("admission: no coordinator, or one that is not a member", () => {
  assertEquals(refusalOf(() => admit({ coordinator: undefined, members: [LEAD] })), [
    "FormationNoCoordinator",
    ["coordinator: found nothing, want the id of a member"],
  ]);
  assertEquals(refusalOf(() => admit({ coordinator: "boss", members: [LEAD] })), [
    "FormationNoCoordinator",
    ['coordinator: found "boss", which is not a member'],
  ]);
});

Deno.test("admission: several coordinators", () => {
  const members = [LEAD, { ...WORKER, coordinator: true }];
  assertEquals(refusalOf(() => admit({ members })), [
    "FormationMultipleCoordinators",
    ['coordinator: found "lead", "worker", want exactly one'],
  ]);
});

Deno.test("admission: a member without authorizedBy, or with one that nobody is", () => {
  const members = [LEAD, { id: "a" }, { id: "b", authorizedBy: "ghost" }];
  assertEquals(refusalOf(() => admit({ members })), [
    "FormationAuthorityNotNarrowing",
    [
      'member "a": found no authorizedBy, want the id of a member',
      'member "b": authorizedBy "ghost" is not a member',
    ],
  ]);
});

Deno.test("admission: circles, of two, of one, and through the coordinator", () => {
  const circles = [
    [LEAD, { id: "a", authorizedBy: "b" }, { id: "b", authorizedBy: "a" }],
    [LEAD, { id: "a", authorizedBy: "a" }],
    [{ id: "lead", authorizedBy: "worker" }, WORKER],
    [{ id: "lead", authorizedBy: "lead" }],
  ];
  for (const members of circles) {
    assertEquals(refusalOf(() => admit({ members }))[0], "FormationCycle");
  }
  assertEquals(refusalOf(() => admit({ members: circles[0] }))[1], [
    'authorizedBy runs in a circle: "a" by "b" by "a"',
  ]);
});

Deno.test("admission: authority narrows from each authoriser, not from the top alone", () => {
  const members = [LEAD, { id: "mid", authorizedBy: "lead" }, { id: "low", authorizedBy: "mid" }];
  const wide = scope("10.0.0.0/8");
  const narrow = scope("10.1.0.0/16");
  const narrows = new Map([["lead", wide], ["mid", narrow], ["low", narrow]]);
  assertEquals(admit({ members }, narrows).members.map(({ hasCell }) => hasCell), [
    true,
    true,
    true,
  ]);
  const widens = new Map([["lead", wide], ["mid", narrow], ["low", wide]]);
  assertEquals(refusalOf(() => admit({ members }, widens)), [
    "FormationAuthorityNotNarrowing",
    [
      'member "low": authority.egressRules[0]: found 10.0.0.0/8 tcp 443, which "mid" does not have to give',
    ],
  ]);
});

Deno.test("admission: who has no cell has no authority to give", () => {
  const members = [LEAD, WORKER];
  assertEquals(admit({ members }, new Map([["worker", scope()]])).members[1].hasCell, true);
  const [kind] = refusalOf(() => admit({ members }, new Map([["worker", scope("10.0.0.1")]])));
  assertEquals(kind, "FormationAuthorityNotNarrowing");
});

Deno.test("admission: a name that is taken is a conflict", () => {
  assertEquals(refusalOf(() => admit({ members: [LEAD] }, NOBODY, true)), [
    "Conflict",
    ['name: "n" is taken'],
  ]);
});

Deno.test("admission: one coordinator is one cell, and cells are bounded", () => {
  const [kind, problems] = refusalOf(() =>
    admit({ members: [{ ...LEAD, replicas: 2 }, { ...WORKER, replicas: 1000 }] })
  );
  assertEquals([kind, problems], ["BadRequest", [
    'member "lead": found 2 replicas, want 1 of the coordinator',
    "replicas: found 1002 cells in all, want at most 1000",
  ]]);
});

Deno.test("admission: a plan of an admitted document judges no authority again", () => {
  const document = {
    name: "n",
    coordinator: "lead",
    members: [LEAD, { ...WORKER, spec: { authority: { egressRules: ["whatever"] } } }],
  };
  const plan = planAdmitted(readManifest(document));
  assertEquals(plan.members.map(({ id, hasCell }) => [id, hasCell]), [
    ["lead", false],
    ["worker", true],
  ]);
});

Deno.test("scale: only members with cells, never the coordinator, within the bounds", () => {
  const scopes = new Map([["lead", scope()], ["worker", scope()]]);
  const members = [LEAD, WORKER, { id: "idle", authorizedBy: "lead" }];
  const plan = admit({ members }, scopes);
  checkScale(plan, { member: "worker", replicas: 0 });
  checkScale(plan, { member: "worker", replicas: 998 });
  checkScale(plan, { member: "lead", replicas: 1 });
  const refused: [string, number, Record<string, number>?][] = [
    ["ghost", 1],
    ["idle", 1],
    ["lead", 2],
    ["lead", 0],
    ["worker", -1],
    ["worker", 1.5],
    ["worker", 1001],
    ["worker", 999],
    ["lead", 1, { worker: 1000 }],
  ];
  for (const [member, replicas, current] of refused) {
    assertEquals(
      refusalOf(() => checkScale(plan, { member, replicas }, current))[0],
      "BadRequest",
      `${member} ${replicas}`,
    );
  }
});
