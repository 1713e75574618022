/**
 * Sealed frames: the reference's vectors, wrong keys, truncation, flipped bits.
 *
 * @module
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { fromHex, toHex } from "#lib/base/mod.ts";
import {
  claimedPid,
  deriveAgentKey,
  deriveEpochKey,
  derivePrefix,
  MASTER_PACKET_BYTES,
  openFrame,
  sealFrame,
  SHARED_PACKET_BYTES,
} from "#lib/liveness/secure_frame.ts";
import { campaign } from "#tests/support/campaign.ts";

const KEY = Uint8Array.from({ length: 32 }, (_, index) => index);
const PREFIX = fromHex("1122334455667788")!;
const FRAME = fromHex("5641020002000000e80300000000000001000000000000000000000055d0861c")!;
const SHARED = "112233445566778800000000" +
  "bcba1b202190b688a08e0a7ac909da44a2023cb7a421fd6428453fd12141c257" +
  "b6fd638c55fddf5c621020de1327975a";
const MASTER = "02000000112233445566778800000000" +
  "efe8fd8c226106641e01fc8fe649f79475e19b4f2093e063987f1c663a5d2f0b" +
  "73ba429fadc4c494e2723baff86af9cc";

Deno.test("secure frame: keys and prefixes derive as published", () => {
  assertEquals(
    toHex(deriveAgentKey(KEY, 2)),
    "db292f5843a0737aec785a9df270561b343d06e5fe8f89fce72f0869ba77afd5",
  );
  assertEquals(
    toHex(deriveAgentKey(KEY, 42)),
    "61f5951b2bf1905d5053df0abb027002cba62da1f16d93c6552ff61cb65f2599",
  );
  const salt = Uint8Array.from({ length: 16 }, (_, index) => index + 1);
  assertEquals(toHex(derivePrefix(salt, 7)), "9fee777f36be69ce");
  assertEquals(
    toHex(deriveEpochKey(KEY, 100n)),
    "cb9fe8cb3db0d8d667b7dd9e72adce07c669d3b27bc68ea69e3cc3c129d601ab",
  );
});

Deno.test("secure frame: both published packets are sealed and opened to the byte", () => {
  const agentKey = deriveAgentKey(KEY, 2);
  const shared = sealFrame(FRAME, { key: KEY, prefix: PREFIX, counter: 0 });
  assertEquals(toHex(shared), SHARED);
  const master = sealFrame(FRAME, { key: agentKey, prefix: PREFIX, counter: 0, agentPid: 2 });
  assertEquals(toHex(master), MASTER);
  assertEquals(toHex(openFrame(shared, KEY, false)!), toHex(FRAME));
  assertEquals(toHex(openFrame(master, agentKey, true)!), toHex(FRAME));
  assertEquals(claimedPid(master), 2);
});

Deno.test("secure frame: a wrong key, a flipped bit and a wrong pid open nothing", () => {
  const agentKey = deriveAgentKey(KEY, 2);
  for (const [hex, key, isPidBound] of [[SHARED, KEY, false], [MASTER, agentKey, true]] as const) {
    const wrong = key.slice();
    wrong[31]! ^= 1;
    assertEquals(openFrame(fromHex(hex)!, wrong, isPidBound), undefined);
    for (let bit = 0; bit < hex.length * 4; bit++) {
      const packet = fromHex(hex)!;
      packet[bit >> 3]! ^= 1 << (bit & 7);
      assertEquals(openFrame(packet, key, isPidBound), undefined, `bit ${bit}`);
    }
  }
  assertEquals(openFrame(fromHex(MASTER)!, agentKey, false), undefined, "its pid is bound");
});

Deno.test("secure frame: packets of any other length open nothing, and never throw", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), fc.boolean(), (packet, isPidBound) => {
      assertEquals(openFrame(packet, KEY, isPidBound), undefined);
    }),
    { numRuns: campaign(300, 10_000) },
  );
  for (let length = 0; length < MASTER_PACKET_BYTES; length++) {
    if (length === SHARED_PACKET_BYTES) continue;
    assertEquals(openFrame(fromHex(MASTER)!.subarray(0, length), KEY, true), undefined);
  }
});

Deno.test("secure frame: a key of the wrong length is the caller's mistake", () => {
  assertThrows(() => openFrame(fromHex(SHARED)!, KEY.subarray(1), false), RangeError, "31 bytes");
  assertThrows(() => deriveAgentKey(new Uint8Array(16), 2), RangeError, "16 bytes");
});

Deno.test("secure frame: what is sealed with any key, prefix, counter and pid opens again", () => {
  const bytes = (size: number) => fc.uint8Array({ minLength: size, maxLength: size });
  const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
  fc.assert(
    fc.property(
      bytes(32),
      bytes(32),
      bytes(8),
      u32,
      fc.option(u32, { nil: undefined }),
      (frame, key, prefix, counter, agentPid) => {
        const pid = agentPid === undefined ? {} : { agentPid };
        const packet = sealFrame(frame, { key, prefix, counter, ...pid });
        assertEquals(toHex(openFrame(packet, key, agentPid !== undefined)!), toHex(frame));
        assert(packet.length === (agentPid === undefined ? 60 : 64));
      },
    ),
    { numRuns: campaign(200, 5000) },
  );
});
