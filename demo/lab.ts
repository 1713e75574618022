/**
 * A small internet in namespaces, for the demo and for tests that need a far side.
 *
 *   ┌─ host ────────────────────┐         ┌─ internet ────────────────────────────┐
 *   │ plays the machine: celld  │ uplink0 │ 203.0.113.10 .20 .66  169.254.169.254 │
 *   │ runs here, cells are made ├─────────┤ 2001:db8:113::10 ::20 ::66            │
 *   │ beside it                 │  world0 │ HTTP 80 · TCP echo 7000 · UDP 7001    │
 *   └───────────────────────────┘         └───────────────────────────────────────┘
 *     198.51.100.1, 2001:db8:51::1          198.51.100.2, 2001:db8:51::2
 *
 * Nothing touches the machine's own network: both namespaces are new, and the only way out of
 * `host` is the veth pair to `internet`, which has no other way out. `internet` has a route back
 * to the uplink's addresses and to nothing else, so a cell that is not masqueraded gets no
 * answer. Forwarding is not switched on: that is the work of the celld under test.
 *
 * The far side answers two questions afterwards: what its servers saw (`seen`) and what its
 * kernel counted (`arrivals`, by rules in `internet` that count every packet to a destination,
 * whether or not anything listens there).
 *
 * Everything is programmed over netlink; needs root, and no `ip` or `nft`. All of it goes with
 * `stop`, or with the process.
 *
 * @module
 */
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
  type NftRule,
  type NftTable,
  setLinkUp,
  withNetns,
} from "#ffi/mod.ts";
import { destinationKey } from "./attempt.ts";
import { parseServerLine, type ServerConfig, type ServerObservation } from "./observation.ts";

/** The addresses of the lab; all from ranges reserved for documentation, but for link-local. */
export const LAB = {
  hostIpv4: "198.51.100.1",
  hostIpv6: "2001:db8:51::1",
  gatewayIpv4: "198.51.100.2",
  gatewayIpv6: "2001:db8:51::2",
  /** Served by every service. */
  serversIpv4: ["203.0.113.10", "203.0.113.20", "203.0.113.66"],
  /** Served by every service. */
  serversIpv6: ["2001:db8:113::10", "2001:db8:113::20", "2001:db8:113::66"],
  /** Answers as the metadata service of a cloud would, on port 80. */
  metadata: "169.254.169.254",
  httpPort: 80,
  tcpEchoPort: 7000,
  udpEchoPort: 7001,
  uplink: "uplink0",
  world: "world0",
} as const;

/** How long the servers may take to say that they are ready, in milliseconds. */
const READY_TIMEOUT_MS = 15_000;
/** How long a server may take to end by itself, in milliseconds. */
const END_TIMEOUT_MS = 2_000;
const UPLINK_MAC = "02:ce:11:d0:00:01";
const WORLD_MAC = "02:ce:11:d0:00:02";
const WITNESS_TABLE = "lab_witness";

/** A destination whose packets the far side's kernel counts. */
export interface WatchedDestination {
  /** `icmp` of both families: the address tells them apart. */
  readonly protocol: "tcp" | "udp" | "icmp";
  /** Short form. */
  readonly address: string;
  /** Not for ICMP, of which only echo requests are counted. */
  readonly port?: number;
}

/** What arrived for one watched destination. */
export interface Arrival extends WatchedDestination {
  /** Since the lab was started. */
  readonly packets: number;
}

/** What a lab may be asked for. */
export interface LabOptions {
  /** Counted by the far side's kernel, see {@link Lab.arrivals}. @default {[]} */
  readonly watch?: readonly WatchedDestination[];
}

/** A running lab. Use with `await using`. */
export class Lab implements AsyncDisposable {
  /** The namespace that plays the machine. */
  readonly hostNetns: Fd;
  /** The namespace with the servers. */
  readonly internetNetns: Fd;
  readonly #watch: readonly WatchedDestination[];
  readonly #observations = new Map<number, ServerObservation>();
  readonly #children = new Set<Deno.ChildProcess>();
  #servers: ServerProcess | undefined;
  #isStopped = false;

  private constructor(watch: readonly WatchedDestination[]) {
    this.#watch = watch;
    this.hostNetns = createNetns();
    try {
      this.internetNetns = createNetns();
    } catch (error) {
      this.hostNetns.close();
      throw error;
    }
  }

  /** Makes the namespaces, starts the servers, and waits until they listen. */
  static async start(options: LabOptions = {}): Promise<Lab> {
    const lab = new Lab(options.watch ?? []);
    try {
      lab.#wire();
      lab.#countArrivals();
      const child = withNetns(lab.internetNetns, spawnServers);
      lab.#servers = new ServerProcess(child, lab.#observations);
      await lab.#servers.ready(READY_TIMEOUT_MS);
      return lab;
    } catch (error) {
      await lab.stop();
      throw error;
    }
  }

  /** Runs a synchronous function in the namespace that plays the machine. */
  inHost<T>(use: () => T): T {
    return withNetns(this.hostNetns, use);
  }

  /** Starts a process in the namespace that plays the machine; it is killed by `stop`. */
  spawnInHost(command: string | URL, options: Deno.CommandOptions = {}): Deno.ChildProcess {
    return this.#adopt(withNetns(this.hostNetns, () => new Deno.Command(command, options).spawn()));
  }

  /** Starts a process on the far side; it is killed by `stop`. */
  spawnInInternet(command: string | URL, options: Deno.CommandOptions = {}): Deno.ChildProcess {
    return this.#adopt(
      withNetns(this.internetNetns, () => new Deno.Command(command, options).spawn()),
    );
  }

  /** What the servers have said so far; see {@link Lab.settle}. */
  seen(): ServerObservation[] {
    return [...this.#observations.values()];
  }

  /** Resolves when all that the servers' kernel had queued for them is in {@link Lab.seen}. */
  async settle(): Promise<void> {
    await this.#servers?.flush();
  }

  /** How many packets the far side's kernel has counted for each watched destination. */
  arrivals(): Arrival[] {
    if (this.#watch.length === 0) return [];
    const counters = withNetns(this.internetNetns, () => {
      using conn = NetlinkConn.open("netfilter");
      return new NftConn(conn).ruleCounters(WITNESS_TABLE);
    });
    const packetsByKey = new Map(counters.map((row) => [row.comment, Number(row.packets ?? 0n)]));
    return this.#watch.map((one) => ({
      ...one,
      packets: packetsByKey.get(destinationKey(one)) ?? 0,
    }));
  }

  /** Ends the servers and whatever was started in the lab, and lets the namespaces go. */
  async stop(): Promise<void> {
    if (this.#isStopped) return;
    this.#isStopped = true;
    for (const child of this.#children) {
      child.kill("SIGKILL");
      await child.status;
    }
    await this.#servers?.stop();
    this.hostNetns.close();
    this.internetNetns.close();
  }

  /** As {@link Lab.stop}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #adopt(child: Deno.ChildProcess): Deno.ChildProcess {
    this.#children.add(child);
    child.status.then(() => this.#children.delete(child));
    return child;
  }

  #wire(): void {
    withNetns(this.internetNetns, () => {
      using conn = NetlinkConn.open("route");
      createVeth(conn, {
        name: LAB.world,
        peerName: LAB.uplink,
        peerNetns: this.hostNetns,
        mac: WORLD_MAC,
        peerMac: UPLINK_MAC,
      });
      const lo = bringUp(conn, "lo");
      const world = bringUp(conn, LAB.world);
      address(conn, world, LAB.gatewayIpv4, 24);
      address(conn, world, LAB.gatewayIpv6, 64);
      for (const ip of [...LAB.serversIpv4, LAB.metadata]) address(conn, lo, ip, 32);
      for (const ip of LAB.serversIpv6) address(conn, lo, ip, 128);
    });
    withNetns(this.hostNetns, () => {
      using conn = NetlinkConn.open("route");
      bringUp(conn, "lo");
      const uplink = bringUp(conn, LAB.uplink);
      address(conn, uplink, LAB.hostIpv4, 24);
      address(conn, uplink, LAB.hostIpv6, 64);
      addRoute(conn, { gateway: LAB.gatewayIpv4, index: uplink });
      addRoute(conn, { gateway: LAB.gatewayIpv6, index: uplink });
    });
  }

  #countArrivals(): void {
    if (this.#watch.length === 0) return;
    withNetns(this.internetNetns, () => {
      using conn = NetlinkConn.open("netfilter");
      new NftConn(conn).commit(encodeTable(witnessTable(this.#watch), {}));
    });
  }
}

function bringUp(conn: NetlinkConn, name: string): number {
  const index = linkIndex(conn, name);
  setLinkUp(conn, index);
  return index;
}

function address(conn: NetlinkConn, index: number, ip: string, prefixLength: number): void {
  addAddress(conn, { index, address: ip, prefixLength, noDad: true });
}

/** Counts on arrival, before any routing: a packet is counted even where nothing listens. */
function witnessTable(watch: readonly WatchedDestination[]): NftTable {
  return {
    name: WITNESS_TABLE,
    sets: [],
    maps: [],
    chains: [{
      name: "arrivals",
      hook: { type: "filter", hook: "prerouting", priority: -300, policy: "accept" },
      rules: watch.map(witnessRule),
    }],
  };
}

function witnessRule({ protocol, address, port }: WatchedDestination): NftRule {
  const isV6 = address.includes(":");
  const comment = destinationKey({ protocol, address, ...(port === undefined ? {} : { port }) });
  const destination = {
    kind: "match",
    field: isV6 ? "ip6 daddr" : "ip daddr",
    value: address,
  } as const;
  if (protocol === "icmp") {
    const echoRequest = isV6
      ? { kind: "match", field: "icmpv6 type", value: 128 } as const
      : { kind: "match", field: "icmp type", value: 8 } as const;
    return { statements: [destination, echoRequest, { kind: "counter" }], comment };
  }
  if (port === undefined) {
    const transport = { kind: "match", field: "meta l4proto", value: protocol } as const;
    return { statements: [destination, transport, { kind: "counter" }], comment };
  }
  const field = protocol === "tcp" ? "tcp dport" : "udp dport";
  return {
    statements: [destination, { kind: "match", field, value: port }, { kind: "counter" }],
    comment,
  };
}

/** The process with all servers; created on the far side, so call it inside the sandwich. */
function spawnServers(): Deno.ChildProcess {
  const everywhere = [...LAB.serversIpv4, ...LAB.serversIpv6];
  const config: ServerConfig = {
    services: [
      { service: "http", port: LAB.httpPort, addresses: [...everywhere, LAB.metadata] },
      { service: "tcp-echo", port: LAB.tcpEchoPort, addresses: everywhere },
      { service: "udp-echo", port: LAB.udpEchoPort, addresses: everywhere },
    ],
  };
  return new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "-A",
      "--quiet",
      "--no-lock",
      new URL("./server.ts", import.meta.url).href,
      JSON.stringify(config),
    ],
    env: { DENO_NO_UPDATE_CHECK: "1" },
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
}

/** The servers' process: reads its lines, asks it to flush, ends it. */
class ServerProcess {
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #observations: Map<number, ServerObservation>;
  readonly #reading: Promise<void>;
  readonly #ready = Promise.withResolvers<void>();
  #flushes: PromiseWithResolvers<void>[] = [];

  constructor(child: Deno.ChildProcess, observations: Map<number, ServerObservation>) {
    this.#child = child;
    this.#input = child.stdin.getWriter();
    this.#observations = observations;
    // Awaited by `ready`; a server that dies before is told there, and only there.
    this.#ready.promise.catch(() => undefined);
    this.#reading = this.#read();
  }

  async ready(timeoutMs: number): Promise<void> {
    const timer = setTimeout(
      () => this.#ready.reject(new Error(`Cannot start the lab's servers in ${timeoutMs} ms`)),
      timeoutMs,
    );
    try {
      await this.#ready.promise;
    } finally {
      clearTimeout(timer);
    }
  }

  async flush(): Promise<void> {
    const answer = Promise.withResolvers<void>();
    this.#flushes.push(answer);
    await this.#input.write(new TextEncoder().encode("flush\n"));
    await answer.promise;
  }

  async stop(): Promise<void> {
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), END_TIMEOUT_MS);
    try {
      // The end of its input ends the server; where it is gone already, there is no input left.
      await this.#input.close().catch(() => undefined);
      await this.#child.status;
      await this.#reading;
    } finally {
      clearTimeout(timer);
    }
  }

  async #read(): Promise<void> {
    let rest = "";
    for await (const text of this.#child.stdout.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) this.#take(line);
    }
    const ended = new Error("Cannot ask the lab's servers: their process has ended");
    this.#ready.reject(ended);
    for (const flush of this.#flushes.splice(0)) flush.reject(ended);
  }

  #take(text: string): void {
    const line = parseServerLine(text);
    if (line === undefined) return;
    if (line.kind === "ready") this.#ready.resolve();
    else if (line.kind === "flushed") this.#flushes.shift()?.resolve();
    else this.#observations.set(line.observation.id, line.observation);
  }
}
