/**
 * The UDP load balancer over HTTP: what is asked of it, and what is refused before.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { refuse, type UdpListenerRecord } from "#lib/http/mod.ts";
import { as, FakeUdp, makeApp } from "./plane.ts";
import { assertProblem } from "./problem_assert.ts";

const DNS: UdpListenerRecord = {
  name: "dns",
  address: "127.0.0.1:53",
  cluster: "dns",
  status: "ready",
  flows: 3,
  counters: { datagramsIn: 7 },
  settings: {},
};

function world(): {
  udp: FakeUdp;
  post(path: string, body: string): Promise<Response>;
  get(path: string): Promise<Response>;
  remove(path: string): Promise<Response>;
} {
  const { app, plane } = makeApp();
  const udp = new FakeUdp();
  udp.listenerList = [DNS];
  plane.udp = udp;
  const send = async (method: string, path: string, body?: string) =>
    await app.request(
      path,
      as(method === "GET" ? "read" : "admin", {
        method,
        ...(body === undefined ? {} : { body, headers: { "content-type": "application/json" } }),
      }),
    );
  return {
    udp,
    post: (path, body) => send("POST", path, body),
    get: (path) => send("GET", path),
    remove: (path) => send("DELETE", path),
  };
}

Deno.test("udp: a document is handed on as it is, JSON or YAML", async () => {
  const { udp, post } = world();
  const answer = await post("/v1/udp", '{"listeners":[]}');
  assertEquals([answer.status, await answer.json()], [200, udp.answer]);
  await post("/v1/udp?prune&dry_run=true", "clusters: []\n");
  assertEquals(udp.applied, [
    [{ listeners: [] }, { isPruning: false, isDryRun: false }],
    [{ clusters: [] }, { isPruning: true, isDryRun: true }],
  ]);
});

Deno.test("udp: one listener or cluster is a document of one", async () => {
  const { udp, post } = world();
  await post("/v1/udp/listeners", '{"name":"a"}');
  await post("/v1/udp/clusters", '{"name":"b"}');
  const options = { isPruning: false, isDryRun: false };
  assertEquals(udp.applied, [
    [{ listeners: [{ name: "a" }] }, options],
    [{ clusters: [{ name: "b" }] }, options],
  ]);
});

Deno.test("udp: a refused document is a problem with what is wrong in it", async () => {
  const { udp, post } = world();
  const errors = [{ path: "listeners[0].name" }];
  udp.answer = refuse("spec-invalid", "Cannot read the UDP configuration", { errors });
  const problem = await assertProblem(await post("/v1/udp", "{}"), "spec-invalid");
  assertEquals(problem.errors, errors);
  await assertProblem(await post("/v1/udp", "{"), "malformed-body");
  await assertProblem(await post("/v1/udp", "[]"), "malformed-body");
});

Deno.test("udp: listeners are listed, and found by name", async () => {
  const { get } = world();
  assertEquals(await (await get("/v1/udp/listeners")).json(), { listeners: [DNS] });
  assertEquals(await (await get("/v1/udp/listeners/dns")).json(), DNS);
  await assertProblem(await get("/v1/udp/listeners/none"), "not-found");
  await assertProblem(await get("/v1/udp/clusters/none"), "not-found");
});

Deno.test("udp: what is not there cannot be removed", async () => {
  const { remove } = world();
  assertEquals((await remove("/v1/udp/listeners/dns")).status, 200);
  await assertProblem(await remove("/v1/udp/listeners/none"), "not-found");
});

Deno.test("udp: a drain says of what, from when, and until when", async () => {
  const { udp, post } = world();
  await post("/v1/udp/listeners/dns/drain", "{}");
  await post("/v1/udp/listeners/dns/drain", '{"after_ms":5,"draining":false}');
  await post("/v1/udp/clusters/a/backends/b/drain", "{}");
  assertEquals(udp.drains, [
    { target: { listener: "dns" }, isDraining: true, afterMs: 30_000 },
    { target: { listener: "dns" }, isDraining: false, afterMs: 5 },
    { target: { cluster: "a", backend: "b" }, isDraining: true, afterMs: 30_000 },
  ]);
  for (const body of ['{"after_ms":-1}', '{"draining":1}', '{"after":1}']) {
    await assertProblem(await post("/v1/udp/listeners/dns/drain", body), "bad-request");
  }
});

Deno.test("udp: where no load balancer runs, that is the answer", async () => {
  const { app, plane } = makeApp();
  plane.udp = undefined;
  for (const path of ["/v1/udp/listeners", "/v1/udp/clusters/a", "/v1/udp/flows"]) {
    await assertProblem(await app.request(path, as("read")), "udp-unavailable");
  }
});
