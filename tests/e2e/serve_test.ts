/**
 * A server from its first start to its last: cells by the API, formations, restarts, kills.
 *
 * @module
 */
import {
  assert,
  assertEquals,
  assertGreater,
  assertMatch,
  assertStringIncludes,
} from "@std/assert";
import { EVENT_TYPES, type FlowGapData } from "#lib/events/mod.ts";
import { Prng } from "#lib/base/mod.ts";
import { campaign, campaignSeed, recordCampaign } from "#tests/support/campaign.ts";
import { spec, Stage, until } from "#tests/support/celld_stage.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { LAB } from "#tests/support/lab.ts";
import { Served, type ServedEntry } from "#tests/support/served.ts";

const NEEDS = [
  "root",
  "cap:CAP_SYS_ADMIN",
  "cap:CAP_NET_ADMIN",
  "cap:CAP_SYS_PTRACE",
  "path:/usr/bin/perl",
] as const;
const [ALLOWED, , FORBIDDEN] = LAB.serversIpv4;
const EGRESS = [{ host: ALLOWED, port: 80 }];
const WAIT = "echo here; while :; do sleep 60 & wait $!; done";
/** Tries both addresses for ever, and says what came of it. */
const PROBE = `
  use IO::Socket::INET; $| = 1;
  while (1) {
    for my $to ("${FORBIDDEN}", "${ALLOWED}") {
      my $socket = IO::Socket::INET->new(PeerAddr => $to, PeerPort => 80, Timeout => 1);
      print "$to ", ($socket ? "open" : "shut"), "\\n";
    }
    select(undef, undef, undef, 0.02);
  }`;

function typesOf(entries: readonly ServedEntry[], cellId: string): string[] {
  return entries.filter(({ event }) => event.subject === `cell:${cellId}`)
    .map(({ event }) => event.type);
}

async function runCell(served: Served, document: unknown): Promise<string> {
  const answer = await served.ask("POST", "/v1/cells", document);
  assertEquals(answer.status, 202, answer.text);
  return answer.json<{ cellId: string }>().cellId;
}

kernelTest(
  "serve: a cell is asked for, runs, is heard, stopped, and its output kept",
  NEEDS,
  async () => {
    await using stage = await Stage.set();
    await using served = new Served(stage);
    await served.start();
    const argv = ["perl", "-e", PROBE];
    const cellId = await runCell(served, spec("probe", { argv, egress: EGRESS }));
    await served.cellBecomes(cellId, { state: "running" });
    await new Promise((resolve) => setTimeout(resolve, 500));
    const flows = (await served.ask("GET", `/v1/flows?cell=${cellId}`)).text;
    assertStringIncludes(flows, FORBIDDEN!);
    assertEquals((await served.ask("POST", `/v1/cells/${cellId}/stop`)).status, 202);
    const cell = await served.cellBecomes(cellId, { state: "destroyed" });
    assertEquals([cell.reason, cell.exit_code, cell.terminal_state], ["stopped", 143, "clean"]);

    const types = typesOf(await served.events(), cellId);
    assertEquals(types[0], EVENT_TYPES.cellRequested);
    assertEquals(types.at(-1), EVENT_TYPES.cellDestroyed);
    assertGreater(
      types.indexOf(EVENT_TYPES.cellStopRequested),
      types.indexOf(EVENT_TYPES.cellStarted),
    );
    const output = (await served.ask("GET", `/v1/cells/${cellId}/logs`)).text;
    assertStringIncludes(output, `${ALLOWED} open`);
    assert(!output.includes(`${FORBIDDEN} open`));
    assertMatch((await served.ask("GET", "/metrics")).text, /^celld_cells_held 0$/m);
    assertEquals((await served.ask("POST", `/v1/cells/${cellId}/stop`)).status, 409);
    assertEquals((await served.ask("POST", "/v1/cells", { spec: {} })).status, 400);
    assertEquals(await served.end("SIGTERM"), 0);
  },
);

kernelTest(
  "serve: an upgrade is a restart: cells go on, and what they did meanwhile is told",
  NEEDS,
  async () => {
    await using stage = await Stage.set();
    await using served = new Served(stage);
    await served.start();
    const probe = await runCell(
      served,
      spec("probe", { argv: ["perl", "-e", PROBE], egress: EGRESS }),
    );
    const short = await runCell(served, spec("short", { argv: ["sh", "-c", "sleep 2; exit 7"] }));
    await served.cellBecomes(probe, { state: "running" });
    await served.cellBecomes(short, { state: "running" });
    assertEquals(await served.end("SIGTERM"), 0);
    await new Promise((resolve) => setTimeout(resolve, 3000));
    await served.start();

    const ended = await served.cell(short);
    assertEquals([ended.state, ended.reason, ended.exit_code], ["destroyed", "exited", 7]);
    assertEquals((await served.cell(probe)).state, "running");
    const entries = await served.events();
    const gaps = entries.filter(({ event }) => event.type === EVENT_TYPES.flowGap)
      .map(({ event }) => event.data as FlowGapData);
    const missed = gaps.find(({ cellId }) => cellId === probe);
    assertGreater(missed?.lost ?? 0, 0);
    assertEquals(missed?.cause, "unwatched");
    assertEquals(gaps.find(({ cellId }) => cellId === short)?.isCountUnknown, true);
    // It is one run: it was started once, and its numbers meet in the end.
    assertEquals(typesOf(entries, probe).filter((it) => it === EVENT_TYPES.cellStarted).length, 1);
    await served.ask("POST", `/v1/cells/${probe}/stop`);
    await served.cellBecomes(probe, { state: "destroyed" });
    await assertNumbersMeet(served, probe);
    assertEquals(await served.end("SIGTERM"), 0);
  },
);

kernelTest("serve: --stop-cells ends the cells with the server", NEEDS, async () => {
  await using stage = await Stage.set();
  await using served = new Served(stage, ["--stop-cells"]);
  await served.start();
  const cellId = await runCell(served, spec("wait", { argv: ["sh", "-c", WAIT] }));
  await served.cellBecomes(cellId, { state: "running" });
  assertEquals(await served.end("SIGTERM"), 0);
  assertEquals(stage.cgroupsOf("wait"), []);
  await served.start();
  assertEquals((await served.cell(cellId)).reason, "stopped");
});

kernelTest(
  "serve: a formation starts along its authority, and ends when it is deleted",
  NEEDS,
  async () => {
    await using stage = await Stage.set();
    await using served = new Served(stage);
    await served.start();
    const cell = { run: { argv: ["sh", "-c", WAIT] } };
    const created = await served.ask("POST", "/v1/formations", {
      name: "build-1",
      coordinator: "lead",
      members: [
        { id: "worker", authorizedBy: "lead", spec: cell },
        { id: "lead", spec: cell },
      ],
    });
    assertEquals(created.status, 201, created.text);
    const { id } = created.json<{ id: string }>();
    await formationBecomes(served, id, "running");
    const entries = await served.events();
    const started = entries.filter(({ event }) => event.type === EVENT_TYPES.cellStarted)
      .map(({ event }) => (event.data as { specId: string }).specId);
    assertEquals(started, ["lead", "worker"]);

    await served.end("SIGKILL");
    await served.start();
    assertEquals((await formationBecomes(served, id, "running")).status, "RUNNING");
    assertEquals((await served.ask("DELETE", `/v1/formations/${id}`)).status, 204);
    assertEquals((await formationBecomes(served, id, "cancelled")).status, "CANCELLED");
    await served.end("SIGKILL");
    await served.start();
    assertEquals((await formationBecomes(served, id, "cancelled")).status, "CANCELLED");
    const cells = (await served.ask("GET", "/v1/cells")).json<{ cells: { state: string }[] }>();
    assertEquals(cells.cells.map(({ state }) => state), ["destroyed", "destroyed"]);
  },
);

async function formationBecomes(
  served: Served,
  id: string,
  phase: string,
): Promise<Record<string, unknown>> {
  const deadline = performance.now() + 20_000;
  for (;;) {
    const formation = (await served.ask("GET", `/v1/formations/${id}`)).json();
    if (formation.phase === phase) return formation;
    if (performance.now() > deadline) {
      throw new Error(`Cannot go on: ${JSON.stringify(formation)}\n${served.printed}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Logged = seen + lost, over all rules, at the end of a run that several servers heard. */
async function assertNumbersMeet(served: Served, cellId: string): Promise<void> {
  const entries = await served.events();
  const last = entries.findLast(({ event }) =>
    event.type === EVENT_TYPES.flowCounters && event.subject === `cell:${cellId}`
  );
  const { rules, listener } = last!.event.data as {
    rules: { loggedPackets: number; matchedPackets: number; suppressedPackets: number }[];
    listener: { seen: number; lost: number };
  };
  const logged = rules.reduce((sum, rule) => sum + rule.loggedPackets, 0);
  assertEquals(logged, listener.seen + listener.lost);
}

kernelTest(
  "serve: kill -9 at random moments loses no command, repeats none, opens nothing",
  NEEDS,
  async () => {
    const rounds = campaign(3, 100);
    const seed = campaignSeed();
    const random = new Prng(seed);
    await using stage = await Stage.set({
      watch: [{ protocol: "tcp", address: FORBIDDEN!, port: 80 }],
    });
    await using served = new Served(stage);
    const marks = `${stage.base}/marks`;
    Deno.mkdirSync(marks);
    Deno.chmodSync(marks, 0o1777);
    await served.start();
    const probe = await runCell(
      served,
      spec("probe", { argv: ["perl", "-e", PROBE], egress: EGRESS }),
    );
    await served.cellBecomes(probe, { state: "running" });
    const load = new Load(served, marks);
    for (let round = 0; round < rounds; round++) {
      const liveMs = 100 + random.below(2500);
      const deadline = performance.now() + liveMs;
      await load.runUntil(deadline);
      await served.end("SIGKILL");
      served.spawn();
      // Some die before they are ready.
      if (random.below(4) > 0) await served.ready();
    }
    await served.ready();
    await load.settle();
    await load.assertMarks();
    await load.assertFollowed();
    assertEquals((await served.cell(probe)).state, "running", "the probe was adopted each time");
    const output = (await served.ask("GET", `/v1/cells/${probe}/logs`)).text;
    assert(output.includes(`${ALLOWED} open`) && !output.includes(`${FORBIDDEN} open`));
    assertEquals(stage.lab.arrivals().map(({ packets }) => packets), [0], "nothing got out");
    await served.ask("POST", `/v1/cells/${probe}/stop`);
    await served.cellBecomes(probe, { state: "destroyed" });
    await assertNumbersMeet(served, probe);
    const { asked, acknowledged, stopped } = load;
    recordCampaign("serve: kill -9 under load", { rounds, seed, asked, acknowledged, stopped });
  },
);

/** What a failure shows of a cell. */
function historyOf(entries: readonly ServedEntry[], cellId: string): string[] {
  return entries.filter(({ event }) =>
    event.subject === `cell:${cellId}` || /host/.test(event.type)
  ).map(({ seq, event }) =>
    `${seq} ${event.time} ${event.type.split(".").at(-1)} ${JSON.stringify(event.data)}`
  ).filter((line) => line.includes(cellId) || line.includes("started"));
}

/** Cells that are asked for and stopped, and a client that follows the log, through all restarts. */
class Load {
  readonly #served: Served;
  readonly #marks: string;
  readonly #acknowledged = new Map<string, string>();
  readonly #stopped: string[] = [];
  readonly #followed: ServedEntry[] = [];
  #asked = 0;

  constructor(served: Served, marks: string) {
    this.#served = served;
    this.#marks = marks;
  }

  get asked(): number {
    return this.#asked;
  }

  get acknowledged(): number {
    return this.#acknowledged.size;
  }

  get stopped(): number {
    return this.#stopped.length;
  }

  async runUntil(deadline: number): Promise<void> {
    const isOver = () => performance.now() >= deadline;
    await Promise.race([
      Promise.all([this.#askUntil(isOver), this.#followUntil(isOver)]),
      new Promise((resolve) => setTimeout(resolve, deadline - performance.now())),
    ]);
  }

  /** Ends every job, those too whose acknowledgement was lost, and reads the log to its end. */
  async settle(): Promise<void> {
    const answer = await this.#served.ask("GET", "/v1/cells");
    const { cells } = answer.json<{ cells: { id: string; spec_id: string; state: string }[] }>();
    const jobs = cells.filter(({ spec_id }) => spec_id === "job");
    for (const { id } of jobs.filter(({ state }) => state !== "destroyed")) {
      await this.#served.cellBecomes(id, { phase: "running" }).catch(() => undefined);
      const mark = this.#acknowledged.get(id);
      if (mark !== undefined) await until(() => this.#hasMark(mark), `${mark} of ${id}`);
      await this.#served.ask("POST", `/v1/cells/${id}/stop`);
    }
    const ids = new Set([...jobs.map(({ id }) => id), ...this.#acknowledged.keys()]);
    for (const id of ids) await this.#served.cellBecomes(id, { state: "destroyed" });
    await this.#followOnce();
  }

  /** Every acknowledged cell ran once, and none that was not acknowledged ran twice. */
  async assertMarks(): Promise<void> {
    const counts = new Map<string, number>();
    for (const { name } of Deno.readDirSync(this.#marks)) {
      const lines = Deno.readTextFileSync(`${this.#marks}/${name}`).trimEnd().split("\n").length;
      counts.set(name, lines);
    }
    const wrong = [...this.#acknowledged].filter(([, mark]) => counts.get(mark) !== 1);
    const entries = wrong.length === 0 ? [] : await this.#served.events();
    assertEquals(wrong.map(([id, mark]) => [mark, counts.get(mark), historyOf(entries, id)]), []);
    assertEquals([...counts].filter(([, count]) => count !== 1), [], "ran twice");
  }

  /** The follower, with its cursor over all restarts, saw each entry once. */
  async assertFollowed(): Promise<void> {
    const all = await this.#served.events();
    const until = this.#followed.at(-1)!.seq;
    assertEquals(
      this.#followed.map(({ seq, event }) => `${seq} ${event.id}`),
      all.filter(({ seq }) => seq <= until).map(({ seq, event }) => `${seq} ${event.id}`),
    );
    assertEquals(new Set(all.map(({ event }) => event.id)).size, all.length);
    assertEquals(all.at(-1)!.seq, all.length);
  }

  async #askUntil(isOver: () => boolean): Promise<void> {
    while (!isOver()) {
      const mark = `mark-${this.#asked++}`;
      const isLong = this.#asked % 3 === 0;
      const answer = await this.#served.tryAsk(
        "POST",
        "/v1/cells",
        spec("job", {
          argv: ["sh", "-c", `echo x >> /marks/${mark}; ${isLong ? WAIT : "sleep 0.3"}`],
          run: { mounts: [{ source: this.#marks, target: "/marks", readOnly: false }] },
        }),
      );
      if (answer?.status !== 202) continue;
      const { cellId } = answer.json<{ cellId: string }>();
      this.#acknowledged.set(cellId, mark);
      await new Promise((resolve) => setTimeout(resolve, 50));
      await this.#stopAll(isOver);
    }
  }

  /** Long ones, until the stop is acknowledged. */
  async #stopAll(isOver: () => boolean): Promise<void> {
    for (const [cellId, mark] of this.#acknowledged) {
      const isLong = (Number(mark.slice(5)) + 1) % 3 === 0;
      if (!isLong || this.#stopped.includes(cellId)) continue;
      if (isOver()) return;
      // One that never ran leaves no mark.
      if ((await this.#served.tryAsk("GET", `/v1/cells/${cellId}`))?.json().state !== "running") {
        continue;
      }
      if (!this.#hasMark(mark)) continue;
      const answer = await this.#served.tryAsk("POST", `/v1/cells/${cellId}/stop`);
      if (answer?.status === 202) this.#stopped.push(cellId);
    }
  }

  #hasMark(mark: string): boolean {
    try {
      return Deno.statSync(`${this.#marks}/${mark}`).isFile;
    } catch {
      // Not there yet.
      return false;
    }
  }

  async #followUntil(isOver: () => boolean): Promise<void> {
    while (!isOver()) {
      await this.#followOnce();
      await new Promise((resolve) => setTimeout(resolve, 30));
    }
  }

  async #followOnce(): Promise<void> {
    const since = this.#followed.at(-1)?.seq ?? 0;
    const answer = await this.#served.tryAsk("GET", `/v1/events?since=${since}&limit=1000`);
    if (answer?.status !== 200) return;
    // Two reads may overlap when a round ends in the middle of one.
    if ((this.#followed.at(-1)?.seq ?? 0) !== since) return;
    const { events } = answer.json<{ events: ServedEntry[] }>();
    this.#followed.push(...events);
    if (events.length === 1000) await this.#followOnce();
  }
}
