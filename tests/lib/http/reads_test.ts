/**
 * Reads over HTTP: pages, filters, tags, the log, one cell's events and output.
 *
 * @module
 */
import { assert, assertEquals, assertNotEquals, assertStringIncludes } from "@std/assert";
import type { HttpApp, ProblemKind } from "#lib/http/mod.ts";
import { as, destroyedEvent, FakePlane, FORMATION_ID, makeApp, startedEvent } from "./plane.ts";
import { assertProblem } from "./problem_assert.ts";

async function getJson(app: HttpApp, path: string) {
  const response = await app.request(path, as("read"));
  const text = await response.text();
  assertEquals(response.status, 200, text);
  assertEquals(response.headers.get("content-type"), "application/json");
  return JSON.parse(text);
}

function planeWithCells(count: number): FakePlane {
  const plane = new FakePlane();
  for (let index = 0; index < count; index++) {
    plane.addCell(`cell-${String(index).padStart(4, "0")}`);
  }
  plane.cursor = 42;
  return plane;
}

Deno.test("lists: records under their name, and the cursor of the snapshot", async () => {
  const plane = planeWithCells(2);
  plane.addFormation(FORMATION_ID, "build-1");
  plane.hostList = [{ name: "host-1" }];
  plane.ruleList = [{ cell_id: "cell-0000" }];
  const { app } = makeApp(plane);
  const cells = await getJson(app, "/v1/cells");
  assertEquals(Object.keys(cells), ["cells", "cursor"]);
  assertEquals([cells.cells.length, cells.cursor], [2, 42]);
  assertEquals([cells.cells[0].state, cells.cells[0].status], ["running", "running"]);
  const formations = await getJson(app, "/v1/formations");
  assertEquals(Object.keys(formations), ["formations", "cursor"]);
  assert(!("state" in formations.formations[0]));
  assertEquals((await getJson(app, "/v1/hosts")).hosts, [{ name: "host-1" }]);
  assertEquals((await getJson(app, "/v1/rules")).rules, [{ cell_id: "cell-0000" }]);
});

Deno.test("lists: pages follow each other by `after`, and hold everything once", async () => {
  const { app } = makeApp(planeWithCells(25));
  const seen: string[] = [];
  let path = "/v1/cells?limit=10";
  for (let pages = 0; path !== ""; pages++) {
    assert(pages < 5);
    const page = await getJson(app, path);
    seen.push(...page.cells.map((cell: { id: string }) => cell.id));
    path = page.next === undefined ? "" : `/v1/cells?limit=10&after=${page.next}`;
  }
  assertEquals(seen.length, 25);
  assertEquals(new Set(seen).size, 25);
  assertEquals((await getJson(app, "/v1/cells")).cells.length, 25);
});

Deno.test("lists: a limit is brought into its bounds", async () => {
  const { app } = makeApp(planeWithCells(1005));
  assertEquals((await getJson(app, "/v1/cells?limit=0")).cells.length, 1);
  assertEquals((await getJson(app, "/v1/cells?limit=99999")).cells.length, 1000);
  assertEquals((await getJson(app, "/v1/cells")).cells.length, 1005);
});

Deno.test("lists: cells by state and formation", async () => {
  const plane = new FakePlane();
  plane.addFormation(FORMATION_ID, "build-1");
  plane.addCell("a", { state: "destroyed", formation_id: FORMATION_ID });
  plane.addCell("b", { formation_id: FORMATION_ID });
  plane.addCell("c");
  const { app } = makeApp(plane);
  const ids = async (query: string) =>
    (await getJson(app, `/v1/cells?${query}`)).cells.map(({ id }: { id: string }) => id);
  assertEquals(await ids("state=DESTROYED"), ["a"]);
  assertEquals(await ids("state=running"), ["b", "c"]);
  assertEquals(await ids("formation=build-1"), ["a", "b"]);
  assertEquals(await ids(`formation=${FORMATION_ID}&state=running`), ["b"]);
  assertEquals(await ids("formation=nobody"), []);
  // The original ignores what it does not know, and so must a route that it has.
  assertEquals(await ids("colour=red"), ["a", "b", "c"]);
});

Deno.test("lists: a filter by name follows the name to another formation", async () => {
  const plane = new FakePlane();
  plane.addCell("a", { formation_id: FORMATION_ID });
  const { app } = makeApp(plane);
  assertEquals((await getJson(app, "/v1/cells?formation=late")).cells, []);
  plane.addFormation(FORMATION_ID, "late");
  assertEquals((await getJson(app, "/v1/cells?formation=late")).cells.length, 1);
});

const BAD_QUERIES: readonly [path: string, kind: ProblemKind, says: string][] = [
  ["/v1/cells?state=dead", "bad-filter", "want one of pending, running, destroyed"],
  ["/v1/cells?state=", "bad-filter", "want one of"],
  ["/v1/cells?state=running&state=pending", "bad-filter", "twice"],
  ["/v1/cells?formation=", "bad-filter", "want a text"],
  [`/v1/cells?formation=${"x".repeat(300)}`, "bad-filter", "256"],
  ["/v1/cells?formation=%00", "bad-filter", "control"],
  ["/v1/cells?limit=ten", "bad-cursor", "integer"],
  ["/v1/cells?limit=-1", "bad-cursor", "integer"],
  ["/v1/cells?limit=1e3", "bad-cursor", "integer"],
  ["/v1/cells?after=", "bad-cursor", "want a text"],
  ["/v1/formations?status=DONE", "bad-filter", "PENDING"],
  ["/v1/events?since=-1", "bad-cursor", "integer"],
  ["/v1/events?since=1.5", "bad-cursor", "integer"],
  ["/v1/events?since=now", "bad-cursor", "integer"],
  ["/v1/events?since=99999999999999999999", "bad-cursor", "integer"],
  ["/v1/events?since=1&since=2", "bad-cursor", "twice"],
  ["/v1/events?limit=x", "bad-cursor", "integer"],
  ["/v1/events?type=a*b", "bad-filter", "at the end"],
  ["/v1/events?subject=cellos.events.>.x", "bad-filter", "broker"],
  ["/v1/flows?dst=example.org", "bad-filter", "prefix"],
  ["/v1/flows?port=65536", "bad-filter", "65535"],
  ["/v1/flows?protocol=sctp", "bad-filter", "tcp"],
  ["/v1/flows?decison=allow", "bad-filter", "want one of cell"],
  ["/v1/flows?before=x", "bad-cursor", "integer"],
  ["/v1/hosts?name=x", "bad-filter", "want one of limit, after"],
  ["/v1/cells/a/events?tail=x", "bad-cursor", "integer"],
  ["/v1/cells/a/events?follow=perhaps", "bad-filter", "true or false"],
  ["/v1/cells/a/logs?stream=stdin", "bad-filter", "stdout"],
  ["/v1/cells/a/logs?tail=1&tailBytes=1", "bad-filter", "together"],
];

Deno.test("queries: what cannot be used is a 400 that says what is wanted", async () => {
  const { app, plane } = makeApp();
  plane.addCell("a");
  for (const [path, kind, says] of BAD_QUERIES) {
    const { detail } = await assertProblem(await app.request(path, as("read")), kind);
    assertStringIncludes(detail, says, path);
  }
});

Deno.test("tags: the same list is a 304, another one is not; HEAD has the tag too", async () => {
  const plane = planeWithCells(3);
  const { app } = makeApp(plane);
  const ask = async (tag: string) => {
    const response = await app.request(
      "/v1/cells",
      as("read", { headers: { "if-none-match": tag } }),
    );
    return [response.status, (await response.text()).length > 0, response.headers.get("etag")];
  };
  const [, , etag] = await ask("none");
  assertEquals(await ask(etag as string), [304, false, etag]);
  assertEquals(await ask(`"x", ${etag}`), [304, false, etag]);
  assertEquals((await ask('W/"x"'))[0], 200);
  plane.cursor += 1;
  assertEquals((await ask(etag as string))[0], 304, "an event that changed no cell");
  plane.addCell("z");
  const [status, , changed] = await ask(etag as string);
  assertEquals(status, 200);
  assertNotEquals(changed, etag);
  const head = await app.request("/v1/cells", as("read", { method: "HEAD" }));
  assertEquals([head.status, head.headers.get("etag"), await head.text()], [200, changed, ""]);
  const other = makeApp(plane).app;
  const elsewhere = await other.request("/v1/cells", as("read"));
  assertNotEquals(elsewhere.headers.get("etag"), changed, "versions of another process");
  await elsewhere.body?.cancel();
});

Deno.test("tags: one record has a tag as long as it lives", async () => {
  const plane = planeWithCells(1);
  const { app } = makeApp(plane);
  const ask = async (tag = "") => {
    const response = await app.request(
      "/v1/cells/cell-0000",
      as("read", { headers: { "if-none-match": tag } }),
    );
    await response.body?.cancel();
    return [response.status, response.headers.get("etag")!] as const;
  };
  const [, etag] = await ask();
  assertEquals((await ask(etag))[0], 304);
  plane.addCell("cell-0000", { state: "destroyed" });
  assertEquals((await ask(etag))[0], 200);
});

Deno.test("lists: a page is made once a version, and its cursor is always the latest", async () => {
  const plane = planeWithCells(3);
  const { app } = makeApp(plane);
  for (let index = 0; index < 3; index++) {
    plane.cursor = 100 + index;
    assertEquals((await getJson(app, "/v1/cells?limit=2")).cursor, 100 + index);
  }
  assertEquals(plane.itemsAsked, 1);
});

Deno.test("events: pages of the log, with the cursor to go on from", async () => {
  const plane = new FakePlane();
  await plane.appendCells(...Array.from({ length: 250 }, (_, index) => `c${index % 5}`));
  const { app } = makeApp(plane);
  const first = await getJson(app, "/v1/events");
  assertEquals(first.events.length, 100);
  assertEquals([first.events[0].seq, first.cursor], [1, 100]);
  assertEquals(first.events[0].event.data.cellId, "c0");
  const last = await getJson(app, "/v1/events?since=200&limit=5000");
  assertEquals([last.events.length, last.cursor], [50, 250]);
  assertEquals(await getJson(app, "/v1/events?since=250"), { events: [], cursor: 250 });
  // A cursor ahead of the log is brought back to it.
  assertEquals(await getJson(app, "/v1/events?since=9999"), { events: [], cursor: 250 });
  assertEquals((await getJson(app, "/v1/events?limit=0")).events.length, 1);
});

Deno.test("events: filters choose, and the cursor moves past what they leave out", async () => {
  const plane = new FakePlane();
  plane.addFormation(FORMATION_ID, "build-1");
  plane.addCell("member", { formation_id: FORMATION_ID });
  await plane.append(
    startedEvent("member"),
    startedEvent("other"),
    destroyedEvent("member"),
    startedEvent("told", { formationId: FORMATION_ID.toUpperCase() }),
    startedEvent("legacy", { formation_id: FORMATION_ID }),
    destroyedEvent("other"),
  );
  const { app } = makeApp(plane);
  const seqs = async (query: string) => {
    const { events, cursor } = await getJson(app, `/v1/events?${query}`);
    return [events.map(({ seq }: { seq: number }) => seq), cursor];
  };
  assertEquals(await seqs("cell=member"), [[1, 3], 6]);
  assertEquals(await seqs("cell=member&limit=1"), [[1], 1]);
  assertEquals(await seqs("formation=build-1"), [[1, 3, 4, 5], 6]);
  assertEquals(await seqs(`formation=${FORMATION_ID}`), [[1, 3, 4, 5], 6]);
  assertEquals(await seqs("formation=nobody"), [[], 6]);
  assertEquals(await seqs("type=dev.cellos.events.cell.lifecycle.v1.destroyed"), [[3, 6], 6]);
  assertEquals(await seqs("type=dev.cellos.*&cell=other"), [[2, 6], 6]);
  assertEquals(await seqs("type=a,dev.cellos.events.cell.lifecycle.v1.destroyed"), [[3, 6], 6]);
  assertEquals(await seqs("subject=cell:other"), [[2, 6], 6]);
  assertEquals(await seqs("subject=cellos.events.>"), [[1, 2, 3, 4, 5, 6], 6]);
  assertEquals(await seqs("subject=cellos.events.cell.*.destroyed"), [[3, 6], 6]);
  assertEquals(await seqs("subject=cellos.events.cell.member.>"), [[1, 3], 6]);
  assertEquals(await seqs("subject=cellos.events.cell.member"), [[], 6]);
});

Deno.test("events: a cursor that retention overtook is a 410 with the first entry left", async () => {
  const plane = new FakePlane();
  await plane.appendCells(..."abcdefgh");
  await plane.log.dropBefore(5);
  const { app } = makeApp(plane);
  const body = await assertProblem(
    await app.request("/v1/events?since=2", as("read")),
    "cursor-expired",
  );
  assertEquals(body.firstSeq, 5);
  assertEquals((await getJson(app, "/v1/events?since=0")).events[0].seq, 5);
  assertEquals((await getJson(app, "/v1/events?since=4")).events[0].seq, 5);
});

Deno.test("cell events: a JSON array of bare CloudEvents, the last so many, or lines", async () => {
  const plane = new FakePlane();
  plane.addCell("a", { state: "destroyed" });
  await plane.append(startedEvent("a"), startedEvent("b"), destroyedEvent("a"));
  const { app } = makeApp(plane);
  const all = await getJson(app, "/v1/cells/a/events");
  assertEquals(all.map(({ specversion }: { specversion: string }) => specversion), ["1.0", "1.0"]);
  const tail = await getJson(app, "/v1/cells/a/events?tail=1&follow=false");
  assertEquals(tail, all.slice(1));
  assertEquals(await getJson(app, "/v1/cells/a/events?tail=0"), []);
  for (const query of ["", "?tail=2", "?follow=true", "?follow=true&tail=9"]) {
    const lines = await app.request(
      `/v1/cells/a/events${query}`,
      as("read", { headers: { accept: "application/x-ndjson" } }),
    );
    assertEquals(lines.headers.get("content-type"), "application/x-ndjson");
    const text = await lines.text();
    assertEquals(text.trimEnd().split("\n").map((line) => JSON.parse(line)), all, query);
  }
  const absent = await app.request("/v1/cells/nobody/events", as("read"));
  await assertProblem(absent, "not-found");
});

Deno.test("cell events: the tail is found from the end of a long log", async () => {
  const plane = new FakePlane();
  plane.addCell("a");
  await plane.appendCells("a", ...Array(2500).fill("b"), "a", ...Array(1200).fill("b"));
  const { app } = makeApp(plane);
  assertEquals((await getJson(app, "/v1/cells/a/events?tail=1")).length, 1);
  assertEquals((await getJson(app, "/v1/cells/a/events?tail=5")).length, 2);
  assertEquals((await getJson(app, "/v1/cells/a/events")).length, 2);
});

Deno.test("cell events: following goes on until the cell is destroyed", async () => {
  const plane = new FakePlane();
  plane.addCell("a");
  await plane.appendCells("a", "b");
  const { app } = makeApp(plane);
  const response = await app.request("/v1/cells/a/events?follow=true", as("read"));
  const lines = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  assertStringIncludes((await lines.read()).value!, "lifecycle.v1.started");
  const next = lines.read();
  await plane.append(startedEvent("b"), startedEvent("a"));
  assertStringIncludes((await next).value!, "lifecycle.v1.started");
  await plane.append(destroyedEvent("a"));
  assertStringIncludes((await lines.read()).value!, "lifecycle.v1.destroyed");
  assertEquals((await lines.read()).done, true);
});

Deno.test("cell events: following ends with its reader, and with the server", async () => {
  const plane = new FakePlane();
  plane.addCell("a");
  await plane.appendCells("a");
  const { app } = makeApp(plane, { streamsMax: 2 });
  const open = () => app.request("/v1/cells/a/events?follow=true", as("read"));
  const [first, second] = [await open(), await open()];
  await assertProblem(await open(), "too-many-clients");
  await first.body!.cancel();
  const third = await open();
  assertEquals(third.status, 200);
  const texts = [second.text(), third.text()];
  await app.stop();
  for (const text of texts) assertEquals((await text).trimEnd().split("\n").length, 1);
});

Deno.test("logs: bytes as they were, one stream, lines with base64", async () => {
  const plane = new FakePlane();
  plane.addCell("a");
  plane.output = [
    { stream: "stdout", bytes: new Uint8Array([0x68, 0x69, 0x0a]) },
    { stream: "stderr", bytes: new Uint8Array([0xff, 0x00]) },
  ];
  const { app } = makeApp(plane);
  const bytesOf = async (query: string) => {
    const response = await app.request(`/v1/cells/a/logs${query}`, as("read"));
    assertEquals(response.status, 200);
    return Array.from(new Uint8Array(await response.arrayBuffer()));
  };
  assertEquals(await bytesOf(""), [0x68, 0x69, 0x0a, 0xff, 0x00]);
  assertEquals(await bytesOf("?stream=stderr&tail=5"), [0xff, 0x00]);
  const lines = await app.request("/v1/cells/a/logs?format=ndjson&tailBytes=9", as("read"));
  assertEquals((await lines.text()).trimEnd().split("\n").map((line) => JSON.parse(line)), [
    { stream: "stdout", data: "aGkK" },
    { stream: "stderr", data: "/wA=" },
  ]);
  assertEquals(plane.commands, [
    'output a {"follow":false}',
    'output a {"stream":"stderr","tailLines":5,"follow":false}',
    'output a {"tailBytes":9,"follow":false}',
  ]);
});

Deno.test("logs: who stops reading ends the source", async () => {
  const plane = new FakePlane();
  plane.addCell("a");
  plane.output = [{ stream: "stdout", bytes: new Uint8Array([1]) }];
  const { app } = makeApp(plane);
  const response = await app.request("/v1/cells/a/logs?follow", as("read"));
  const reader = response.body!.getReader();
  await reader.read();
  await reader.cancel();
  assertEquals(plane.outputSignal?.aborted, true);
});

Deno.test("flows: filters reach state, and pages follow each other by `before`", async () => {
  const plane = new FakePlane();
  plane.flowList = Array.from({ length: 7 }, (_, index) => ({
    seq: 100 - index,
    cell_id: index % 2 === 0 ? "a" : "b",
    decision: "allow",
  }));
  const { app } = makeApp(plane);
  const page = await getJson(app, "/v1/flows?cell=a&decision=allow&limit=3");
  assertEquals(page.flows.map(({ seq }: { seq: number }) => seq), [100, 98, 96]);
  assertEquals(page.next, "96");
  const rest = await getJson(app, `/v1/flows?cell=a&before=${page.next}`);
  assertEquals(rest.flows.map(({ seq }: { seq: number }) => seq), [94]);
  assertEquals(rest.next, undefined);
});

Deno.test("version: at the top and below `server`, as both kinds of client look for it", async () => {
  const { app } = makeApp();
  assertEquals(await getJson(app, "/v1/version"), {
    version: "9.9.9",
    server: { version: "9.9.9", buildProfile: "test" },
    api: { version: "v1" },
  });
});

Deno.test("probes: 503 is a problem with the reasons", async () => {
  const { app, plane } = makeApp();
  plane.healthView = { isLive: true, isReady: false, reasons: ["log is away"], logBehind: 7 };
  const live = await app.request("/healthz");
  assertEquals(live.status, 200);
  assertEquals((await live.json()).logBehind, 7);
  const body = await assertProblem(await app.request("/readyz"), "not-ready");
  assertEquals([body.reasons, body.logBehind], [["log is away"], 7]);
  plane.healthView = { ...plane.healthView, isLive: false };
  await assertProblem(await app.request("/healthz"), "not-live");
  plane.healthView = { isLive: true, isReady: true, reasons: [], logBehind: 0 };
  await app.stop();
  await assertProblem(await app.request("/readyz"), "not-ready");
});

Deno.test("metrics: requests by the route's pattern, and what celld counts", async () => {
  const { app, plane } = makeApp();
  plane.addCell("a");
  await (await app.request("/v1/cells/a", as("read"))).body?.cancel();
  await (await app.request("/v1/cells/b", as("read"))).body?.cancel();
  await (await app.request("/v1/cells/b", as("read", { method: "BREW" }))).body?.cancel();
  const text = await (await app.request("/metrics", as("read"))).text();
  assertStringIncludes(
    text,
    'celld_http_requests_total{route="/v1/cells/{id}",method="GET",status="200"} 1',
  );
  assertStringIncludes(text, 'route="/v1/cells/{id}",method="GET",status="404"} 1');
  assertStringIncludes(text, 'route="none",method="other",status="405"} 1');
  assertStringIncludes(text, "\ncelld_cells 3\n");
});

Deno.test("openapi: every route is described, with its scope and its problems", async () => {
  const { app } = makeApp();
  const document = await getJson(app, "/openapi.json");
  assertEquals(document.openapi, "3.1.0");
  assertEquals(document.info.version, "9.9.9");
  const { post, get } = document.paths["/v1/formations"];
  assertEquals(post.security, [{ bearer: [] }]);
  assertStringIncludes(post.responses["400"].description, "formation-cycle");
  assertEquals(
    post.requestBody.content["application/json"].schema.$ref,
    "#/components/schemas/FormationDocument",
  );
  assertEquals(get.parameters.map(({ name }: { name: string }) => name), [
    "status",
    "limit",
    "after",
  ]);
  assertEquals(document.paths["/healthz"].get.security, undefined);
  assert("/ws/events" in document.paths);
});
