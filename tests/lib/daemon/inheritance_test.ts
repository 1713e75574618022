/**
 * What a server leaves to its successor: written and read.
 *
 * @module
 */
import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  descriptorsOf,
  InheritanceError,
  inheritanceLines,
  InheritanceReader,
  type ReleasedUdp,
} from "#lib/daemon/inheritance.ts";
import type { ReleasedWorker } from "#lib/udp/mod.ts";
import { campaign } from "#tests/support/campaign.ts";
import { inheritedFlow } from "#tests/support/inherited_flow.ts";

const ONE: ReleasedUdp = {
  hashKey: { low: 7, high: 0xffff_ffff },
  listeners: [{ name: "dns", number: 0, address: "127.0.0.1", port: 53, drainMs: 12.5 }],
  backends: [
    { key: "dns/a", number: 0, endpoint: "127.0.0.1:5300", isUp: true, isDraining: false },
    { key: "dns/b", number: 4, endpoint: "[::1]:5300", isDraining: true },
  ],
  workers: [{
    listeners: [{ listener: 0, fd: 31, dropped: 2 }],
    sources: [{ prefix: "127.77.0.0/16", isTransparent: false, fd: 32, dropped: 0 }],
    flows: [
      inheritedFlow({ fd: 33, proxyTuple: [0, 0, 0xffff, 1, 0, 0, 0xffff, 2, 3] }),
      inheritedFlow({ source: { prefix: "127.77.0.0/16", host: 9 } }),
      inheritedFlow({
        caps: { requests: 1, responses: 1, amplification: { factor: 3, roundTrips: 2 } },
      }),
    ],
    discarded: 5,
  }],
};

function read(
  lines: Iterable<string>,
  numberOf?: (fd: number) => number | undefined,
): { released: ReleasedUdp; pid: number; refused: number } {
  const reader = new InheritanceReader(numberOf);
  for (const line of lines) reader.push(line);
  const { pid, ...released } = reader.finish();
  return { released, pid, refused: reader.refused };
}

Deno.test("inheritance: what is written is what is read", () => {
  const lines = [...inheritanceLines(ONE, 4711)];
  assertEquals(read(lines), { released: ONE, pid: 4711, refused: 0 });
  assertEquals(descriptorsOf(ONE), [31, 32, 33]);
  assertEquals(JSON.parse(lines[0]).descriptors, [31, 32, 33]);
});

Deno.test("inheritance: descriptors get the numbers that they have with the reader", () => {
  const { released } = read(inheritanceLines(ONE, 1), (fd) => fd + 100);
  assertEquals(descriptorsOf(released), [131, 132, 133]);
});

Deno.test("inheritance: a descriptor that did not come leaves its line out, and only that", () => {
  const { released, refused } = read(
    inheritanceLines(ONE, 1),
    (fd) => fd === 33 ? undefined : fd,
  );
  assertEquals([descriptorsOf(released), released.workers[0].flows.length, refused], [
    [31, 32],
    2,
    1,
  ]);
});

Deno.test("inheritance: a descriptor that two lines name is one's", () => {
  const flows = [inheritedFlow({ fd: 40 }), inheritedFlow({ fd: 40 })];
  const [worker] = ONE.workers;
  const { released, refused } = read(
    inheritanceLines({ ...ONE, workers: [{ ...worker, flows }] }, 1),
  );
  assertEquals([descriptorsOf(released), refused], [[31, 32, 40], 1]);
});

Deno.test("inheritance: lines that are not understood are left and counted", () => {
  const [head, ...rest] = [...inheritanceLines(ONE, 1)];
  const flow = inheritedFlow();
  const odd = [
    {},
    [],
    { worker: 7, discarded: 1 },
    { worker: -1, discarded: 1 },
    { worker: 0, tunnel: { fd: 50 } },
    { worker: 0, listener: { listener: 0, fd: "31", dropped: 0 } },
    { worker: 0, source: { prefix: 5, isTransparent: false, fd: 60, dropped: 0 } },
    { worker: 0, flow: null },
    { worker: 0, flow: { ...flow, tuple: flow.tuple.slice(1) } },
    { worker: 0, flow: { ...flow, tuple: flow.tuple.with(3, 2 ** 32) } },
    { worker: 0, flow: { ...flow, tuple: flow.tuple.with(3, -1) } },
    { worker: 0, flow: { ...flow, bytesIn: "80" } },
    { worker: 0, flow: { ...flow, ageMs: null } },
    { worker: 0, flow: { ...flow, remainingMs: -1 } },
    { worker: 0, flow: { ...flow, caps: {} } },
    { worker: 0, flow: { ...flow, caps: { ...flow.caps, amplification: { factor: 3 } } } },
    { worker: 0, flow: { ...flow, fd: -1 } },
    { worker: 0, flow: { ...flow, source: { prefix: "127.0.0.0/8", host: 1.5 } } },
    { worker: 0, flow: { ...flow, proxyTuple: [1] } },
  ].map((line) => JSON.stringify(line));
  const lines = [
    head,
    ...odd,
    ...rest.slice(0, -1),
    JSON.stringify({ end: odd.length + rest.length }),
  ];
  const { released, refused } = read(lines);
  assertEquals([released, refused], [ONE, odd.length]);
});

Deno.test("inheritance: one that is cut short, or of another version, is refused whole", () => {
  const lines = [...inheritanceLines(ONE, 1)];
  for (let count = 0; count < lines.length; count++) {
    assertThrows(() => read(lines.slice(0, count)), InheritanceError);
  }
  // A line is missing in the middle.
  assertThrows(() => read(lines.toSpliced(2, 1)), InheritanceError, "ends after");
  const head = JSON.parse(lines[0]);
  for (
    const other of [
      { ...head, version: 2 },
      { ...head, celld: "state" },
      { ...head, workers: 1e9 },
      { ...head, workers: -1 },
      { ...head, descriptors: ["3"] },
      { ...head, hashKey: { low: 1 } },
      { ...head, listeners: [{ name: "dns" }] },
      { ...head, listeners: [null] },
      { ...head, backends: [{ key: "a/b", number: 1, endpoint: "x", isDraining: "no" }] },
    ]
  ) assertThrows(() => read([JSON.stringify(other), ...lines.slice(1)]), InheritanceError);
  for (const text of ["", "{", "null", "7"]) assertThrows(() => read([text]), InheritanceError);
});

Deno.test("inheritance: whatever flows there are, all come back, each as it was", () => {
  const count = fc.nat(2 ** 40);
  const word = fc.integer({ min: 0, max: 0xffff_ffff });
  const tuple = fc.array(word, { minLength: 9, maxLength: 9 });
  const time = fc.double({ min: 0, max: 1e12, noNaN: true });
  const flow = fc.record({
    tuple,
    affinity: word,
    flags: fc.nat(255),
    bytesIn: count,
    bytesOut: count,
    requests: count,
    ageMs: time.map((ms) => ms + 0),
    remainingMs: time.map((ms) => ms + 0),
    backend: fc.nat(65_535),
  }).map((more) => inheritedFlow(more));
  const workers = fc.array(fc.array(flow, { maxLength: 20 }), { maxLength: 4 });
  let fd = 10;
  fc.assert(
    fc.property(workers, (lists) => {
      const released: ReleasedUdp = {
        ...ONE,
        workers: lists.map((flows): ReleasedWorker => ({
          listeners: [{ listener: 0, fd: fd++, dropped: 0 }],
          sources: [],
          flows: flows.map((one, at) => at % 2 === 0 ? { ...one, fd: fd++ } : one),
          discarded: 0,
        })),
      };
      assertEquals(read(inheritanceLines(released, 1)).released, released);
    }),
    { numRuns: campaign(100, 5000) },
  );
});
