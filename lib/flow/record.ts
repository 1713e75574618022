/**
 * Flow facts as fixed-size records, so that the worker hands over hundreds with one transfer and
 * makes no object for any of them.
 *
 *   0 kind · 1 verdict · 2 close reason · 3 source · 4 cell (u32) · 8 sequence (u32) ·
 *   12 prefix number (u16) · 14 zero · 16 flow key (40) · 56 time (f64, ms since 1970) ·
 *   64 opened (f64) · 72 packets out · 80 bytes out · 88 packets in · 96 bytes in (f64 each)
 *
 * "Out" is the opener's direction. Counters are numbers: above 2^53 they round. In a loss record
 * the four counters are lost, sequence lost, socket drops, zero, and `opened` is the start of the
 * time in which it happened. Host byte order is little endian on both supported architectures,
 * and the views say so.
 *
 * @module
 */
import type { VerdictCode } from "./prefix.ts";

/** Bytes of one record. */
export const RECORD_BYTES = 104;
/** Records of one batch. */
export const BATCH_RECORDS_MAX = 512;
/** Where a record's flow key starts. */
export const RECORD_KEY = 16;

/** What a record tells. */
export const RECORD_KIND = { decision: 1, closed: 2, loss: 3 } as const;

/** Why a flow is closed, by its code. */
export const CLOSE_REASONS = ["closed", "expired", "teardown", "unwatched"] as const;
/** Why a flow is closed. */
export type CloseReason = (typeof CLOSE_REASONS)[number];

/** Who told of a decision: the packet log, or a program in the kernel. */
export const DECISION_SOURCE = { log: 0, program: 1 } as const;
/** A value of {@link DECISION_SOURCE}. */
export type DecisionSource = (typeof DECISION_SOURCE)[keyof typeof DECISION_SOURCE];

/**
 * What lost records, by its code: the packet log's socket, the one of connection ends, or the
 * ring of the flow program.
 */
export const LOSS_CAUSES = ["overrun", "conntrack-overrun", "bpf-ring-full"] as const;
/** What lost records. */
export type LossCause = (typeof LOSS_CAUSES)[number];

const KIND = 0;
const VERDICT_AT = 1;
const REASON = 2;
const SOURCE = 3;
const CELL = 4;
const SEQUENCE = 8;
const PREFIX = 12;
const TIME = 56;
const OPENED = 64;
const COUNTERS = 72;

/** Packets and bytes of both directions, seen from the opener. */
export interface FlowCounts {
  /** Packets from the opener. */
  readonly packetsOut: number;
  /** Bytes from the opener, headers included. */
  readonly bytesOut: number;
  /** Packets to the opener. */
  readonly packetsIn: number;
  /** Bytes to the opener, headers included. */
  readonly bytesIn: number;
}

/** Fills one batch. The owner takes the bytes and starts a new one when it is full. */
export class RecordWriter {
  readonly #max: number;
  #bytes: Uint8Array<ArrayBuffer>;
  #view: DataView<ArrayBuffer>;
  #count = 0;

  /**
   * Starts an empty batch.
   *
   * @param recordsMax Records of a batch.
   */
  constructor(recordsMax: number = BATCH_RECORDS_MAX) {
    this.#max = recordsMax;
    this.#bytes = new Uint8Array(recordsMax * RECORD_BYTES);
    this.#view = new DataView(this.#bytes.buffer);
  }

  /** Records written and not taken. */
  get count(): number {
    return this.#count;
  }

  /** Whether the next record needs {@link RecordWriter.take} first. */
  get isFull(): boolean {
    return this.#count === this.#max;
  }

  /** The buffer; a key is decoded straight into it at {@link RecordWriter.keyAt}. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#bytes;
  }

  /** Where the next record's flow key goes. */
  get keyAt(): number {
    return this.#count * RECORD_BYTES + RECORD_KEY;
  }

  /** Finishes a decision whose key was written at {@link RecordWriter.keyAt}. */
  commitDecision(
    cell: number,
    sequence: number,
    prefix: number,
    verdict: VerdictCode,
    timeMs: number,
    source: DecisionSource = DECISION_SOURCE.log,
  ): void {
    const at = this.#start(RECORD_KIND.decision, cell, timeMs);
    this.#bytes[at + VERDICT_AT] = verdict;
    this.#bytes[at + SOURCE] = source;
    this.#view.setUint32(at + SEQUENCE, sequence, true);
    this.#view.setUint16(at + PREFIX, prefix, true);
  }

  /** Finishes the end of a flow whose key was written at {@link RecordWriter.keyAt}. */
  commitClosed(
    cell: number,
    reason: CloseReason,
    counts: FlowCounts,
    times: { openedMs: number; closedMs: number },
  ): void {
    const at = this.#start(RECORD_KIND.closed, cell, times.closedMs);
    this.#bytes[at + REASON] = CLOSE_REASONS.indexOf(reason);
    this.#view.setFloat64(at + OPENED, times.openedMs, true);
    this.#setCounters(at, counts.packetsOut, counts.bytesOut, counts.packetsIn, counts.bytesIn);
  }

  /** Adds a loss. */
  commitLoss(
    cell: number,
    cause: LossCause,
    gap: { lost: number; sequenceLost: number; socketDrops: number },
    times: { fromMs: number; toMs: number },
  ): void {
    this.#bytes.fill(0, this.keyAt, this.keyAt + TIME - RECORD_KEY);
    const at = this.#start(RECORD_KIND.loss, cell, times.toMs);
    this.#bytes[at + REASON] = LOSS_CAUSES.indexOf(cause);
    this.#view.setFloat64(at + OPENED, times.fromMs, true);
    this.#setCounters(at, gap.lost, gap.sequenceLost, gap.socketDrops, 0);
  }

  /** The written records; the writer then starts an empty batch. */
  take(): Uint8Array<ArrayBuffer> {
    // A short batch is copied, so that the large buffer stays here and little is transferred.
    const usedBytes = this.#count * RECORD_BYTES;
    this.#count = 0;
    if (usedBytes * 2 < this.#bytes.length) return this.#bytes.slice(0, usedBytes);
    const taken = this.#bytes.subarray(0, usedBytes);
    this.#bytes = new Uint8Array(this.#max * RECORD_BYTES);
    this.#view = new DataView(this.#bytes.buffer);
    return taken;
  }

  #start(kind: number, cell: number, timeMs: number): number {
    const at = this.#count * RECORD_BYTES;
    this.#count += 1;
    this.#bytes.fill(0, at, at + RECORD_KEY);
    this.#bytes[at + KIND] = kind;
    this.#view.setUint32(at + CELL, cell, true);
    this.#view.setFloat64(at + TIME, timeMs, true);
    this.#bytes.fill(0, at + OPENED, at + RECORD_BYTES);
    return at;
  }

  #setCounters(at: number, a: number, b: number, c: number, d: number): void {
    this.#view.setFloat64(at + COUNTERS, a, true);
    this.#view.setFloat64(at + COUNTERS + 8, b, true);
    this.#view.setFloat64(at + COUNTERS + 16, c, true);
    this.#view.setFloat64(at + COUNTERS + 24, d, true);
  }
}

/** A batch as the worker's owner gets it. */
export interface FlowBatch {
  /** Whole records; a partial one at the end is not read. */
  readonly records: Uint8Array<ArrayBuffer>;
  /** Prefix texts by number, all so far; the same array grows from batch to batch. */
  readonly prefixes: readonly string[];
}

/** Reads the records of a batch, one at a time, in place. */
export class RecordReader {
  readonly #view: DataView<ArrayBuffer>;
  /** The batch's bytes. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Records in the batch. */
  readonly count: number;
  #at = 0;

  /** Reads what a {@link RecordWriter} wrote. */
  constructor(records: Uint8Array<ArrayBuffer>) {
    this.bytes = records;
    this.#view = new DataView(records.buffer, records.byteOffset, records.byteLength);
    this.count = Math.floor(records.length / RECORD_BYTES);
  }

  /** Goes to a record, 0 up to `count`. */
  seek(index: number): void {
    this.#at = index * RECORD_BYTES;
  }

  /** A value of {@link RECORD_KIND}. */
  get kind(): number {
    return this.bytes[this.#at + KIND];
  }
  /** The verdict of a decision. */
  get verdict(): VerdictCode {
    return this.bytes[this.#at + VERDICT_AT] as VerdictCode;
  }
  /** Who told of a decision. */
  get source(): DecisionSource {
    return this.bytes[this.#at + SOURCE] as DecisionSource;
  }
  /** Why a flow closed. */
  get closeReason(): CloseReason {
    return CLOSE_REASONS[this.bytes[this.#at + REASON]] ?? "closed";
  }
  /** What lost records. */
  get lossCause(): LossCause {
    return LOSS_CAUSES[this.bytes[this.#at + REASON]] ?? "overrun";
  }
  /** The number that the cell was watched under. */
  get cell(): number {
    return this.#view.getUint32(this.#at + CELL, true);
  }
  /** The kernel's number of a decision's packet. */
  get sequence(): number {
    return this.#view.getUint32(this.#at + SEQUENCE, true);
  }
  /** Index into the batch's prefixes. */
  get prefix(): number {
    return this.#view.getUint16(this.#at + PREFIX, true);
  }
  /** Where the flow key starts in `bytes`. */
  get keyAt(): number {
    return this.#at + RECORD_KEY;
  }
  /** When it was observed, closed, or the loss ended; ms since 1970. */
  get timeMs(): number {
    return this.#view.getFloat64(this.#at + TIME, true);
  }
  /** When the flow opened or the loss began; ms since 1970, 0 when not known. */
  get openedMs(): number {
    return this.#view.getFloat64(this.#at + OPENED, true);
  }
  /** One of the four counters, 0 to 3, in the order of the layout. */
  counter(index: number): number {
    return this.#view.getFloat64(this.#at + COUNTERS + index * 8, true);
  }
}
