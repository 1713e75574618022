/**
 * What the UDP manager costs for a datagram, an admission and a timeout, at 1 to 100 000 flows.
 *
 *   deno run -A bench/lib/udp/manager_bench.ts [--full]
 *
 * No sockets: tuples and payload are in memory, the sink does nothing. Beside the manager runs the
 * same loop with the table's look-up only, which is the least that a load balancer with flows must
 * do. All flows are hit in turn, in an order unlike that in which they were admitted; the tuples are
 * read one after another, as a shell has them in its receive buffer. Time moves on after each batch of 32, when the
 * timer is asked and served as the shell does it. Best of several rounds.
 *
 * @module
 */
import { parseArgs } from "@std/cli";
import { Prng } from "#lib/base/mod.ts";
import {
  ROUTE_DEFAULTS,
  type RouteConfig,
  TUPLE_WORDS,
  UdpManager,
  type UdpSink,
  writePorts,
} from "#lib/udp/mod.ts";
import { FlowTable } from "#lib/udp/flow_table.ts";
import { figure, printTable, ratio } from "../../support/table.ts";

/** Short, so that the wheel files each flow anew again and again; each is hit well within it. */
const IDLE_MS = 10_000;
const ROUTE: RouteConfig = {
  cluster: 0,
  ...ROUTE_DEFAULTS,
  frontTimeoutMs: IDLE_MS,
  backTimeoutMs: IDLE_MS,
};
const BATCH = 32;
const PAYLOAD = new Uint8Array(64);
/** Slots that share a place in the timer's wheel, where it costs 20 bytes. */
const BLOCK_SLOTS = 16;
/** A batch takes so long on the bench's clock: 32 000 datagrams a second. */
const BATCH_MS = 1;

class NullSink implements UdpSink {
  forwarded = 0;
  closed = 0;
  selectBackend(): number {
    return 0;
  }
  openUpstream(): void {}
  sendToBackend(_flow: number, _bytes: Uint8Array, _offset: number, length: number): void {
    this.forwarded += length;
  }
  sendToClient(_flow: number, _bytes: Uint8Array, _offset: number, length: number): void {
    this.forwarded += length;
  }
  closeFlow(): void {
    this.closed += 1;
  }
  drop(): void {
    throw new Error("the bench drops nothing");
  }
}

function main(): void {
  const { full } = parseArgs(Deno.args, { boolean: ["full"] });
  const datagrams = full === true ? 2_000_000 : 200_000;
  const rounds = full === true ? 7 : 2;
  for (const isV6 of [false, true]) {
    console.log(`\n${isV6 ? "IPv6" : "IPv4"}, ${datagrams} datagrams a round, best of ${rounds}`);
    const rows: string[][] = [];
    for (const flows of [1, 1000, 10_000, 100_000]) {
      rows.push(benchFlows(flows, isV6, datagrams, rounds));
    }
    printTable([
      "flows",
      "look-up ns",
      "forward ns",
      "ratio",
      "reply ns",
      "admission ns",
      "timeout ns",
      "bytes a flow",
    ], rows);
  }
  console.log("ratio: forward over look-up. bytes a flow: all arrays and the wheel, as allocated.");
}

function benchFlows(flows: number, isV6: boolean, datagrams: number, rounds: number): string[] {
  const words = tuplesOf(flows, isV6);
  const order = orderOf(flows);
  const best = {
    lookUp: Infinity,
    forward: Infinity,
    reply: Infinity,
    admit: Infinity,
    end: Infinity,
  };
  let bytes = 0;
  for (let round = 0; round < rounds; round++) {
    best.lookUp = Math.min(best.lookUp, benchLookUp(words, order, datagrams));
    const sink = new NullSink();
    const manager = managerOf(sink, flows);
    best.admit = Math.min(
      best.admit,
      timeNs(flows, () => {
        for (const flow of order) {
          manager.onClientDatagram(0, words, flow * TUPLE_WORDS, PAYLOAD, 0, 64, 0);
        }
      }),
    );
    best.forward = Math.min(best.forward, benchForward(manager, words, flows, datagrams));
    best.reply = Math.min(best.reply, benchReply(manager, order, datagrams));
    if (manager.flowCount !== flows) throw new Error(`${manager.flowCount} flows of ${flows} live`);
    bytes = (manager.sizeBytes + 20 * Math.max(2048, flows) / BLOCK_SLOTS) / flows;
    best.end = Math.min(best.end, timeNs(flows, () => manager.handleTimeout(10_000_000)));
    if (sink.closed !== flows) throw new Error(`${sink.closed} flows of ${flows} ended`);
  }
  return [
    String(flows),
    figure(best.lookUp, 1),
    figure(best.forward, 1),
    ratio(best.forward, best.lookUp),
    figure(best.reply, 1),
    flows === 1 ? "-" : figure(best.admit, 0),
    flows === 1 ? "-" : figure(best.end, 0),
    figure(bytes, 0),
  ];
}

function managerOf(sink: UdpSink, flows: number): UdpManager {
  const manager = new UdpManager({
    sink,
    maxFlows: flows,
    tableSeed: 12345,
    hashKey: { low: 1, high: 2 },
  });
  const settings = { route: ROUTE, maxDatagramBytes: 1500 };
  manager.config({ type: "listener", listener: 0, ...settings }, 0);
  return manager;
}

/** The floor: the look-up. */
function benchLookUp(
  words: Uint32Array,
  order: Uint32Array,
  datagrams: number,
): number {
  const table = new FlowTable(order.length, 12345);
  for (const flow of order) table.insert(words, flow * TUPLE_WORDS, 0, ROUTE);
  let sum = 0;
  const ns = timeNs(datagrams, () => {
    for (let index = 0, turn = 0; index < datagrams; index++) {
      sum += table.find(words, turn * TUPLE_WORDS, 0);
      turn = turn + 1 === order.length ? 0 : turn + 1;
    }
  });
  if (sum < 0) throw new Error("the floor missed a flow");
  return ns;
}

function benchForward(
  manager: UdpManager,
  words: Uint32Array,
  flows: number,
  datagrams: number,
): number {
  let now = 0;
  return timeNs(datagrams, () => {
    for (let index = 0, turn = 0; index < datagrams; index++) {
      if (index % BATCH === 0) now = tick(manager, now);
      manager.onClientDatagram(0, words, turn * TUPLE_WORDS, PAYLOAD, 0, 64, now);
      turn = turn + 1 === flows ? 0 : turn + 1;
    }
  });
}

function benchReply(manager: UdpManager, order: Uint32Array, datagrams: number): number {
  const flows = manager.live.list();
  let now = Math.floor(datagrams / BATCH) * BATCH_MS;
  return timeNs(datagrams, () => {
    for (let index = 0, turn = 0; index < datagrams; index++) {
      if (index % BATCH === 0) now = tick(manager, now);
      manager.onUpstreamDatagram(flows[order[turn]], PAYLOAD, 0, 64, now);
      turn = turn + 1 === order.length ? 0 : turn + 1;
    }
  });
}

/** Time goes on, but not so far that a flow would end. */
function tick(manager: UdpManager, now: number): number {
  const wakeAt = manager.pollTimeout();
  if (wakeAt !== undefined && wakeAt <= now) manager.handleTimeout(now);
  return now + BATCH_MS;
}

function tuplesOf(flows: number, isV6: boolean): Uint32Array {
  const prng = new Prng(5);
  const words = new Uint32Array(flows * TUPLE_WORDS);
  for (let flow = 0; flow < flows; flow++) {
    const at = flow * TUPLE_WORDS;
    if (isV6) { for (let word = 0; word < 3; word++) words[at + word] = prng.u32(); }
    else words[at + 2] = 0xffff;
    words[at + 3] = prng.u32();
    words.set(isV6 ? [0x20010db8, 0, 0, 1] : [0, 0, 0xffff, 0xc0000201], at + 4);
    writePorts(words, at, 1024 + flow % 60_000, 53);
  }
  return words;
}

function orderOf(flows: number): Uint32Array {
  const all = Array.from({ length: flows }, (_, flow) => flow);
  return Uint32Array.from(new Prng(6).shuffle(all));
}

function timeNs(count: number, run: () => void): number {
  const start = performance.now();
  run();
  return (performance.now() - start) * 1e6 / count;
}

if (import.meta.main) main();
