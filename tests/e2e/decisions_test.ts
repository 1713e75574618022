/**
 * Whole runs against the lab's internet: each flow is decided once, told with all that it is,
 * and the program and the far side saw the same.
 *
 * @module
 */
import { assert, assertEquals, assertGreater, assertLess } from "@std/assert";
import {
  dumpConntrack,
  encodeTable,
  NetlinkConn,
  NftConn,
  type NftTable,
  openNetns,
  readFileIn,
  withNetns,
} from "#ffi/mod.ts";
import {
  type CloudEvent,
  EVENT_TYPES,
  type FlowClosedData,
  type FlowCountersData,
  type FlowDecisionData,
} from "#lib/events/mod.ts";
import { dataOf, spec, Stage, type StageRun, until } from "#tests/support/celld_stage.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { LAB } from "#tests/support/lab.ts";
import { PROBE, probeArguments, type ProbeResult, readProbe } from "#tests/support/probe.ts";

const NEEDS = ["root", "cap:CAP_SYS_ADMIN", "cap:CAP_NET_ADMIN", "path:/usr/bin/perl"] as const;
const [V4, V4_WIDE, V4_CLOSED] = LAB.serversIpv4;
const [V6, , V6_CLOSED] = LAB.serversIpv6;
/** A refusal comes from the cell's own kernel; the bound is for a busy machine. */
const AT_ONCE_MS = 1000;
const ECONNREFUSED = 111;
/** What sending says when the cell's own kernel refuses. */
const EPERM = 1;
/** What the refused echo's answer says. */
const EACCES = 13;
const BIG_BYTES = 10 * 1024 * 1024;
const STRAY_PORT = 4009;
const STRAY_PACKETS = 5;

const RULES = [
  { host: V4, port: LAB.httpPort },
  { host: V6, port: LAB.httpPort },
  { host: "203.0.113.16/28", ports: ["7000-7001"] },
  { host: V6, port: LAB.udpEchoPort, protocol: "udp" },
  { host: V4, port: LAB.udpEchoPort, protocol: "udp" },
  { host: V4, protocol: "icmp" },
  { host: V6, protocol: "icmp" },
  { host: "0.0.0.0/0", port: 81 },
];

/** Protocol, address, port, HTTP request; then the rule that decides. */
type Attempt = readonly [string, string, number, string?];

const ALLOWED: readonly { attempt: Attempt; rule: string }[] = [
  { attempt: ["tcp", V4, LAB.httpPort, "/"], rule: "egress[0]" },
  { attempt: ["tcp", V6, LAB.httpPort, "/"], rule: "egress[1]" },
  { attempt: ["tcp", V4_WIDE, LAB.tcpEchoPort], rule: "egress[2]" },
  { attempt: ["udp", V6, LAB.udpEchoPort], rule: "egress[3]" },
  { attempt: ["udp", V4, LAB.udpEchoPort], rule: "egress[4]" },
  { attempt: ["icmp", V4, 0], rule: "egress[5]" },
  { attempt: ["icmp", V6, 0], rule: "egress[6]" },
];

/** Some by a rule's neighbour (its host, another port), some that no rule is near, one guarded. */
const DENIED: readonly { attempt: Attempt; rule: string; errno: number }[] = [
  { attempt: ["tcp", V4, LAB.tcpEchoPort], rule: "egress-default", errno: ECONNREFUSED },
  { attempt: ["tcp", V6, LAB.tcpEchoPort], rule: "egress-default", errno: ECONNREFUSED },
  { attempt: ["tcp", V4_CLOSED, LAB.httpPort], rule: "egress-default", errno: ECONNREFUSED },
  { attempt: ["tcp", V6_CLOSED, LAB.httpPort], rule: "egress-default", errno: ECONNREFUSED },
  { attempt: ["tcp", LAB.metadata, 81], rule: "egress-guard", errno: ECONNREFUSED },
  { attempt: ["udp", V4_CLOSED, LAB.udpEchoPort], rule: "egress-default", errno: EPERM },
  { attempt: ["udp", V6_CLOSED, LAB.udpEchoPort], rule: "egress-default", errno: EPERM },
  { attempt: ["icmp", V4_CLOSED, 0], rule: "egress-default", errno: EPERM },
  { attempt: ["icmp", V6_CLOSED, 0], rule: "egress-default", errno: EACCES },
];

function decisionsOf(events: readonly CloudEvent[]): FlowDecisionData[] {
  return dataOf<FlowDecisionData>(events, EVENT_TYPES.flowDecision);
}

function countersOf(events: readonly CloudEvent[]): FlowCountersData {
  const all = dataOf<FlowCountersData>(events, EVENT_TYPES.flowCounters);
  assertEquals(all.length, 1);
  return all[0]!;
}

/** What a decision must say of an attempt, its own ids and times left out. */
function expected(
  result: ProbeResult,
  rule: string,
  isAllowed: boolean,
): Partial<FlowDecisionData> {
  const isV6 = result.address.includes(":");
  const isEcho = result.protocol === "icmp";
  return {
    direction: "egress",
    decision: isAllowed ? "allow" : "deny",
    reasonCode: isAllowed ? "nft_log_accept" : "nft_log_drop",
    nftRuleRef: rule,
    ...(isEcho ? {} : { srcPort: result.localPort, dstPort: result.port }),
    dstAddr: result.address,
    protocol: isEcho ? (isV6 ? "icmp6" : "icmp") : result.protocol,
  };
}

kernelTest("decisions: every attempt is told once, with all that it is", NEEDS, async () => {
  await using stage = await Stage.set();
  const attempts = [...ALLOWED, ...DENIED];
  const argv = ["perl", "-e", PROBE, ...probeArguments(attempts.map(({ attempt }) => attempt))];
  const outcome = await stage.run(spec("decided", { argv, egress: RULES }));
  assertEquals(outcome.code, 0, outcome.stderr);
  const results = readProbe(outcome.stdout);
  const said = JSON.stringify(results);
  const decisions = decisionsOf(outcome.events);
  assertEquals([results.length, decisions.length], [attempts.length, attempts.length], said);

  const created = outcome.events.find(({ type }) => type === EVENT_TYPES.cellStarted)!;
  const { cellId, runId } = created.data as { cellId: string; runId: string };
  const sources = new Set<string>();
  attempts.forEach(({ rule }, index) => {
    const decision = decisions[index]!;
    const wanted = expected(results[index]!, rule, index < ALLOWED.length);
    const found = Object.fromEntries(
      Object.keys(wanted).map((key) => [key, decision[key as keyof FlowDecisionData]]),
    );
    assertEquals(found, wanted, `attempt ${index}`);
    assertEquals([decision.cellId, decision.runId], [cellId, runId]);
    sources.add(decision.srcAddr!);
  });
  // Its own addresses, one of each family, before any translation.
  const [ipv4, ipv6] = [...sources].sort();
  assertEquals(sources.size, 2);
  assert(ipv4!.startsWith("10.213.0.") && ipv6!.startsWith("fdce:11d0::"), [...sources].join());
  assertEquals(new Set(decisions.map(({ decisionId }) => decisionId)).size, attempts.length);

  const [allowed, denied] = [results.slice(0, ALLOWED.length), results.slice(ALLOWED.length)];
  assertEquals(allowed.map(({ errno }) => errno), allowed.map(() => 0), said);
  assert(allowed.every(({ answerBytes }) => answerBytes > 0), said);
  denied.forEach((result, index) => {
    assertEquals(result.errno, DENIED[index]!.errno, JSON.stringify(result));
    assertLess(result.ms, AT_ONCE_MS, JSON.stringify(result));
  });
  await assertSeen(stage, results);
  assertCounted(outcome.events, attempts.length);
});

/** The servers saw what was allowed, from the host's address, and nothing of the rest. */
async function assertSeen(stage: Stage, results: readonly ProbeResult[]): Promise<void> {
  await stage.lab.settle();
  const seen = stage.lab.seen().map(({ protocol, local, peer }) =>
    [protocol, local.address, local.port, peer.address].join(" ")
  );
  const wanted = results.slice(0, ALLOWED.length)
    .filter(({ protocol }) => protocol !== "icmp")
    .map(({ protocol, address, port }) => {
      const host = address.includes(":") ? LAB.hostIpv6 : LAB.hostIpv4;
      return [protocol, address, port, host].join(" ");
    });
  assertEquals(seen.sort(), wanted.sort());
}

function assertCounted(events: readonly CloudEvent[], decided: number): void {
  const { rules, listener, backstopDrops } = countersOf(events);
  for (const rule of rules) {
    assertEquals(rule.matchedPackets, rule.loggedPackets + rule.suppressedPackets, rule.ruleRef);
  }
  assertEquals(rules.reduce((sum, rule) => sum + rule.loggedPackets, 0), decided);
  assertEquals(listener, { ...listener, seen: decided, lost: 0, decodeFailed: 0, foreign: 0 });
  assertEquals([listener.eventsEmitted, backstopDrops], [decided, 0]);
}

kernelTest("decisions: a cell without rules is told what it tried, too", NEEDS, async () => {
  await using stage = await Stage.set();
  const attempts: Attempt[] = [["tcp", V4, 80, "/"], ["udp", V6, 7001], ["icmp", V4, 0]];
  const argv = ["perl", "-e", PROBE, ...probeArguments(attempts)];
  const outcome = await stage.run(spec("without", { argv }));
  const results = readProbe(outcome.stdout);
  const decisions = decisionsOf(outcome.events);
  assertEquals(
    decisions.map((
      { decision, reasonCode, nftRuleRef, dstAddr },
    ) => [decision, reasonCode, nftRuleRef, dstAddr]),
    attempts.map(([, address]) => ["deny", "nft_log_drop", "egress-default", address]),
  );
  assertEquals(results.map(({ errno }) => errno), [ECONNREFUSED, EPERM, EPERM]);
  assert(results.every(({ ms }) => ms < AT_ONCE_MS), outcome.stdout);
  await stage.lab.settle();
  assertEquals(stage.lab.seen(), []);
});

kernelTest("decisions: deny by drop is told, and the program hears nothing", NEEDS, async () => {
  await using stage = await Stage.set();
  const argv = ["perl", "-e", `alarm 1; ${PROBE}`, ...probeArguments([["tcp", V4, 7000]])];
  const authority = { deny: "drop" };
  const outcome = await stage.run(spec("dropped", { argv, egress: RULES, authority }));
  assertEquals([outcome.code, outcome.stdout], [128 + 14, ""], outcome.stderr);
  assertEquals(decisionsOf(outcome.events).map(({ decision }) => decision), ["deny"]);
});

kernelTest("decisions: audit mode allows, and tells by which name", NEEDS, async () => {
  await using stage = await Stage.set();
  const argv = ["perl", "-e", PROBE, ...probeArguments([["tcp", V4_CLOSED, 80, "/"]])];
  const authority = { mode: "audit" };
  const outcome = await stage.run(spec("audited", { argv, egress: RULES, authority }));
  assertEquals(readProbe(outcome.stdout).map(({ errno }) => errno), [0]);
  assertEquals(
    decisionsOf(outcome.events).map(({ decision, nftRuleRef }) => [decision, nftRuleRef]),
    [["allow", "egress-audit"]],
  );
});

/** Listens on both loopbacks, talks to itself by TCP and UDP, and sends stray datagrams. */
const LOOPBACK = String.raw`
use strict; use IO::Socket::IP; $| = 1;
my $sink = IO::Socket::IP->new(LocalHost => "127.0.0.1", LocalPort => ${STRAY_PORT},
  Proto => "udp") or die "sink: $@";
sub stray { my $s = IO::Socket::IP->new(PeerHost => "127.0.0.1", PeerPort => ${STRAY_PORT},
  Proto => "udp"); send($s, "x", 0) for 1..${STRAY_PACKETS} }
for my $host ("127.0.0.1", "::1") {
  my $l = IO::Socket::IP->new(LocalHost => $host, LocalPort => 4000, Listen => 5, Proto => "tcp")
    or die "listen: $@";
  my $c = IO::Socket::IP->new(PeerHost => $host, PeerPort => 4000, Proto => "tcp") or die "connect: $@";
  my $a = $l->accept; print $c "hi\n"; $c->flush; print "tcp $host ", scalar <$a>;
  my $u = IO::Socket::IP->new(LocalHost => $host, LocalPort => 4001, Proto => "udp") or die "udp: $@";
  my $p = IO::Socket::IP->new(PeerHost => $host, PeerPort => 4001, Proto => "udp") or die "udp: $@";
  send($p, "hi", 0); recv($u, my $m, 10, 0); print "udp $host $m\n";
}
print "waiting\n"; <STDIN>; stray(); print "done\n";
`;

/** A table of somebody else, on our group. */
const STRAY_TABLE: NftTable = {
  name: "stray",
  sets: [],
  maps: [],
  chains: [{
    name: "output",
    hook: { type: "filter", hook: "output", priority: -10, policy: "accept" },
    rules: [{
      statements: [
        { kind: "match", field: "udp dport", value: STRAY_PORT },
        { kind: "log", prefix: "other", group: 100 },
      ],
    }],
  }],
};

kernelTest("decisions: neither loopback nor stray log traffic is a decision", NEEDS, async () => {
  await using stage = await Stage.set();
  const argv = ["perl", "-e", LOOPBACK];
  const run = stage.start(spec("loopback", { argv, egress: RULES }), {
    stdin: "open",
    args: ["--stdin"],
  });
  await until(() => run.stdout().includes("waiting"), "the workload");
  inCell(stage, "loopback", () => {
    using conn = NetlinkConn.open("netfilter");
    new NftConn(conn).commit(encodeTable(STRAY_TABLE));
  });
  await goOn(run);
  const { code, stdout, stderr, events } = await run.ended;
  assertEquals(code, 0, stderr);
  assertEquals(
    stdout,
    "tcp 127.0.0.1 hi\nudp 127.0.0.1 hi\ntcp ::1 hi\nudp ::1 hi\nwaiting\ndone\n",
  );
  assertEquals(decisionsOf(events), []);
  const { listener } = countersOf(events);
  assertEquals([listener.foreign, listener.seen, listener.lost], [STRAY_PACKETS, 0, 0]);
});

kernelTest("decisions: 10 MB are one decision and one summary, byte for byte", NEEDS, async () => {
  await using stage = await Stage.set();
  const request = `/big?bytes=${BIG_BYTES}`;
  for (const address of [V4, V6]) {
    const argv = [
      "perl",
      "-e",
      PROBE,
      ...probeArguments([["tcp", address, LAB.httpPort, request]]),
      "wait",
    ];
    const document = spec("big", { argv, egress: RULES });
    const resentBefore = retransmissions(stage);
    const run = stage.start(document, { stdin: "open", args: ["--stdin"] });
    await until(() => run.stdout().includes("waiting"), "the transfer");
    await until(() => closedOf(run.events()).length > 0, "the summary");
    const kernel = inCell(stage, "big", () => {
      using conn = NetlinkConn.open("netfilter");
      return dumpConntrack(conn, address.includes(":") ? 6 : 4)
        .filter(({ original }) => original.destinationPort === LAB.httpPort);
    });
    await goOn(run);
    const { code, events, stdout, stderr } = await run.ended;
    assertEquals(code, 0, stderr);
    await stage.lab.settle();
    const server = stage.lab.seen().find(({ request: asked, local }) =>
      asked === `GET ${request}` && local.address === address
    )!;
    const [result] = readProbe(stdout);
    assertEquals(decisionsOf(events).map(({ decision }) => decision), ["allow"]);
    const closed = closedOf(events);
    assertEquals(closed.length, 1);
    const { bytesIn, bytesOut, packetsIn, packetsOut, srcPort, ruleRef } = closed[0]!;
    assertEquals([srcPort, ruleRef], [
      result!.localPort,
      address === V4 ? "egress[0]" : "egress[1]",
    ]);

    // The kernel's own entry, read while it is still there.
    assertEquals(kernel.length, 1);
    const { originalCounters, replyCounters } = kernel[0]!;
    assertEquals([BigInt(packetsOut), BigInt(bytesOut)], [
      originalCounters!.packets,
      originalCounters!.bytes,
    ]);
    assertEquals([BigInt(packetsIn), BigInt(bytesIn)], [
      replyCounters!.packets,
      replyCounters!.bytes,
    ]);
    // The server's payload, and what carries it.
    assertGreater(server.bytesSent, BIG_BYTES);
    assertEquals(result!.answerBytes, server.bytesSent);
    const repeated = bytesIn - server.bytesSent - headerBytes(packetsIn, address);
    if (retransmissions(stage) === resentBefore) assertEquals(repeated, 0);
    else assertGreater(repeated, -1);
    const matched = countersOf(events).rules.find((rule) => rule.ruleRef === ruleRef)!;
    assertEquals([matched.matchedPackets, matched.loggedPackets], [1, 1]);
  }
});

/** IP and TCP headers: 12 bytes of timestamps on each packet, 8 more options on the first. */
function headerBytes(packets: number, address: string): number {
  const ip = address.includes(":") ? 40 : 20;
  return packets * (ip + 20 + 12) + 8;
}

/** Segments that the far side has sent again: a busy machine drops some on the way. */
function retransmissions({ lab }: Stage): number {
  const text = withNetns(lab.internetNetns, () => readFileIn("/proc/thread-self/net/snmp"));
  const [names, values] = text.split("\n").filter((line) => line.startsWith("Tcp:"))
    .map((line) => line.split(" "));
  return Number(values![names!.indexOf("RetransSegs")]);
}

function closedOf(events: readonly CloudEvent[]): FlowClosedData[] {
  return dataOf<FlowClosedData>(events, EVENT_TYPES.flowClosed);
}

/** Runs a function in the network namespace of a cell's processes, as the host's root. */
function inCell<T>(stage: Stage, specId: string, use: () => T): T {
  const [cgroup] = stage.cgroupsOf(specId).filter((path) => path.includes("/pids/"));
  const [pid] = Deno.readTextFileSync(`${cgroup ?? stage.cgroupsOf(specId)[0]}/cgroup.procs`)
    .split("\n");
  using netns = openNetns(`/proc/${pid}/ns/net`);
  return withNetns(netns, use);
}

async function goOn(run: StageRun): Promise<void> {
  await run.input!.write(new TextEncoder().encode("\n"));
  await run.input!.close();
}
