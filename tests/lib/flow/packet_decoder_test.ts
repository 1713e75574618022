import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { BatchSink } from "#lib/flow/batch_sink.ts";
import { attributionOfKey } from "#lib/flow/packet.ts";
import { PacketDecoder } from "#lib/flow/packet_decoder_worker.ts";
import { RecordReader } from "#lib/flow/record.ts";
import { ipv4, nflogMessage, ports } from "./packets.ts";

const PREFIX = "cellos-flow egress[0] accept";
const DONE = [20, 0, 0, 0, 3, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const packet = (port: number) => ipv4({ protocol: 17, rest: ports(5000, port) });

function decoder() {
  const batches: Uint8Array<ArrayBuffer>[] = [];
  const sink = new BatchSink((records) => batches.push(records));
  return { sink, batches, decoder: new PacketDecoder(7, sink) };
}

Deno.test("PacketDecoder: each packet of a datagram is a record, in order", () => {
  const { sink, batches, decoder: target } = decoder();
  const datagram = new Uint8Array([
    ...nflogMessage({ prefix: PREFIX, payload: packet(1), sequence: 0 }),
    ...nflogMessage({ prefix: "cellos-flow egress-default drop", payload: packet(2), sequence: 1 }),
    ...DONE,
  ]);
  assertEquals(target.handleDatagram(datagram, datagram.length, 1234), false);
  sink.flush();
  const reader = new RecordReader(batches[0]);
  const read = [0, 1].map((index) => {
    reader.seek(index);
    const { dstPort } = attributionOfKey(reader.bytes, reader.keyAt);
    return [reader.cell, reader.sequence, sink.prefixes.texts[reader.prefix], dstPort];
  });
  assertEquals(read, [[7, 0, PREFIX, 1], [7, 1, "cellos-flow egress-default drop", 2]]);
  assertEquals([target.stats().seen, target.stats().packets], [2, 2]);
});

Deno.test("PacketDecoder: packets of others are counted, and their numbers too", () => {
  const { sink, batches, decoder: target } = decoder();
  const datagram = new Uint8Array([
    ...nflogMessage({ prefix: "firewalld", payload: packet(1), sequence: 0 }),
    ...nflogMessage({ prefix: PREFIX, payload: packet(2), sequence: 1 }),
  ]);
  assertEquals(target.handleDatagram(datagram, datagram.length, 0), false);
  sink.flush();
  assertEquals(new RecordReader(batches[0]).count, 1);
  const { seen, foreign, packets, lost } = target.stats();
  assertEquals([seen, foreign, packets, lost], [1, 1, 2, 0]);
});

Deno.test("PacketDecoder: a hole is told", () => {
  const { decoder: target } = decoder();
  const datagram = new Uint8Array(
    nflogMessage({ prefix: PREFIX, payload: packet(1), sequence: 3 }),
  );
  assertEquals(target.handleDatagram(datagram, datagram.length, 0), true);
  assertEquals(target.stats().sequenceLost, 3);
});

Deno.test("PacketDecoder: any bytes, also cut or changed ones, are counted and never thrown", () => {
  const good = new Uint8Array([
    ...nflogMessage({ prefix: PREFIX, payload: packet(1), sequence: 0 }),
    ...nflogMessage({ prefix: PREFIX, payload: packet(2), sequence: 1 }),
  ]);
  const changes = fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { maxLength: 6 });
  fc.assert(
    fc.property(changes, fc.nat(good.length), (flips, length) => {
      const { decoder: target } = decoder();
      const bytes = good.slice();
      for (const [at, value] of flips) bytes[at] = value;
      target.handleDatagram(bytes, length, 0);
      const { seen, foreign, packets } = target.stats();
      assertEquals(seen + foreign, packets);
    }),
    { numRuns: 500 },
  );
});
