import { assertEquals } from "@std/assert";
import fc from "fast-check";
import {
  decodeAck,
  decodeMessages,
  encodedLength,
  encodeMessage,
  type NetlinkMessage,
  type NetlinkRequest,
} from "#ffi/netlink/message.ts";
import { campaign } from "#tests/support/campaign.ts";

const request = fc.record<NetlinkRequest>({
  what: fc.constant("do a thing"),
  type: fc.integer({ min: 0, max: 0xffff }),
  flags: fc.integer({ min: 0, max: 0xffff }),
  body: fc.uint8Array({ maxLength: 40 }),
});

function bytesOf(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array((text.match(/../g) ?? []).map((pair) => parseInt(pair, 16)));
}

function message(type: number, flags: number, body: string): NetlinkMessage {
  return { type, flags, seq: 1, portId: 0, body: bytesOf(body.replaceAll(" ", "")) };
}

Deno.test("requests read back from one datagram with their numbers", () => {
  fc.assert(
    fc.property(fc.array(request, { maxLength: 5 }), (requests) => {
      const bytes = new Uint8Array(requests.reduce((sum, each) => sum + encodedLength(each), 0));
      let end = 0;
      requests.forEach((each, index) => end = encodeMessage(each, 7 + index, bytes, end));
      assertEquals(end, bytes.length);
      const { messages, malformed } = decodeMessages(bytes);
      assertEquals(malformed, undefined);
      assertEquals(
        messages,
        requests.map(({ type, flags, body }, index) => ({
          type,
          flags: flags | 1, // NLM_F_REQUEST
          seq: 7 + index,
          portId: 0,
          body,
        })),
      );
    }),
    { numRuns: campaign(200, 20_000) },
  );
});

Deno.test("decodeMessages() reports truncation at every length", () => {
  const first = { what: "", type: 16, flags: 0, body: new Uint8Array(5) };
  const bytes = new Uint8Array(encodedLength(first) * 2);
  encodeMessage(first, 2, bytes, encodeMessage(first, 1, bytes, 0));
  for (let length = 0; length < bytes.length; length++) {
    const { messages, malformed } = decodeMessages(bytes.subarray(0, length));
    // The padding of the last message may be missing.
    const whole = length >= 45 ? 2 : length >= 21 ? 1 : 0;
    assertEquals(messages.length, whole, `${length} bytes`);
    const isCut = ![0, 21, 22, 23, 24, 45, 46, 47].includes(length);
    assertEquals(malformed !== undefined, isCut, `${length} bytes`);
  }
});

Deno.test("decodeMessages() and decodeAck() never throw, on any bytes", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), fc.boolean(), (bytes, isPlausible) => {
      if (isPlausible && bytes.length >= 4) {
        new DataView(bytes.buffer, bytes.byteOffset).setUint32(0, bytes.length, true);
      }
      for (const each of decodeMessages(bytes).messages) {
        for (const type of [2, 3]) decodeAck({ ...each, type });
      }
    }),
    { numRuns: campaign(500, 50_000) },
  );
});

Deno.test("decodeAck() reads success, a bare error, and the kernel's words", () => {
  const header = "1c000000 18000506 01000000 00000000";
  assertEquals(decodeAck(message(2, 0x100, `00000000 ${header}`)), { errno: 0 });
  assertEquals(decodeAck(message(2, 0x100, `efffffff ${header}`)), { errno: 17 });
  assertEquals(
    decodeAck(message(2, 0x300, `efffffff ${header} 08000100 6e6f2100 08000200 2c000000`)),
    { errno: 17, text: "no!", offset: 44 },
  );
});

Deno.test("decodeAck() skips the request that an uncapped acknowledgement repeats", () => {
  // The repeated request is 28 bytes long: 12 behind its header.
  const repeated = "1c000000 18000506 01000000 00000000 aaaaaaaa bbbbbbbb cccccccc";
  assertEquals(
    decodeAck(message(2, 0x200, `efffffff ${repeated} 08000100 6e6f2100`)),
    { errno: 17, text: "no!" },
  );
});

Deno.test("decodeAck() takes the status of a dump's end, and its absence for success", () => {
  assertEquals(decodeAck(message(3, 2, "00000000")), { errno: 0 });
  assertEquals(decodeAck(message(3, 2, "fcffffff")), { errno: 4 });
  assertEquals(decodeAck(message(3, 2, "")), { errno: 0 });
  assertEquals(decodeAck(message(2, 0, "ffff")), undefined);
});
