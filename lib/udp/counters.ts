/**
 * Counters of what happened, in rows: one for each listener and one for each backend.
 *
 * There is one place that counts each thing, and a drop is counted once, under its reason. Counters
 * only grow; whoever wants a rate takes differences.
 *
 * @module
 */
import { DROP_NAMES, type DropReason } from "./contract.ts";

/** Columns; each one of datagrams is followed by that of their bytes. Drops follow, one column a reason (see {@link dropColumn}). */
export const COUNTER = {
  /** Datagrams that came from clients, whatever became of them. */
  clientDatagrams: 0,
  clientBytes: 1,
  /** Datagrams that came from backends, whatever became of them. */
  backendDatagrams: 2,
  backendBytes: 3,
  /** Forwarded from clients to backends. */
  datagramsIn: 4,
  /** Their payload, without headers that were put before it. */
  bytesIn: 5,
  /** Forwarded from backends to clients. */
  datagramsOut: 6,
  bytesOut: 7,
  flowsCreated: 8,
  flowsClosed: 9,
  /** New flows that were refused since the table was full. */
  flowsShed: 10,
  /** Flows that left their backend for another one. */
  reselections: 11,
  /** Errors that upstream sockets reported. */
  upstreamErrors: 12,
} as const;
/** A value of {@link COUNTER}. */
export type Counter = (typeof COUNTER)[keyof typeof COUNTER];

const COUNTERS = Object.keys(COUNTER).length;
const COLUMNS = COUNTERS + DROP_NAMES.length;

/** Names of all columns; a drop's is `dropped.` and its reason. */
export const COUNTER_NAMES: readonly string[] = [
  ...Object.keys(COUNTER),
  ...DROP_NAMES.map((name) => `dropped.${name}`),
];

/** The column of a drop reason. */
export function dropColumn(reason: DropReason): number {
  return COUNTERS + reason;
}

/** Rows of counters. Row -1 is for what belongs to none. */
export class CounterRows {
  #values = new Float64Array(COLUMNS * 8);

  /** Adds to one counter. */
  add(row: number, column: number, amount: number): void {
    const at = (row + 1) * COLUMNS + column;
    if (at >= this.#values.length) this.#grow(at);
    this.#values[at] += amount;
  }

  /** Counts a datagram: one in a column of datagrams, its length in that of their bytes, the next. */
  addDatagram(row: number, column: number, length: number): void {
    const at = (row + 1) * COLUMNS + column;
    if (at + 1 >= this.#values.length) this.#grow(at + 1);
    this.#values[at] += 1;
    this.#values[at + 1] += length;
  }

  /** One counter. */
  get(row: number, column: number): number {
    return this.#values[(row + 1) * COLUMNS + column] ?? 0;
  }

  /** One row by the columns' names. */
  read(row: number): Record<string, number> {
    return Object.fromEntries(COUNTER_NAMES.map((name, column) => [name, this.get(row, column)]));
  }

  /** The sum of one column over all rows. */
  total(column: number): number {
    let sum = 0;
    for (let at = column; at < this.#values.length; at += COLUMNS) sum += this.#values[at];
    return sum;
  }

  /** Begins a row again. */
  clear(row: number): void {
    this.#values.fill(0, (row + 1) * COLUMNS, (row + 2) * COLUMNS);
  }

  #grow(at: number): void {
    const values = new Float64Array(Math.ceil((at + 1) / COLUMNS) * COLUMNS * 2);
    values.set(this.#values);
    this.#values = values;
  }
}
