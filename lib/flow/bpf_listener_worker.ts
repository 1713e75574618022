/**
 * The accepted flows of one cell as programs in the kernel tell them: records of the ring become
 * decisions, and what found the ring full becomes told loss.
 *
 * What was dropped is told by the packet log as ever: the program sees only what the ruleset let
 * go and marked, so that nothing comes twice.
 *
 * @module
 */
import { type Fd, monotonicNanoseconds } from "#ffi/mod.ts";
import type { BatchSink } from "./batch_sink.ts";
import { BPF_RECORD } from "./bpf_program.ts";
import { FLOW_KEY_BYTES } from "./flow_key.ts";
import { FlowPrograms } from "./flow_programs_shell.ts";
import { LOSS_INTERVAL_MS } from "./packet_listener_worker.ts";
import { formatLogPrefix, LOG_PREFIX_BASE, VERDICT } from "./prefix.ts";
import type { ProgramCounters } from "./program_counters.ts";
import { DECISION_SOURCE } from "./record.ts";

/** Records taken in one go, so that no cell starves the others. */
const RECORDS_PER_TURN = 2048;
/** Records taken at the end; above what a ring holds. */
const RECORDS_AT_END_MAX = 262_144;
/** How often told flows are looked through for old ones, while there are any. */
const FORGET_INTERVAL_MS = 30_000;
/** Between two parts of one look. */
const FORGET_PAUSE_MS = 5;

/** The programs' listener of one cell. */
export class BpfListener {
  readonly #cell: number;
  readonly #sink: BatchSink;
  readonly #programs: FlowPrograms;
  readonly #refs: readonly string[];
  /** The log prefix that stands for each mark; the first for marks that are out of range. */
  readonly #prefixes: readonly Uint8Array[];
  #sequence = 0;
  #lostTold = 0;
  #lossFromMs: number;
  /** When the counters are to be looked at; absent while nothing came since the last look. */
  #lookAtMs: number | undefined;
  #forgetAtMs: number | undefined;
  #isForgetting = false;
  #keptCount = 0;
  #final: readonly ProgramCounters[] = [];

  /**
   * Loads the program and attaches it. Throws `BpfError`, `SyscallError`, after which nothing is
   * left.
   *
   * @param options `acceptRefs`: the rule of each mark, the first of mark 1.
   */
  constructor(
    options: {
      cell: number;
      cgroupFd: number;
      acceptRefs: readonly string[];
      nowMs: number;
    },
    sink: BatchSink,
  ) {
    const encoder = new TextEncoder();
    this.#cell = options.cell;
    this.#sink = sink;
    this.#refs = options.acceptRefs;
    this.#lossFromMs = options.nowMs;
    this.#prefixes = [
      encoder.encode(`${LOG_PREFIX_BASE} accept`),
      ...this.#refs.map((ref) => encoder.encode(formatLogPrefix(ref, "accept"))),
    ];
    this.#programs = new FlowPrograms({ cgroupFd: options.cgroupFd, marksMax: this.#refs.length });
  }

  /** For the epoll. */
  get fd(): Fd {
    return this.#programs.fd;
  }

  /** When loss has to be looked for, or old flows forgotten. */
  pollTimeout(): number | undefined {
    const dueMs = Math.min(this.#lookAtMs ?? Infinity, this.#forgetAtMs ?? Infinity);
    return dueMs === Infinity ? undefined : dueMs;
  }

  /** Reads what is there, up to a bound. */
  drain(nowMs: number): void {
    if (this.#drain(nowMs, RECORDS_PER_TURN) === 0) return;
    this.#lookAtMs ??= nowMs + LOSS_INTERVAL_MS;
    this.#forgetAtMs ??= nowMs + FORGET_INTERVAL_MS;
  }

  /** Tells loss and forgets old flows when it is time. */
  handleTimeout(nowMs: number): void {
    if (this.#lookAtMs !== undefined && nowMs >= this.#lookAtMs) {
      this.#lookAtMs = undefined;
      this.#tellLoss(nowMs);
    }
    if (this.#forgetAtMs !== undefined && nowMs >= this.#forgetAtMs) this.#forgetSome(nowMs);
  }

  /** Detaches, reads what is left, and tells all loss. */
  finish(nowMs: number): void {
    this.#programs.detach();
    this.#drain(nowMs, RECORDS_AT_END_MAX);
    this.#tellLoss(nowMs);
    const counters = this.#programs.counters();
    this.#final = this.#refs.map((ruleRef, index) => ({ ruleRef, ...counters[index + 1] }));
  }

  /** What the program counted, by rule; after {@link BpfListener.finish}. */
  stats(): readonly ProgramCounters[] {
    return this.#final;
  }

  /** Gives everything back; the second time it does nothing. */
  close(): void {
    this.#programs.close();
  }

  #drain(nowMs: number, recordsMax: number): number {
    // The kernel tells its own clock's time: what matters is how long ago that was.
    const nowNs = monotonicNanoseconds();
    return this.#programs.drain(
      (bytes, start) => this.#handleRecord(bytes, start, nowMs, nowNs),
      recordsMax,
    );
  }

  #handleRecord(bytes: Uint8Array, start: number, nowMs: number, nowNs: bigint): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset + start);
    const mark = view.getUint32(BPF_RECORD.mark, true);
    const agoMs = Number(nowNs - view.getBigUint64(BPF_RECORD.time, true)) / 1e6;
    const prefix = this.#prefixes[mark] ?? this.#prefixes[0];
    const prefixNumber = this.#sink.prefixes.intern(prefix, 0, prefix.length);
    const writer = this.#sink.reserve();
    const key = start + BPF_RECORD.key;
    writer.bytes.set(bytes.subarray(key, key + FLOW_KEY_BYTES), writer.keyAt);
    this.#sequence = (this.#sequence + 1) >>> 0;
    writer.commitDecision(
      this.#cell,
      this.#sequence,
      prefixNumber,
      VERDICT.accept,
      Math.round(nowMs - Math.max(0, agoMs)),
      DECISION_SOURCE.program,
    );
  }

  #tellLoss(nowMs: number): void {
    const lost = this.#programs.counters().reduce((sum, mark) => sum + mark.lost, 0);
    const fromMs = this.#lossFromMs;
    this.#lossFromMs = nowMs;
    if (lost === this.#lostTold) return;
    const gap = { lost: lost - this.#lostTold, sequenceLost: 0, socketDrops: 0 };
    this.#lostTold = lost;
    this.#sink.reserve().commitLoss(this.#cell, "bpf-ring-full", gap, { fromMs, toMs: nowMs });
  }

  #forgetSome(nowMs: number): void {
    if (!this.#isForgetting) this.#keptCount = 0;
    const { isDone, kept } = this.#programs.forgetSome(monotonicNanoseconds());
    this.#keptCount += kept;
    this.#isForgetting = !isDone;
    if (!isDone) this.#forgetAtMs = nowMs + FORGET_PAUSE_MS;
    else this.#forgetAtMs = this.#keptCount > 0 ? nowMs + FORGET_INTERVAL_MS : undefined;
  }
}
