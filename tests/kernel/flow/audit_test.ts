import { assert, assertEquals, assertRejects } from "@std/assert";
import { EVENT_TYPES, type FlowClosedData, type FlowDecisionData } from "#lib/events/mod.ts";
import { FlowAudit, FlowListenerError } from "#lib/flow/audit_shell.ts";
import { earlierFlowKey } from "#lib/flow/earlier.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { ALLOWED_PORT, CELL, FlowLab, outputOf, PEER } from "./support.ts";

const NEEDS = ["root", "cap:CAP_NET_ADMIN", "command:perl"] as const;

kernelTest(
  "flow audit: an allowed and a refused connection are told, each once, while the cell runs",
  NEEDS,
  async () => {
    await using lab = await FlowLab.make();
    await lab.watch(true);
    const server = lab.perl(
      "peer",
      `my $l = IO::Socket::INET->new(Listen => 1, LocalPort => ${ALLOWED_PORT}) or die;
     syswrite STDOUT, "ready"; my $c = $l->accept; my $line = <$c>; print $c "y" x 10000; close $c`,
    );
    const reader = server.stdout.getReader();
    await reader.read();
    const client = lab.perl(
      "cell",
      `my $s = IO::Socket::INET->new(PeerAddr => "${PEER}:${ALLOWED_PORT}") or die;
     print $s "x" x 999, "\\n"; 1 while <$s>; close $s;
     IO::Socket::INET->new(PeerAddr => "${PEER}:9") and die; print $!`,
    );
    assertEquals(await outputOf(client), "Connection refused");
    await lab.until(() => lab.data(EVENT_TYPES.flowDecision).length === 2);
    await lab.until(() => lab.data(EVENT_TYPES.flowClosed).length === 1);
    reader.releaseLock();
    await server.output();
    const { stats, totals } = await lab.unwatch();

    const [allowed, refused] = lab.data<FlowDecisionData>(EVENT_TYPES.flowDecision);
    assertEquals(
      [allowed.decision, allowed.nftRuleRef, allowed.srcAddr, allowed.dstAddr, allowed.dstPort],
      ["allow", "egress[0]", CELL, PEER, ALLOWED_PORT],
    );
    assertEquals([refused.decision, refused.nftRuleRef, refused.dstPort, refused.protocol], [
      "deny",
      "egress-default",
      9,
      "tcp",
    ]);
    const [closed] = lab.data<FlowClosedData>(EVENT_TYPES.flowClosed);
    assertEquals([closed.ruleRef, closed.reason, closed.srcPort, closed.direction], [
      "egress[0]",
      "closed",
      allowed.srcPort,
      "egress",
    ]);
    // Headers of 40 to 60 bytes a packet come on top of what was sent.
    assert(closed.bytesOut > 1000 && closed.bytesOut < 2500, `bytesOut ${closed.bytesOut}`);
    assert(closed.bytesIn > 10_000 && closed.bytesIn < 12_500, `bytesIn ${closed.bytesIn}`);
    assertEquals(lab.data(EVENT_TYPES.flowClosed).length, 1);
    assertEquals([stats.seen, stats.lost, stats.foreign, stats.decodeFailed], [2, 0, 0, 0]);
    assertEquals([totals.logged, lab.session.accumulator.uniqueFlowCount], [2, 1]);
  },
);

kernelTest(
  "flow audit: ends that nobody heard are told by who listens next, with totals where there are any",
  NEEDS,
  async () => {
    await using lab = await FlowLab.make();
    const server = lab.perl(
      "peer",
      `my $l = IO::Socket::INET->new(Listen => 2, LocalPort => ${ALLOWED_PORT}) or die;
     syswrite STDOUT, "ready"; my $a = $l->accept; my $b = $l->accept; 1 while <$a>; close $a;
     1 while <$b>`,
    );
    const heard = server.stdout.getReader();
    await heard.read();
    const client = lab.perl(
      "cell",
      `my ($a, $b) = map { IO::Socket::INET->new(PeerAddr => "${PEER}:${ALLOWED_PORT}",
       LocalPort => $_) or die } 40001, 40002; print $a "x" x 999, "\\n"; $a->flush;
     shutdown($a, 1); 1 while <$a>; close $a; syswrite STDOUT, "closed"; sleep 60`,
    );
    const said = client.stdout.getReader();
    await said.read();
    const flows = [40001, 40002, 40003].map((srcPort) => ({
      decision: "allow" as const,
      ruleRef: "egress[0]",
      protocol: "tcp",
      srcAddr: CELL,
      srcPort,
      dstAddr: PEER,
      dstPort: ALLOWED_PORT,
      observedAtMs: Date.now(),
    }));
    const nowMs = Date.now();
    const earlier = { decisions: 3, lost: 0, repeats: 0, flows };
    lab.session.resume(earlier, { loggedPackets: 2, fromMs: nowMs, nowMs }, crypto.randomUUID);
    await lab.watch(true, undefined, flows.map((flow) => earlierFlowKey(flow)!));
    const closed = () => lab.data<FlowClosedData>(EVENT_TYPES.flowClosed);
    await lab.until(() => closed().length === 2);
    const told = closed().toSorted((a, b) => a.srcPort! - b.srcPort!);
    assertEquals(
      told.map(({ srcPort, reason, ruleRef }) => [srcPort, reason, ruleRef]),
      [[40001, "closed", "egress[0]"], [40003, "unwatched", "egress[0]"]],
    );
    assert(told[0].bytesOut > 1000, `bytesOut ${told[0].bytesOut}`);
    assertEquals([told[1].packetsOut, told[1].bytesOut, told[1].bytesIn], [0, 0, 0]);
    client.kill("SIGKILL");
    // The one that was open ends as ever.
    await lab.until(() => closed().length === 3);
    assertEquals([closed()[2].srcPort, closed()[2].reason], [40002, "closed"]);
    heard.releaseLock();
    said.releaseLock();
    await Promise.all([server.output(), client.output()]);
    await lab.unwatch();
    assertEquals(closed().length, 3, "each end once");
  },
);

kernelTest(
  "flow audit: ping, one-way UDP and a connection to the cell are told with their rules",
  NEEDS,
  async () => {
    await using lab = await FlowLab.make();
    await lab.watch(true);
    const server = lab.perl(
      "cell",
      `my $l = IO::Socket::INET->new(Listen => 1, LocalPort => 80) or die;
     syswrite STDOUT, "ready"; my $c = $l->accept; close $c`,
    );
    const reader = server.stdout.getReader();
    await reader.read();
    await outputOf(lab.perl("peer", `IO::Socket::INET->new(PeerAddr => "${CELL}:80") or die`));
    reader.releaseLock();
    await server.output();
    await outputOf(lab.perl(
      "cell",
      `my $s = IO::Socket::INET->new(Proto => "udp", LocalPort => 5000) or die;
     send($s, "x", 0, sockaddr_in(${ALLOWED_PORT}, inet_aton("203.0.113.1"))) for 1..9;
     socket(my $p, PF_INET, SOCK_RAW, 1) or die;
     send($p, pack("CCnnn", 8, 0, 62709, 777, 1), 0, sockaddr_in(0, inet_aton("${PEER}"))) or die $!`,
    ));
    await lab.until(() => lab.data(EVENT_TYPES.flowDecision).length === 3);
    await lab.unwatch();
    const told = lab.data<FlowDecisionData>(EVENT_TYPES.flowDecision)
      .map((it) => [it.direction, it.protocol, it.nftRuleRef, it.decision]);
    assertEquals(told, [
      ["ingress", "tcp", "ingress[0]", "allow"],
      ["egress", "udp", "egress[2]", "allow"],
      ["egress", "icmp", "egress[3]", "allow"],
    ]);
    // What is still open at the end is told as cut by the teardown, with its totals.
    const closed = lab.data<FlowClosedData>(EVENT_TYPES.flowClosed);
    const udp = closed.find((it) => it.protocol === "udp");
    assertEquals([udp?.reason, udp?.packetsOut, udp?.bytesOut, udp?.ruleRef], [
      "teardown",
      9,
      9 * 29,
      "egress[2]",
    ]);
    const icmp = closed.find((it) => it.protocol === "icmp");
    assertEquals([icmp?.ruleRef, icmp?.packetsOut, icmp?.packetsIn], ["egress[3]", 1, 1]);
    const tcp = closed.find((it) => it.protocol === "tcp");
    assertEquals([tcp?.direction, tcp?.ruleRef, tcp?.reason], ["ingress", "ingress[0]", "closed"]);
    assertEquals(closed.length, 3);
  },
);

kernelTest(
  "flow audit: a taken group is a typed error, and nothing stays behind",
  NEEDS,
  async () => {
    await using lab = await FlowLab.make();
    await lab.watch(false);
    const order = { cell: 2, netnsFd: lab.cell.number, group: 100, conntrack: true };
    const error = await assertRejects(() => lab.audit.watch(order), FlowListenerError);
    assertEquals([error.step, error.code], ["bind", "EBUSY"]);
    // The same cell's number was not used up, and another group is free.
    await lab.audit.watch({ ...order, group: 101 });
    await lab.audit.unwatch(2);
    const twice = await assertRejects(() => lab.watch(false, 102), FlowListenerError);
    assertEquals(twice.step, "watch");
    const unknown = await assertRejects(() => lab.audit.unwatch(9), FlowListenerError);
    assertEquals(unknown.step, "unwatch");
    await lab.audit.unwatch(1);
    // After it was given back, the group can be bound again, by another worker.
    const other = await FlowAudit.start();
    await other.watch({ ...order, cell: 1 });
    await other.stop();
  },
);

kernelTest("flow audit: a descriptor that is no namespace is a typed error", NEEDS, async () => {
  const audit = await FlowAudit.start();
  const order = { cell: 1, netnsFd: 0, group: 100, conntrack: false };
  await assertRejects(() => audit.watch(order), FlowListenerError);
  await audit.stop();
});
