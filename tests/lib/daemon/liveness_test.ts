/**
 * What a server makes of transitions: records, counts, metrics, what recovery is fed with, and the end
 * of silent cells.
 *
 * @module
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { parseCellSpec } from "#lib/cell/spec.ts";
import { LivenessCells, SPEC_LABEL } from "#lib/daemon/liveness_cells.ts";
import { livenessMetrics, METRIC_AGENTS_MAX, MetricLines } from "#lib/daemon/liveness_metrics.ts";
import { agentRecords } from "#lib/daemon/liveness_records.ts";
import { policyRules, RecoveryFeed } from "#lib/daemon/liveness_recovery.ts";
import { LivenessTally } from "#lib/daemon/liveness_tally.ts";
import type { AgentRow } from "#lib/liveness/agent_directory.ts";
import type { AgentEvent, AgentState } from "#lib/liveness/agent_events.ts";
import type { CellSocketOrder } from "#lib/liveness/observer_messages.ts";

function agent(hostPid: number, more: Partial<AgentState> = {}): AgentState {
  return {
    hostPid,
    pid: hostPid,
    status: "ok",
    origin: "kernel_attested",
    generation: 77,
    namespaceInode: 4,
    lastNs: 5e9,
    ...more,
  };
}

function row(hostPid: number, more: Partial<AgentRow> = {}): AgentRow {
  return { ...agent(hostPid), beats: 3, payload: 0, lastBeatAgeNs: 1.5e9, ...more };
}

function event(kind: "seen" | "stalled" | "resumed", it: AgentState): AgentEvent {
  return { kind, atNs: 6e9, agent: it };
}

function gone(it: AgentState, reason: "exit" | "stopped" | "evicted" = "exit"): AgentEvent {
  return { kind: "gone", atNs: 7e9, agent: it, reason };
}

Deno.test("agents: records in the order of pids, with their recoveries, as asked for", () => {
  const rows = [
    row(9, { cell: "c", status: "stall" }),
    row(7, { generation: 0, thresholdNs: 2e9 }),
  ];
  const all = agentRecords(rows, {}, (id) => id === "9@77" ? 2 : 0);
  assertEquals(all.map(({ id, recoveries }) => [id, recoveries]), [["7", 0], ["9@77", 2]]);
  assertEquals([all[0]!.last_beat_age_ms, all[0]!.threshold_ms, all[1]!.threshold_ms], [
    1500,
    2000,
    null,
  ]);
  assertEquals(agentRecords(rows, { cell: "c" }, () => 0).map(({ host_pid }) => host_pid), [9]);
  assertEquals(agentRecords(rows, { status: "ok" }, () => 0).map((it) => it.host_pid), [7]);
});

Deno.test("agents: stalls and recoveries are counted until the process is gone", () => {
  const tally = new LivenessTally();
  tally.onAgent(event("stalled", agent(7)));
  tally.onAgent(event("resumed", agent(7)));
  tally.onAgent(event("stalled", agent(7)));
  const data = { pid: 7, generation: 77, childPid: 1, program: "x", attempt: 2 };
  tally.onRecovery({ event: { type: "spawned", data }, wallMs: 0 });
  assertEquals([tally.stallsOf(7), tally.recoveriesOf("7@77")], [2, 2]);
  tally.onAgent(gone(agent(7)));
  assertEquals([tally.stallsOf(7), tally.recoveriesOf("7@77")], [0, 0]);
});

const CLOCK = { startedAtMonotonicNs: 1e9, nsInode: 4 };
const POLICY = { debounceMs: 0, rungs: [] };

Deno.test("recovery is fed with the host's agents, by the first policy that fits", () => {
  const policies = [
    { match: { name: "db" }, isService: true, policy: POLICY },
    { spec: "web", isService: false, policy: POLICY },
    { match: { uid: 5 }, isService: false, policy: POLICY },
  ];
  const feed = new RecoveryFeed({ policies, isReported: (cell) => cell === "web-1" });
  const labels = { [SPEC_LABEL]: "web" };
  const batch = feed.batch([
    event("stalled", agent(1, { name: "db" })),
    event("stalled", agent(2, { name: "perl", uid: 5 })),
    event("stalled", agent(3, { name: "perl", uid: 6 })),
    event("stalled", agent(4, { cell: "web-1", labels })),
    // Its spec says that the cell ends.
    event("stalled", agent(5, { cell: "web-2", labels })),
    // Only by a policy for specs.
    event("stalled", agent(6, { cell: "db-1", name: "db", labels: { [SPEC_LABEL]: "db" } })),
  ], CLOCK);
  assertEquals(batch?.stalled?.map(({ pid, label }) => [pid, label]), [
    [1, "policy-0"],
    [2, "policy-2"],
    [4, "policy-1"],
  ]);
  assertEquals(batch?.stalled?.map(({ name }) => name), ["db", undefined, undefined]);
  assertEquals(batch?.stalled?.[0]?.lastNs, 6e9);
  assertEquals(policyRules(policies).map(({ label }) => label), [
    "policy-0",
    "policy-1",
    "policy-2",
  ]);
});

Deno.test("recovery: a new process of a service is its answer; of others it is nobody's", () => {
  const policies = [
    { match: { name: "db" }, isService: true, policy: POLICY },
    { match: {}, isService: false, policy: POLICY },
  ];
  const feed = new RecoveryFeed({ policies, isReported: () => false });
  const batch = feed.batch([
    event("seen", agent(1, { name: "db" })),
    event("seen", agent(2, { name: "perl" })),
    gone(agent(3), "exit"),
    gone(agent(4), "stopped"),
    gone(agent(5), "evicted"),
  ], CLOCK);
  assertEquals(batch?.resumed?.map(({ pid }) => pid), [1]);
  assertEquals(batch?.exited?.map(({ pid }) => pid), [3]);
  assertEquals(feed.batch([event("seen", agent(2))], CLOCK), undefined);
});

Deno.test("metrics: agents by pid with who they are; past a bound they are counted only", () => {
  const lines = new MetricLines();
  const agents = Array.from({ length: METRIC_AGENTS_MAX + 3 }, (_, at) => row(10_000 - at));
  agents[0] = row(10_000, { name: 'a"b\\c\nd', status: "stall" });
  livenessMetrics({
    agents: agents.slice(0, 2),
    stallsOf: () => 4,
    counters: { 'varta_rate_limited_total{reason="global"}': 9 },
    recovery: [],
    facts: { startedAtMs: 0, startedAtMonotonicNs: 0, nsInode: 0, pidfdsMax: 0 },
    uptimeSeconds: 1.23456,
    lastLoopSeconds: 2,
    capacity: 256,
    evictionWindow: 16,
    pidMax: 32768,
    eventsLost: 0,
  }, lines);
  const text = lines.text();
  assertStringIncludes(text, 'varta_status{pid="10000",name="a\\"b\\\\c\\nd",cell="",origin=');
  assert(text.indexOf('{pid="9999"') < text.indexOf('{pid="10000"'));
  assertStringIncludes(text, "# TYPE varta_rate_limited_total counter\nvarta_rate_limited_total{");
  assertStringIncludes(text, 'varta_recovery_outcomes_total{outcome="spawned"} 0\n');
  assertStringIncludes(text, "varta_watch_uptime_seconds 1.235\n");
  const families = text.split("\n").filter((line) => line.startsWith("# TYPE"));
  assertEquals(new Set(families).size, families.length);
});

/** Cells with an observer that only remembers. */
class Stage implements Disposable {
  readonly base = Deno.makeTempDirSync({ prefix: "celld-cells-" });
  readonly orders: CellSocketOrder[] = [];
  readonly removed: string[] = [];
  readonly stopped: string[] = [];
  readonly missing: string[] = [];
  refusals = 0;
  bindFails = false;
  readonly cells = new LivenessCells({
    runtimeDir: this.base,
    sockets: () => ({
      addCellSocket: (order) => {
        if (this.bindFails) return Promise.reject(new Error("no room"));
        this.orders.push(order);
        return Promise.resolve();
      },
      removeCellSocket: (cell) => Promise.resolve(void this.removed.push(cell)),
      settle: () => Promise.resolve(),
    }),
    stopStalled: (cell) => {
      if (this.refusals-- > 0) return Promise.reject(new Error("the log is away"));
      this.stopped.push(cell);
      return Promise.resolve(true);
    },
    onMissing: (cell) => this.missing.push(cell),
    onWarning: () => {},
  });

  async open(cellId: string, liveness: string, isAdopted = false): Promise<void> {
    const spec = parseCellSpec(`
apiVersion: cellos.io/v1
kind: ExecutionCell
spec: { id: beats, run: { argv: [a], liveness: ${liveness} } }`);
    await this.cells.open({ cellId, spec, uid: 4000, isAdopted });
  }

  [Symbol.dispose](): void {
    this.cells.shut();
    Deno.removeSync(this.base, { recursive: true });
  }
}

async function later(isSo: () => boolean): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!isSo()) {
    assert(performance.now() < deadline, "not in time");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

Deno.test("cells: the socket is the cell's user's, by two names, with its own threshold", async () => {
  using stage = new Stage();
  await stage.open("a-1", "{ thresholdMs: 250 }");
  const [order] = stage.orders;
  assertEquals([order?.cellId, order?.thresholdNs, order?.owner, order?.mode, order?.uids], [
    "a-1",
    250e6,
    { uid: 4000, gid: 4000 },
    0o600,
    [{ first: 4000, count: 1 }],
  ]);
  const directory = `${stage.base}/cells/a-1/beats`;
  assertEquals(order?.path, `${directory}/beat.sock`);
  assertEquals(Deno.readLinkSync(`${directory}/notify.sock`), "beat.sock");
  assertEquals((Deno.statSync(directory).mode ?? 0) & 0o777, 0o755);
  await stage.cells.close("a-1");
  await stage.cells.close("a-1");
  assertEquals([stage.removed, stage.cells.size], [["a-1"], 0]);
});

Deno.test("cells: one that stalls is ended once, and again until the log takes it", async () => {
  using stage = new Stage();
  await stage.open("a-1", "{ startupSeconds: 600 }");
  stage.refusals = 1;
  for (const pid of [7, 8]) stage.cells.onEvent(event("stalled", agent(pid, { cell: "a-1" })));
  await later(() => stage.stopped.length > 0);
  stage.cells.onEvent(event("stalled", agent(7, { cell: "a-1" })));
  await stage.cells.close("a-1");
  assertEquals(stage.stopped, ["a-1"]);
});

Deno.test("cells: report ends nothing, and leaves its agents to recovery", async () => {
  using stage = new Stage();
  await stage.open("a-1", "{ startupSeconds: 600, onStall: report }");
  stage.cells.onEvent(event("stalled", agent(7, { cell: "a-1" })));
  await new Promise((resolve) => setTimeout(resolve, 20));
  assertEquals([stage.stopped, stage.cells.isReported("a-1")], [[], true]);
});

Deno.test("cells: no first beat is told, and ends the cell unless it was adopted", async () => {
  using stage = new Stage();
  await stage.open("mute-1", "{ startupSeconds: 1 }");
  await stage.open("adopted-1", "{ startupSeconds: 1 }", true);
  await stage.open("beats-1", "{ startupSeconds: 1 }");
  stage.cells.onEvent(event("seen", agent(7, { cell: "beats-1" })));
  await later(() => stage.missing.length === 2 && stage.stopped.length === 1);
  assertEquals(stage.missing.sort(), ["adopted-1", "mute-1"]);
  assertEquals(stage.stopped, ["mute-1"]);
});

Deno.test("cells: one whose socket cannot be bound is not heard, and says so", async () => {
  using stage = new Stage();
  stage.bindFails = true;
  await assertRejects(() => stage.open("a-1", "{ startupSeconds: 1 }"), Error, "no room");
  assertEquals(stage.cells.size, 0);
  stage.bindFails = false;
  await stage.open("a-1", "{ startupSeconds: 600 }");
  stage.bindFails = true;
  await stage.cells.rebind("a-1", "it broke");
  await later(() => stage.stopped.length > 0);
  assertEquals(stage.stopped, ["a-1"]);
});
