/**
 * Many cells through one host, ended in every way at every step, and celld itself killed: what
 * was on the machine before is what is on it afterwards.
 *
 * @module
 */
import {
  assert,
  assertEquals,
  assertLessOrEqual,
  assertMatch,
  assertStringIncludes,
} from "@std/assert";
import { Prng } from "#lib/base/mod.ts";
import { LIFECYCLE_STEPS } from "#lib/cell/mod.ts";
import { EVENT_TYPES } from "#lib/events/mod.ts";
import { campaign, campaignSeed, recordCampaign } from "#tests/support/campaign.ts";
import { dataOf, spec, Stage, until } from "#tests/support/celld_stage.ts";
import { Churn } from "#tests/support/churn_client.ts";
import type { ChurnOrder, ChurnResult } from "#tests/support/churn_protocol.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { LAB } from "#tests/support/lab.ts";
import { signalIfRunning } from "#tests/support/subprocess.ts";

const NEEDS = ["root", "cap:CAP_SYS_ADMIN", "cap:CAP_NET_ADMIN"] as const;
const CELLS = campaign(24, 200);
const ENDED_AT_EACH_STEP = campaign(8, 50);
const KILLS = campaign(2, 10);
const AT_ONCE = 4;
/** For what is not expected to go. */
const LOOK_MS = 500;

const ALLOWED = [{ host: LAB.serversIpv4[0], port: LAB.tcpEchoPort }];
const TALK = `exec 3<>/dev/tcp/${LAB.serversIpv4[0]}/${LAB.tcpEchoPort} && echo hi >&3 && ` +
  `read -r answer <&3 && echo "$answer"`;
const WAIT = "echo here; while :; do sleep 60 & wait $!; done";

/** Lives that end by themselves: with a network and without one, as a user and as root. */
function plainOrder(index: number): ChurnOrder {
  const kind = index % 4;
  const cellId = `plain-${index}`;
  if (kind === 0) {
    return { cellId, spec: spec(cellId, { argv: ["bash", "-c", TALK], egress: ALLOWED }) };
  }
  if (kind === 1) return { cellId, spec: spec(cellId, { argv: ["echo", "hi"] }) };
  const run = kind === 2 ? { user: "root" } : { workingDirectory: "/work" };
  return { cellId, spec: spec(cellId, { argv: ["bash", "-c", "echo hi; exit 5"], run }) };
}

/** Lives that would go on for ever, were they not ended. */
function endlessSpec(cellId: string, graceSeconds = 5): unknown {
  const run = { limits: { gracefulShutdownSeconds: graceSeconds } };
  return spec(cellId, { argv: ["bash", "-c", WAIT], egress: ALLOWED, run });
}

async function runAll(
  churn: Churn,
  orders: readonly ChurnOrder[],
): Promise<{ order: ChurnOrder; result: ChurnResult }[]> {
  const results: { order: ChurnOrder; result: ChurnResult }[] = [];
  const queue = [...orders];
  const worker = async () => {
    for (let order = queue.shift(); order; order = queue.shift()) {
      results.push({ order, result: await churn.run(order) });
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return results;
}

/** One cell of each kind: what is made once and kept is there before the first look. */
async function warmUp(churn: Churn): Promise<void> {
  const plain = [0, 1, 2, 3].map((n) => plainOrder(1000 + n));
  const stopped = plain.map((order): ChurnOrder => ({
    cellId: `warm-${order.cellId}`,
    spec: order.spec,
    stopAt: "lease",
  }));
  await runAll(churn, [...plain, ...stopped]);
}

function threadCount(pid: number): number {
  return [...Deno.readDirSync(`/proc/${pid}/task`)].length;
}

kernelTest("life: cells created, run and destroyed leave nothing", NEEDS, async () => {
  await using stage = await Stage.set();
  await using churn = await Churn.start(stage.lab, stage.settings);
  await warmUp(churn);
  stage.remember([churn.pid]);
  const threads = threadCount(churn.pid);
  const started = performance.now();
  const lives = await runAll(churn, Array.from({ length: CELLS }, (_, n) => plainOrder(n)));
  const seconds = (performance.now() - started) / 1000;
  for (const { result } of lives) {
    const code = Number(result.cellId.split("-")[1]) % 4 < 2 ? 0 : 5;
    assertEquals(
      [result.output, result.reason, result.exitCode, result.leftovers, result.failure],
      ["hi\n", "exited", code, [], undefined],
      result.cellId,
    );
  }
  await stage.assertNothingLeft();
  // Threads of the pool come and go; that they gather would show.
  assertLessOrEqual(threadCount(churn.pid), threads + 4);
  await churn.stop();
  recordCampaign("cells: created, run, destroyed", {
    cells: CELLS,
    left: 0,
    perSecond: (CELLS / seconds).toFixed(1),
  });
});

kernelTest("life: a stop as any step begins ends the cell and leaves nothing", NEEDS, async () => {
  await using stage = await Stage.set();
  await using churn = await Churn.start(stage.lab, stage.settings);
  await warmUp(churn);
  stage.remember([churn.pid]);
  const orders = LIFECYCLE_STEPS.flatMap((step) =>
    Array.from({ length: ENDED_AT_EACH_STEP }, (_, n): ChurnOrder => {
      const cellId = `stop-${step}-${n}`;
      // Every other one is not asked, but killed at once.
      return { cellId, spec: endlessSpec(cellId, n % 2 === 0 ? 5 : 0), stopAt: step };
    })
  );
  const running = Array.from({ length: ENDED_AT_EACH_STEP }, (_, n): ChurnOrder => {
    const cellId = `stop-running-${n}`;
    return { cellId, spec: endlessSpec(cellId, n % 2 === 0 ? 5 : 0), stopOnOutput: true };
  });
  for (const { order, result } of await runAll(churn, [...orders, ...running])) {
    const ran = order.stopAt === "launch" || order.stopOnOutput === true;
    assertEquals(
      [result.stopRequested, result.ran, result.leftovers, result.failure],
      [true, ran, [], undefined],
      order.cellId,
    );
    if (ran) assertEquals(result.reason, "stopped", order.cellId);
  }
  await stage.assertNothingLeft();
  await churn.stop();
  recordCampaign("cells: stopped as a step begins", {
    steps: LIFECYCLE_STEPS.length + 1,
    atEach: ENDED_AT_EACH_STEP,
    left: 0,
  });
});

kernelTest("life: a step that fails, before or after its work, leaves nothing", NEEDS, async () => {
  await using stage = await Stage.set();
  await using churn = await Churn.start(stage.lab, stage.settings);
  await warmUp(churn);
  stage.remember([churn.pid]);
  const orders = LIFECYCLE_STEPS.flatMap((step) =>
    Array.from({ length: ENDED_AT_EACH_STEP }, (_, n): ChurnOrder => {
      const cellId = `fail-${step}-${n}`;
      const when = n % 2 === 0 ? "before" : "after";
      return { cellId, spec: endlessSpec(cellId), fault: { step, when } };
    })
  );
  for (const { order, result } of await runAll(churn, orders)) {
    const { step, when } = order.fault!;
    assertEquals(result.failure, { step, reason: `made to fail ${when} it` }, order.cellId);
    assertEquals([result.ran, result.leftovers], [false, []], order.cellId);
  }
  await stage.assertNothingLeft();
  await churn.stop();
  recordCampaign("cells: a step fails", {
    steps: LIFECYCLE_STEPS.length,
    atEach: ENDED_AT_EACH_STEP,
    left: 0,
  });
});

kernelTest(
  "life: celld killed at any moment, and its cleaner too: the next start leaves nothing",
  NEEDS,
  async () => {
    const seed = campaignSeed();
    console.log(`seed ${seed}`);
    const random = new Prng(seed);
    await using stage = await Stage.set();
    // What the directories of a host that has run a cell hold.
    await stage.run(spec("first", { argv: ["true"], egress: ALLOWED }));
    stage.remember();
    for (let round = 0; round < KILLS; round++) {
      const churn = await Churn.start(stage.lab, stage.settings);
      const orders = Array.from({ length: 6 }, (_, n) => {
        const cellId = `killed-${round}-${n}`;
        return n % 2 === 0 ? { cellId, spec: endlessSpec(cellId) } : plainOrder(round * 100 + n);
      });
      const lives = Promise.allSettled(orders.map((order) => churn.run(order)));
      await pause(random.below(600));
      await churn.kill();
      await lives;
      // Who cleans up is killed while it does.
      const cleaner = stage.start(spec("cleaner", { argv: ["true"] }));
      await pause(150 + random.below(200));
      signalIfRunning(cleaner.child, "SIGKILL");
      await cleaner.ended;
      const next = await stage.run(spec("next", { argv: ["true"], egress: ALLOWED }));
      assertEquals(next.code, 0, `round ${round}, seed ${seed}: ${next.stderr}`);
      await stage.assertNothingLeft(`round ${round}, seed ${seed}`);
    }
    recordCampaign("celld killed at a random moment", { kills: KILLS * 2, left: 0, seed });
  },
);

kernelTest(
  "life: the host worker dies: the cells end, and the next start cleans",
  NEEDS,
  async () => {
    await using stage = await Stage.set();
    await stage.run(spec("first", { argv: ["true"], egress: ALLOWED }));
    stage.remember();
    await using churn = await Churn.start(stage.lab, stage.settings);
    const life = churn.run({ cellId: "orphan", spec: endlessSpec("orphan") });
    await churn.isRunning("orphan");
    await churn.breakWorker("celld-host");
    const result = await life;
    assertEquals([result.reason, result.ran], ["lost", true]);
    assert(result.leftovers.length > 0, "nothing could be removed without the worker");
    await churn.stop();
    // The workload does not go on unwatched while nobody has cleaned up yet.
    const left = await stage.differences(LOOK_MS);
    assertEquals(left.filter((line) => line.startsWith("processes")), []);
    assertEquals((await stage.run(spec("next", { argv: ["true"] }))).code, 0);
    await stage.assertNothingLeft();
  },
);

kernelTest(
  "life: the flow listener dies: its cells are stopped, not unwatched",
  NEEDS,
  async () => {
    await using stage = await Stage.set();
    await stage.run(spec("first", { argv: ["true"], egress: ALLOWED }));
    stage.remember();
    await using churn = await Churn.start(stage.lab, stage.settings);
    const life = churn.run({ cellId: "unheard", spec: endlessSpec("unheard") });
    await churn.isRunning("unheard");
    await churn.breakWorker("celld-flow");
    const result = await life;
    assertEquals([result.reason, result.stopRequested, result.ran], ["stopped", true, true]);
    assertEquals(churn.warnings.length, 1);
    assertStringIncludes(churn.warnings[0]!, "Cannot audit flows");
    await churn.stop();
    await stage.assertNothingLeft();
  },
);

kernelTest(
  "life: what cannot be removed is told, and tried again by every start",
  NEEDS,
  async () => {
    await using stage = await Stage.set();
    await stage.run(spec("first", { argv: ["true"], egress: ALLOWED }));
    stage.remember();
    const held = stage.start(endlessSpec("held"));
    await until(() => stage.cgroupsOf("held").length > 0, "the cell's cgroup");
    await until(() => dataOf(held.events(), EVENT_TYPES.cellStarted).length > 0, "the workload");
    // A cgroup in the cell's cgroup keeps the kernel from removing it.
    const inside = stage.cgroupsOf("held").map((path) => `${path}/held-by-test`);
    inside.forEach((path) => Deno.mkdirSync(path));
    held.child.kill("SIGTERM");
    const { code, stderr } = await held.ended;
    assertEquals(code, 125);
    assertMatch(
      stderr,
      /Cannot remove all of the cell \(cgroup: .*EBUSY.*the next start tries again/,
    );
    const [meanwhile] = [await stage.run(spec("meanwhile", { argv: ["true"], egress: ALLOWED }))];
    assertEquals(meanwhile.code, 0, meanwhile.stderr);
    assertMatch(meanwhile.stderr, /Cannot remove what is left of cell "held-[0-9a-f]{8}"/);
    inside.forEach((path) => Deno.removeSync(path));
    assertEquals((await stage.run(spec("next", { argv: ["true"] }))).code, 0);
    await stage.assertNothingLeft();
  },
);

kernelTest("life: five celld at once share one runtime and one log", NEEDS, async () => {
  await using stage = await Stage.set();
  await stage.run(spec("first", { argv: ["true"], egress: ALLOWED }));
  stage.remember();
  const runs = await Promise.all(
    Array.from(
      { length: 5 },
      () => stage.run(spec("shared", { argv: ["bash", "-c", TALK], egress: ALLOWED })),
    ),
  );
  assertEquals(runs.map(({ code, stdout }) => [code, stdout]), runs.map(() => [0, "hi\n"]));
  await stage.assertNothingLeft();
});

async function pause(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}
