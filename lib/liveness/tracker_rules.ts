/**
 * The rules by which a beat for a known agent is accepted or refused, in their order.
 *
 * Pure, over one slot and one beat. Whoever applies the answer is {@link Tracker}.
 *
 * @module
 */
import { isNetworkOrigin, ORIGIN, type Origin } from "./origin.ts";
import type { SlotView } from "./tracker_slots.ts";

/** What became of a beat: below {@link FIRST_REFUSAL} it was accepted. */
export const UPDATE = {
  /** The pid was not known; it has a slot now. */
  inserted: 0,
  /** The pid was passed on to another process: the slot starts anew. */
  recycled: 1,
  /** A network agent silent beyond its threshold counts from the start: the slot starts anew. */
  networkRecycled: 2,
  /** A better attested beat took the slot over: it starts anew. */
  upgraded: 3,
  /** A known agent, as expected. */
  refreshed: 4,
  /** A known agent whose nonces came round. */
  wrapped: 5,
  /** A known process whose client started anew and counts from 1 again. */
  restarted: 6,
  /** The nonce (of a last word: the time) is not past the last one; nothing was changed. */
  outOfOrder: 7,
  /** The agent is known from a better attested origin; nothing was changed. */
  originConflict: 8,
  /** The agent is known in another pid namespace; nothing was changed. */
  namespaceConflict: 9,
  /** The pid is not known and there is no room for it; nothing was changed. */
  capacityExceeded: 10,
} as const;
/** One of {@link UPDATE}. */
export type UpdateCode = typeof UPDATE[keyof typeof UPDATE];

/** Codes from this on say that the beat was refused. */
export const FIRST_REFUSAL: UpdateCode = UPDATE.outOfOrder;

/** Names of the codes, in their order. */
export const UPDATE_NAMES: readonly (keyof typeof UPDATE)[] = [
  "inserted",
  "recycled",
  "networkRecycled",
  "upgraded",
  "refreshed",
  "wrapped",
  "restarted",
  "outOfOrder",
  "originConflict",
  "namespaceConflict",
  "capacityExceeded",
];

/** Whether the beat counts as a sign of life. */
export function isAccepted(code: UpdateCode): boolean {
  return code < FIRST_REFUSAL;
}

/** Whether the slot holds another agent than before: what was known of the old one is void. */
export function isNewAgent(code: UpdateCode): boolean {
  return code <= UPDATE.upgraded;
}

/** How near to the end the last nonce, and to the start the new one, must be for a wrap. */
export const NONCE_WRAP_WINDOW: number = 2 ** 20;
const U32_MAX = 0xffff_ffff;

/** One beat, as the transport attests it; one object is filled again and again. */
export interface BeatInput {
  /** The agent: a pid as the observer knows it. */
  pid: number;
  /** Status byte: 0 ok, 1 degraded, 2 critical. */
  status: number;
  /** Upper half of the nonce. */
  nonceHi: number;
  /** Lower half of the nonce. */
  nonceLo: number;
  /** Upper half of the sender's time. */
  timestampHi: number;
  /** Lower half of the sender's time. */
  timestampLo: number;
  /** Passed through. */
  payload: number;
  /** Who vouches for the pid. */
  origin: Origin;
  /** Inode of the sender's pid namespace; 0 when unknown. */
  namespaceInode: number;
  /** Start time of the sender's process; 0 when unknown. Only the kernel's word goes here. */
  generation: number;
}

/** Whether a nonce is the last word of a process: all ones, outside the count. */
export function isTerminalNonce(nonceHi: number, nonceLo: number): boolean {
  return nonceHi === U32_MAX && nonceLo === U32_MAX;
}

/** Whether the 64-bit number of the first two halves is greater than that of the last two. */
export function isGreaterU64(hi: number, lo: number, thanHi: number, thanLo: number): boolean {
  return hi > thanHi || (hi === thanHi && lo > thanLo);
}

/**
 * Judges a beat for the agent in a slot.
 *
 * @param origin The beat's {@link effectiveOrigin}.
 * @param nowNs The observer's time, not before the slot's last beat.
 */
export function judgeBeat(
  slots: SlotView,
  slot: number,
  beat: Readonly<BeatInput>,
  origin: Origin,
  nowNs: number,
): UpdateCode {
  const generation = slots.generation(slot);
  if (generation !== 0 && beat.generation !== 0 && generation !== beat.generation) {
    return UPDATE.recycled;
  }
  if (isNetworkRecycle(slots, slot, beat, origin, nowNs)) return UPDATE.networkRecycled;
  const pinned = slots.origin(slot);
  if (origin !== pinned) return origin > pinned ? UPDATE.upgraded : UPDATE.originConflict;
  const isTerminal = isTerminalNonce(beat.nonceHi, beat.nonceLo);
  const inode = slots.namespaceInode(slot);
  if (inode !== 0 && inode !== beat.namespaceInode) {
    // The last word of a process comes while its /proc entry goes: that its namespace cannot be read
    // is no sign of tampering.
    if (!isTerminal || beat.namespaceInode !== 0) return UPDATE.namespaceConflict;
  }
  return isTerminal ? judgeTerminal(slots, slot, beat) : judgeNonce(slots, slot, beat);
}

/** A network sender that starts its count anew after a silence is another process, or the same restarted. */
function isNetworkRecycle(
  slots: SlotView,
  slot: number,
  beat: Readonly<BeatInput>,
  origin: Origin,
  nowNs: number,
): boolean {
  return isNetworkOrigin(origin) && origin === slots.origin(slot) &&
    beat.generation === 0 && slots.generation(slot) === 0 &&
    !isTerminalNonce(beat.nonceHi, beat.nonceLo) && slots.hasRegularNonce(slot) &&
    !isGreaterU64(beat.nonceHi, beat.nonceLo, slots.nonceHi(slot), slots.nonceLo(slot)) &&
    nowNs - slots.lastNs(slot) >= slots.thresholdNs(slot);
}

function judgeTerminal(slots: SlotView, slot: number, beat: Readonly<BeatInput>): UpdateCode {
  if (!slots.hasTerminal(slot)) return UPDATE.refreshed;
  const isLater = isGreaterU64(
    beat.timestampHi,
    beat.timestampLo,
    slots.terminalHi(slot),
    slots.terminalLo(slot),
  );
  return isLater ? UPDATE.refreshed : UPDATE.outOfOrder;
}

function judgeNonce(slots: SlotView, slot: number, beat: Readonly<BeatInput>): UpdateCode {
  const { nonceHi, nonceLo } = beat;
  // An agent known by its last word only has no count yet.
  if (!slots.hasRegularNonce(slot)) return UPDATE.refreshed;
  const lastHi = slots.nonceHi(slot);
  const lastLo = slots.nonceLo(slot);
  if (isGreaterU64(nonceHi, nonceLo, lastHi, lastLo)) return UPDATE.refreshed;
  if (
    lastHi === U32_MAX && lastLo >= U32_MAX - NONCE_WRAP_WINDOW &&
    nonceHi === 0 && nonceLo <= NONCE_WRAP_WINDOW
  ) return UPDATE.wrapped;
  return isSessionRestart(slots, slot, beat) ? UPDATE.restarted : UPDATE.outOfOrder;
}

/**
 * A client made anew inside the same process counts from 1 again, and its clock from its own start.
 * Believed only where the kernel says that it is the same process; otherwise a replay would do.
 */
function isSessionRestart(
  slots: SlotView,
  slot: number,
  beat: Readonly<BeatInput>,
): boolean {
  return beat.nonceHi === 0 && beat.nonceLo === 1 &&
    slots.origin(slot) === ORIGIN.kernelAttested &&
    beat.generation !== 0 && beat.generation === slots.generation(slot) &&
    isGreaterU64(
      slots.timestampHi(slot),
      slots.timestampLo(slot),
      beat.timestampHi,
      beat.timestampLo,
    );
}
