/**
 * Which sealed frames were seen before: a state for each authenticated pid.
 *
 * A counter only grows under one prefix; one prefix back is remembered, so that the last packets of
 * an old session may come late. A new prefix must bring a newer nonce (or, for the last word of a
 * process, a later time), and so must all that comes under it: a prefix that was forgotten and is
 * taken for new again does not let its old frames in. A pid that was silent for {@link SessionOptions.gapNs} may begin again.
 *
 * Pure. Bounded by {@link SECURE_SENDERS_MAX}: where it is full of live senders, a new one is refused,
 * and nobody is forgotten for it. Only authenticated frames ever change it.
 *
 * @module
 */
import type { VlpFrame } from "./vlp_frame.ts";

/** Senders that are remembered. */
export const SECURE_SENDERS_MAX = 1024;
/** A sender that was silent for so long is forgotten. */
export const SECURE_SENDER_TTL_NS = 600e9;
/** How often forgotten senders are looked for. */
export const SECURE_SWEEP_NS = 60e9;

/** How the table behaves. */
export interface SessionOptions {
  /** Silence after which a pid may start again with an older nonce. */
  readonly gapNs: number;
}

/** What became of an authenticated frame. */
export type Admission = "accepted" | "restarted" | "replayed" | "full";

/** What can be said of a packet before any key is touched. */
export type Glance = "known" | "stale" | "unknown";

/** The newest frames of a sender; `undefined` where none of the kind came. */
interface Newest {
  nonce: bigint | undefined;
  terminalTime: bigint | undefined;
}

interface Sender extends Newest {
  prefix: bigint;
  counter: number;
  /** What was newest when the prefix came. */
  floor: Readonly<Newest>;
  previousPrefix: bigint | undefined;
  previousCounter: number;
  previousFloor: Readonly<Newest>;
  lastNs: number;
}

const NOTHING: Readonly<Newest> = { nonce: undefined, terminalTime: undefined };

/** Marks a prefix that several pids use: it tells nothing. */
const AMBIGUOUS = -1;

/** The replay states of all senders. */
export class SecureSessions {
  readonly #gapNs: number;
  readonly #senders = new Map<number, Sender>();
  readonly #pidByPrefix = new Map<bigint, number>();
  #sweepDueNs = SECURE_SWEEP_NS;

  /** An empty table. */
  constructor({ gapNs }: SessionOptions) {
    this.#gapNs = gapNs;
  }

  /** How many senders are remembered. */
  get size(): number {
    return this.#senders.size;
  }

  /**
   * Judges a packet by its bare nonce: of a session that we know and newer than all of it, older (it
   * cannot be accepted any more), or unknown. Nothing is authenticated by this.
   *
   * @param claimedPid The pid in front of a packet of the master form.
   */
  glance(prefix: bigint, counter: number, claimedPid?: number): Glance {
    const pid = this.#pidByPrefix.get(prefix);
    if (pid === undefined || pid === AMBIGUOUS) return "unknown";
    if (claimedPid !== undefined && claimedPid !== pid) return "unknown";
    const sender = this.#senders.get(pid)!;
    const last = sender.prefix === prefix ? sender.counter : sender.previousCounter;
    return counter > last ? "known" : "stale";
  }

  /** Whether a frame of this pid would be refused for want of room. */
  isFullFor(pid: number, nowNs: number): boolean {
    if (this.#senders.size < SECURE_SENDERS_MAX || this.#senders.has(pid)) return false;
    this.#sweep(nowNs);
    return this.#senders.size >= SECURE_SENDERS_MAX;
  }

  /** Judges an authenticated frame, and remembers it where it is accepted. */
  admit(frame: Readonly<VlpFrame>, prefix: bigint, counter: number, nowNs: number): Admission {
    if (nowNs >= this.#sweepDueNs) this.#sweep(nowNs);
    const sender = this.#senders.get(frame.pid);
    if (sender === undefined) {
      if (this.isFullFor(frame.pid, nowNs)) return "full";
      this.#senders.set(frame.pid, this.#begin(frame, prefix, counter, nowNs));
      return "accepted";
    }
    const admission = this.#judge(sender, frame, prefix, counter, nowNs);
    if (admission === "replayed") return admission;
    if (admission === "restarted") {
      this.#forget(frame.pid, sender);
      this.#senders.set(frame.pid, this.#begin(frame, prefix, counter, nowNs));
      return admission;
    }
    noteFrame(sender, frame);
    sender.lastNs = nowNs;
    return "accepted";
  }

  #judge(
    sender: Sender,
    frame: Readonly<VlpFrame>,
    prefix: bigint,
    counter: number,
    nowNs: number,
  ): Admission {
    if (prefix === sender.prefix) {
      if (counter <= sender.counter || !isNewer(sender.floor, frame)) return "replayed";
      sender.counter = counter;
      return "accepted";
    }
    if (prefix === sender.previousPrefix) {
      if (counter <= sender.previousCounter || !isNewer(sender.previousFloor, frame)) {
        return "replayed";
      }
      sender.previousCounter = counter;
      return "accepted";
    }
    if (isNewer(sender, frame)) {
      this.#shift(sender, frame.pid, prefix, counter);
      return "accepted";
    }
    const isSilent = nowNs - sender.lastNs >= this.#gapNs;
    return !frame.isTerminal && isSilent ? "restarted" : "replayed";
  }

  #begin(frame: Readonly<VlpFrame>, prefix: bigint, counter: number, nowNs: number): Sender {
    const sender: Sender = {
      prefix,
      counter,
      floor: NOTHING,
      previousPrefix: undefined,
      previousCounter: 0,
      previousFloor: NOTHING,
      nonce: undefined,
      terminalTime: undefined,
      lastNs: nowNs,
    };
    noteFrame(sender, frame);
    this.#index(prefix, frame.pid);
    return sender;
  }

  #shift(sender: Sender, pid: number, prefix: bigint, counter: number): void {
    if (sender.previousPrefix !== undefined) this.#pidByPrefix.delete(sender.previousPrefix);
    sender.previousPrefix = sender.prefix;
    sender.previousCounter = sender.counter;
    sender.previousFloor = sender.floor;
    sender.floor = { nonce: sender.nonce, terminalTime: sender.terminalTime };
    sender.prefix = prefix;
    sender.counter = counter;
    this.#index(prefix, pid);
  }

  #index(prefix: bigint, pid: number): void {
    const other = this.#pidByPrefix.get(prefix);
    this.#pidByPrefix.set(prefix, other === undefined || other === pid ? pid : AMBIGUOUS);
  }

  #forget(pid: number, sender: Sender): void {
    this.#senders.delete(pid);
    this.#pidByPrefix.delete(sender.prefix);
    if (sender.previousPrefix !== undefined) this.#pidByPrefix.delete(sender.previousPrefix);
  }

  #sweep(nowNs: number): void {
    this.#sweepDueNs = nowNs + SECURE_SWEEP_NS;
    for (const [pid, sender] of this.#senders) {
      if (nowNs - sender.lastNs >= SECURE_SENDER_TTL_NS) this.#forget(pid, sender);
    }
  }
}

function isNewer({ nonce, terminalTime }: Readonly<Newest>, frame: Readonly<VlpFrame>): boolean {
  if (frame.isTerminal) return terminalTime === undefined || timeOf(frame) > terminalTime;
  return nonce === undefined || nonceOf(frame) > nonce;
}

function noteFrame(sender: Sender, frame: Readonly<VlpFrame>): void {
  if (frame.isTerminal) {
    const time = timeOf(frame);
    if (sender.terminalTime === undefined || time > sender.terminalTime) sender.terminalTime = time;
    return;
  }
  const nonce = nonceOf(frame);
  if (sender.nonce === undefined || nonce > sender.nonce) sender.nonce = nonce;
}

function nonceOf(frame: Readonly<VlpFrame>): bigint {
  return BigInt(frame.nonceHi) << 32n | BigInt(frame.nonceLo);
}

function timeOf(frame: Readonly<VlpFrame>): bigint {
  return BigInt(frame.timestampHi) << 32n | BigInt(frame.timestampLo);
}
