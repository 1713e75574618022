/**
 * Datagrams a second through a UDP balancer, processor time and memory for each flow, and latency:
 * celld, nginx, and the least that C can do, under one load, with one worker and with two.
 *
 *   deno run -A bench/lib/udp/forward_bench.ts [--full]
 *
 * A round trip is two datagrams forwarded. The load (all clients and all backends in one thread) has
 * the first processor, a balancer with one worker the second; two workers may use both, so that only
 * their processor time says something there. Throughput is in a closed loop; latency in an open one
 * at a low rate, from when a datagram was due. Each balancer runs in processes of its own, in turns,
 * and the median of the rounds is told. A ratio is processor time / that of the C program.
 *
 * With 100 000 flows only those run that need no socket for a flow; where the others stop is told.
 *
 * @module
 */
import { parseArgs } from "@std/cli";
import { ROUTE_DEFAULTS } from "#lib/udp/mod.ts";
import { PortableUdpPlane, UdpPlane, type UdpPlanePort } from "#lib/udp/mod_shell.ts";
import {
  BACKEND_PORT,
  BACKENDS,
  compilePeer,
  LISTEN_PORT,
  type LoadOutcome,
  nginxCommand,
  processesOf,
  readMemory,
  runLoad,
  startBalancer,
  stopBalancer,
} from "../../peers/udp_peers.ts";
import { countSocketsOpened } from "../../peers/udp_stop.ts";
import { GROUND_DIR, onGround } from "../../support/ground.ts";
import { count, figure, printTable, quantile, ratio } from "../../support/table.ts";

interface Sizes {
  readonly flows: readonly number[];
  /** Without sockets. */
  readonly sourcedFlows: number;
  readonly seconds: number;
  readonly rounds: number;
  readonly rate: number;
}

const SMALL: Sizes = { flows: [4, 1000], sourcedFlows: 5000, seconds: 0.3, rounds: 1, rate: 2000 };
const FULL: Sizes = {
  flows: [4, 1000, 10_000],
  sourcedFlows: 100_000,
  seconds: 2,
  rounds: 3,
  rate: 5000,
};
const WINDOW = 256;
const FLOWS_MAX = 100_000;
/** Own addresses of flows without sockets; the C program has the same. */
const SOURCES = "127.128.0.0/9";
/** celld without system calls of its own. */
const PORTABLE = "celld, portable shell";
/** Fewer flows say nothing of memory. */
const MEMORY_FLOWS_MIN = 1000;

interface Balancer {
  readonly name: string;
  readonly workers: number;
  readonly isSourced: boolean;
  readonly command: readonly string[];
}

interface Measured {
  readonly closed: LoadOutcome;
  readonly open: LoadOutcome;
  /** Of the processes, and of the kernel, for each flow. */
  readonly rssBytes: number;
  readonly slabBytes: number;
}

async function main(args: readonly string[]): Promise<void> {
  const { full, serve, sources, portable } = parseArgs(args, {
    boolean: ["full", "sources", "portable"],
    string: ["serve"],
  });
  if (serve !== undefined) {
    return await serveWith(Number(serve), sources === true, portable === true);
  }
  await onGround(() => bench(full === true ? FULL : SMALL));
}

/** What the bench starts as the balancer: celld's plane and nothing else. */
async function serveWith(
  workers: number,
  isSourced: boolean,
  isPortable: boolean,
): Promise<void> {
  const options = { maxFlows: FLOWS_MAX, tellsFlows: false };
  const plane: UdpPlanePort = isPortable
    ? await PortableUdpPlane.start(options)
    : await UdpPlane.start({ ...options, workers });
  const members = Array.from({ length: BACKENDS }, (_, backend) => ({ backend }));
  for (const { backend } of members) {
    await plane.setBackend({ backend, address: "127.0.0.1", port: BACKEND_PORT + backend });
  }
  const sources = isSourced ? { sourceAddresses: { ipv4: SOURCES } } : {};
  await plane.setCluster({ cluster: 0, policy: "round-robin", members, ...sources });
  await plane.setListener({
    listener: 0,
    address: "127.0.0.1",
    port: LISTEN_PORT,
    route: { ...ROUTE_DEFAULTS, cluster: 0 },
  });
  await new Promise<void>((resolve) => Deno.addSignalListener("SIGTERM", resolve));
  await plane.stop();
  Deno.exit(0);
}

async function bench(sizes: Sizes): Promise<void> {
  const load = compilePeer("udp_load", GROUND_DIR);
  const proxy = compilePeer("udp_proxy", GROUND_DIR);
  if (load === undefined || proxy === undefined) {
    console.log("  skipped: needs a C compiler");
    return;
  }
  const balancers = findBalancers(proxy);
  const runs = [
    ...sizes.flows.flatMap((flows) =>
      balancers.filter(({ isSourced }) => !isSourced).map((balancer) => ({ flows, balancer }))
    ),
    ...balancers.filter(({ isSourced }) => isSourced)
      .map((balancer) => ({ flows: sizes.sourcedFlows, balancer })),
  ].map((run) => ({ ...run, found: [] as Measured[] }));
  for (let round = 0; round < sizes.rounds; round++) {
    for (const { flows, balancer, found } of runs) {
      found.push(await measure(balancer, load, flows, sizes));
    }
  }
  printAll(runs);
  await tellStops(balancers, sizes.sourcedFlows);
}

function findBalancers(proxy: string): Balancer[] {
  const all: Balancer[] = [];
  for (const workers of [1, 2]) {
    const self = [Deno.execPath(), "run", "-A", "--quiet", Deno.mainModule, `--serve=${workers}`];
    const numbers = [LISTEN_PORT, BACKEND_PORT, BACKENDS, FLOWS_MAX, workers].map(String);
    const command = [proxy, ...numbers];
    all.push({ name: "C, the limit", workers, isSourced: false, command });
    all.push({ name: "celld", workers, isSourced: false, command: self });
    if (workers === 1) {
      const portable = [...self, "--portable"];
      all.push({ name: PORTABLE, workers, isSourced: false, command: portable });
    }
    const nginx = nginxCommand(GROUND_DIR, workers);
    if (nginx !== undefined) {
      all.push({ name: "nginx stream", workers, isSourced: false, command: nginx });
    }
    const sourced = { workers, isSourced: true };
    all.push({ name: "C, own addresses", ...sourced, command: [...command, "sources"] });
    all.push({ name: "celld, own addresses", ...sourced, command: [...self, "--sources"] });
  }
  if (all.every(({ name }) => name !== "nginx stream")) {
    console.log("  without nginx: not installed (packages nginx, libnginx-mod-stream)");
  }
  return all;
}

async function measure(
  { command, workers }: Balancer,
  load: string,
  flows: number,
  { seconds, rate }: Sizes,
): Promise<Measured> {
  const child = await startBalancer(command, workers === 1 ? 1 : undefined);
  try {
    const pids = processesOf(child.pid);
    const of = { flows, window: WINDOW, seconds, pids };
    const before = readMemory(pids);
    const closed = await runLoad(load, { ...of, rate: 0 });
    const after = readMemory(pids);
    const open = await runLoad(load, { ...of, rate });
    const rssBytes = (after.rssBytes - before.rssBytes) / flows;
    const slabBytes = (after.slabBytes - before.slabBytes) / flows;
    return { closed, open, rssBytes, slabBytes };
  } finally {
    await stopBalancer(child);
  }
}

interface Run {
  readonly flows: number;
  readonly balancer: Balancer;
  readonly found: readonly Measured[];
}

function printAll(runs: readonly Run[]): void {
  const median = (run: Run, of: (one: Measured) => number) => quantile(run.found.map(of), 0.5);
  const cpuNs = (run: Run) => median(run, ({ closed }) => closed.cpuNs / 2);
  const baseOf = ({ flows, balancer: { workers, isSourced } }: Run) =>
    runs.find((one) =>
      one.flows === flows && one.balancer.workers === workers &&
      one.balancer.isSourced === isSourced && one.balancer.name.startsWith("C,")
    );
  const heading = ["flows", "workers", "balancer", "datagrams/s", "CPU ns/datagram", "ratio"];
  printTable(
    [...heading, "p50 µs", "p99 µs", "lost", "wrong", "RSS B/flow", "kernel B/flow"],
    runs.map((run) => {
      const base = baseOf(run);
      const memory = (of: (one: Measured) => number) =>
        run.flows < MEMORY_FLOWS_MIN ? "-" : count(median(run, of));
      return [
        count(run.flows),
        `${run.balancer.workers}`,
        run.balancer.name,
        count(median(run, ({ closed }) => 2 * closed.perSecond)),
        figure(cpuNs(run), 0),
        ratio(cpuNs(run), base === undefined ? NaN : cpuNs(base)),
        figure(median(run, ({ open }) => open.p50Us), 0),
        figure(median(run, ({ open }) => open.p99Us), 0),
        count(median(run, ({ closed, open }) => closed.lost + open.lost)),
        count(median(run, ({ closed, open }) => closed.wrong + open.wrong)),
        memory(({ rssBytes }) => rssBytes),
        memory(({ slabBytes }) => slabBytes),
      ];
    }),
  );
}

/** Where a descriptor for each flow ends. */
async function tellStops(balancers: readonly Balancer[], clients: number): Promise<void> {
  for (const { name, workers, isSourced, command } of balancers) {
    // The portable shell has the sockets of the other, but no room for such a burst of clients.
    if (workers > 1 || name === PORTABLE) continue;
    const child = await startBalancer(command, 1);
    try {
      const sockets = await countSocketsOpened(processesOf(child.pid), clients);
      const what = isSourced
        ? "needs none for a flow"
        : sockets < clients
        ? "stops there"
        : "one for each";
      console.log(`  ${name}: ${count(sockets)} sockets for ${count(clients)} clients: ${what}`);
    } finally {
      await stopBalancer(child);
    }
  }
}

if (import.meta.main) await main(Deno.args);
