/**
 * What one cell's listener counted.
 *
 * @module
 */

import type { ProgramCounters } from "./program_counters.ts";

/** Counters of one listener, from bind to close. */
export interface FlowListenerStats {
  /** Datagrams received from the packet log. */
  readonly datagrams: number;
  /** Logged packets received, ours or not: what sequence numbers count. */
  readonly packets: number;
  /** Of them with our prefix. */
  readonly seen: number;
  /** Packets known to be lost before us: holes in the sequence, or drops where these are more. */
  readonly lost: number;
  /** Of the lost, holes in the sequence. */
  readonly sequenceLost: number;
  /** Datagrams that the socket dropped. */
  readonly socketDrops: number;
  /** Messages that could not be decoded. */
  readonly decodeFailed: number;
  /** Packets on the group with somebody else's prefix. */
  readonly foreign: number;
  /** Packets of ours whose prefix found the table of prefixes full: their rule is not known. */
  readonly prefixOverflow: number;
  /** Flow ends told. */
  readonly closed: number;
  /** Times that the connection tracker's events overran their socket: ends were lost. */
  readonly conntrackOverruns: number;
  /** Ends that had to be told without waiting for their decision, the queue being full. */
  readonly closeQueueFull: number;
  /** By rule, where a flow program told of accepted flows. */
  readonly programs?: readonly ProgramCounters[];
}

/** Counters at the start. */
export const EMPTY_LISTENER_STATS: FlowListenerStats = {
  datagrams: 0,
  packets: 0,
  seen: 0,
  lost: 0,
  sequenceLost: 0,
  socketDrops: 0,
  decodeFailed: 0,
  foreign: 0,
  prefixOverflow: 0,
  closed: 0,
  conntrackOverruns: 0,
  closeQueueFull: 0,
};
