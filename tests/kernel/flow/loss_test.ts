import { assert, assertEquals } from "@std/assert";
import { EVENT_TYPES, type FlowCountersData, type FlowGapData } from "#lib/events/mod.ts";
import { isBalanced } from "#lib/cell/rule_counters.ts";
import type { FlowListenerStats } from "#lib/flow/stats.ts";
import { campaign, recordCampaign } from "#tests/support/campaign.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { floodProgram, FlowLab, flowsProgram, type FlowTotals, outputOf } from "./support.ts";

const NEEDS = ["root", "cap:CAP_NET_ADMIN", "command:perl"] as const;
const PACKETS = campaign(50_000, 500_000);
const FLOWS = campaign(10_000, 100_000);
/** More than the socket can hold while nobody reads. */
const FLOWS_TO_LOSE = campaign(70_000, 150_000);

/** Every packet that matched is accounted for, by the kernel and by us. */
function assertAccounted(lab: FlowLab, stats: FlowListenerStats, totals: FlowTotals): number {
  for (const rule of totals.rules) assert(isBalanced(rule), `${rule.ruleRef} is not balanced`);
  const gaps = lab.data<FlowGapData>(EVENT_TYPES.flowGap);
  const told = gaps.reduce((sum, gap) => sum + gap.lost, 0);
  assertEquals(totals.matched, totals.logged + totals.suppressed);
  assertEquals(totals.logged, stats.seen + told);
  const [counters] = lab.data<FlowCountersData>(EVENT_TYPES.flowCounters);
  assertEquals([counters.listener.seen, counters.listener.lost], [stats.seen, told]);
  assertEquals(counters.listener.eventsEmitted, lab.data(EVENT_TYPES.flowDecision).length);
  assertEquals(stats.seen, counters.listener.eventsEmitted + lab.session.repeats);
  return told;
}

kernelTest("flow audit: a flood of one flow is counted whole and told once", NEEDS, async () => {
  await using lab = await FlowLab.make();
  await lab.watch(true);
  await outputOf(lab.perl("cell", floodProgram(PACKETS)));
  const { stats, totals } = await lab.unwatch();
  assertEquals(assertAccounted(lab, stats, totals), 0);
  assertEquals([totals.matched, totals.logged], [PACKETS, 1]);
  assertEquals(lab.data(EVENT_TYPES.flowDecision).length, 1);
  recordCampaign("flow audit: flood of one flow", { packets: PACKETS, lost: 0 });
});

kernelTest("flow audit: a flood of new flows is told flow by flow, none lost", NEEDS, async () => {
  await using lab = await FlowLab.make();
  await lab.watch(true);
  const started = performance.now();
  await outputOf(lab.perl("cell", flowsProgram(FLOWS)));
  const seconds = (performance.now() - started) / 1000;
  const { stats, totals } = await lab.unwatch();
  assertEquals(assertAccounted(lab, stats, totals), 0);
  assertEquals([totals.logged, lab.data(EVENT_TYPES.flowDecision).length], [FLOWS, FLOWS]);
  assertEquals(
    lab.session.accumulator.uniqueFlowCount + lab.session.accumulator.overflowCount,
    FLOWS,
  );
  recordCampaign("flow audit: flood of new flows", {
    flows: FLOWS,
    lost: 0,
    perSecond: Math.round(FLOWS / seconds),
    closed: stats.closed,
  });
});

kernelTest(
  "flow audit: when the reader stands still for 3 s, what is lost is counted exactly",
  NEEDS,
  async () => {
    await using lab = await FlowLab.make();
    await lab.watch(true);
    lab.audit.pause(3000);
    await outputOf(lab.perl("cell", flowsProgram(FLOWS_TO_LOSE)));
    const { stats, totals } = await lab.unwatch();
    const lost = assertAccounted(lab, stats, totals);
    assert(lost > 0, "the flood was too small to lose anything");
    assert(stats.socketDrops > 0, "the socket's drops were not seen");
    assertEquals(totals.logged, FLOWS_TO_LOSE);
    recordCampaign("flow audit: reader stopped for 3 s", {
      flows: FLOWS_TO_LOSE,
      seen: stats.seen,
      lost,
    });
  },
);

kernelTest(
  "flow audit: loss in the middle of a run is told by sequence numbers, once",
  NEEDS,
  async () => {
    await using lab = await FlowLab.make();
    await lab.watch(false);
    lab.audit.pause(2000);
    await outputOf(lab.perl("cell", flowsProgram(FLOWS_TO_LOSE)));
    // An overrun socket takes nothing before it is empty; a later packet shows the hole.
    await lab.until(() => lab.data(EVENT_TYPES.flowGap).length > 0);
    await outputOf(lab.perl("cell", floodProgram(1)));
    const { stats, totals } = await lab.unwatch();
    const lost = assertAccounted(lab, stats, totals);
    assertEquals([stats.sequenceLost, stats.lost], [lost, lost]);
    const gaps = lab.data<FlowGapData>(EVENT_TYPES.flowGap);
    assert(gaps.every((gap) => gap.cause === "overrun"), "the counters had to tell");
  },
);

kernelTest(
  "flow audit: a slow owner stops the reading, and still nothing is uncounted",
  NEEDS,
  async () => {
    await using lab = await FlowLab.make();
    const gate = Promise.withResolvers<void>();
    const { onBatch } = lab.audit;
    let open = 0;
    let openMax = 0;
    lab.audit.onBatch = async (batch) => {
      open += 1;
      openMax = Math.max(openMax, open);
      await gate.promise;
      open -= 1;
      await onBatch(batch);
    };
    await lab.watch(false);
    await outputOf(lab.perl("cell", flowsProgram(FLOWS_TO_LOSE)));
    const behind = openMax;
    gate.resolve();
    const { stats, totals } = await lab.unwatch();
    assertAccounted(lab, stats, totals);
    // One turn of reading may go past the bound, never more.
    assert(behind <= 64 + 16, `${behind} batches were on their way`);
  },
);
