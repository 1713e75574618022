/**
 * How an observer behaves.
 *
 * @module
 */
import type { BeatLimitOptions } from "./beat_limits.ts";
import type { ExpectedAgent, ThresholdRule } from "./thresholds.ts";
import type { TrackerOptions } from "./tracker.ts";
import type { BeatInput } from "./tracker_rules.ts";

/** Stalls told in one {@link Observer.tick}; the rest are due at once. */
export const STALLS_PER_TICK = 4096;

/** How the observer behaves. */
export interface ObserverOptions extends TrackerOptions, BeatLimitOptions {
  /** Inode of its own pid namespace; 0 where unknown. */
  readonly nsInode: number;
  /** The highest pid that the kernel gives. */
  readonly pidMax: number;
  /** Whether agents of other pid namespaces may use the host's socket. */
  readonly allowsCrossNamespace?: boolean;
  /** Thresholds for some agents; the first that fits. */
  readonly thresholds?: readonly ThresholdRule[];
  /** Agents that must come. */
  readonly expected?: readonly ExpectedAgent[];
}

/** Takes each accepted beat, for whoever wants them all; the object is filled again. */
export type BeatSink = (beat: Readonly<BeatInput>, nowNs: number) => void;
