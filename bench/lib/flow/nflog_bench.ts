/**
 * Packet log messages a second without loss, and processor time for each, beside `ulogd2` on the
 * same flood in an equal namespace.
 *
 *   deno run -A bench/lib/flow/nflog_bench.ts [--full]
 *
 * A rule counts, logs and drops each packet of a flooder that is as fast as it can be. When some
 * were lost, the highest rate without loss is looked for by halving. celld's listener is the one
 * that cells have; its records are made into events. ulogd writes a line a packet to a tmpfs; it
 * runs once as its package comes, once with celld's socket buffer and batching.
 *
 * Processor time is the listening process's, all threads. Loss is the kernel's count of matched
 * packets less what was seen; for celld it must equal what the listener says that it lost. A
 * ratio is processor time a packet / the tuned ulogd's.
 *
 * @module
 */
import { parseArgs } from "@std/cli";
import { FlowAudit, FlowSession } from "#lib/flow/mod.ts";
import {
  addAddress,
  addNeighbour,
  createNetns,
  createVeth,
  encodeTable,
  type Fd,
  linkIndex,
  NetlinkConn,
  NftConn,
  setLinkUp,
  withNetns,
} from "#ffi/mod.ts";
import { findCommand } from "#tests/support/kernel.ts";
import { Flooder } from "../../peers/flooder.ts";
import { processCpuMs, Ulogd, ULOGD_INPUTS } from "../../peers/ulogd.ts";
import { GROUND_DIR, onGround } from "../../support/ground.ts";
import { count, figure, printTable, ratio } from "../../support/table.ts";

const SIZES = {
  small: { packets: 60_000, halvings: 2, halvingSeconds: 0.3 },
  full: { packets: 1_000_000, halvings: 6, halvingSeconds: 1.5 },
};
const GROUP = 100;
const TABLE = "bench";
const ADDRESS = "192.0.2.1";
const TARGET = "192.0.2.2";
const MANY_FLOWS = 50_000;
const PREFIX = "cellos-flow egress-default drop";

interface Outcome {
  readonly perSecond: number;
  readonly matched: number;
  readonly seen: number;
  readonly cpuMs: number;
  /** What the listener says that it lost; absent where it does not say. */
  readonly toldLost?: number;
}

/** Hears one flood in a new namespace. */
type Listen = (netns: Fd, flood: () => Promise<number>) => Promise<Omit<Outcome, "matched">>;

async function main(args: readonly string[]): Promise<void> {
  const { full } = parseArgs(args, { boolean: ["full"] });
  await onGround(() => bench(full === true ? SIZES.full : SIZES.small));
}

async function bench(sizes: typeof SIZES.small): Promise<void> {
  const flooder = new Flooder(GROUND_DIR);
  const cases: [name: string, ports: number, listen: Listen][] = [
    ["celld, one flow", 1, listenAsCelld],
    [`celld, ${count(MANY_FLOWS)} flows`, MANY_FLOWS, listenAsCelld],
  ];
  if (findCommand("ulogd") === undefined) {
    console.log("  without ulogd: not installed (package ulogd2)");
  } else {
    cases.push(
      ["ulogd2, as packaged", 1, listenAsUlogd(ULOGD_INPUTS.default)],
      ["ulogd2, tuned", 1, listenAsUlogd(ULOGD_INPUTS.tuned)],
    );
  }
  const rows = [];
  for (const [name, ports, listen] of cases) {
    rows.push({ name, ...await measure(flooder, sizes, ports, listen) });
  }
  const base = rows.find(({ name }) => name === "ulogd2, tuned")?.cpuUs ?? NaN;
  printTable(
    [
      "at the flooder's maximum",
      "packets/s",
      "seen",
      "lost",
      "told of",
      "CPU µs/packet",
      "ratio",
      "without loss/s",
    ],
    rows.map(({ name, atMax, cpuUs, lossless }) => [
      name,
      count(atMax.perSecond),
      count(atMax.seen),
      `${figure(100 * (1 - atMax.seen / atMax.matched), 2)} %`,
      toldOf(atMax),
      figure(cpuUs),
      ratio(cpuUs, base),
      lossless,
    ]),
  );
  console.log(`  flooder: ${flooder.name}, ${count(sizes.packets)} packets of 64 bytes each time`);
}

/** Whether the listener knew of all that it lost. */
function toldOf({ matched, seen, toldLost }: Outcome): string {
  if (toldLost === undefined) return "no";
  return toldLost === matched - seen ? "all" : `${count(toldLost)} of ${count(matched - seen)}`;
}

async function measure(
  flooder: Flooder,
  sizes: typeof SIZES.small,
  ports: number,
  listen: Listen,
): Promise<{ atMax: Outcome; cpuUs: number; lossless: string }> {
  const run = (rate: number) => {
    const packets = rate === 0 ? sizes.packets : Math.ceil(rate * sizes.halvingSeconds);
    const flood = (netns: Fd) => flooder.run({ netns, address: TARGET, packets, rate, ports });
    return floodOnce(listen, flood);
  };
  const atMax = await run(0);
  const cpuUs = atMax.cpuMs * 1000 / atMax.seen;
  if (atMax.seen === atMax.matched) {
    return { atMax, cpuUs, lossless: `≥ ${count(atMax.perSecond)}` };
  }
  let [good, bad] = [0, atMax.perSecond];
  for (let round = 0; round < sizes.halvings; round++) {
    const rate = (good + bad) / 2;
    const { seen, matched, perSecond } = await run(rate);
    if (seen === matched) good = Math.max(good, perSecond);
    else bad = rate;
  }
  return { atMax, cpuUs, lossless: good === 0 ? `< ${count(bad)}` : count(good) };
}

async function floodOnce(
  listen: Listen,
  flood: (netns: Fd) => Promise<number>,
): Promise<Outcome> {
  using netns = makeNamespace();
  const outcome = await listen(netns, () => flood(netns));
  const matched = withNetns(netns, () => {
    using conn = NetlinkConn.open("netfilter");
    return Number(new NftConn(conn).ruleCounters(TABLE)[0]?.packets ?? 0n);
  });
  return { ...outcome, matched };
}

async function listenAsCelld(
  netns: Fd,
  flood: () => Promise<number>,
): Promise<Omit<Outcome, "matched">> {
  const audit = await FlowAudit.start();
  const session = new FlowSession({ cell: 1, cellId: "bench", runId: "1", source: "/celld/bench" });
  let ids = 0;
  audit.onBatch = (batch) => void session.handleBatch(batch, () => `id-${++ids}`);
  await audit.watch({ cell: 1, netnsFd: netns.number, group: GROUP, conntrack: false });
  const before = processCpuMs(Deno.pid);
  const perSecond = await flood();
  const { seen, lost } = await audit.unwatch(1);
  const cpuMs = processCpuMs(Deno.pid) - before;
  await audit.stop();
  return { perSecond, seen, cpuMs, toldLost: lost };
}

function listenAsUlogd(input: string): Listen {
  return async (netns, flood) => {
    const ulogd = await Ulogd.start({ netns, group: GROUP, input, directory: GROUND_DIR });
    const perSecond = await flood();
    return { perSecond, ...await ulogd.finish() };
  };
}

/** A namespace with an interface to send by, and the rule. */
function makeNamespace(): Fd {
  const netns = createNetns();
  withNetns(netns, () => {
    using route = NetlinkConn.open("route");
    setLinkUp(route, 1);
    createVeth(route, { name: "eth0", peerName: "nowhere0", peerNetns: netns });
    setLinkUp(route, linkIndex(route, "nowhere0"));
    const index = linkIndex(route, "eth0");
    setLinkUp(route, index);
    addAddress(route, { index, address: ADDRESS, prefixLength: 24 });
    addNeighbour(route, { index, address: TARGET, mac: "02:ce:11:d0:00:03" });
    using conn = NetlinkConn.open("netfilter");
    new NftConn(conn).commit(encodeTable({
      name: TABLE,
      sets: [],
      maps: [],
      chains: [{
        name: "output",
        hook: { type: "filter", hook: "output", priority: 0, policy: "accept" },
        rules: [{
          statements: [
            { kind: "match", field: "ip daddr", value: TARGET },
            { kind: "counter" },
            { kind: "log", group: GROUP, prefix: PREFIX },
            { kind: "verdict", verdict: "drop" },
          ],
        }],
      }],
    }));
  });
  return netns;
}

if (import.meta.main) await main(Deno.args);
