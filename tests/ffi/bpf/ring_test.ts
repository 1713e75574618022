import fc from "fast-check";
import { type RingMemory, RingReader } from "#ffi/mod.ts";
import { assertEquals } from "@std/assert";

const BUSY = 0x8000_0000;
const DISCARDED = 0x4000_0000;

/** A ring as the kernel writes it; both mappings of the data are kept the same. */
class FakeRing {
  readonly memory: RingMemory;
  readonly #view: DataView;
  #produced = 0;

  constructor(readonly sizeBytes: number, position = 0) {
    const data = new ArrayBuffer(2 * sizeBytes);
    this.#view = new DataView(data);
    this.#produced = position;
    this.memory = {
      sizeBytes,
      consumer: new BigUint64Array([BigInt(position)]),
      producer: new BigUint64Array([BigInt(position)]),
      words: new Int32Array(data),
      bytes: new Uint8Array(data),
    };
  }

  /** Reserves and writes a record; false when there is no room. */
  write(payload: Uint8Array, flags = 0): boolean {
    const rounded = (payload.length + 15) & ~7;
    const used = this.#produced - Number(this.memory.consumer[0]);
    if (used + rounded > this.sizeBytes - 1) return false;
    const at = this.#produced % this.sizeBytes;
    this.setHeader(at, (payload.length | flags) >>> 0);
    payload.forEach((byte, index) => this.#setByte(at + 8 + index, byte));
    this.#produced += rounded;
    this.memory.producer[0] = BigInt(this.#produced);
    return true;
  }

  setHeader(at: number, value: number): void {
    this.#view.setUint32(at, value, true);
    this.#view.setUint32((at + this.sizeBytes) % (2 * this.sizeBytes), value, true);
  }

  #setByte(at: number, byte: number): void {
    this.#view.setUint8(at, byte);
    this.#view.setUint8((at + this.sizeBytes) % (2 * this.sizeBytes), byte);
  }
}

function drain(reader: RingReader, max = Infinity): number[][] {
  const taken: number[][] = [];
  reader.drain((bytes, start, length) => {
    taken.push([...bytes.subarray(start, start + length)]);
  }, max);
  return taken;
}

Deno.test("ring: records come in order, and their room is given back", () => {
  const ring = new FakeRing(4096);
  const reader = new RingReader(ring.memory);
  ring.write(new Uint8Array([1, 2, 3]));
  ring.write(new Uint8Array([4]));
  assertEquals(drain(reader), [[1, 2, 3], [4]]);
  assertEquals(ring.memory.consumer[0], ring.memory.producer[0]);
  assertEquals(drain(reader), []);
});

Deno.test("ring: one that is still being written stops the reading until it is done", () => {
  const ring = new FakeRing(4096);
  const reader = new RingReader(ring.memory);
  ring.write(new Uint8Array([1]));
  ring.write(new Uint8Array([2]), BUSY);
  ring.write(new Uint8Array([3]));
  assertEquals(drain(reader), [[1]]);
  assertEquals(ring.memory.consumer[0], 16n);
  ring.setHeader(16, 1);
  assertEquals(drain(reader), [[2], [3]]);
});

Deno.test("ring: a discarded record is passed over", () => {
  const ring = new FakeRing(4096);
  ring.write(new Uint8Array([1]), DISCARDED);
  ring.write(new Uint8Array([2]));
  assertEquals(drain(new RingReader(ring.memory)), [[2]]);
});

Deno.test("ring: no more than asked for are taken, and a new reader goes on behind them", () => {
  const ring = new FakeRing(4096);
  for (let index = 0; index < 5; index++) ring.write(new Uint8Array([index]));
  assertEquals(drain(new RingReader(ring.memory), 2), [[0], [1]]);
  assertEquals(drain(new RingReader(ring.memory)), [[2], [3], [4]]);
});

Deno.test("ring: positions beyond 32 bits are read as well", () => {
  const ring = new FakeRing(4096, 2 ** 40 + 4088);
  const reader = new RingReader(ring.memory);
  ring.write(new Uint8Array([7, 8]));
  assertEquals(drain(reader), [[7, 8]]);
});

Deno.test("ring: over any number of wraps nothing is lost, doubled or torn", () => {
  const step = fc.record({
    sizes: fc.array(fc.integer({ min: 0, max: 200 }), { maxLength: 40 }),
    takeMax: fc.integer({ min: 1, max: 50 }),
  });
  fc.assert(fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
    const ring = new FakeRing(4096);
    const reader = new RingReader(ring.memory);
    const wrote: number[][] = [];
    const read: number[][] = [];
    let next = 0;
    for (const { sizes, takeMax } of steps) {
      for (const size of sizes) {
        const payload = Uint8Array.from({ length: size }, () => next++ & 255);
        if (ring.write(payload)) wrote.push([...payload]);
      }
      read.push(...drain(reader, takeMax));
    }
    read.push(...drain(reader));
    assertEquals(read, wrote);
  }));
});
