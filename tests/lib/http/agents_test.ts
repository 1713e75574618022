/**
 * `GET /v1/agents`.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { type AgentRecord, refuse } from "#lib/http/mod.ts";
import { as, makeApp } from "./plane.ts";
import { assertProblem } from "./problem_assert.ts";

function agent(host_pid: number, more: Partial<AgentRecord> = {}): AgentRecord {
  return {
    id: `${host_pid}@77`,
    host_pid,
    pid: 2,
    name: "worker",
    cell_id: null,
    uid: 0,
    status: "ok",
    status_text: null,
    origin: "kernel_attested",
    last_beat_age_ms: 12,
    threshold_ms: 5000,
    recoveries: 0,
    ...more,
  };
}

async function get(query: string, agents: AgentRecord[]): Promise<Response> {
  const { app, plane } = makeApp();
  plane.agentList = agents;
  return await app.request(`/v1/agents${query}`, as("read"));
}

Deno.test("agents: each with its age as it is now, and nothing to keep", async () => {
  const response = await get("", [agent(7), agent(9, { status: "stall" })]);
  assertEquals(response.status, 200);
  assertEquals(response.headers.get("cache-control"), "no-store");
  assertEquals(response.headers.get("etag"), null);
  assertEquals(await response.json(), {
    agents: [agent(7), agent(9, { status: "stall" })],
    cursor: 0,
  });
});

Deno.test("agents: filters by cell and status, and refuses what is no filter", async () => {
  const all = [agent(7, { cell_id: "a" }), agent(8, { cell_id: "b", status: "stall" })];
  const ids = async (query: string) =>
    (await (await get(query, all)).json()).agents.map((it: AgentRecord) => it.host_pid);
  assertEquals(await ids("?cell=a"), [7]);
  assertEquals(await ids("?status=stall"), [8]);
  assertEquals(await ids("?cell=a&status=stall"), []);
  await assertProblem(await get("?status=dead", all), "bad-filter");
  await assertProblem(await get("?stauts=ok", all), "bad-filter");
});

Deno.test("agents: pages follow each other by `after`", async () => {
  const all = [3, 20, 100].map((pid) => agent(pid));
  const first = await (await get("?limit=2", all)).json();
  assertEquals([first.agents.length, first.next], [2, "20@77"]);
  const second = await (await get("?limit=2&after=20@77", all)).json();
  assertEquals(second.agents.map((it: AgentRecord) => it.host_pid), [100]);
  assertEquals("next" in second, false);
});

Deno.test("agents: where nobody watches, that is the answer", async () => {
  const { app, plane } = makeApp();
  plane.agents = () => refuse("liveness-unavailable", "Cannot show agents: no observer runs here");
  await assertProblem(await app.request("/v1/agents", as("read")), "liveness-unavailable");
});
