/**
 * The kernel's clocks, as the observer reads them.
 *
 * @module
 */
import { boottimeNanoseconds } from "#ffi/mod.ts";

/** A reader of nanoseconds since now; `boottime` counts the time that the machine is suspended. */
export function kernelClock(clock: "monotonic" | "boottime" = "monotonic"): () => number {
  if (clock === "boottime") {
    const start = boottimeNanoseconds();
    return () => Number(boottimeNanoseconds() - start);
  }
  const startMs = performance.now();
  return () => (performance.now() - startMs) * 1e6;
}
