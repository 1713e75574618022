/**
 * What the shell counts beside the core: errors of sockets, what did not fit, what it did. One
 * table in shared memory, written by its worker alone and read by the owner at any time.
 *
 * A datagram is in one of these only if the core had already counted it as forwarded: so
 * `forwarded = sent + queued now + not sent, by reason`.
 *
 * @module
 */

/** Columns. */
export const SHELL_COUNTER = {
  /** Handed to the kernel for a backend. */
  sentToBackend: 0,
  /** Handed to the kernel for a client. */
  sentToClient: 1,
  /** A write queue was full. */
  queueFull: 2,
  /** The kernel refused the datagram. */
  sendError: 3,
  /** The flow's socket could not be opened, or was gone. */
  noSocket: 4,
  /** Opening a flow's socket met a limit (descriptors, ports, memory). */
  limitReached: 5,
  /** Waited in a write queue when its flow or listener ended. */
  queueDiscarded: 6,
  /** ICMP messages about backends. */
  icmp: 7,
  /** Sent again after an error that was an earlier datagram's. */
  retried: 8,
  /** Datagrams that went as part of a run. */
  inRuns: 9,
  /** Datagrams that had to wait in a write queue. */
  queued: 10,
  /** Dropped by the kernel at the listeners' sockets. */
  kernelDropped: 11,
  /** Handed over to the worker that owns the connection. */
  handedOver: 12,
  /** Taken over from other workers. */
  takenOver: 13,
  /** Could not be handed over: the other worker is behind. */
  handOverFull: 14,
  /** Of an untrusted source, or wrong: a PROXY protocol header. */
  proxyRefused: 15,
  /** Live flows. */
  flows: 16,
  /** Turns of the loop. */
  turns: 17,
  /**
   * Dropped on the way back: not from the flow's backend, or for no flow; see `sources_worker.ts`.
   * In the portable shell also what comes by IPv4 to a listener of IPv6 alone.
   */
  foreign: 18,
  /** Replies that the kernel dropped at flows' sockets, counted when a flow ends. */
  repliesKernelDropped: 19,
} as const;

/** A value of {@link SHELL_COUNTER}. */
export type ShellCounter = (typeof SHELL_COUNTER)[keyof typeof SHELL_COUNTER];

/** Names by column. */
export const SHELL_COUNTER_NAMES: readonly string[] = Object.keys(SHELL_COUNTER);

/** Bytes of one worker's table. */
export const SHELL_COUNTER_BYTES: number = SHELL_COUNTER_NAMES.length * 8;

/** A table over (shared) memory. */
export function shellCounters(memory: SharedArrayBuffer): Float64Array<SharedArrayBuffer> {
  return new Float64Array(memory, 0, SHELL_COUNTER_NAMES.length);
}

/** A table by names. */
export function readShellCounters(table: Float64Array): Record<string, number> {
  return Object.fromEntries(SHELL_COUNTER_NAMES.map((name, column) => [name, table[column]]));
}
