/**
 * Commands over HTTP: what is taken, what is refused, and that a refusal changes nothing.
 *
 * @module
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { FormationError } from "#lib/formation/errors.ts";
import { type HttpApp, type ProblemKind, type RefusalKind, refuse } from "#lib/http/mod.ts";
import { as, FORMATION_ID, makeApp } from "./plane.ts";
import { assertProblem } from "./problem_assert.ts";

const FORMATION = { name: "build-1", coordinator: "lead", members: [{ id: "lead" }] };
const JSON_TYPE = { "content-type": "application/json" };

function post(app: HttpApp, path: string, body: BodyInit, headers: HeadersInit = JSON_TYPE) {
  return app.request(path, as("admin", { method: "POST", body, headers }));
}

Deno.test("formations: a JSON document is admitted and answered with status only", async () => {
  const { app, plane } = makeApp();
  const response = await post(app, "/v1/formations", JSON.stringify(FORMATION));
  assertEquals(response.status, 201);
  assertEquals(response.headers.get("location"), `/v1/formations/${FORMATION_ID}`);
  const body = await response.json();
  assertEquals([body.id, body.name, body.status], [FORMATION_ID, "build-1", "PENDING"]);
  assert(!("state" in body));
  assertEquals(plane.commands, [`admit ${JSON.stringify(FORMATION)}`]);
});

Deno.test("formations: a YAML document is the same document, whatever the media type says", async () => {
  const { app, plane } = makeApp();
  const yaml = "name: build-1\ncoordinator: lead\nmembers:\n  - id: lead\n";
  const response = await post(app, "/v1/formations", yaml);
  assertEquals(response.status, 201);
  await response.body?.cancel();
  assertEquals(plane.commands, [`admit ${JSON.stringify(FORMATION)}`]);
});

/** Bodies that no route takes. */
const BAD_BODIES: readonly [name: string, body: BodyInit, kind: ProblemKind, says: string][] = [
  ["nothing", "", "malformed-body", "object"],
  ["an array", "[]", "malformed-body", "found an array"],
  ["null", "null", "malformed-body", "found null"],
  ["a number", "7", "malformed-body", "found a number"],
  ["cut JSON", '{"name":', "malformed-body", "not JSON"],
  ["a trailing comma", '{"name":"a",}', "malformed-body", "not JSON"],
  ["a key twice", '{"name":"a","name":"b"}', "malformed-body", '"name" stands twice'],
  [
    "a key twice, escaped",
    '{"name":"a","n\\u0061me":"b"}',
    "malformed-body",
    '"name" stands twice',
  ],
  ["a key twice, deep", '{"a":[{"b":1,"b":2}]}', "malformed-body", '"b" stands twice'],
  ["arrays too deep", `{"a":${"[".repeat(70)}${"]".repeat(70)}}`, "malformed-body", "deeper"],
  ["half-open arrays too deep", "[".repeat(60_000), "malformed-body", "deeper"],
  ["not UTF-8", new Uint8Array([0x7b, 0xff, 0x7d]), "malformed-body", "UTF-8"],
  ["a cut UTF-8 letter", new Uint8Array([0x22, 0xc3]), "malformed-body", "UTF-8"],
];

Deno.test("bodies: what is malformed is a 400 that says why, and nothing changes", async () => {
  for (const [name, body, kind, says] of BAD_BODIES) {
    for (const path of ["/v1/formations", `/v1/formations/${FORMATION_ID}/status`]) {
      const { app, plane } = makeApp();
      const { detail } = await assertProblem(await post(app, path, body), kind);
      if (path === "/v1/formations" || name !== "nothing") assertStringIncludes(detail, says, name);
      assertEquals(plane.commands, [], name);
    }
  }
});

Deno.test("bodies: YAML with a key twice, too deep, or with a bomb of aliases is refused", async () => {
  const bomb = ["a: &a [x,x,x,x,x,x,x,x,x]"];
  for (let index = 0; index < 8; index++) {
    const last = String.fromCharCode(97 + index);
    const next = String.fromCharCode(98 + index);
    bomb.push(`${next}: &${next} [${Array(9).fill(`*${last}`).join(",")}]`);
  }
  for (
    const text of [
      "name: a\nname: b\n",
      bomb.join("\n"),
      `name: ${"[".repeat(200)}${"]".repeat(200)}`,
      `${"- ".repeat(30_000)}a`,
      "name: a\n---\nname: b\n",
      "name: .nan\n",
      "a: b: c\n",
    ]
  ) {
    const { app, plane } = makeApp();
    await assertProblem(await post(app, "/v1/formations", text), "malformed-body");
    assertEquals(plane.commands, []);
  }
});

Deno.test("bodies: 64 KiB of formation are taken, one byte more is not; 2 MiB elsewhere", async () => {
  const { app, plane } = makeApp();
  const sized = (bytes: number) => {
    const empty = JSON.stringify({ ...FORMATION, note: "" });
    return JSON.stringify({ ...FORMATION, note: "x".repeat(bytes - empty.length) });
  };
  const good = await post(app, "/v1/formations", sized(65_536));
  assertEquals(good.status, 201);
  await good.body?.cancel();
  const tooLarge = await assertProblem(
    await post(app, "/v1/formations", sized(65_537)),
    "payload-too-large",
  );
  assertEquals(tooLarge.bytesMax, 65_536);
  const cell = await post(app, "/v1/cells", "x".repeat(2 * 1024 * 1024));
  assertEquals(cell.status, 202);
  await cell.body?.cancel();
  const large = await post(app, "/v1/cells", "x".repeat(2 * 1024 * 1024 + 1));
  await assertProblem(large, "payload-too-large");
  assertEquals(plane.commands.length, 2);
});

Deno.test("bodies: one that does not say its length is cut off at the limit", async () => {
  const { app, plane } = makeApp();
  let given = 0;
  const endless = new ReadableStream<Uint8Array>({
    pull(controller) {
      given += 1;
      controller.enqueue(new Uint8Array(16_384).fill(0x20));
    },
  });
  const response = await post(app, "/v1/formations", endless);
  await assertProblem(response, "payload-too-large");
  assert(given < 10, `${given} chunks were read`);
  assertEquals(plane.commands, []);
});

Deno.test("bodies: a compressed one is refused", async () => {
  const { app } = makeApp();
  const response = await post(app, "/v1/formations", "x", { "content-encoding": "gzip" });
  await assertProblem(response, "unsupported-media-type");
});

Deno.test("status: a report is checked, in either spelling, and wants JSON", async () => {
  const { app, plane } = makeApp();
  plane.addFormation(FORMATION_ID, "build-1");
  const path = `/v1/formations/${FORMATION_ID}/status`;
  for (const failed of [{ failed_cells: ["a"] }, { failedCells: ["a"] }]) {
    const response = await post(
      app,
      path,
      JSON.stringify({ state: "FAILED", reason: "out of luck", ...failed }),
    );
    assertEquals(response.status, 200);
    await response.body?.cancel();
  }
  const report = { state: "failed", reason: "out of luck", failedCells: ["a"] };
  assertEquals(plane.commands, Array(2).fill(`report ${JSON.stringify(report)}`));
  for (
    const wrong of [
      {},
      { state: "cancelled" },
      { state: 7 },
      { state: "failed", reason: 7 },
      { state: "failed", failed_cells: "a" },
      { state: "failed", failed_cells: [1] },
    ]
  ) {
    await assertProblem(await post(app, path, JSON.stringify(wrong)), "bad-request");
  }
  const text = await post(app, path, JSON.stringify({ state: "failed" }), {
    "content-type": "text/plain",
  });
  await assertProblem(text, "unsupported-media-type");
  assertEquals(plane.commands.length, 2);
});

Deno.test("scale: a wish is checked", async () => {
  const { app, plane } = makeApp();
  plane.addFormation(FORMATION_ID, "build-1");
  const path = `/v1/formations/${FORMATION_ID}/scale`;
  const good = await post(app, path, JSON.stringify({ member: "worker", replicas: 3 }));
  assertEquals(good.status, 200);
  await good.body?.cancel();
  for (
    const wrong of [
      {},
      { member: "", replicas: 1 },
      { member: "a", replicas: -1 },
      { member: "a", replicas: 1.5 },
      { member: "a", replicas: "1" },
    ]
  ) {
    await assertProblem(await post(app, path, JSON.stringify(wrong)), "bad-request");
  }
  assertEquals(plane.commands, ['scale {"member":"worker","replicas":3}']);
});

Deno.test("formations: an id is read in every form of a UUID, and nothing else", async () => {
  const { app, plane } = makeApp();
  plane.addFormation(FORMATION_ID, "build-1");
  const forms = [
    FORMATION_ID,
    FORMATION_ID.toUpperCase(),
    FORMATION_ID.replaceAll("-", ""),
    `urn:uuid:${FORMATION_ID}`,
    `%7B${FORMATION_ID}%7D`,
  ];
  for (const form of forms) {
    const response = await app.request(`/v1/formations/${form}`, as("read"));
    assertEquals(response.status, 200, form);
    assertEquals((await response.json()).id, FORMATION_ID);
  }
  for (const form of ["build-1", "7", `${FORMATION_ID}0`, "%ff", "%00"]) {
    for (const method of ["GET", "DELETE"]) {
      const response = await app.request(`/v1/formations/${form}`, as("admin", { method }));
      await assertProblem(response, "invalid-id");
    }
  }
});

Deno.test("formations: by name, with letters that a path has to escape", async () => {
  const { app, plane } = makeApp();
  plane.addFormation(FORMATION_ID, "bau/größe 1");
  const path = `/v1/formations/by-name/${encodeURIComponent("bau/größe 1")}`;
  const found = await app.request(path, as("read"));
  assertEquals((await found.json()).id, FORMATION_ID);
  const gone = await app.request(path, as("run", { method: "DELETE" }));
  assertEquals(gone.status, 204);
  assertEquals(await gone.text(), "");
  assertEquals(plane.commands, [`cancel ${FORMATION_ID}`]);
  const absent = await app.request("/v1/formations/by-name/nobody", as("read"));
  await assertProblem(absent, "not-found");
});

Deno.test("cells: run, stop, stop by force", async () => {
  const { app, plane } = makeApp();
  const started = await post(app, "/v1/cells", "kind: ExecutionCell\n");
  assertEquals(started.status, 202);
  assertEquals(started.headers.get("location"), "/v1/cells/cell-1");
  assertEquals(await started.json(), { cellId: "cell-1", runId: "run-1" });
  plane.addCell("cell-1");
  for (const query of ["", "?force=true"]) {
    const stopped = await post(app, `/v1/cells/cell-1/stop${query}`, "");
    assertEquals(stopped.status, 202);
    await stopped.body?.cancel();
  }
  assertEquals(plane.commands, [
    "run kind: ExecutionCell\n",
    "stop cell-1 false",
    "stop cell-1 true",
  ]);
  await assertProblem(await post(app, "/v1/cells/nobody/stop", ""), "not-found");
  await assertProblem(await post(app, "/v1/cells/cell-1/stop?force=maybe", ""), "bad-filter");
  await assertProblem(await post(app, "/v1/cells/cell-1/stop?forse=true", ""), "bad-filter");
  await assertProblem(await post(app, "/v1/cells", "  \n"), "malformed-body");
  assertEquals(plane.commands.length, 3);
});

Deno.test("refusals: each kind has its status, with the members that it brings", async () => {
  const kinds: readonly [RefusalKind, number][] = [
    ["formation-no-coordinator", 400],
    ["formation-multiple-coordinators", 400],
    ["formation-cycle", 400],
    ["formation-authority-not-narrowing", 400],
    ["spec-invalid", 400],
    ["conflict", 409],
    ["too-many-cells", 503],
    ["log-full", 503],
    ["host-unavailable", 503],
  ];
  for (const [kind, status] of kinds) {
    const { app, plane } = makeApp();
    plane.refusal = refuse(kind, "Cannot do it: for a reason", { members: ["a"] });
    const response = await post(app, "/v1/formations", JSON.stringify(FORMATION));
    assertEquals(response.headers.has("retry-after"), status === 503);
    const body = await assertProblem(response, kind);
    assertEquals([body.status, body.detail], [status, "Cannot do it: for a reason"]);
    assertEquals(body.members, ["a"]);
  }
});

Deno.test("errors: a full or busy log is a 503 with the reason, and reads go on", async () => {
  for (const [name, kind] of [["LogFullError", "log-full"], ["LogBusyError", "log-unavailable"]]) {
    const { app, plane, errors } = makeApp();
    plane.failure = Object.assign(new Error("Cannot append: no space"), { name });
    const response = await post(app, "/v1/cells", "x");
    const { detail } = await assertProblem(response, kind as ProblemKind);
    assertEquals(detail, "Cannot append: no space");
    const read = await app.request("/v1/cells", as("read"));
    assertEquals(read.status, 200);
    await read.body?.cancel();
    assertEquals(errors, []);
  }
});

Deno.test("errors: what the formations' own rules refuse is their problem, with each sentence", async () => {
  const { app, plane, errors } = makeApp();
  plane.failure = new FormationError("FormationCycle", ["a: authorises itself"]);
  const response = await post(app, "/v1/formations", JSON.stringify(FORMATION));
  const body = await assertProblem(response, "formation-cycle");
  assertEquals(body.errors, ["a: authorises itself"]);
  assertEquals(errors, []);
});

Deno.test("errors: what nobody expected is a 500 that says nothing, and is told to the operator", async () => {
  const { app, plane, errors } = makeApp();
  plane.failure = new Error("secret inside");
  const body = await assertProblem(await post(app, "/v1/cells", "x"), "internal");
  assert(!JSON.stringify(body).includes("secret"));
  assertEquals(errors, [plane.failure]);
});

Deno.test("methods: a wrong one is a 405 with those that the path has", async () => {
  const { app } = makeApp();
  const allowOf = async (method: string, path: string) => {
    const response = await app.request(path, as("read", { method }));
    const allow = response.headers.get("allow");
    await assertProblem(response, "method-not-allowed");
    return allow;
  };
  assertEquals(await allowOf("PUT", "/v1/formations"), "POST, GET, HEAD");
  assertEquals(await allowOf("POST", "/v1/formations/by-name/x"), "GET, HEAD, DELETE");
  assertEquals(await allowOf("GET", "/v1/cells/x/stop"), "POST");
  assertEquals(await allowOf("OPTIONS", "/v1/version"), "GET, HEAD");
  assertEquals(await allowOf("BREW", "/openapi.json"), "GET, HEAD");
});

Deno.test("requests: an id that was sent is kept, one that cannot be is replaced", async () => {
  const { app } = makeApp();
  const idFor = async (id: string) => {
    const response = await app.request("/healthz", { headers: { "x-request-id": id } });
    await response.body?.cancel();
    return response.headers.get("x-request-id");
  };
  assertEquals(await idFor("my-id_1.2"), "my-id_1.2");
  const ours = await idFor("my id");
  assert(ours !== "my id" && /^[0-9a-f]{8}-[0-9a-z]+$/.test(ours!));
  assert(await idFor("x".repeat(65)) !== ours);
});

Deno.test("stop: what comes after it is a 503, and the probes still answer", async () => {
  const { app, plane } = makeApp();
  await app.stop();
  await assertProblem(await post(app, "/v1/cells", "x"), "shutting-down");
  assertEquals(plane.commands, []);
  const live = await app.request("/healthz");
  assertEquals(live.status, 200);
  await live.body?.cancel();
});
