/**
 * Sealed packets on their way in: replays, reordering, wrong keys, floods, full tables.
 *
 * @module
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { deriveAgentKey, sealFrame } from "#lib/liveness/secure_frame.ts";
import {
  SecureReceiver,
  type SecureVerdict,
  SESSION_LIMITS,
  SHARED_KEYS_MAX,
  STRANGER_ADDRESS_LIMITS,
  STRANGER_LIMITS,
} from "#lib/liveness/secure_receiver.ts";
import { SECURE_SENDERS_MAX, SecureSessions } from "#lib/liveness/secure_sessions.ts";
import { DECODE, encodeFrame, FRAME_BYTES, U32_MAX, VlpFrame } from "#lib/liveness/vlp_frame.ts";
import { campaign } from "#tests/support/campaign.ts";

const KEY = new Uint8Array(32).fill(7);
const MASTER = new Uint8Array(32).fill(9);
const PID_MAX = 2 ** 22;
const SECOND = 1e9;
const A = Uint8Array.of(1, 1, 1, 1, 1, 1, 1, 1);
const B = Uint8Array.of(2, 2, 2, 2, 2, 2, 2, 2);
const C = Uint8Array.of(3, 3, 3, 3, 3, 3, 3, 3);
const TERMINAL = { nonceHi: U32_MAX, nonceLo: U32_MAX, status: 2 };

type Fields = Partial<Omit<VlpFrame, "isTerminal">>;

function frameBytes(fields: Fields): Uint8Array {
  const bytes = new Uint8Array(FRAME_BYTES);
  encodeFrame(Object.assign(new VlpFrame(), { pid: 50 }, fields), bytes);
  return bytes;
}

function shared(fields: Fields, prefix: Uint8Array, counter: number, key = KEY): Uint8Array {
  return sealFrame(frameBytes(fields), { key, prefix, counter });
}

function master(pid: number, fields: Fields, prefix: Uint8Array, counter: number): Uint8Array {
  const key = deriveAgentKey(MASTER, pid);
  return sealFrame(frameBytes({ pid, ...fields }), { key, prefix, counter, agentPid: pid });
}

function receiver(): SecureReceiver {
  return new SecureReceiver({ sharedKeys: [KEY], masterKey: MASTER, gapNs: 5 * SECOND });
}

function open(target: SecureReceiver, packet: Uint8Array, nowNs = 0): SecureVerdict {
  return target.open(packet, 1, nowNs, PID_MAX);
}

Deno.test("secure: packets of both forms open, and are not opened twice", () => {
  const target = receiver();
  const one = shared({ nonceLo: 1 }, A, 0);
  const two = master(60, { nonceLo: 1 }, B, 0);
  assertEquals([open(target, one), open(target, two)], ["frame", "frame"]);
  const attempts = target.counters.aeadAttempts;
  assertEquals(attempts, 3, "the longer form tries the shared key as well");
  assertEquals([open(target, one), open(target, two)], ["replayed", "replayed"]);
  assertEquals(target.counters.aeadAttempts, attempts, "a replay costs no key");
  assertEquals(target.counters.replayRefused, 2);
});

Deno.test("secure: within a prefix only the counter counts; reordered packets are refused", () => {
  const target = receiver();
  assertEquals(open(target, shared({ nonceLo: 5 }, A, 10)), "frame");
  assertEquals(open(target, shared({ nonceLo: 4 }, A, 11)), "frame", "an older nonce, later sent");
  assertEquals(open(target, shared({ nonceLo: 9 }, A, 9)), "replayed");
});

Deno.test("secure: a new prefix needs a newer nonce; the one before may end late, once each", () => {
  const target = receiver();
  assertEquals(open(target, shared({ nonceLo: 1 }, A, 0)), "frame");
  assertEquals(open(target, shared({ nonceLo: 2 }, B, 0)), "frame");
  assertEquals(open(target, shared({ nonceLo: 3 }, A, 1)), "frame", "one prefix back");
  assertEquals(open(target, shared({ nonceLo: 3 }, A, 1)), "replayed");
  assertEquals(open(target, shared({ nonceLo: 3 }, C, 0)), "replayed", "not newer");
  assertEquals(open(target, shared({ nonceLo: 4 }, C, 0)), "frame");
  // A is two prefixes back now: its packets are judged as a new one's.
  assertEquals(open(target, shared({ nonceLo: 4 }, A, 2)), "replayed");
});

Deno.test("secure: a last word of a new prefix needs a later time than the last one", () => {
  const target = receiver();
  assertEquals(open(target, shared({ nonceLo: 8 }, A, 0)), "frame");
  assertEquals(open(target, shared({ ...TERMINAL, timestampLo: 7 }, B, 0)), "frame");
  assertEquals(open(target, shared({ ...TERMINAL, timestampLo: 7 }, C, 0)), "replayed");
  assertEquals(open(target, shared({ ...TERMINAL, timestampLo: 8 }, C, 0)), "frame");
  const late = shared({ ...TERMINAL, timestampLo: 8 }, Uint8Array.of(9, 9, 9, 9, 9, 9, 9, 9), 0);
  assertEquals(open(target, late, 60 * SECOND), "replayed", "no silence makes a last word new");
});

Deno.test("secure: a pid begins again with an old nonce only after a silence", () => {
  const target = receiver();
  assertEquals(open(target, shared({ nonceLo: 900 }, A, 0)), "frame");
  assertEquals(open(target, shared({ nonceLo: 1 }, B, 0), 5 * SECOND - 1), "replayed");
  assertEquals(open(target, shared({ nonceLo: 1 }, B, 0), 5 * SECOND), "frame");
  assertEquals(open(target, shared({ nonceLo: 2 }, B, 1), 5 * SECOND), "frame");
});

Deno.test("secure: wrong keys, other lengths and impossible pids are refused and counted", () => {
  const target = receiver();
  assertEquals(open(target, shared({}, A, 0, new Uint8Array(32))), "undecryptable");
  for (const length of [0, 1, 32, 59, 61, 63, 65]) {
    assertEquals(open(target, new Uint8Array(length)), "badLength");
  }
  const attempts = target.counters.aeadAttempts;
  for (const pid of [0, 1, PID_MAX + 1]) {
    assertEquals(open(target, master(pid, {}, A, 0)), "implausiblePid");
  }
  assertEquals(target.counters.aeadAttempts, attempts, "no key for an impossible pid");
  assertEquals(target.counters.truncated, 7);
  assertEquals(target.counters.decryptFailures, 4);
});

Deno.test("secure: an agent's key speaks for that agent alone", () => {
  const target = receiver();
  const key = deriveAgentKey(MASTER, 60);
  const frame = frameBytes({ pid: 61 });
  const lying = sealFrame(frame, { key, prefix: A, counter: 0, agentPid: 60 });
  assertEquals(open(target, lying), "undecryptable");
});

Deno.test("secure: a frame that does not decode is handed on, and leaves no trace", () => {
  const target = receiver();
  const bad = frameBytes({ nonceLo: 1 });
  bad[0] = 0;
  const packet = sealFrame(bad, { key: KEY, prefix: A, counter: 0 });
  for (let round = 0; round < 2; round++) {
    assertEquals(open(target, packet), "frame");
    assertEquals(target.decoded, DECODE.badMagic);
  }
  assertEquals(target.senders, 0);
});

Deno.test("secure: a flood from one address costs no more keys than its budget", () => {
  const target = receiver();
  const junk = new Uint8Array(60).fill(1);
  const verdicts = Array.from({ length: 5000 }, () => open(target, junk));
  const tried = verdicts.filter((verdict) => verdict === "undecryptable").length;
  assertEquals(tried, STRANGER_ADDRESS_LIMITS.burst);
  assertEquals(target.counters.aeadAttempts, tried);
  assertEquals(target.counters.budgetRefused, 5000 - tried);
  // Another address has its own.
  assertEquals(target.open(shared({}, A, 0), 2, 0, PID_MAX), "frame");
});

Deno.test("secure: a flood from many addresses is held by the common budget, and the known go on", () => {
  const target = receiver();
  assertEquals(open(target, shared({ nonceLo: 1 }, A, 0)), "frame");
  const junk = new Uint8Array(64).fill(1);
  junk.set([60, 0, 0, 0]);
  for (let address = 0; address < 10_000; address++) target.open(junk, address, 0, PID_MAX);
  assert(target.counters.decryptFailures <= STRANGER_LIMITS.burst);
  assertEquals(target.counters.budgetRefused, 10_000 - target.counters.decryptFailures);
  assertEquals(open(target, shared({ nonceLo: 2 }, A, 1)), "frame", "a known session");
  assertEquals(open(target, shared({ pid: 70 }, B, 0)), "overBudget", "a new one has to wait");
  assertEquals(open(target, shared({ pid: 70 }, B, 0), SECOND), "frame");
});

Deno.test("secure: forged packets under a known prefix cost no more than that session's budget", () => {
  const target = receiver();
  assertEquals(open(target, shared({ nonceLo: 1 }, A, 0)), "frame");
  for (let counter = 1; counter <= 5000; counter++) {
    const forged = new Uint8Array(60);
    forged.set(A);
    new DataView(forged.buffer).setUint32(8, counter, true);
    open(target, forged);
  }
  assertEquals(target.counters.decryptFailures, SESSION_LIMITS.burst);
});

Deno.test("secure: a full table refuses the new and keeps the known, until they are old", () => {
  const sessions = new SecureSessions({ gapNs: SECOND });
  const frameOf = (pid: number) => Object.assign(new VlpFrame(), { pid, nonceLo: 1 });
  for (let pid = 2; pid < 2 + SECURE_SENDERS_MAX; pid++) {
    assertEquals(sessions.admit(frameOf(pid), BigInt(pid), 0, 0), "accepted");
  }
  assertEquals(sessions.admit(frameOf(9999), 9999n, 0, 0), "full");
  assertEquals(sessions.admit(frameOf(2), 2n, 1, 0), "accepted");
  assert(sessions.isFullFor(9999, 599e9));
  assert(!sessions.isFullFor(9999, 600e9), "ten minutes of silence");
  assertEquals(sessions.admit(frameOf(9999), 9999n, 0, 600e9), "accepted");
});

Deno.test("secure: a full table refuses a claimed pid before any key is derived", () => {
  const target = new SecureReceiver({ sharedKeys: [], masterKey: MASTER, gapNs: SECOND });
  for (let pid = 2; pid < 2 + SECURE_SENDERS_MAX; pid++) {
    const prefix = Uint8Array.of(pid, pid >> 8, 0, 0, 0, 0, 0, 5);
    assertEquals(target.open(master(pid, { nonceLo: 1 }, prefix, 0), pid, 0, PID_MAX), "frame");
  }
  const attempts = target.counters.aeadAttempts;
  assertEquals(target.open(master(9999, {}, A, 0), 1, 0, PID_MAX), "sendersFull");
  assertEquals([target.counters.aeadAttempts, target.counters.senderStateFull], [attempts, 1]);
});

Deno.test("secure: no packet is accepted twice, whatever order and noise they come in", () => {
  const step = fc.record({
    session: fc.nat(3),
    counter: fc.nat(6),
    nonce: fc.integer({ min: 1, max: 12 }),
    isTerminal: fc.boolean(),
    waitNs: fc.constantFrom(0, 1, SECOND),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      // Silence makes a pid new: without it, a nonce may never be accepted twice.
      const sessions = new SecureSessions({ gapNs: Infinity });
      const seen = new Set<string>();
      let nowNs = 0;
      for (const { session, counter, nonce, isTerminal, waitNs } of steps) {
        nowNs += waitNs;
        const fields = isTerminal ? { ...TERMINAL, timestampLo: nonce } : { nonceLo: nonce };
        const frame = Object.assign(new VlpFrame(), { pid: 5 }, fields);
        const id = `${session}:${counter}:${isTerminal}:${nonce}`;
        const admission = sessions.admit(frame, BigInt(session), counter, nowNs);
        if (admission === "replayed") continue;
        assert(!seen.has(id), `${id} was accepted twice`);
        seen.add(id);
      }
    }),
    { numRuns: campaign(300, 20_000) },
  );
});

Deno.test("secure: arbitrary packets never throw, and nothing comes of them", () => {
  const target = receiver();
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 70 }), fc.nat(), (packet, time) => {
      assert(target.open(packet, time, time * SECOND, PID_MAX) !== "frame");
    }),
    { numRuns: campaign(500, 50_000) },
  );
});

Deno.test("secure: no keys, or too many, are the caller's mistake", () => {
  assertThrows(() => new SecureReceiver({ sharedKeys: [], gapNs: 1 }), RangeError, "no key");
  const sharedKeys = Array.from({ length: SHARED_KEYS_MAX + 1 }, () => KEY);
  assertThrows(() => new SecureReceiver({ sharedKeys, gapNs: 1 }), RangeError, "at most 16");
});
