/**
 * Round trips a second through a UDP balancer, processor time for each, and latency: celld with
 * one worker and with two, nginx, and the least that C can do, under one load.
 *
 *   deno run -A bench/lib/udp/forward_bench.ts [--full]
 *
 * A round trip is two datagrams in and two out. The load (all clients and all backends in one
 * thread) has the first processor, the balancer the second; two workers of celld may use both, so
 * that only their processor time says something there. Throughput is in a closed loop; latency in
 * an open one, from when a datagram was due. Each balancer runs in a process of its own, in turns,
 * and the median of the rounds is told. A ratio is processor time / that of the C program.
 *
 * @module
 */
import { parseArgs } from "@std/cli";
import { ROUTE_DEFAULTS } from "#lib/udp/mod.ts";
import { UdpPlane } from "#lib/udp/mod_shell.ts";
import {
  BACKEND_PORT,
  BACKENDS,
  compilePeer,
  LISTEN_PORT,
  type LoadOutcome,
  nginxCommand,
  runLoad,
  startBalancer,
  stopBalancer,
} from "../../peers/udp_peers.ts";
import { GROUND_DIR, onGround } from "../../support/ground.ts";
import { count, figure, printTable, quantile, ratio } from "../../support/table.ts";

const SIZES = {
  small: { flows: [4, 1000], seconds: 0.3, rounds: 1, rate: 2000 },
  full: { flows: [4, 1000, 10_000], seconds: 3, rounds: 5, rate: 20_000 },
};
const WINDOW = 256;
const FLOWS_MAX = 16_000;

interface Balancer {
  readonly name: string;
  readonly command: readonly string[];
  /** Absent: all of them. */
  readonly processor?: number;
}

async function main(args: readonly string[]): Promise<void> {
  const { full, serve } = parseArgs(args, { boolean: ["full"], string: ["serve"] });
  if (serve !== undefined) return await serveWith(Number(serve));
  await onGround(() => bench(full === true ? SIZES.full : SIZES.small));
}

/** What the bench starts as the balancer: celld's plane and nothing else. */
async function serveWith(workers: number): Promise<void> {
  const plane = await UdpPlane.start({ workers, maxFlows: FLOWS_MAX, tellsFlows: false });
  const members = Array.from({ length: BACKENDS }, (_, backend) => ({ backend }));
  for (const { backend } of members) {
    await plane.setBackend({ backend, address: "127.0.0.1", port: BACKEND_PORT + backend });
  }
  await plane.setCluster({ cluster: 0, policy: "round-robin", members });
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

async function bench(sizes: typeof SIZES.small): Promise<void> {
  const load = compilePeer("udp_load", GROUND_DIR);
  if (load === undefined) {
    console.log("  skipped: needs a C compiler");
    return;
  }
  const balancers = findBalancers();
  for (const flows of sizes.flows) {
    const outcomes = new Map<string, { closed: LoadOutcome; open: LoadOutcome }[]>();
    for (let round = 0; round < sizes.rounds; round++) {
      for (const balancer of balancers) {
        const found = await measure(balancer, load, flows, sizes);
        outcomes.set(balancer.name, [...outcomes.get(balancer.name) ?? [], found]);
      }
    }
    print(flows, outcomes);
  }
}

function findBalancers(): Balancer[] {
  const self = (workers: number) => [
    Deno.execPath(),
    "run",
    "-A",
    "--quiet",
    Deno.mainModule,
    `--serve=${workers}`,
  ];
  const balancers: Balancer[] = [];
  const proxy = compilePeer("udp_proxy", GROUND_DIR);
  if (proxy !== undefined) {
    const numbers = [LISTEN_PORT, BACKEND_PORT, BACKENDS, FLOWS_MAX].map(String);
    balancers.push({ name: "C, the limit", command: [proxy, ...numbers], processor: 1 });
  }
  balancers.push({ name: "celld, 1 worker", command: self(1), processor: 1 });
  const nginx = nginxCommand(GROUND_DIR);
  if (nginx === undefined) {
    console.log("  without nginx: not installed (packages nginx, libnginx-mod-stream)");
  } else balancers.push({ name: "nginx stream", command: nginx, processor: 1 });
  balancers.push({ name: "celld, 2 workers", command: self(2) });
  return balancers;
}

async function measure(
  { command, processor }: Balancer,
  load: string,
  flows: number,
  { seconds, rate }: typeof SIZES.small,
): Promise<{ closed: LoadOutcome; open: LoadOutcome }> {
  const child = await startBalancer(command, processor);
  try {
    const of = { flows, window: WINDOW, seconds, pid: child.pid };
    const closed = await runLoad(load, { ...of, rate: 0 });
    const open = await runLoad(load, { ...of, rate });
    return { closed, open };
  } finally {
    await stopBalancer(child);
  }
}

function print(
  flows: number,
  outcomes: ReadonlyMap<string, readonly { closed: LoadOutcome; open: LoadOutcome }[]>,
): void {
  const median = (
    name: string,
    of: (one: { closed: LoadOutcome; open: LoadOutcome }) => number,
  ) => quantile((outcomes.get(name) ?? []).map(of), 0.5);
  const base = median("C, the limit", ({ closed }) => closed.cpuNs);
  const names = Array.from(outcomes.keys());
  printTable(
    [
      `${count(flows)} flows`,
      "round trips/s",
      "CPU ns",
      "ratio",
      "lost",
      "wrong",
      "p50 µs",
      "p99 µs",
    ],
    names.map((name) => {
      const cpuNs = median(name, ({ closed }) => closed.cpuNs);
      return [
        name,
        count(median(name, ({ closed }) => closed.perSecond)),
        figure(cpuNs, 0),
        ratio(cpuNs, base),
        count(median(name, ({ closed, open }) => closed.lost + open.lost)),
        count(median(name, ({ closed, open }) => closed.wrong + open.wrong)),
        figure(median(name, ({ open }) => open.p50Us), 0),
        figure(median(name, ({ open }) => open.p99Us), 0),
      ];
    }),
  );
}

if (import.meta.main) await main(Deno.args);
