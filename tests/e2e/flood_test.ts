/**
 * Floods from a real cell through the whole line to the log: whatever is sent and however slow
 * the reader is, every packet is in somebody's count, and what was not seen is told as a gap.
 *
 * @module
 */
import { assert, assertEquals, assertGreater, assertGreaterOrEqual } from "@std/assert";
import { SUPPRESSION_SIZE_MAX } from "#lib/cell/mod.ts";
import {
  type CloudEvent,
  EVENT_TYPES,
  type FlowCountersData,
  type FlowDecisionData,
  type FlowGapData,
} from "#lib/events/mod.ts";
import { logPath } from "#lib/daemon/config.ts";
import { openSqliteLog } from "#lib/eventlog/mod.ts";
import { campaign, recordCampaign } from "#tests/support/campaign.ts";
import { dataOf, spec, Stage } from "#tests/support/celld_stage.ts";
import { Churn } from "#tests/support/churn_client.ts";
import { kernelTest } from "#tests/support/kernel.ts";

const NEEDS = ["root", "cap:CAP_SYS_ADMIN", "cap:CAP_NET_ADMIN", "path:/usr/bin/perl"] as const;
const PACKETS = campaign(50_000, 500_000);
const FLOWS = campaign(20_000, 100_000);
/** More than the listener's socket holds while nobody reads. */
const FLOWS_UNREAD = campaign(100_000, 150_000);
/** More than the kernel remembers. */
const FLOWS_PAST_THE_SET = SUPPRESSION_SIZE_MAX + 4_464;
/** Tries at overrunning a stopped reader. */
const ROUNDS_MAX = 4;
/** How long the reader stands still. */
const PAUSE_MS = 3000;
const PAGE = 1000;
const FORBIDDEN_PORT = 9;

/** Something else is allowed, so that the cell has a network. */
const EGRESS = [{ host: "203.0.113.10", port: 80 }];

/** Perl: `packets` datagrams of one flow, as fast as they are refused. */
function onePortProgram(packets: number): string {
  return `use IO::Socket::INET; $| = 1; print "go\\n";
    my $s = IO::Socket::INET->new(Proto => "udp", LocalPort => 5000) or die;
    my $to = sockaddr_in(${FORBIDDEN_PORT}, inet_aton("203.0.113.66"));
    send($s, "x" x 64, 0, $to) for 1..${packets};`;
}

/** Perl: one datagram of each of `flows` flows, `rounds` times over. */
function flowsProgram(flows: number, rounds = 1): string {
  return `use IO::Socket::INET; $| = 1; print "go\\n";
    my @to = map { pack_sockaddr_in(${FORBIDDEN_PORT}, inet_aton("203.0.113.$_")) } 1..200;
    for (1..${rounds}) {
      my $left = ${flows};
      for (my $p = 10000; $left > 0; $p++) {
        my $s = IO::Socket::INET->new(Proto => "udp", LocalPort => $p) or die;
        for (@to) { last if $left-- <= 0; send($s, "x" x 64, 0, $_) }
      }
    }`;
}

interface Flood {
  readonly matched: number;
  readonly logged: number;
  readonly suppressed: number;
  readonly listener: FlowCountersData["listener"];
  readonly decisions: readonly FlowDecisionData[];
  readonly gaps: readonly FlowGapData[];
  readonly seconds: number;
}

/** Lets a cell flood, and reads what came of it from the log, after all is durable. */
async function flood(id: string, program: string, pauseMs = 0): Promise<Flood> {
  await using stage = await Stage.set();
  await using churn = await Churn.start(stage.lab, stage.settings);
  const started = performance.now();
  const life = churn.run({
    cellId: id,
    spec: spec(id, { argv: ["perl", "-e", program], egress: EGRESS }),
  });
  if (pauseMs > 0) {
    await churn.isRunning(id);
    await churn.pause(pauseMs);
  }
  const result = await life;
  assertEquals([result.exitCode, result.reason, result.leftovers], [0, "exited", []]);
  assertEquals(churn.warnings, []);
  await churn.stop();
  const seconds = (performance.now() - started) / 1000;
  const events = (await readLog(logPath(stage.settings.stateDir)))
    .filter(({ subject }) => subject === `cell:${id}`);
  const [counters] = dataOf<FlowCountersData>(events, EVENT_TYPES.flowCounters);
  const rule = counters!.rules.find(({ ruleRef }) => ruleRef === "egress-default")!;
  return {
    matched: rule.matchedPackets,
    logged: rule.loggedPackets,
    suppressed: rule.suppressedPackets,
    listener: counters!.listener,
    decisions: dataOf<FlowDecisionData>(events, EVENT_TYPES.flowDecision),
    gaps: dataOf<FlowGapData>(events, EVENT_TYPES.flowGap),
    seconds,
  };
}

async function readLog(path: string): Promise<CloudEvent[]> {
  const log = await openSqliteLog(path);
  try {
    const events: CloudEvent[] = [];
    for (let since = 0;;) {
      const page = await log.read({ since, limit: PAGE });
      if (page.length === 0) return events;
      for (const { event } of page) events.push(event);
      since = page[page.length - 1]!.seq;
    }
  } finally {
    await log.close();
  }
}

/** The three counters of the kernel and the listener's own leave nothing out. */
function assertAccounted(id: string, sent: number, flood: Flood): number {
  const { matched, logged, suppressed, listener, decisions, gaps } = flood;
  assertEquals(matched, sent, id);
  assertEquals(matched, logged + suppressed, id);
  assertEquals(logged, listener.seen + listener.lost, id);
  assertEquals([listener.decodeFailed, listener.foreign], [0, 0], id);
  assertEquals(gaps.reduce((sum, gap) => sum + gap.lost, 0), listener.lost, id);
  assertEquals(decisions.length, listener.eventsEmitted, id);
  assert(decisions.every(({ decision }) => decision === "deny"), id);
  return listener.lost;
}

kernelTest("flood: packets to a forbidden port are one decision, all counted", NEEDS, async () => {
  const came = await flood("packets", onePortProgram(PACKETS));
  assertEquals(assertAccounted("packets", PACKETS, came), 0);
  assertEquals([came.logged, came.decisions.length], [1, 1]);
  recordCampaign("flood: packets to a forbidden port", {
    packets: PACKETS,
    logged: came.logged,
    suppressed: came.suppressed,
    lost: 0,
  });
});

kernelTest("flood: distinct flows are told one by one, or their loss is", NEEDS, async () => {
  const came = await flood("flows", flowsProgram(FLOWS));
  const lost = assertAccounted("flows", FLOWS, came);
  assertEquals([came.logged, came.decisions.length], [FLOWS, FLOWS - lost]);
  recordCampaign("flood: distinct flows", {
    flows: FLOWS,
    seen: came.listener.seen,
    lost,
    durable: came.decisions.length,
    seconds: came.seconds.toFixed(1),
  });
});

kernelTest("flood: with the reader stopped for 3 s, the gap is an event", NEEDS, async () => {
  let came = await flood("unread", flowsProgram(FLOWS_UNREAD), PAUSE_MS);
  let lost = assertAccounted("unread", FLOWS_UNREAD, came);
  // A sender that got no processor meanwhile overran nothing: all is accounted for, but the
  // gap is not shown.
  for (let round = 1; lost === 0 && round < ROUNDS_MAX; round++) {
    came = await flood(`unread-${round}`, flowsProgram(FLOWS_UNREAD), PAUSE_MS);
    lost = assertAccounted(`unread-${round}`, FLOWS_UNREAD, came);
  }
  assertGreater(lost, 0, "the flood was too small to lose anything");
  assertGreaterOrEqual(came.gaps.length, 1);
  recordCampaign("flood: reader stopped for 3 s", {
    flows: FLOWS_UNREAD,
    seen: came.listener.seen,
    lost,
    gaps: came.gaps.length,
  });
});

kernelTest("flood: a full suppression set logs again rather than hides", NEEDS, async () => {
  const came = await flood("full", flowsProgram(FLOWS_PAST_THE_SET, 2));
  const lost = assertAccounted("full", 2 * FLOWS_PAST_THE_SET, came);
  const unremembered = FLOWS_PAST_THE_SET - SUPPRESSION_SIZE_MAX;
  assertGreaterOrEqual(came.logged, FLOWS_PAST_THE_SET + unremembered);
  recordCampaign("flood: past the suppression set", {
    flows: FLOWS_PAST_THE_SET,
    set: SUPPRESSION_SIZE_MAX,
    matched: came.matched,
    logged: came.logged,
    lost,
  });
});
