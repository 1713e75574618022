/**
 * The observer's clock: it never falls, and counts what it had to do for that.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { boottimeNanoseconds, monotonicNanoseconds } from "#ffi/mod.ts";
import { kernelClock } from "#lib/liveness/kernel_clock_shell.ts";
import { CLOCK_JUMP_NS, ObserverClock } from "#lib/liveness/observer_clock.ts";

const REGRESSIONS = "varta_observer_clock_regression_total";
const JUMPS = "varta_observer_clock_jump_forward_total";

function clockOf(readings: readonly number[]): ObserverClock {
  let at = 0;
  return new ObserverClock(() => readings[at++]!);
}

Deno.test("observer clock: a reading that falls is taken as the one before, and counted", () => {
  const clock = clockOf([5, 3, 4, 6.4]);
  assertEquals([clock.nowNs(), clock.nowNs(), clock.nowNs(), clock.nowNs()], [5, 5, 5, 6]);
  assertEquals(clock.table(), { [REGRESSIONS]: 2, [JUMPS]: 0 });
});

Deno.test("observer clock: a leap is counted, a sleep of the wanted length is none", () => {
  const clock = clockOf([0, CLOCK_JUMP_NS, 3 * CLOCK_JUMP_NS, 75e9, 75e9 + 66e9]);
  clock.nowNs();
  clock.nowNs();
  assertEquals(clock.table()[JUMPS], 0);
  clock.nowNs();
  assertEquals(clock.table()[JUMPS], 1);
  clock.sleeping(60_000);
  clock.nowNs();
  assertEquals(clock.table()[JUMPS], 1);
  clock.sleeping(60_000);
  clock.nowNs();
  assertEquals(clock.table(), { [REGRESSIONS]: 0, [JUMPS]: 2 });
});

Deno.test("kernel clocks: both start at 0 and go on; the boot's is never behind", () => {
  for (const kind of ["monotonic", "boottime"] as const) {
    const read = kernelClock(kind);
    const first = read();
    assert(first >= 0 && first < 1e9, kind);
    assert(read() >= first, kind);
  }
  assert(boottimeNanoseconds() + 1_000_000_000n >= monotonicNanoseconds());
});
