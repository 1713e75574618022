import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { NflogCursor } from "#ffi/mod.ts";
import { buildDecision } from "#lib/flow/decision.ts";
import { decodeNflogRecord } from "#lib/flow/nflog_record.ts";
import { attribute, cString, ipv4, ports } from "./packets.ts";

function body(prefix: string, payload: Uint8Array | number[]): Uint8Array {
  return new Uint8Array([...attribute(10, cString(prefix)), ...attribute(9, payload)]);
}

Deno.test("decodeNflogRecord() finds prefix and payload", () => {
  const payload = new TextEncoder().encode("abcdef");
  assertEquals(decodeNflogRecord(body("cellos-flow accept", payload)), {
    prefix: "cellos-flow accept",
    payload,
  });
});

Deno.test("decodeNflogRecord() gives what a decision is built from", () => {
  const packet = ipv4({ protocol: 6, dst: [192, 0, 2, 1], rest: ports(0, 443) });
  const record = decodeNflogRecord(body("cellos-flow drop", packet));
  if ("malformed" in record) throw new Error(record.malformed);
  const decision = buildDecision(
    { cellId: "cell-test", runId: "run-uuid" },
    record.prefix,
    record.payload,
    { decisionId: "d-1", observedAt: "2026-01-01T00:00:00Z" },
  );
  assertEquals(
    [decision.decision, decision.reasonCode, decision.dstAddr, decision.dstPort, decision.protocol],
    ["deny", "nft_log_drop", "192.0.2.1", 443, "tcp"],
  );
  assertEquals([decision.cellId, decision.runId], ["cell-test", "run-uuid"]);
});

Deno.test("decodeNflogRecord() answers tooShort for less than an attribute header", () => {
  assertEquals(decodeNflogRecord(new Uint8Array(2)), { malformed: "tooShort", sizeBytes: 2 });
});

Deno.test("decodeNflogRecord() answers missingPrefix when only a payload is there", () => {
  assertEquals(decodeNflogRecord(new Uint8Array(attribute(9, new Uint8Array(8)))), {
    malformed: "missingPrefix",
    sizeBytes: 12,
  });
});

Deno.test("decodeNflogRecord() has an empty payload when only metadata was copied", () => {
  const record = decodeNflogRecord(new Uint8Array(attribute(10, cString("cellos-flow drop"))));
  assertEquals(record, { prefix: "cellos-flow drop", payload: new Uint8Array(0) });
});

Deno.test("decodeNflogRecord() takes a prefix without NUL and ignores other attributes", () => {
  const bytes = [...attribute(1, [0, 8, 3, 0]), ...attribute(0x8000 | 10, [65, 66])];
  assertEquals(decodeNflogRecord(new Uint8Array(bytes)), {
    prefix: "AB",
    payload: new Uint8Array(0),
  });
});

Deno.test("decodeNflogRecord() never throws, whatever the bytes and wherever they are cut", () => {
  const whole = body("cellos-flow accept", [1, 2, 3]);
  for (let cut = 0; cut < whole.length; cut++) decodeNflogRecord(whole.subarray(0, cut));
  fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
    const record = decodeNflogRecord(bytes);
    assertEquals("malformed" in record || typeof record.prefix === "string", true);
  }));
});

Deno.test("decodeNflogRecord() agrees with the cursor that reads datagrams in place", () => {
  const value = fc.uint8Array({ maxLength: 40 });
  const other = fc.record({ type: fc.integer({ min: 20, max: 200 }), value });
  const parts = fc.tuple(fc.array(other), fc.stringMatching(/^[a-z ]{0,60}$/), value);
  fc.assert(fc.property(parts, ([others, prefix, payload]) => {
    const attributes = [
      ...others.flatMap((it) => attribute(it.type, it.value)),
      ...body(prefix, payload),
    ];
    const header = new Uint8Array(20);
    new DataView(header.buffer).setUint32(0, 20 + attributes.length, true);
    header[5] = 4;
    const datagram = new Uint8Array([...header, ...attributes]);
    const cursor = new NflogCursor();
    cursor.reset(datagram);
    assertEquals(cursor.next(), true);
    const slice = (start: number, length: number) => datagram.slice(start, start + length);
    assertEquals(decodeNflogRecord(datagram.subarray(20)), {
      prefix: new TextDecoder().decode(slice(cursor.prefixStart, cursor.prefixLength)),
      payload: slice(cursor.payloadStart, cursor.payloadLength),
    });
  }));
});
