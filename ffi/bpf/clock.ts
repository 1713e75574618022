/**
 * The clock that programs in the kernel read (`ktime_get_ns`).
 *
 * @module
 */
import { call, withScratch } from "../syscall.ts";

const CLOCK_MONOTONIC = 1;
const CLOCK_BOOTTIME = 7;

/** Nanoseconds on the kernel's monotonic clock: since some moment at boot, without suspensions. */
export function monotonicNanoseconds(): bigint {
  return readClock(CLOCK_MONOTONIC);
}

/** Nanoseconds since the boot, suspensions included. */
export function boottimeNanoseconds(): bigint {
  return readClock(CLOCK_BOOTTIME);
}

function readClock(clock: number): bigint {
  return withScratch((arena) => {
    const at = arena.alloc(16, 8);
    call("clock_gettime", clock, arena.address(at));
    return arena.view.getBigInt64(at, true) * 1_000_000_000n + arena.view.getBigInt64(at + 8, true);
  });
}
