import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { AttributeWriter } from "#ffi/netlink/attribute.ts";
import {
  type ConntrackTuple,
  CT_MSG,
  decodeConntrack,
  writeOriginalTuple,
} from "#ffi/netlink/conntrack/entry.ts";
import { decodeMessages } from "#ffi/netlink/message.ts";
import { campaign } from "#tests/support/campaign.ts";
import { bytesOf, type GoldenMessage, messageOf, readGolden } from "../golden.ts";

const golden: { events: string[]; dump: GoldenMessage[] } = JSON.parse(
  readGolden("netlink/conntrack.json"),
);
const events = golden.events.flatMap((hex) => decodeMessages(bytesOf(hex)).messages);

function encodeTuple(tuple: ConntrackTuple): Uint8Array<ArrayBuffer> {
  const writer = new AttributeWriter().header(new Uint8Array(4));
  writeOriginalTuple(writer, tuple);
  return writer.finish("a tuple");
}

const port = fc.integer({ min: 0, max: 0xffff });
const byte = fc.integer({ min: 0, max: 0xff });
const ports = fc.record({ sourcePort: port, destinationPort: port }, { noNullPrototype: true });
const icmp = fc.record({ icmpId: port, icmpType: byte, icmpCode: byte }, { noNullPrototype: true });
const tuple: fc.Arbitrary<ConntrackTuple> = fc.oneof(
  ports.map((rest) => ({ source: "192.0.2.1", destination: "8.8.8.8", protocol: 6, ...rest })),
  ports.map((rest) => ({ source: "fe80::1", destination: "::1", protocol: 17, ...rest })),
  icmp.map((rest) => ({ source: "192.0.2.1", destination: "8.8.8.8", protocol: 1, ...rest })),
  icmp.map((rest) => ({ source: "2001:db8::", destination: "::", protocol: 58, ...rest })),
);

Deno.test("decodeConntrack() reads the captured events of a TCP connection", () => {
  const entries = events.map((message) => decodeConntrack(message));
  assertEquals(entries[0]?.kind, "new");
  assert(entries.slice(1).every((entry) => entry?.kind === "update"));
  assertEquals(entries[0]?.original, {
    source: "127.0.0.1",
    destination: "127.0.0.1",
    protocol: 6,
    sourcePort: 4002,
    destinationPort: 5000,
  });
  assertEquals(entries[0]?.reply?.destinationPort, 4002);
  assertEquals(entries.map((entry) => entry?.tcpState), [
    "synSent",
    "synReceived",
    "established",
    "finWait",
    "close",
  ]);
  assertEquals(new Set(entries.map((entry) => entry?.id)).size, 1);
  assertEquals(entries[0]?.originalCounters, undefined);
});

Deno.test("decodeConntrack() reads counters, status and start from a captured dump", () => {
  const [entry] = golden.dump.map((each) => decodeConntrack(messageOf(each)));
  assertEquals([entry?.kind, entry?.tcpState], ["update", "close"]);
  assertEquals(entry?.originalCounters, { packets: 3n, bytes: 164n });
  assertEquals(entry?.replyCounters, { packets: 2n, bytes: 112n });
  assert(entry?.startedNs !== undefined && entry.startedNs > 0n);
  assertEquals((entry?.status ?? 0) & 0x8, 0x8); // confirmed
});

Deno.test("a tuple reads back as it was written", () => {
  fc.assert(
    fc.property(tuple, (written) => {
      const message = { type: CT_MSG.delete, flags: 0, seq: 0, portId: 0 };
      const entry = decodeConntrack({ ...message, body: encodeTuple(written) });
      assertEquals(entry, { kind: "destroy", original: written });
    }),
    { numRuns: campaign(100, 10_000) },
  );
});

Deno.test("writeOriginalTuple() fails on addresses of two families, or none", () => {
  for (const [source, destination] of [["1.2.3.4", "::1"], ["x", "1.2.3.4"]]) {
    const writer = new AttributeWriter();
    writeOriginalTuple(writer, { source, destination, protocol: 6 });
    assertEquals(writer.error, `no pair of addresses: ${source}, ${destination}`);
  }
});

Deno.test("decodeConntrack() stands truncation at every length and flipped bytes", () => {
  for (const message of events) {
    for (let length = 0; length < message.body.length; length++) {
      decodeConntrack({ ...message, body: message.body.subarray(0, length) });
    }
  }
  assertEquals(decodeConntrack({ ...events[0], body: events[0].body.subarray(0, 30) }), undefined);
  fc.assert(
    fc.property(fc.nat(events.length - 1), fc.nat(), fc.nat(255), (index, at, value) => {
      const body = events[index].body.slice();
      body[at % body.length] = value;
      decodeConntrack({ ...events[index], body });
    }),
    { numRuns: campaign(300, 30_000) },
  );
});

Deno.test("decodeConntrack() leaves other messages alone", () => {
  assertEquals(decodeConntrack({ ...events[0], type: 0x400 }), undefined);
});
