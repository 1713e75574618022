/**
 * Forwards datagrams of established flows through a UDP manager, both ways, and prints how much the
 * heap grew meanwhile, in bytes a datagram.
 *
 *   deno run --v8-flags=--expose-gc,… garbage_child.ts <flows> <datagrams> [wasteful]
 *
 * Run it with a young generation so large that nothing is collected between the two looks at the
 * heap: then all that was allocated is seen. With `wasteful` the sink makes a view of each payload,
 * which shows that the measurement sees what it should.
 *
 * @module
 */
import { ROUTE_DEFAULTS, TUPLE_WORDS, UdpManager, type UdpSink, writePorts } from "#lib/udp/mod.ts";

const [flows, datagrams] = Deno.args.slice(0, 2).map(Number);
const isWasteful = Deno.args[2] === "wasteful";
const PAYLOAD = new Uint8Array(64);
const BATCH = 32;

class CountingSink implements UdpSink {
  forwarded = 0;
  opened: number[] = [];
  view: Uint8Array = PAYLOAD;
  selectBackend(flow: number): number {
    return flow % 3;
  }
  openUpstream(flow: number): void {
    this.opened.push(flow);
  }
  sendToBackend(_flow: number, bytes: Uint8Array, offset: number, length: number): void {
    this.forwarded += 1;
    if (isWasteful) this.view = bytes.subarray(offset, offset + length);
  }
  sendToClient(): void {
    this.forwarded += 1;
  }
  closeFlow(): void {}
  drop(): void {}
}

const sink = new CountingSink();
const manager = new UdpManager({
  sink,
  maxFlows: flows,
  tableSeed: 7,
  hashKey: { low: 1, high: 2 },
});
// Short, so that the timer looks at each flow many times.
const route = { cluster: 0, ...ROUTE_DEFAULTS, frontTimeoutMs: 2000, backTimeoutMs: 2000 };
manager.config({ type: "listener", listener: 0, route, maxDatagramBytes: 1500 }, 0);
const words = new Uint32Array(flows * TUPLE_WORDS);
for (let flow = 0; flow < flows; flow++) {
  words.set([0, 0, 0xffff, 0x0a000000 + flow, 0, 0, 0xffff, 0xc0000201], flow * TUPLE_WORDS);
  writePorts(words, flow * TUPLE_WORDS, 4242, 53);
  manager.onClientDatagram(0, words, flow * TUPLE_WORDS, PAYLOAD, 0, 64, 0.25);
}

/** Time has fractions, as a clock's has: numbers that V8 would have to box if they were kept. */
let now = 0.25;

function forward(count: number): void {
  for (let index = 0, flow = 0; index < count; index += 2) {
    if (index % BATCH === 0) {
      now += 1.125;
      const wakeAt = manager.pollTimeout();
      if (wakeAt !== undefined && wakeAt <= now) manager.handleTimeout(now);
    }
    manager.onClientDatagram(0, words, flow * TUPLE_WORDS, PAYLOAD, 0, 64, now);
    manager.onUpstreamDatagram(sink.opened[flow], PAYLOAD, 0, 64, now);
    flow = flow + 1 === flows ? 0 : flow + 1;
  }
}

// Until the code is compiled to the end; what that leaves is collected.
forward(Math.max(200_000, datagrams / 4));
(globalThis as unknown as { gc(): void }).gc();
const before = Deno.memoryUsage().heapUsed;
const forwardedBefore = sink.forwarded;
forward(datagrams);
const grown = Deno.memoryUsage().heapUsed - before;
console.log(JSON.stringify({
  forwarded: sink.forwarded - forwardedBefore,
  flows: manager.flowCount,
  bytesPerDatagram: grown / datagrams,
}));
