/**
 * What a beating process says next: nonce, timestamp and status of each VLP frame, by the rules
 * that observers check.
 *
 * The first nonce is 1, each beat adds one, sent or not (observers see a gap, which is normal);
 * past FFFFFFFFFFFFFFFE it goes on at 0. Timestamps are nanoseconds since the start and never
 * fall. A process that forked is a new agent and starts again. Pure: the clock and the pid are
 * arguments. `beat_shell.ts` sends.
 *
 * @module
 */
import { encodeFrame, FRAME_BYTES, STATUS, U32_MAX, VlpFrame } from "#lib/liveness/mod.ts";

/** What an agent may say of itself. `stall` is for observers to say. */
export type BeatStatus = "ok" | "degraded" | "critical";

/** What became of a beat. */
export type BeatOutcome =
  | { readonly kind: "sent" }
  /** Not delivered and not worth an error: the next beat may be. */
  | { readonly kind: "dropped"; readonly reason: DropReason }
  | { readonly kind: "failed"; readonly errno: string };

/** Why a beat was dropped. */
export type DropReason = "kernel_queue_full" | "no_observer" | "peer_gone" | "storage_full";

const DROP_REASONS: Readonly<Record<string, DropReason>> = {
  ENOBUFS: "kernel_queue_full",
  EAGAIN: "kernel_queue_full",
  ECONNREFUSED: "no_observer",
  ENOENT: "no_observer",
  ECONNRESET: "peer_gone",
  ENOTCONN: "peer_gone",
  EPIPE: "peer_gone",
  ENOSPC: "storage_full",
};

/** What an error of `send(2)` means for a beat; its name as in errno(3). */
export function outcomeOfErrno(errno: string): BeatOutcome {
  const reason = DROP_REASONS[errno];
  return reason === undefined ? { kind: "failed", errno } : { kind: "dropped", reason };
}

const TWO_TO_32 = 2 ** 32;

/** See the module. */
export class BeatSequence {
  /** The frame that {@link BeatSequence.next} wrote last. */
  readonly bytes: Uint8Array<ArrayBuffer> = new Uint8Array(FRAME_BYTES);
  readonly #frame = new VlpFrame();
  #startedNs: number;
  #lastNs = 0;
  #nonceHi = 0;
  #nonceLo = 0;

  /**
   * @param pid As the process sees itself, above 1.
   * @param nowNs The time of the start, on any clock that does not fall.
   */
  constructor(pid: number, nowNs: number) {
    this.#frame.pid = pid;
    this.#startedNs = nowNs;
  }

  /** The pid that the frames name. */
  get pid(): number {
    return this.#frame.pid;
  }

  /** Starts again where the process is another one than before; says whether it is. */
  follow(pid: number, nowNs: number): boolean {
    if (pid === this.#frame.pid) return false;
    this.#frame.pid = pid;
    this.#startedNs = nowNs;
    this.#lastNs = 0;
    this.#nonceHi = 0;
    this.#nonceLo = 0;
    return true;
  }

  /** Writes the next beat into {@link BeatSequence.bytes}. `payload` is 32 bits, passed through. */
  next(status: BeatStatus, payload: number, nowNs: number): Uint8Array<ArrayBuffer> {
    this.#advance();
    return this.#write(status, payload, nowNs, this.#nonceHi, this.#nonceLo);
  }

  /** Writes the last word of a process that panics: critical, with the terminal nonce. */
  last(nowNs: number): Uint8Array<ArrayBuffer> {
    // Observers order last words by their time: it must have grown.
    return this.#write("critical", 0, Math.max(nowNs, this.#startedNs + this.#lastNs + 1));
  }

  #advance(): void {
    this.#nonceLo = (this.#nonceLo + 1) >>> 0;
    if (this.#nonceLo === 0) this.#nonceHi = (this.#nonceHi + 1) >>> 0;
    if (this.#nonceHi !== U32_MAX || this.#nonceLo !== U32_MAX) return;
    this.#nonceHi = 0;
    this.#nonceLo = 0;
  }

  #write(
    status: BeatStatus,
    payload: number,
    nowNs: number,
    nonceHi = U32_MAX,
    nonceLo = U32_MAX,
  ): Uint8Array<ArrayBuffer> {
    this.#lastNs = Math.max(this.#lastNs, Math.floor(nowNs - this.#startedNs));
    const frame = this.#frame;
    frame.status = STATUS[status];
    frame.payload = payload >>> 0;
    frame.timestampHi = Math.floor(this.#lastNs / TWO_TO_32);
    frame.timestampLo = this.#lastNs % TWO_TO_32;
    frame.nonceHi = nonceHi;
    frame.nonceLo = nonceLo;
    encodeFrame(frame, this.bytes);
    return this.bytes;
  }
}
