/**
 * Packets made by hand inside a cell's network namespace by the host's root: what a program
 * could send that had broken out of its user. See `raw.pl` for the packets.
 *
 * Through a raw socket a packet meets the cell's own table, where it must be refused _and_
 * recorded. Written to the link it meets only the host's, which must drop and count it. Both
 * times packets that are allowed go along, so that a silence means a refusal.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import {
  encodeTable,
  type Fd,
  linkIndex,
  NetlinkConn,
  NftConn,
  type NftField,
  type NftRule,
  withNetns,
  writeFileIn,
} from "#ffi/mod.ts";
import { HOST_TABLE_NAME } from "#lib/cell/host_ruleset.ts";
import { type NetworkPlan, planNetwork } from "#lib/cell/network_plan.ts";
import { type CloudEvent, EVENT_TYPES } from "#lib/events/mod.ts";
import { LAB, type Lab } from "#tests/support/lab.ts";
import { securityTest } from "./register.ts";
import { openNetns, perlIn, type RunningCell, Stage, until } from "./support.ts";

const [ALLOWED4, HALF4, FORBIDDEN4] = LAB.serversIpv4;
const [ALLOWED6, HALF6, FORBIDDEN6] = LAB.serversIpv6;
const PORT = LAB.udpEchoPort;
/** Nothing may arrive at any of these: at the middle ones only another port is allowed. */
const OFF_LIMITS = [HALF4, FORBIDDEN4, LAB.metadata, HALF6, FORBIDDEN6];
/** Allowed at no address. */
const CLOSED_PORT = 9999;
const DELIVERED = "delivered to a closed port";
const WITNESS_TABLE = "security_witness";

/** What was sent, what arrived, what was recorded. */
interface Findings {
  readonly raw: ReadonlyMap<string, string>;
  readonly link: ReadonlyMap<string, string>;
  readonly spoof: ReadonlyMap<string, string>;
  /** Packets that arrived at each address on the far side. */
  readonly arrived: ReadonlyMap<string, number>;
  /** Datagrams that the lab's echo service got, by source port. */
  readonly echoed: ReadonlySet<number>;
  readonly hostReached: string;
  readonly otherReached: string;
  /** Packets of the host's counters, by comment, for the frames of each way. */
  readonly dropsByLink: ReadonlyMap<string, number>;
  readonly dropsBySpoof: ReadonlyMap<string, number>;
  readonly decisions: readonly CloudEvent[];
}

let findings: Promise<Findings> | undefined;
const find = () => findings ??= findNow();

securityTest("packets by hand that are allowed reach the server", async () => {
  const { raw, link, echoed } = await find();
  for (const [name, result] of [...raw, ...link]) {
    if (name.startsWith("control:")) assertEquals(result, "sent", name);
  }
  for (const port of [40001, 40002, 40003, 40004, 43001, 43002, 43003]) {
    assert(echoed.has(port), `the datagram from port ${port} arrived`);
  }
});

securityTest("fragments hide no forbidden destination, and are decided", async () => {
  const { raw, arrived, decisions } = await find();
  assertRefused(raw, /^forbidden( port)?: (plain|fragments|overlap)/, 6);
  assertEquals(arrivals(arrived, [HALF4, FORBIDDEN4, DELIVERED]), [0, 0, 0]);
  for (const port of [41001, 41002, 41003, 41004, 41005]) {
    assertDenied(decisions, { srcPort: port });
  }
  // Left in pieces, the second piece has no ports; it is decided all the same.
  assertDenied(decisions, { dstAddr: FORBIDDEN4, srcPort: undefined });
});

securityTest("IPv6 extension headers hide no forbidden destination, and are decided", async () => {
  const { raw, arrived, decisions } = await find();
  assertRefused(raw, /^forbidden( port)?: IPv6/, 9);
  assertEquals(arrivals(arrived, [HALF6, FORBIDDEN6]), [0, 0]);
  for (const port of [42001, 42002, 42003, 42004, 42005, 42006, 42007, 42009]) {
    assertDenied(decisions, { srcPort: port });
  }
});

securityTest("a tunnel to an allowed address is refused and decided", async () => {
  const { raw, decisions } = await find();
  assertRefused(raw, /^forbidden: tunnel/, 3);
  assert(decisions.filter(isDenied).filter((it) => dataOf(it).dstAddr === ALLOWED4).length >= 3);
});

securityTest("an ICMP error does not carry a flow to another address", async () => {
  const { raw, arrived } = await find();
  assertEquals(raw.get("forbidden: related error"), "EPERM");
  assertEquals(arrivals(arrived, [FORBIDDEN4]), [0]);
});

securityTest("a raw packet with another source is refused in the cell and decided", async () => {
  const { raw, decisions } = await find();
  assertRefused(raw, /^spoofed:/, 2);
  for (const srcPort of [41010, 41011]) {
    assertDenied(decisions, { srcPort, nftRuleRef: "egress-guard" });
  }
});

securityTest("the host drops forbidden packets that went past the cell's table", async () => {
  const { link, arrived, dropsByLink, hostReached, otherReached } = await find();
  const forbidden = [...link].filter(([name]) => !name.startsWith("control:"));
  assertEquals(forbidden.filter(([, result]) => result !== "sent"), []);
  assertEquals(arrivals(arrived, OFF_LIMITS), OFF_LIMITS.map(() => 0));
  assertEquals(arrivals(arrived, [DELIVERED]), [0]);
  assertEquals([hostReached, otherReached], ["", ""]);
  assertEquals(dropsByLink.get("backstop"), forbidden.length);
});

securityTest("the host drops packets whose source is not the cell's", async () => {
  const { spoof, echoed, dropsBySpoof, hostReached } = await find();
  assertEquals([...spoof.values()].filter((result) => result !== "sent"), []);
  assertEquals(dropsBySpoof.get("spoofed source"), spoof.size);
  assertEquals([...echoed].filter((port) => port >= 45000), []);
  assertEquals(hostReached, "");
});

function assertRefused(results: ReadonlyMap<string, string>, pattern: RegExp, count: number) {
  const matching = [...results].filter(([name]) => pattern.test(name));
  assertEquals(matching.length, count, `${pattern}: ${matching.map(([name]) => name)}`);
  // What is reassembled is refused as a whole: only the last piece is told.
  for (const [name, result] of matching) {
    assert(result === "EPERM" || /fragments|overlap|header in/.test(name), `${name}: ${result}`);
  }
}

function assertDenied(decisions: readonly CloudEvent[], wanted: Record<string, unknown>): void {
  const found = decisions.filter(isDenied).filter((event) =>
    Object.entries(wanted).every(([name, value]) => dataOf(event)[name] === value)
  );
  assert(found.length > 0, `denied: ${JSON.stringify(wanted)}`);
}

function isDenied(event: CloudEvent): boolean {
  return dataOf(event).decision === "deny";
}

function dataOf(event: CloudEvent): Record<string, unknown> {
  return event.data as unknown as Record<string, unknown>;
}

function arrivals(arrived: ReadonlyMap<string, number>, addresses: readonly string[]): number[] {
  return addresses.map((address) => arrived.get(address) ?? -1);
}

async function findNow(): Promise<Findings> {
  await using stage = await Stage.start();
  const { lab, shared } = stage;
  await using world = new AsyncDisposableStack();
  countArrivals(lab.internetNetns);
  const script = Deno.readTextFileSync(new URL("./listener.pl", import.meta.url));
  const probes = shared.directory("probe");
  shared.file("probe/listener.pl", script);
  const host = listenOnHost(lab, `${probes}/listener.pl`);
  world.defer(() => host.stop());

  const other = startListener(stage, "other");
  const otherNetns = world.use(openNetns(await other.waitFor(/ready (\S+)/)));
  assert(otherNetns.number > 0);
  const cell = startListener(stage, "maker");
  const netns = world.use(openNetns(await cell.waitFor(/ready (\S+)/)));
  const [theirs, plan] = [planNetwork(1), planNetwork(2)];
  // As on a host that publishes ports of containers on its loopback.
  withNetns(lab.hostNetns, () => {
    writeFileIn("/proc/sys/net/ipv4/conf/all/route_localnet", "1");
  });
  await host.ready;

  const raw = await send(netns, "raw", plan, theirs);
  const before = dropCounters(lab.hostNetns);
  const link = await send(netns, "link", plan, theirs);
  const between = dropCounters(lab.hostNetns);
  const spoof = await send(netns, "spoof", plan, theirs);
  const after = dropCounters(lab.hostNetns);
  await lab.settle();
  const echoes = lab.seen().filter(({ service }) => service === "udp-echo");
  const arrived = readArrivals(lab.internetNetns);

  Deno.writeTextFileSync(`${probes}/stop`, "");
  const [ended, otherEnded] = await Promise.all([cell.end(), other.end()]);
  assertEquals([ended.code, otherEnded.code], [0, 0], ended.stderr + otherEnded.stderr);
  return {
    raw,
    link,
    spoof,
    arrived,
    // Translation keeps a source port that is free.
    echoed: new Set(echoes.map(({ peer }) => peer.port)),
    hostReached: host.reached(),
    otherReached: otherEnded.stdout.replace(/^ready .*\n/, ""),
    dropsByLink: difference(between, before),
    dropsBySpoof: difference(after, between),
    decisions: ended.events.filter(({ type }) => type === EVENT_TYPES.flowDecision),
  };
}

function startListener(stage: Stage, id: string): RunningCell {
  const allowed = [ALLOWED4, HALF4, ALLOWED6, HALF6];
  return stage.run({
    id,
    authority: {
      egressRules: allowed.map((host) => ({ host, port: PORT, protocol: "udp" })),
    },
    run: {
      argv: ["/usr/bin/perl", "/srv/probe/listener.pl", `${PORT}`, "/srv/probe/stop"],
      mounts: [{ source: `${stage.shared.path}/probe`, target: "/srv/probe" }],
      limits: { timeoutSeconds: 60 },
    },
  });
}

function listenOnHost(lab: Lab, script: string) {
  const child = lab.spawnInHost("perl", {
    args: [script, `${PORT}`],
    stdin: "null",
    stdout: "piped",
  });
  let printed = "";
  const reading = (async () => {
    for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) printed += text;
  })();
  return {
    ready: until(() => printed.includes("ready"), () => "the host's listener is not ready"),
    reached: () => printed.replace(/^ready .*\n/, ""),
    stop: async () => {
      child.kill("SIGKILL");
      await child.status;
      await reading;
    },
  };
}

async function send(
  netns: Fd,
  way: "raw" | "link" | "spoof",
  plan: NetworkPlan,
  other: NetworkPlan,
): Promise<Map<string, string>> {
  const ifindex = withNetns(netns, () => {
    using route = NetlinkConn.open("route");
    return linkIndex(route, plan.cellInterface);
  });
  const values = {
    way,
    ifindex,
    own4: plan.cellIpv4,
    own6: plan.cellIpv6,
    ownMac: plan.cellMac,
    hostMac: plan.hostMac,
    gateway4: plan.hostIpv4,
    allowed4: ALLOWED4,
    allowed6: ALLOWED6,
    half4: HALF4,
    half6: HALF6,
    forbidden4: FORBIDDEN4,
    forbidden6: FORBIDDEN6,
    host4: LAB.hostIpv4,
    host6: LAB.hostIpv6,
    other4: other.cellIpv4,
    other6: other.cellIpv6,
  };
  const script = new URL("./raw.pl", import.meta.url).pathname;
  const args = Object.entries(values).map(([name, value]) => `${name}=${value}`);
  const text = await perlIn(netns, script, args);
  assert(text.endsWith("done\n"), text);
  // Time for the last packet to be seen where it went, and for a piece that waits to be joined.
  await new Promise((resolve) => setTimeout(resolve, 150));
  return new Map(
    text.split("\n").filter((line) => line.startsWith("{")).map((line) => {
      const { packet, result } = JSON.parse(line);
      return [packet, result];
    }),
  );
}

/** Counts everything that arrives at an address, whatever it is a piece of. */
function countArrivals(netns: Fd): void {
  const rule = (address: string): NftRule => {
    const field: NftField = address.includes(":") ? "ip6 daddr" : "ip daddr";
    return {
      statements: [{ kind: "match", field, value: address }, { kind: "counter" }],
      comment: address,
    };
  };
  const delivered: NftRule = {
    statements: [
      { kind: "match", field: "udp dport", value: CLOSED_PORT },
      { kind: "counter" },
    ],
    comment: DELIVERED,
  };
  withNetns(netns, () => {
    using conn = NetlinkConn.open("netfilter");
    new NftConn(conn).commit(encodeTable({
      name: WITNESS_TABLE,
      sets: [],
      maps: [],
      chains: [{
        name: "arrivals",
        hook: { type: "filter", hook: "prerouting", priority: -450, policy: "accept" },
        rules: OFF_LIMITS.map(rule),
      }, {
        // After the pieces were joined: what a program would get.
        name: "delivered",
        hook: { type: "filter", hook: "input", priority: 0, policy: "accept" },
        rules: [delivered],
      }],
    }));
  });
}

function readArrivals(netns: Fd): Map<string, number> {
  return withNetns(netns, () => {
    using conn = NetlinkConn.open("netfilter");
    const rows = new NftConn(conn).ruleCounters(WITNESS_TABLE);
    return new Map(rows.map(({ comment, packets }) => [comment ?? "", Number(packets ?? 0n)]));
  });
}

/** Packets that the host's table has dropped, by the comments of its rules. */
function dropCounters(netns: Fd): Map<string, number> {
  return withNetns(netns, () => {
    using conn = NetlinkConn.open("netfilter");
    const sums = new Map<string, number>();
    for (const { comment, packets } of new NftConn(conn).ruleCounters(HOST_TABLE_NAME)) {
      if (comment === undefined || packets === undefined) continue;
      sums.set(comment, (sums.get(comment) ?? 0) + Number(packets));
    }
    return sums;
  });
}

function difference(after: Map<string, number>, before: Map<string, number>): Map<string, number> {
  return new Map([...after].map(([name, count]) => [name, count - (before.get(name) ?? 0)]));
}
