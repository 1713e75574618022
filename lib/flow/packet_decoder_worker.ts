/**
 * Turns the datagrams of one cell's packet log into records, and counts: the hot path.
 *
 * A packet costs no object: the cursor walks in place, the prefix is looked up by its bytes, and
 * the key is written straight into the batch. Bytes that cannot be read are counted, never
 * thrown about.
 *
 * @module
 */
import { NflogCursor } from "#ffi/mod.ts";
import type { BatchSink } from "./batch_sink.ts";
import { writeFlowKey } from "./packet.ts";
import { PREFIX_FOREIGN, PREFIX_OVERFLOW } from "./prefix.ts";
import { SequenceTracker } from "./sequence.ts";
import { EMPTY_LISTENER_STATS, type FlowListenerStats } from "./stats.ts";

/** The decoder of one cell. */
export class PacketDecoder {
  /** What arrived and what did not. */
  readonly tracker: SequenceTracker = new SequenceTracker();
  readonly #cell: number;
  readonly #sink: BatchSink;
  readonly #cursor = new NflogCursor();
  #datagrams = 0;
  #seen = 0;
  #foreign = 0;
  #prefixOverflow = 0;

  /** @param cell The number that the records carry. */
  constructor(cell: number, sink: BatchSink) {
    this.#cell = cell;
    this.#sink = sink;
  }

  /**
   * Decodes the datagram at the start of `bytes`. Returns whether packets are missing before or
   * within it.
   */
  handleDatagram(bytes: Uint8Array, sizeBytes: number, nowMs: number): boolean {
    const cursor = this.#cursor;
    let hasHole = false;
    this.#datagrams += 1;
    cursor.reset(bytes, sizeBytes);
    while (cursor.next()) {
      if (cursor.sequence < 0) this.tracker.observeUnnumbered();
      else if (this.tracker.observe(cursor.sequence) > 0) hasHole = true;
      const prefix = this.#sink.prefixes.intern(bytes, cursor.prefixStart, cursor.prefixLength);
      if (prefix === PREFIX_FOREIGN) {
        this.#foreign += 1;
        continue;
      }
      if (prefix === PREFIX_OVERFLOW) this.#prefixOverflow += 1;
      this.#seen += 1;
      const writer = this.#sink.reserve();
      writeFlowKey(bytes, cursor.payloadStart, cursor.payloadLength, writer.bytes, writer.keyAt);
      const verdict = this.#sink.prefixes.lastVerdict;
      writer.commitDecision(this.#cell, cursor.sequence >>> 0, prefix, verdict, nowMs);
    }
    return hasHole;
  }

  /** The counters so far; those of ends of connections are 0 here. */
  stats(): FlowListenerStats {
    return {
      ...EMPTY_LISTENER_STATS,
      datagrams: this.#datagrams,
      packets: this.tracker.seen,
      seen: this.#seen,
      lost: this.tracker.lost,
      sequenceLost: this.tracker.sequenceLost,
      socketDrops: this.tracker.socketDrops,
      decodeFailed: this.#cursor.malformed,
      foreign: this.#foreign,
      prefixOverflow: this.#prefixOverflow,
    };
  }
}
