/**
 * A cell's network without a cell: its namespace with the real ruleset, a peer behind a veth pair,
 * a running flow audit, and programs that send.
 *
 * @module
 */
import { acceptMarks, cellTable } from "#lib/cell/ruleset.ts";
import { makePolicy } from "#lib/cell/policy.ts";
import { type RuleCounterSummary, summarizeCounters } from "#lib/cell/rule_counters.ts";
import { parseCellSpec } from "#lib/cell/spec.ts";
import type { CloudEvent } from "#lib/events/mod.ts";
import type { WatchAnswer } from "#lib/flow/audit_messages.ts";
import { FlowAudit } from "#lib/flow/audit_shell.ts";
import { joinProgramCounters } from "#lib/flow/program_counters.ts";
import { FlowSession } from "#lib/flow/session.ts";
import type { FlowListenerStats } from "#lib/flow/stats.ts";
import {
  addAddress,
  addRoute,
  createNetns,
  createVeth,
  encodeTable,
  type Fd,
  linkIndex,
  NetlinkConn,
  NftConn,
  setLinkUp,
  withNetns,
  writeFileIn,
} from "#ffi/mod.ts";

/** The cell's address. */
export const CELL = "192.0.2.1";
/** The peer's address; the cell's gateway, too. */
export const PEER = "192.0.2.0";
/** A port of the peer that the rules allow; nobody need listen. */
export const ALLOWED_PORT = 7001;
/** Addresses behind the peer that nobody has, allowed by a wide rule on {@link ALLOWED_PORT}. */
export const WIDE_NET = "203.0.113.0/24";
const GROUP = 100;

const SPEC = JSON.stringify({
  apiVersion: "cellos.io/v1",
  kind: "ExecutionCell",
  spec: {
    id: "flow-test",
    authority: {
      egressRules: [
        { host: PEER, port: ALLOWED_PORT, protocol: "tcp" },
        { host: PEER, port: ALLOWED_PORT, protocol: "udp" },
        { host: WIDE_NET, port: ALLOWED_PORT, protocol: "udp" },
        { host: PEER, protocol: "icmp" },
      ],
      ingress: [{ from: PEER, port: 80, protocol: "tcp" }],
    },
    lifetime: { ttlSeconds: 60 },
  },
});

/** What a run came to. */
export interface FlowTotals {
  readonly rules: readonly RuleCounterSummary[];
  readonly matched: number;
  readonly logged: number;
  readonly suppressed: number;
}

/** The network, and the audit that listens to it. */
export class FlowLab implements AsyncDisposable {
  readonly cell: Fd = createNetns();
  readonly peer: Fd = createNetns();
  readonly audit: FlowAudit;
  readonly events: CloudEvent[] = [];
  readonly session = new FlowSession({
    cell: 1,
    cellId: "flow-test",
    runId: "run-1",
    source: "/celld/test",
    cellAddresses: [CELL],
  });
  readonly #nft: NetlinkConn;

  private constructor(audit: FlowAudit) {
    this.audit = audit;
    audit.onBatch = (batch) => {
      this.events.push(...this.session.handleBatch(batch, () => crypto.randomUUID()));
    };
    this.#nft = withNetns(this.cell, () => NetlinkConn.open("netfilter"));
  }

  /**
   * Makes the network and starts the audit; nothing is watched yet.
   *
   * @param acceptsToldBy As in `cellTable`.
   */
  static async make(acceptsToldBy: "log" | "marks" = "log"): Promise<FlowLab> {
    const lab = new FlowLab(await FlowAudit.start());
    lab.#connect();
    const policy = makePolicy(parseCellSpec(SPEC));
    const table = cellTable(policy, {
      cellId: "flow-test",
      nflogGroup: GROUP,
      linkAddresses: [PEER],
      cellAddresses: [],
      hostAddresses: [],
      pools: { ipv4: "198.51.100.0/24", ipv6: "fdce:11d0::/112" },
      acceptsToldBy,
    });
    new NftConn(lab.#nft).commit(encodeTable(table));
    return lab;
  }

  /** Starts listening. */
  async watch(
    conntrack: boolean,
    group = GROUP,
    knownOpen: readonly Uint8Array[] = [],
  ): Promise<void> {
    await this.audit.watch({ cell: 1, netnsFd: this.cell.number, group, conntrack, knownOpen });
  }

  /** Starts listening, with a program at a cgroup for accepted flows. */
  async watchWithPrograms(cgroupFd: number): Promise<WatchAnswer> {
    return await this.audit.watch({
      cell: 1,
      netnsFd: this.cell.number,
      group: GROUP,
      conntrack: true,
      programs: { cgroupFd, acceptRefs: acceptMarks(makePolicy(parseCellSpec(SPEC))) },
    });
  }

  /** Stops listening and appends the last events. */
  async unwatch(): Promise<{ stats: FlowListenerStats; totals: FlowTotals }> {
    const stats = await this.audit.unwatch(1);
    const totals = this.totals();
    const rules = totals.rules.map((rule) => ({
      ruleRef: rule.ruleRef,
      verdict: rule.ruleRef.includes("default") ? "drop" as const : "accept" as const,
      matchedPackets: Number(rule.matchedPackets),
      matchedBytes: Number(rule.matchedBytes),
      loggedPackets: Number(rule.loggedPackets),
      suppressedPackets: Number(rule.suppressedPackets),
    }));
    const marked = stats.programs?.map((it) => it.ruleRef) ?? [];
    const joined = joinProgramCounters(rules, marked, stats.programs);
    const end = { stats, rules: joined, backstopDrops: 0, nowMs: Date.now() };
    this.events.push(...this.session.finish(end, () => crypto.randomUUID()));
    return { stats, totals };
  }

  /** What the ruleset counted. */
  totals(): FlowTotals {
    const rules = summarizeCounters(new NftConn(this.#nft).ruleCounters("cellos_flow_test"));
    const sum = (part: "matchedPackets" | "loggedPackets" | "suppressedPackets") =>
      Number(rules.reduce((total, rule) => total + rule[part], 0n));
    return {
      rules,
      matched: sum("matchedPackets"),
      logged: sum("loggedPackets"),
      suppressed: sum("suppressedPackets"),
    };
  }

  /** Data of the events of a type, in order. */
  data<T>(type: string): T[] {
    return this.events.filter((event) => event.type === type).map((event) => event.data as T);
  }

  /** Waits until a condition holds, at most 5 s. */
  async until(condition: () => boolean): Promise<void> {
    for (let waited = 0; !condition(); waited += 5) {
      if (waited > 5000) throw new Error("Cannot go on: what was waited for did not come");
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  /** Starts a Perl program in a namespace. */
  perl(where: "cell" | "peer", program: string): Deno.ChildProcess {
    return withNetns(
      where === "cell" ? this.cell : this.peer,
      () =>
        new Deno.Command("perl", {
          args: ["-MIO::Socket::INET", "-MSocket", "-e", program],
          stdout: "piped",
        }).spawn(),
    );
  }

  /** Starts a Perl program in the cell's namespace, which joins a cgroup before its first socket. */
  perlIn(cgroup: string, program: string): Deno.ChildProcess {
    const join =
      `open(my $c, ">", "${cgroup}/cgroup.procs") or die $!; syswrite($c, $$); close $c;`;
    return this.perl("cell", `${join} ${program}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.audit.stop();
    this.#nft.close();
    this.cell.close();
    this.peer.close();
  }

  #connect(): void {
    withNetns(this.cell, () => {
      writeFileIn("/proc/sys/net/netfilter/nf_conntrack_acct", "1");
      // As in a cell: events also of connections that were opened while nobody listened.
      writeFileIn("/proc/sys/net/netfilter/nf_conntrack_events", "1");
      writeFileIn("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
      using route = NetlinkConn.open("route");
      createVeth(route, { name: "eth0", peerName: "eth0", peerNetns: this.peer });
      raise(route, CELL);
      addRoute(route, { gateway: PEER, index: linkIndex(route, "eth0") });
    });
    withNetns(this.peer, () => {
      writeFileIn("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
      using route = NetlinkConn.open("route");
      raise(route, PEER);
    });
  }
}

function raise(route: NetlinkConn, address: string): void {
  setLinkUp(route, 1);
  const index = linkIndex(route, "eth0");
  addAddress(route, { index, address, prefixLength: 31 });
  setLinkUp(route, index);
}

/** Waits for a program and returns its output. Throws when it failed. */
export async function outputOf(child: Deno.ChildProcess): Promise<string> {
  const { code, stdout } = await child.output();
  if (code !== 0) throw new Error(`Cannot use the program's output: exit code ${code}`);
  return new TextDecoder().decode(stdout);
}

/** Perl: sends `packets` datagrams of one flow to the allowed port. */
export function floodProgram(packets: number): string {
  return `my $s = IO::Socket::INET->new(Proto => "udp", LocalPort => 5000) or die;
    my $to = sockaddr_in(${ALLOWED_PORT}, inet_aton("203.0.113.9"));
    for (1..${packets}) { send($s, "x" x 64, 0, $to) }`;
}

/** Perl: sends one datagram of each of `flows` flows (200 addresses, one source port for each 200). */
export function flowsProgram(flows: number): string {
  return `my @to = map { pack_sockaddr_in(${ALLOWED_PORT}, inet_aton("203.0.113.$_")) } 1..200;
    my $left = ${flows};
    for (my $p = 10000; $left > 0; $p++) {
      my $s = IO::Socket::INET->new(Proto => "udp", LocalPort => $p) or die;
      for (@to) { last if $left-- <= 0; send($s, "x" x 64, 0, $_) }
    }`;
}
