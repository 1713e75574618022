/**
 * Slows down who guesses tokens: too many wrong ones from one address, and it waits.
 *
 * A bounded table; when it is full, the address that failed first makes room. An IPv6 address
 * counts by its /64, which is what one guest of a network has. Computes only: time is an argument.
 *
 * @module
 */
import { parseIp } from "#lib/base/mod.ts";

/** Wrong tokens within the window before an address waits. */
export const FAILURES_MAX = 10;
/** The window, in milliseconds. */
export const FAILURE_WINDOW_MS = 60_000;
/** Addresses that are remembered. */
export const ADDRESSES_MAX = 4096;

interface Failures {
  count: number;
  readonly sinceMs: number;
}

/** See the module. */
export class FailureLimiter {
  readonly #byAddress = new Map<string, Failures>();

  /** Whether an address has to wait. */
  isLimited(address: string, nowMs: number): boolean {
    return (this.#current(networkOf(address), nowMs)?.count ?? 0) >= FAILURES_MAX;
  }

  /** Counts a wrong token. */
  fail(address: string, nowMs: number): void {
    const network = networkOf(address);
    const failures = this.#current(network, nowMs);
    if (failures !== undefined) {
      failures.count += 1;
      return;
    }
    this.#byAddress.delete(network);
    if (this.#byAddress.size >= ADDRESSES_MAX) {
      this.#byAddress.delete(this.#byAddress.keys().next().value!);
    }
    this.#byAddress.set(network, { count: 1, sinceMs: nowMs });
  }

  /** How many addresses are remembered. */
  get size(): number {
    return this.#byAddress.size;
  }

  #current(network: string, nowMs: number): Failures | undefined {
    const failures = this.#byAddress.get(network);
    return failures !== undefined && nowMs - failures.sinceMs < FAILURE_WINDOW_MS
      ? failures
      : undefined;
  }
}

function networkOf(address: string): string {
  const ip = address.includes(":") ? parseIp(address) : undefined;
  return ip?.family === 6 ? `${(ip.bits >> 64n).toString(16)}::/64` : address;
}
