/**
 * The data of events about the log itself.
 *
 * @module
 */

/** Events are missing at this place of the log: the broker was away, and the spool had no room. */
export interface LogGapData {
  /** How many. */
  readonly lost: number;
  /** When the first of them came, RFC 3339. */
  readonly from: string;
  /** When the last of them came. */
  readonly to: string;
  /** `spool_full`, `spool_damaged`, or `event_too_large` for the broker. */
  readonly cause: string;
}
