/**
 * Cells that are taken over: by the next celld with either flow backend, and by the same one after
 * a thread of it has died.
 *
 * @module
 */
import { assert, assertEquals, assertGreater, assertStringIncludes } from "@std/assert";
import {
  EVENT_TYPES,
  type FlowClosedData,
  type FlowDecisionData,
  type FlowGapData,
} from "#lib/events/mod.ts";
import { spec, Stage } from "#tests/support/celld_stage.ts";
import {
  assertHeld,
  PROBE_ARGV,
  PROBE_EGRESS,
  PROBE_WATCH,
  probeTries,
} from "#tests/support/forbidden_probe.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { LAB } from "#tests/support/lab.ts";
import { SocketFollower } from "#tests/support/serve_followers.ts";
import { Served, type ServedEntry } from "#tests/support/served.ts";
import { assertNumbersMeet, runCell, typesOf } from "#tests/support/served_facts.ts";

const NEEDS = [
  "root",
  "cap:CAP_SYS_ADMIN",
  "cap:CAP_NET_ADMIN",
  "cap:CAP_SYS_PTRACE",
  "path:/usr/bin/perl",
] as const;

const BREAKABLE = new URL("../support/breakable_celld.ts", import.meta.url).pathname;

function dataOf<T>(entries: readonly ServedEntry[], type: string): T[] {
  return entries.filter(({ event }) => event.type === type).map(({ event }) => event.data as T);
}

async function waitForEntry(
  served: Served,
  since: number,
  isWanted: (entry: ServedEntry) => boolean,
): Promise<void> {
  const deadline = performance.now() + 30_000;
  while (!(await served.events(since)).some(isWanted)) {
    assert(performance.now() < deadline, served.printed);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function isAcceptOf(cellId: string): (entry: ServedEntry) => boolean {
  return ({ event }) =>
    event.type === EVENT_TYPES.flowDecision && event.subject === `cell:${cellId}` &&
    (event.data as FlowDecisionData).decision === "allow";
}

kernelTest(
  "adopt: with the backend ebpf the next celld's program tells the flows, and the gap is told",
  [...NEEDS, "cap:CAP_BPF"],
  async () => {
    await using stage = await Stage.set({ watch: PROBE_WATCH });
    await using served = new Served(stage, ["--flow-backend", "ebpf"]);
    await served.start();
    const probe = await runCell(served, spec("probe", { argv: PROBE_ARGV, egress: PROBE_EGRESS }));
    await served.cellBecomes(probe, { state: "running" });
    await waitForEntry(served, 0, isAcceptOf(probe));
    const hasPrograms = !served.printed.includes("Cannot use the flow backend ebpf");
    const before = (await served.events()).at(-1)!.seq;
    await served.end("SIGKILL");
    await new Promise((resolve) => setTimeout(resolve, 500));
    await served.start();
    await waitForEntry(served, before, isAcceptOf(probe));
    const news = await served.events(before);
    const gaps = dataOf<FlowGapData>(news, EVENT_TYPES.flowGap);
    assertEquals(gaps.some(({ isCountUnknown }) => isCountUnknown === true), hasPrograms);
    const accepted = dataOf<FlowDecisionData>(news, EVENT_TYPES.flowDecision)
      .filter(({ decision, cellId }) => decision === "allow" && cellId === probe);
    const reason = hasPrograms ? "bpf_accept" : "nft_log_accept";
    assertEquals(new Set(accepted.map(({ reasonCode }) => reasonCode)), new Set([reason]));
    await served.ask("POST", `/v1/cells/${probe}/stop`);
    await served.cellBecomes(probe, { state: "destroyed" });
    assertHeld(stage.lab);
    assertEquals(await served.end("SIGTERM"), 0);
  },
);

/** Keeps a connection until a file is there, and says what its port was. */
const KEEPER = `
  use IO::Socket::INET; use Time::HiRes qw(sleep); $| = 1;
  my $s = IO::Socket::INET->new(PeerAddr => "${LAB.serversIpv4[0]}:${LAB.tcpEchoPort}") or die;
  print "port ", $s->sockport, "\\n"; sleep 0.01 until -e "/marks/close"; close $s; print "closed\\n";
  sleep 60 while 1;`;

kernelTest(
  "adopt: a connection that ended while no celld was there is told with its totals",
  NEEDS,
  async () => {
    await using stage = await Stage.set();
    await using served = new Served(stage);
    await served.start();
    const marks = `${stage.base}/marks`;
    Deno.mkdirSync(marks);
    const cellId = await runCell(
      served,
      spec("keeper", {
        argv: ["perl", "-e", KEEPER],
        egress: [{ host: LAB.serversIpv4[0], port: LAB.tcpEchoPort }],
        run: { mounts: [{ source: marks, target: "/marks", readOnly: true }] },
      }),
    );
    await served.cellBecomes(cellId, { state: "running" });
    await waitForEntry(served, 0, isAcceptOf(cellId));
    const output = async () => (await served.ask("GET", `/v1/cells/${cellId}/logs`)).text;
    const port = Number(/port (\d+)/.exec(await output())![1]);
    const before = (await served.events()).at(-1)!.seq;
    await served.end("SIGKILL");
    Deno.writeTextFileSync(`${marks}/close`, "");
    await new Promise((resolve) => setTimeout(resolve, 1000));
    await served.start();
    assertStringIncludes(await output(), "closed");
    await waitForEntry(served, before, ({ event }) => event.type === EVENT_TYPES.flowClosed);
    const closed = dataOf<FlowClosedData>(await served.events(before), EVENT_TYPES.flowClosed);
    assertEquals(closed.map((it) => [it.cellId, it.srcPort, it.reason, it.ruleRef]), [
      [cellId, port, "closed", "egress[0]"],
    ]);
    assertGreater(closed[0]!.packetsOut, 1);
    await served.ask("POST", `/v1/cells/${cellId}/stop`);
    await served.cellBecomes(cellId, { state: "destroyed" });
    assertEquals(await served.end("SIGTERM"), 0);
  },
);

/** Children of a process that have ended and that it did not take notice of. */
function zombiesOf(parent: number): string[] {
  const found: string[] = [];
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    let stat: string;
    try {
      stat = Deno.readTextFileSync(`/proc/${name}/stat`);
    } catch {
      // It has just gone.
      continue;
    }
    const [state, parentPid] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    if (state === "Z" && Number(parentPid) === parent) found.push(stat);
  }
  return found;
}

for (const [worker, signal] of [["flow", "SIGUSR1"], ["host", "SIGWINCH"]] as const) {
  kernelTest(
    `adopt: a dead ${worker} worker is told and replaced, and the cells go on under their policy`,
    NEEDS,
    async () => {
      await using stage = await Stage.set({ watch: PROBE_WATCH });
      await using served = new Served(stage, [], { program: BREAKABLE });
      await served.start();
      const follower = new SocketFollower(served, "ndjson");
      const following = follower.run();
      const document = spec("probe", { argv: PROBE_ARGV, egress: PROBE_EGRESS });
      const probe = await runCell(served, document);
      await served.cellBecomes(probe, { state: "running" });
      const { pid } = served;
      const argv = ["sh", "-c", "sleep 1; exit 6"];
      const brief = await runCell(served, spec("brief", { argv }));
      await served.cellBecomes(brief, { state: "running" });
      for (let restarts = 1; restarts <= 2; restarts++) {
        const before = (await served.events()).at(-1)!.seq;
        served.signal(signal);
        const isTold = ({ event }: ServedEntry) => event.type === EVENT_TYPES.hostWorkerRestarted;
        await waitForRestart(served, before, isTold);
        await served.ready();
        const news = await served.events(before);
        const told = dataOf<Record<string, unknown>>(news, EVENT_TYPES.hostWorkerRestarted);
        assertEquals(told.map((it) => [it.worker, it.restarts]), [[worker, restarts]]);
        const gaps = dataOf<FlowGapData>(news, EVENT_TYPES.flowGap)
          .filter(({ cellId }) => cellId === probe);
        assertGreater(gaps.length, 0);
        // It hears again.
        await waitForEntry(served, news.at(-1)!.seq, isAcceptOf(probe));
      }
      assertEquals(served.pid, pid, "it is the same process");
      await served.cellBecomes(brief, { state: "destroyed", exit_code: 6 });
      assertStringIncludes(served.printed, `The ${worker} worker is gone`);
      const entries = await served.events();
      const started = typesOf(entries, probe).filter((type) => type === EVENT_TYPES.cellStarted);
      assertEquals(started.length, 1);
      const { opened } = probeTries((await served.ask("GET", `/v1/cells/${probe}/logs`)).text);
      assertGreater(opened, 0);
      const late = await runCell(served, spec("late", { argv: ["sh", "-c", "exit 4"] }));
      await served.cellBecomes(late, { state: "destroyed", exit_code: 4 });
      await served.ask("POST", `/v1/cells/${probe}/stop`);
      await served.cellBecomes(probe, { state: "destroyed" });
      await assertNumbersMeet(served, probe);
      assertHeld(stage.lab);
      assertEquals(zombiesOf(pid), []);
      const lastSeq = (await served.events()).at(-1)!.seq;
      await follower.reaches(lastSeq);
      follower.end();
      await following;
      follower.assertExact(await served.events(), lastSeq);
      assertEquals(await served.end("SIGTERM"), 0);
    },
  );
}

/** As {@link waitForEntry}, of a server that is away for a while. */
async function waitForRestart(
  served: Served,
  since: number,
  isWanted: (entry: ServedEntry) => boolean,
): Promise<void> {
  const deadline = performance.now() + 30_000;
  for (;;) {
    assert(performance.now() < deadline, served.printed);
    const answer = await served.tryAsk("GET", `/v1/events?since=${since}&limit=1000`);
    if (answer?.status === 200) {
      const { events } = answer.json<{ events: ServedEntry[] }>();
      if (events.some(isWanted)) return;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
