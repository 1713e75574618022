import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { AttributeReader } from "#ffi/netlink/attribute.ts";
import { decodeMessages } from "#ffi/netlink/message.ts";
import { NFLOG_ABSENT, NflogCursor } from "#ffi/netlink/nflog/mod.ts";
import { campaign } from "#tests/support/campaign.ts";
import { bytesOf, readGolden } from "../golden.ts";

const BATCH = bytesOf(readGolden("netlink/nflog_batch.hex"));

interface Packet {
  readonly prefix: string;
  readonly payload: readonly number[];
  readonly sequence: number;
  readonly uid: number;
}

function walk(cursor: NflogCursor, bytes: Uint8Array): Packet[] {
  const packets: Packet[] = [];
  cursor.reset(bytes);
  while (cursor.next()) {
    const { prefixStart, prefixLength, payloadStart, payloadLength } = cursor;
    packets.push({
      prefix: String.fromCharCode(...bytes.subarray(prefixStart, prefixStart + prefixLength)),
      payload: [...bytes.subarray(payloadStart, payloadStart + payloadLength)],
      sequence: cursor.sequence,
      uid: cursor.uid,
    });
  }
  return packets;
}

/** The slow obvious decoder that the cursor must agree with. */
function walkSlowly(bytes: Uint8Array): Packet[] {
  const packets: Packet[] = [];
  for (const { type, body } of decodeMessages(bytes).messages) {
    if (type !== 0x400 || body.length < 4) continue;
    let packet: Packet = { prefix: "", payload: [], sequence: NFLOG_ABSENT, uid: NFLOG_ABSENT };
    const reader = new AttributeReader(body, 4);
    while (reader.next()) {
      const text = () => String.fromCharCode(...reader.bytes());
      if (reader.type === 9) packet = { ...packet, payload: [...reader.bytes()] };
      else if (reader.type === 10) packet = { ...packet, prefix: text().replace(/\0$/, "") };
      else if (reader.type === 11) packet = { ...packet, uid: reader.be32() };
      else if (reader.type === 12) packet = { ...packet, sequence: reader.be32() };
      else if ([1, 2, 4, 5, 14].includes(reader.type)) reader.u32(); // too short is malformed
    }
    if (reader.error === undefined) packets.push(packet);
  }
  return packets;
}

Deno.test("NflogCursor reads a captured batch of an IPv4 and an IPv6 packet", () => {
  const cursor = new NflogCursor();
  const packets = walk(cursor, BATCH);
  assertEquals(packets.map(({ prefix, sequence, uid }) => ({ prefix, sequence, uid })), [
    { prefix: "cellos-flow egress[0] accept", sequence: 0, uid: 0 },
    { prefix: "cellos-flow egress[0] accept", sequence: 1, uid: 0 },
  ]);
  assertEquals(packets.map(({ payload }) => payload.length), [128, 56]);
  assertEquals(packets.map(({ payload }) => payload[0] >> 4), [4, 6]);
  assertEquals([cursor.group, cursor.hwProtocol, cursor.hook], [100, 0x86dd, 3]);
  assertEquals([cursor.inDevice, cursor.outDevice, cursor.mark], [NFLOG_ABSENT, 1, NFLOG_ABSENT]);
  assertEquals([cursor.packets, cursor.foreign, cursor.malformed], [2, 0, 0]);
});

Deno.test("NflogCursor skips foreign messages and counts them", () => {
  const other = BATCH.slice();
  other[4] = 2; // NLMSG_ERROR
  other[5] = 0;
  const cursor = new NflogCursor();
  assertEquals(walk(cursor, other).map(({ sequence }) => sequence), [1]);
  assertEquals([cursor.packets, cursor.foreign, cursor.malformed], [1, 1, 0]);
});

Deno.test("NflogCursor counts a malformed packet and goes on with the next", () => {
  const bad = BATCH.slice();
  bad[20] = 3; // the first attribute is shorter than its header
  const cursor = new NflogCursor();
  assertEquals(walk(cursor, bad).map(({ sequence }) => sequence), [1]);
  assertEquals([cursor.packets, cursor.foreign, cursor.malformed], [1, 0, 1]);
});

Deno.test("NflogCursor keeps no field of the packet before", () => {
  const cursor = new NflogCursor();
  walk(cursor, BATCH);
  const bare = new Uint8Array(20);
  bare.set([20, 0, 0, 0, 0, 4]);
  cursor.reset(bare);
  assert(cursor.next());
  assertEquals([cursor.sequence, cursor.uid, cursor.gid, cursor.outDevice, cursor.hook], [
    NFLOG_ABSENT,
    NFLOG_ABSENT,
    NFLOG_ABSENT,
    NFLOG_ABSENT,
    NFLOG_ABSENT,
  ]);
  assertEquals([cursor.payloadLength, cursor.prefixLength], [0, 0]);
});

Deno.test("NflogCursor reports truncation at every length and stays within the bytes", () => {
  for (let length = 0; length < BATCH.length; length++) {
    const cursor = new NflogCursor();
    cursor.reset(BATCH, length);
    while (cursor.next()) assert(cursor.payloadStart + cursor.payloadLength <= length);
    const isCut = ![0, 228, 384].includes(length);
    assertEquals(cursor.malformed > 0, isCut, `${length} bytes`);
  }
});

Deno.test("NflogCursor agrees with a slow decoder on changed bytes, and never throws", () => {
  const changes = fc.array(fc.tuple(fc.nat(BATCH.length - 1), fc.nat(255)), { maxLength: 4 });
  fc.assert(
    fc.property(changes, (list) => {
      const bytes = BATCH.slice();
      for (const [at, value] of list) bytes[at] = value;
      assertEquals(walk(new NflogCursor(), bytes), walkSlowly(bytes));
    }),
    { numRuns: campaign(500, 100_000) },
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
      assertEquals(walk(new NflogCursor(), bytes), walkSlowly(bytes));
    }),
    { numRuns: campaign(300, 50_000) },
  );
});
