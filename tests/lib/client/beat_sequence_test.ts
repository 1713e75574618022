/**
 * What a beating process says, read back as an observer reads it.
 *
 * @module
 */
import { assert, assertEquals, assertGreater } from "@std/assert";
import fc from "fast-check";
import { BeatSequence, type BeatStatus, outcomeOfErrno } from "#lib/client/beat_sequence.ts";
import { DECODE, decodeFrame, STATUS, VlpFrame } from "#lib/liveness/mod.ts";

function read(bytes: Uint8Array): { frame: VlpFrame; nonce: bigint; timestamp: bigint } {
  const frame = new VlpFrame();
  assertEquals(decodeFrame(bytes, 0, frame), DECODE.ok);
  return {
    frame,
    nonce: BigInt(frame.nonceHi) << 32n | BigInt(frame.nonceLo),
    timestamp: BigInt(frame.timestampHi) << 32n | BigInt(frame.timestampLo),
  };
}

Deno.test("beats: the first nonce is 1, and each beat adds one", () => {
  const sequence = new BeatSequence(77, 1_000);
  for (let n = 1n; n <= 5n; n++) {
    const { frame, nonce, timestamp } = read(sequence.next("ok", 9, 1_000 + Number(n) * 10));
    assertEquals([frame.pid, frame.status, frame.payload], [77, STATUS.ok, 9]);
    assertEquals([nonce, timestamp], [n, n * 10n]);
  }
});

Deno.test("beats: whatever the clock does, time does not fall and every frame is good", () => {
  const step = fc.record({
    nowNs: fc.double({ min: 0, max: 2 ** 60, noNaN: true }),
    status: fc.constantFrom<BeatStatus>("ok", "degraded", "critical"),
    payload: fc.integer(),
  });
  fc.assert(fc.property(fc.array(step, { maxLength: 50 }), (steps) => {
    const sequence = new BeatSequence(2, 500);
    let last = { nonce: 0n, timestamp: 0n };
    for (const { nowNs, status, payload } of steps) {
      const { frame, nonce, timestamp } = read(sequence.next(status, payload, nowNs));
      assertEquals([frame.status, frame.payload], [STATUS[status], payload >>> 0]);
      assertEquals(nonce, last.nonce + 1n);
      assert(timestamp >= last.timestamp);
      last = { nonce, timestamp };
    }
  }));
});

Deno.test("beats: a forked process is a new agent with a first nonce of its own", () => {
  const sequence = new BeatSequence(10, 0);
  sequence.next("ok", 0, 5_000);
  assertEquals(sequence.follow(10, 6_000), false);
  assertEquals(read(sequence.next("ok", 0, 6_000)).nonce, 2n);
  assertEquals(sequence.follow(11, 7_000), true);
  const { frame, nonce, timestamp } = read(sequence.next("ok", 0, 7_001));
  assertEquals([frame.pid, nonce, timestamp], [11, 1n, 1n]);
});

Deno.test("beats: last words are critical, terminal, and each later than the one before", () => {
  const sequence = new BeatSequence(10, 0);
  const first = read(sequence.last(100));
  assert(first.frame.isTerminal);
  assertEquals(first.frame.status, STATUS.critical);
  const second = read(sequence.last(100));
  assertGreater(second.timestamp, first.timestamp);
  assertEquals(read(sequence.next("ok", 0, 100)).nonce, 1n);
});

Deno.test("beats: an error of send is a drop with its reason, or a failure by its name", () => {
  for (
    const [errno, reason] of [
      ["EAGAIN", "kernel_queue_full"],
      ["ENOBUFS", "kernel_queue_full"],
      ["ECONNREFUSED", "no_observer"],
      ["ENOENT", "no_observer"],
      ["ECONNRESET", "peer_gone"],
      ["ENOTCONN", "peer_gone"],
      ["EPIPE", "peer_gone"],
      ["ENOSPC", "storage_full"],
    ] as const
  ) assertEquals(outcomeOfErrno(errno), { kind: "dropped", reason });
  assertEquals(outcomeOfErrno("EACCES"), { kind: "failed", errno: "EACCES" });
});
