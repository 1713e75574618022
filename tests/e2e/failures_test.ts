/**
 * What goes wrong: one clear line on stderr, the documented exit code, and nothing left behind.
 *
 * @module
 */
import {
  assert,
  assertEquals,
  assertGreater,
  assertLess,
  assertMatch,
  assertNotEquals,
  assertStringIncludes,
} from "@std/assert";
import {
  type CommandCompletedData,
  EVENT_TYPES,
  type FlowCountersData,
  type FlowDecisionData,
} from "#lib/events/mod.ts";
import { recordCampaign } from "#tests/support/campaign.ts";
import {
  dataOf,
  fillDisk,
  onSmallDisk,
  spec,
  type SpecParts,
  Stage,
  type StageOutcome,
  type StageRunOptions,
  until,
} from "#tests/support/celld_stage.ts";
import { Churn } from "#tests/support/churn_client.ts";
import { kernelTest } from "#tests/support/kernel.ts";

const NEEDS = ["root", "cap:CAP_SYS_ADMIN", "cap:CAP_NET_ADMIN", "path:/usr/bin/perl"] as const;
/** One line that says what, and one that says what to do. */
const ONE_LINE = /^celld: [^\n]+\n(?: {2}[^\n]+\n)?$/;
const EGRESS = [{ host: "203.0.113.10", port: 80 }];
const WAIT = "echo here; while :; do sleep 60 & wait $!; done";

/** A stage on which a cell has run, so that what a host keeps is there already. */
async function usedStage(): Promise<Stage> {
  const stage = await Stage.set();
  const first = await stage.run(spec("first", { argv: ["true"], egress: EGRESS }));
  assertEquals(first.code, 0, first.stderr);
  stage.remember();
  return stage;
}

function reasonOf({ events }: StageOutcome): (string | undefined)[] {
  return dataOf<CommandCompletedData>(events, EVENT_TYPES.commandCompleted)
    .map(({ reason }) => reason);
}

function typesOf({ events }: StageOutcome): string[] {
  return events.map(({ type }) => type.split(".").at(-1)!);
}

kernelTest("failure: a spec with errors names them all, and starts nothing", NEEDS, async () => {
  await using stage = await Stage.set();
  stage.remember();
  const document = spec("bad", {
    argv: ["true"],
    egress: [{ host: "203.0.113.10", port: 80 }, { host: "10.0.0.300", port: "https" }],
    run: { limts: {}, mounts: [{ source: "etc", target: "/proc/x" }] },
  });
  const outcome = await stage.run(document);
  assertEquals([outcome.code, outcome.stdout, outcome.events], [2, "", []]);
  const { stderr } = outcome;
  assertMatch(stderr, /^celld: The spec has \d problems; nothing was started\n/);
  for (
    const path of [
      "spec.authority.egressRules[1].host",
      "spec.authority.egressRules[1].port",
      "spec.run.limts",
      "spec.run.mounts[0].source",
      "spec.run.mounts[0].target",
    ]
  ) {
    assertMatch(
      stderr,
      new RegExp(`^  ${path.replace(/[.[\]]/g, "\\$&")}\n    found .+\n    wanted .+$`, "m"),
    );
  }
  assertMatch(stderr, /spec\.run\.limts\n.*\n.*\n {4}did you mean "limits"\?$/m);
  await stage.assertNothingLeft();
});

/** A failure before the workload: what is run, how it ends, and what the line says. */
interface Refusal {
  readonly what: string;
  readonly parts?: Partial<SpecParts>;
  readonly options?: StageRunOptions;
  readonly code: number;
  readonly says: RegExp;
}

const REFUSALS: readonly Refusal[] = [
  {
    what: "no CAP_NET_ADMIN",
    options: { wrapper: ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"] },
    code: 125,
    says: /EPERM|CAP_NET_ADMIN/,
  },
  {
    what: "a runtime directory that cannot be",
    options: { runtimeDir: "/dev/null/run" },
    code: 125,
    says: /Cannot make the runtime directory "\/dev\/null\/run"/,
  },
  {
    what: "a state directory that cannot be",
    options: { stateDir: "/dev/null/state" },
    code: 125,
    says: /Cannot open the event log "\/dev\/null\/state\/events\.db"/,
  },
  {
    what: "a rootfs that is not there",
    parts: { run: { rootfs: "/no/such/root" } },
    code: 125,
    says: /"\/no\/such\/root"/,
  },
  {
    what: "a mount's source that is not there",
    parts: { run: { mounts: [{ source: "/no/such/source", target: "/mnt/x" }] } },
    code: 125,
    says: /"\/no\/such\/source"/,
  },
  {
    what: "a secret that is not set",
    parts: {
      authority: { secretRefs: ["TOKEN"] },
      run: { secrets: [{ name: "TOKEN", fromEnv: "NO_SUCH_VARIABLE" }] },
    },
    code: 125,
    says: /secret "TOKEN": NO_SUCH_VARIABLE is not set/,
  },
  {
    what: "a secret file that is not there",
    parts: {
      authority: { secretRefs: ["TOKEN"] },
      run: { secrets: [{ name: "TOKEN", fromFile: "/no/such/secret" }] },
    },
    code: 125,
    says: /secret "TOKEN": .*\/no\/such\/secret/,
  },
  {
    what: "a pool of addresses that is too small",
    options: { args: ["--ipv4-pool", "10.99.0.0/31"] },
    code: 125,
    says: /10\.99\.0\.0\/31/,
  },
  {
    what: "a disk that is full from the start",
    options: {
      wrapper: onSmallDisk("2m", 'dd if=/dev/zero of="$STATE/fill" bs=4k 2>/dev/null; exec "$@"'),
    },
    code: 125,
    says: /disk|space/i,
  },
];

for (const { what, parts, options, code, says } of REFUSALS) {
  kernelTest(`failure: ${what}: one line, ${code}, and nothing left`, NEEDS, async () => {
    await using stage = await usedStage();
    const document = spec("refused", { argv: ["echo", "ran"], egress: EGRESS, ...parts });
    const outcome = await stage.run(document, {
      ...options,
      env: { STATE: stage.settings.stateDir },
    });
    assertEquals([outcome.code, outcome.stdout], [code, ""], outcome.stderr);
    assertMatch(outcome.stderr, ONE_LINE);
    assertMatch(outcome.stderr, says);
    // What was admitted and not run has its end told.
    const types = typesOf(outcome);
    assert(types.length === 0 || ["refused", "destroyed"].includes(types.at(-1)!), types.join());
    assertEquals(types.includes("started"), false);
    await stage.assertNothingLeft();
  });
}

kernelTest("failure: an exhausted pool of addresses is one line, 125", NEEDS, async () => {
  await using stage = await usedStage();
  const pool = { args: ["--ipv4-pool", "10.99.0.0/29"] };
  // Four pairs, of which the first and the last are never given.
  const held = [1, 2].map(() =>
    stage.start(spec("held", { argv: ["bash", "-c", WAIT], egress: EGRESS }), pool)
  );
  for (const run of held) await until(() => run.stdout() !== "", `a cell: ${run.stderr()}`);
  const third = await stage.run(spec("third", { argv: ["true"], egress: EGRESS }), pool);
  assertEquals(third.code, 125);
  assertMatch(third.stderr, ONE_LINE);
  assertStringIncludes(third.stderr, "all 2 of the pool are taken");
  assertEquals(typesOf(third).includes("started"), false);
  for (const run of held) run.child.kill("SIGTERM");
  assertEquals((await Promise.all(held.map((run) => run.ended))).map(({ code }) => code), [
    143,
    143,
  ]);
  const fourth = await stage.run(spec("fourth", { argv: ["true"], egress: EGRESS }), pool);
  assertEquals(fourth.code, 0, fourth.stderr);
  await stage.assertNothingLeft();
});

kernelTest("failure: a listener that cannot start is a cell that does not", NEEDS, async () => {
  await using stage = await usedStage();
  const churn = await Churn.start(stage.lab, stage.settings);
  await using _churn = churn;
  const parts = { argv: ["echo", "ran"], egress: EGRESS };
  const refused = await churn.run({
    cellId: "deaf",
    spec: spec("deaf", parts),
    takeGroup: true,
  });
  assertEquals(refused.failure?.step, "listener");
  assertMatch(refused.failure!.reason, /group 100.*taken|taken.*group 100/i);
  assertEquals([refused.ran, refused.output, refused.leftovers], [false, "", []]);
  const lenient = await churn.run({
    cellId: "lenient",
    spec: spec("lenient", { ...parts, authority: { audit: { flow: "best-effort" } } }),
    takeGroup: true,
  });
  assertEquals([lenient.failure, lenient.output, lenient.leftovers], [undefined, "ran\n", []]);
  await churn.stop();
  await stage.assertNothingLeft();
});

/** A workload's end: what is run, what celld exits with, and the reason on the log. */
interface End {
  readonly what: string;
  readonly parts: Partial<SpecParts>;
  readonly args?: readonly string[];
  readonly code: number;
  readonly reason: string;
}

const ENDS: readonly End[] = [
  { what: "not found", parts: { argv: ["no-such-program"] }, code: 127, reason: "execFailed" },
  { what: "no such path", parts: { argv: ["/no/such/x"] }, code: 127, reason: "execFailed" },
  { what: "not executable", parts: { argv: ["/etc/passwd"] }, code: 126, reason: "execFailed" },
  { what: "its own code", parts: { argv: ["sh", "-c", "exit 42"] }, code: 42, reason: "exited" },
  {
    what: "a signal",
    parts: { argv: ["sh", "-c", "kill -USR1 $$"] },
    code: 138,
    reason: "signaled",
  },
  {
    what: "out of time",
    parts: { argv: ["sleep", "60"], run: { limits: { gracefulShutdownSeconds: 0 } } },
    args: ["--timeout", "1"],
    code: 124,
    reason: "timeout",
  },
  {
    what: "past its lifetime",
    parts: { argv: ["sleep", "60"], lifetime: { ttlSeconds: 1 } },
    code: 124,
    reason: "timeout",
  },
  {
    what: "out of memory",
    parts: {
      argv: ["perl", "-e", '$x = "a" x 300_000_000; sleep 9'],
      run: { limits: { memoryMaxBytes: 64 * 1024 * 1024 } },
    },
    code: 137,
    reason: "oom",
  },
  {
    what: "out of processes",
    parts: {
      argv: [
        "perl",
        "-e",
        "for (1..50) { my $p = fork; exit 9 unless defined $p; sleep 9 unless $p }",
      ],
      run: { limits: { pidsMax: 8 } },
    },
    code: 9,
    reason: "pids",
  },
];

kernelTest("failure: the ways a workload ends are exit codes and reasons", NEEDS, async (t) => {
  await using stage = await usedStage();
  for (const { what, parts, args, code, reason } of ENDS) {
    await t.step(what, async () => {
      const document = spec("ends", { argv: ["true"], egress: EGRESS, ...parts });
      const outcome = await stage.run(document, { args: ["--quiet", ...(args ?? [])] });
      assertEquals([outcome.code, reasonOf(outcome)], [code, [reason]], outcome.stderr);
      await stage.assertNothingLeft(what);
    });
  }
});

kernelTest("failure: a cell may not use more of the processor than its share", NEEDS, async () => {
  await using stage = await usedStage();
  const script = "my $end = time + 2; 1 while time < $end; my @t = times; print $t[0] + $t[1]";
  const run = { limits: { cpuMax: { quotaMicros: 10_000, periodMicros: 100_000 } } };
  const { code, stdout, stderr } = await stage.run(
    spec("slow", { argv: ["perl", "-e", script], run }),
  );
  assertEquals(code, 0, stderr);
  // A tenth of two seconds, and what it may be a period late.
  assertLess(Number(stdout), 0.6);
  await stage.assertNothingLeft();
});

kernelTest(
  "failure: a signal to celld stops the cell, gracefully, then by force",
  NEEDS,
  async () => {
    await using stage = await usedStage();
    const graceful = "trap 'echo bye; exit 7' TERM; " + WAIT;
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
      const run = stage.start(spec("stopped", { argv: ["bash", "-c", graceful], egress: EGRESS }));
      await until(() => run.stdout() !== "", "the workload");
      run.child.kill(signal);
      const outcome = await run.ended;
      assertEquals(
        [outcome.code, outcome.stdout, reasonOf(outcome)],
        [7, "here\nbye\n", ["stopped"]],
        outcome.stderr,
      );
      assertStringIncludes(outcome.stderr, `celld: ${signal}: stopping the cell`);
    }
    const stubborn = spec("stubborn", {
      argv: ["bash", "-c", `trap '' TERM; ${WAIT}`],
      run: { limits: { gracefulShutdownSeconds: 1 } },
    });
    const run = stage.start(stubborn);
    await until(() => run.stdout() !== "", "the workload");
    run.child.kill("SIGTERM");
    const outcome = await run.ended;
    assertEquals([outcome.code, reasonOf(outcome)], [137, ["stopped"]], outcome.stderr);
    await stage.assertNothingLeft();
  },
);

kernelTest(
  "failure: a signal before the workload runs is an end like any other",
  NEEDS,
  async () => {
    await using stage = await usedStage();
    for (let delayMs = 120; delayMs <= 300; delayMs += 60) {
      const run = stage.start(spec("early", { argv: ["bash", "-c", WAIT], egress: EGRESS }), {
        args: ["--quiet"],
      });
      await new Promise((resolve) => setTimeout(resolve, delayMs));
      run.child.kill("SIGTERM");
      const { code, signal } = await run.ended;
      // Before celld listens it is a plain end of a process; then the cell's, made or not.
      assert(signal === "SIGTERM" || [125, 143].includes(code), `${delayMs} ms: ${code} ${signal}`);
    }
    assertEquals((await stage.run(spec("next", { argv: ["true"] }))).code, 0);
    await stage.assertNothingLeft();
  },
);

/** Perl: waits for a line, then makes attempts that are refused, each a fact for the log. */
function denied(attempts: number): string {
  return `use IO::Socket::INET; $| = 1; print "waiting\\n"; <STDIN>;
    my @to = map { pack_sockaddr_in(9, inet_aton("203.0.113.$_")) } 1..200;
    my $left = ${attempts};
    for (my $p = 10000; $left > 0; $p++) {
      my $s = IO::Socket::INET->new(Proto => "udp", LocalPort => $p) or die;
      for (@to) { last if $left-- <= 0; send($s, "x", 0, $_) }
    } print "sent\\n"; <STDIN>;`;
}

const FEW = 20;

kernelTest(
  "failure: a disk that fills during the run delays facts, and loses none",
  NEEDS,
  async () => {
    await using stage = await usedStage();
    const kept = `${stage.base}/kept`;
    Deno.mkdirSync(kept);
    const document = spec("delayed", { argv: ["perl", "-e", denied(FEW)], egress: EGRESS });
    const run = stage.start(document, {
      wrapper: onSmallDisk("8m", `"$@"; code=$?; cp -a "$STATE"/. "$KEPT"; exit $code`),
      env: { STATE: stage.settings.stateDir, KEPT: kept },
      stdin: "open",
      args: ["--stdin", "--quiet"],
    });
    await until(() => run.stdout().includes("waiting"), "the workload");
    // The disk as the run sees it: it is in no other mount namespace.
    const fill = `/proc/${run.child.pid}/root${stage.settings.stateDir}/fill`;
    fillDisk(fill);
    await run.input!.write(new TextEncoder().encode("\n"));
    await until(() => run.stdout().includes("sent"), "the attempts");
    await pause(500);
    const before = dataOf(run.events(), EVENT_TYPES.flowDecision).length;
    assertLess(before, FEW, "the disk was not full");
    Deno.removeSync(fill);
    await run.input!.close();
    const outcome = await run.ended;
    assertEquals(outcome.code, 0, outcome.stderr);
    assertMatch(outcome.stderr, /The event log refuses: .*(full|space)/i);
    const decisions = dataOf<FlowDecisionData>(outcome.events, EVENT_TYPES.flowDecision);
    assertEquals(decisions.length, FEW);
    assertEquals(dataOf(outcome.events, EVENT_TYPES.flowGap), []);
    const verified = await verifyLog(stage, kept);
    assertEquals(verified.code, 0, verified.stdout);
    await stage.assertNothingLeft();
  },
);

const MANY = 90_000;
/** More than makes the source of a slow log wait, fewer than stop the cell. */
const SOME = 12_000;

kernelTest(
  "failure: a disk that stays full stops the cell, and what is lost is told",
  NEEDS,
  async () => {
    await using stage = await usedStage();
    const document = spec("unkept", { argv: ["perl", "-e", denied(MANY)], egress: EGRESS });
    const kept = `${stage.base}/kept`;
    Deno.mkdirSync(kept);
    const run = stage.start(document, {
      wrapper: onSmallDisk("192m", `"$@"; code=$?; cp -a "$STATE"/. "$KEPT"; exit $code`),
      env: { STATE: stage.settings.stateDir, KEPT: kept },
      stdin: "open",
      args: ["--stdin", "--quiet"],
    });
    await until(() => run.stdout().includes("waiting"), "the workload");
    const fill = `/proc/${run.child.pid}/root${stage.settings.stateDir}/fill`;
    fillDisk(fill);
    const startedAt = performance.now();
    await run.input!.write(new TextEncoder().encode("\n"));
    // It is not asked to end: celld ends it, since it cannot be recorded any more.
    await until(() => run.stderr().includes("Cannot record any more"), "stop");
    Deno.removeSync(fill);
    await run.input!.close();
    const outcome = await run.ended;
    const seconds = (performance.now() - startedAt) / 1000;
    assertNotEquals(outcome.code, 0, outcome.stderr);
    assertEquals(reasonOf(outcome), ["stopped"], outcome.stderr);
    const gaps = dataOf<{ lost: number; cause: string }>(outcome.events, EVENT_TYPES.flowGap);
    const lost = gaps.reduce((sum, gap) => sum + gap.lost, 0);
    const told = dataOf(outcome.events, EVENT_TYPES.flowDecision).length;
    const unkept = gaps.filter(({ cause }) => cause === "log-unavailable")
      .reduce((sum, gap) => sum + gap.lost, 0);
    const [counters] = dataOf<FlowCountersData>(outcome.events, EVENT_TYPES.flowCounters);
    assertGreater(unkept, 0);
    assertEquals(told + unkept, counters!.listener.eventsEmitted, JSON.stringify(gaps));
    assertEquals((await verifyLog(stage, kept)).code, 0);
    await stage.assertNothingLeft();
    recordCampaign("disk full during a flood", { told, lost, seconds: seconds.toFixed(1) });
  },
);

kernelTest("failure: a disk that never gets space again does not hold celld", NEEDS, async () => {
  await using stage = await usedStage();
  const document = spec("never", { argv: ["perl", "-e", denied(SOME)], egress: EGRESS });
  const run = stage.start(document, {
    wrapper: onSmallDisk("8m", `exec "$@"`),
    env: { STATE: stage.settings.stateDir },
    stdin: "open",
    args: ["--stdin", "--quiet"],
  });
  await until(() => run.stdout().includes("waiting"), "the workload");
  fillDisk(`/proc/${run.child.pid}/root${stage.settings.stateDir}/fill`);
  await run.input!.write(new TextEncoder().encode("\n"));
  await until(() => run.stdout().includes("sent"), "end of the attempts");
  await run.input!.close();
  const { code, stderr } = await run.ended;
  assertEquals(code, 125, stderr);
  assertMatch(stderr, /Cannot keep the record: \d+ events are not durable after 30 s/);
  await stage.assertNothingLeft();
});

async function verifyLog(
  stage: Stage,
  stateDir: string,
): Promise<{ code: number; stdout: string }> {
  return await stage.celld(["log", "verify", "--state-dir", stateDir]);
}

async function pause(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}
