/**
 * An agent as a plain value: for lists, tables and whoever must not hold on to a slot.
 *
 * @module
 */
import { ORIGIN_NAMES, type OriginName } from "./origin.ts";
import type { SlotView } from "./tracker_slots.ts";

/** One agent at one moment. Times are nanoseconds since the observer's start. */
export interface AgentSnapshot {
  /** Its place in the tracker. */
  readonly slot: number;
  /** The process, as the observer knows it. */
  readonly pid: number;
  /** Status byte of the last accepted beat; what the agent said, not what its silence says. */
  readonly status: number;
  /** Whether its silence was told and has not ended. */
  readonly isStalled: boolean;
  /** Whether its last accepted beat was a last word. */
  readonly isTerminal: boolean;
  /** When it was last heard. */
  readonly lastNs: number;
  /** Silence that makes a stall. */
  readonly thresholdNs: number;
  /** Who vouches for it. */
  readonly origin: OriginName;
  /** Inode of its pid namespace; 0 when unknown. */
  readonly namespaceInode: number;
  /** Start time of the process in clock ticks; 0 when unknown. */
  readonly generation: number;
  /** Last nonce accepted, the last word's included. */
  readonly lastNonce: bigint;
  /** Payload of the last accepted beat. */
  readonly payload: number;
  /** Beats accepted, modulo 2^32. */
  readonly beats: number;
}

/** The agent in a slot that is in use. */
export function snapshotSlot(slots: SlotView, slot: number): AgentSnapshot {
  return {
    slot,
    pid: slots.pid(slot),
    status: slots.status(slot),
    isStalled: slots.isStalled(slot),
    isTerminal: slots.wasTerminal(slot),
    lastNs: slots.lastNs(slot),
    thresholdNs: slots.thresholdNs(slot),
    origin: ORIGIN_NAMES[slots.origin(slot)],
    namespaceInode: slots.namespaceInode(slot),
    generation: slots.generation(slot),
    lastNonce: lastNonceOf(slots, slot),
    payload: slots.payload(slot),
    beats: slots.beats(slot),
  };
}

/** The last nonce accepted from the agent in a slot, the last word's (all ones) included. */
export function lastNonceOf(slots: SlotView, slot: number): bigint {
  if (slots.wasTerminal(slot)) return 0xffff_ffff_ffff_ffffn;
  return BigInt(slots.nonceHi(slot)) << 32n | BigInt(slots.nonceLo(slot));
}
