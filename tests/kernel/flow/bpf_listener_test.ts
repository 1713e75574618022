/**
 * The flow program at a cgroup, with the real ruleset before it: who tells what, and what loss is.
 *
 * @module
 */
import { discoverCgroups, OPEN, openFile } from "#ffi/mod.ts";
import {
  EVENT_TYPES,
  type FlowCountersData,
  type FlowDecisionData,
  type FlowGapData,
} from "#lib/events/mod.ts";
import { campaign, recordCampaign } from "#tests/support/campaign.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import {
  ALLOWED_PORT,
  CELL,
  floodProgram,
  FlowLab,
  flowsProgram,
  outputOf,
  PEER,
} from "./support.ts";

const NEEDS = [
  "root",
  "cap:CAP_BPF",
  "cap:CAP_NET_ADMIN",
  "command:perl",
  // Hybrid hosts have it there, and the rest in v1.
  `path:${v2Mount() ?? "/no-cgroup-v2"}` as `path:/${string}`,
] as const;

function v2Mount(): string | undefined {
  return discoverCgroups().v2Mount;
}

/** A cgroup in v2 that is removed again; one that still has processes would not be. */
class TestCgroup implements Disposable {
  readonly path: string;

  constructor() {
    this.path = `${v2Mount()}/celld-test-bpf-${Deno.pid}`;
    Deno.mkdirSync(this.path);
  }

  [Symbol.dispose](): void {
    Deno.removeSync(this.path);
  }
}

async function watch(lab: FlowLab, path: string): Promise<string | undefined> {
  using directory = openFile(path, { flags: OPEN.DIRECTORY });
  return (await lab.watchWithPrograms(directory.number)).programsRefused;
}

function countersOf(lab: FlowLab): FlowCountersData {
  return lab.data<FlowCountersData>(EVENT_TYPES.flowCounters)[0];
}

/** For each rule matched = logged + suppressed, and over all rules logged = seen + lost. */
function assertBalanced(lab: FlowLab): void {
  const { rules, listener } = countersOf(lab);
  for (const rule of rules) {
    assertEquals(rule.matchedPackets, rule.loggedPackets + rule.suppressedPackets, rule.ruleRef);
  }
  const logged = rules.reduce((sum, rule) => sum + rule.loggedPackets, 0);
  assertEquals(logged, listener.seen + listener.lost);
}

kernelTest(
  "flow program: accepted flows come from it, the rest from the log, nothing twice",
  NEEDS,
  async () => {
    using cgroup = new TestCgroup();
    await using lab = await FlowLab.make("marks");
    assertEquals(await watch(lab, cgroup.path), undefined);
    const server = lab.perl(
      "peer",
      `my $l = IO::Socket::INET->new(Listen => 1, LocalPort => ${ALLOWED_PORT}) or die;
       syswrite STDOUT, "ready"; my $c = $l->accept; my $line = <$c>; print $c "ok"; close $c`,
    );
    const reader = server.stdout.getReader();
    await reader.read();
    const startedMs = Date.now();
    await outputOf(lab.perlIn(
      cgroup.path,
      `my $s = IO::Socket::INET->new(PeerAddr => "${PEER}:${ALLOWED_PORT}") or die;
       print $s "hello\\n"; 1 while <$s>; close $s;
       IO::Socket::INET->new(PeerAddr => "${PEER}:9") and die;
       my $u = IO::Socket::INET->new(Proto => "udp", LocalPort => 5000) or die;
       send($u, "x", 0, sockaddr_in(${ALLOWED_PORT}, inet_aton("203.0.113.1"))) for 1..9;
       socket(my $p, PF_INET, SOCK_RAW, 1) or die;
       send($p, pack("CCnnn", 8, 0, 62709, 777, 1), 0, sockaddr_in(0, inet_aton("${PEER}"))) or die`,
    ));
    // The kernel answers this one itself: no socket, and so the log's to tell.
    await outputOf(lab.perl("peer", `IO::Socket::INET->new(PeerAddr => "${CELL}:80")`));
    reader.releaseLock();
    await server.output();
    await lab.until(() => lab.data(EVENT_TYPES.flowDecision).length === 5);
    await lab.until(() => lab.data(EVENT_TYPES.flowClosed).length >= 1);
    await lab.unwatch();

    const told = lab.data<FlowDecisionData>(EVENT_TYPES.flowDecision);
    const rows = told.map((it) => [it.protocol, it.nftRuleRef, it.decision, it.reasonCode]);
    assertEquals(rows.sort(), [
      ["icmp", "egress[3]", "allow", "bpf_accept"],
      ["tcp", "egress-default", "deny", "nft_log_drop"],
      ["tcp", "egress[0]", "allow", "bpf_accept"],
      ["tcp", "ingress[0]", "allow", "nft_log_accept"],
      ["udp", "egress[2]", "allow", "bpf_accept"],
    ]);
    for (const { observedAt } of told) {
      const atMs = Date.parse(observedAt);
      assert(atMs >= startedMs - 1 && atMs <= Date.now(), observedAt);
    }
    assertEquals(lab.data(EVENT_TYPES.flowGap), []);
    assertBalanced(lab);
    const udp = countersOf(lab).rules.find((rule) => rule.ruleRef === "egress[2]")!;
    assertEquals([udp.matchedPackets, udp.loggedPackets, udp.suppressedPackets], [9, 1, 8]);
  },
);

kernelTest(
  "flow program: floods add up: matched = told + known + lost, the reader stopped or not",
  NEEDS,
  async () => {
    using cgroup = new TestCgroup();
    await using lab = await FlowLab.make("marks");
    assertEquals(await watch(lab, cgroup.path), undefined);
    const [packets, flows] = campaign([30_000, 40_000], [500_000, 100_000]);
    await outputOf(lab.perlIn(cgroup.path, floodProgram(packets)));
    lab.audit.pause(campaign(1500, 3000));
    await outputOf(lab.perlIn(cgroup.path, flowsProgram(flows)));
    const { stats } = await lab.unwatch();
    assertBalanced(lab);
    const wide = countersOf(lab).rules.find((rule) => rule.ruleRef === "egress[2]")!;
    const counted = stats.programs!.find((rule) => rule.ruleRef === "egress[2]")!;
    assertEquals(wide.matchedPackets, packets + flows);
    assertEquals(counted.told + counted.known + counted.lost, packets + flows);
    const gaps = lab.data<FlowGapData>(EVENT_TYPES.flowGap);
    assertEquals(gaps.reduce((sum, gap) => sum + gap.lost, 0), counted.lost);
    assert(gaps.every((gap) => gap.cause === "bpf-ring-full"), JSON.stringify(gaps));
    recordCampaign("flow program under floods", {
      packets,
      flows,
      told: counted.told,
      lost: counted.lost,
    });
  },
);

kernelTest(
  "flow program: packets that pass it by are told as a gap, not passed over",
  NEEDS,
  async () => {
    using cgroup = new TestCgroup();
    await using lab = await FlowLab.make("marks");
    assertEquals(await watch(lab, cgroup.path), undefined);
    // Not in the cgroup, as nothing of a cell ever is.
    await outputOf(lab.perl("cell", flowsProgram(7)));
    await lab.unwatch();
    assertBalanced(lab);
    const [gap] = lab.data<FlowGapData>(EVENT_TYPES.flowGap);
    assertEquals([gap.lost, gap.cause], [7, "counters"]);
  },
);

kernelTest(
  "flow program: where it is refused the answer says why, and the log tells everything",
  NEEDS,
  async () => {
    await using lab = await FlowLab.make();
    const reason = await watch(lab, "/tmp");
    assertStringIncludes(reason ?? "", "Cannot attach BPF program to cgroup: EBADF");
    await outputOf(lab.perl("cell", flowsProgram(3)));
    await lab.until(() => lab.data(EVENT_TYPES.flowDecision).length === 3);
    const { stats } = await lab.unwatch();
    assertEquals([stats.programs, stats.seen], [undefined, 3]);
    const told = lab.data<FlowDecisionData>(EVENT_TYPES.flowDecision);
    assertEquals(new Set(told.map((it) => it.reasonCode)), new Set(["nft_log_accept"]));
  },
);
