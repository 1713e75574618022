/**
 * Beats and trackers for the tracker's tests.
 *
 * @module
 */
import { ORIGIN, type Origin } from "#lib/liveness/origin.ts";
import type { BeatInput } from "#lib/liveness/tracker_rules.ts";
import { Tracker, type TrackerOptions } from "#lib/liveness/tracker.ts";

/** Start time of the processes in these tests, where nothing else is said. */
export const GENERATION = 77;
/** The last nonce of the count, and the nonce of a last word. */
export const U64_MAX = 0xffff_ffff_ffff_ffffn;

/** A beat in few words; times and nonces as 64-bit numbers. */
export interface BeatWords {
  readonly pid: number;
  readonly nonce: bigint | number;
  readonly timestamp?: bigint | number;
  readonly status?: number;
  readonly payload?: number;
  readonly origin?: Origin;
  readonly inode?: number;
  readonly generation?: number;
}

/** The beat; attested by the kernel unless told, its time its nonce. */
export function beatOf(words: BeatWords): BeatInput {
  const nonce = BigInt(words.nonce);
  const timestamp = BigInt(words.timestamp ?? (nonce === U64_MAX ? 1n : nonce));
  const origin = words.origin ?? ORIGIN.kernelAttested;
  return {
    pid: words.pid,
    status: words.status ?? 0,
    nonceHi: Number(nonce >> 32n),
    nonceLo: Number(nonce & 0xffff_ffffn),
    timestampHi: Number(timestamp >> 32n),
    timestampLo: Number(timestamp & 0xffff_ffffn),
    payload: words.payload ?? 0,
    origin,
    namespaceInode: words.inode ?? 0,
    generation: words.generation ?? (origin === ORIGIN.kernelAttested ? GENERATION : 0),
  };
}

/** A tracker of eight with a threshold of 100 unless told. */
export function trackerOf(options: Partial<TrackerOptions> = {}): Tracker {
  return new Tracker({ capacity: 8, thresholdNs: 100, ...options });
}

/** A tracker with the pids from 1 on in all its slots, all of them heard at 0. */
export function fullTracker(options: Partial<TrackerOptions> & { capacity: number }): Tracker {
  const tracker = trackerOf(options);
  for (let pid = 1; pid <= options.capacity; pid++) tracker.record(beatOf({ pid, nonce: 1 }), 0);
  return tracker;
}

/** Pids told as stalled at a time, in the order of the telling. */
export function stalledAt(tracker: Tracker, nowNs: number, max?: number): number[] {
  const pids: number[] = [];
  tracker.drainStalled(nowNs, (slot) => pids.push(tracker.slots.pid(slot)), max);
  return pids;
}

/** What a tracker must be true to at any time; says what is not. */
export function contradictionIn(tracker: Tracker): string | undefined {
  let [used, stalled] = [0, 0];
  const pids = new Set<number>();
  let wrong: string | undefined;
  tracker.forEachSlot((slot) => {
    const pid = tracker.slots.pid(slot);
    used++;
    pids.add(pid);
    if (tracker.slots.isStalled(slot)) stalled++;
    if (tracker.slotOf(pid) !== slot) wrong = `pid ${pid} of slot ${slot} is not in the index`;
  });
  if (used !== tracker.size) wrong = `${used} slots used, ${tracker.size} counted`;
  if (pids.size !== used) wrong = `${used} slots for ${pids.size} pids`;
  if (stalled !== tracker.stalledCount) {
    wrong = `${stalled} stalled, ${tracker.stalledCount} counted`;
  }
  if (tracker.counters.invariantViolations > 0) wrong = "a violated invariant was counted";
  if ((tracker.nextDeadlineNs() !== undefined) !== used > stalled) wrong = "nobody is waited for";
  return wrong;
}
