/**
 * What most events about cells begin with.
 *
 * @module
 */

/** Which cell, run and spec a fact is about. */
export interface CellIdentity {
  /** The cell; unique on its host while it lives. */
  readonly cellId: string;
  /** The name in its spec. */
  readonly specId: string;
  /** One run of the cell. The reference's own writers may leave it out. */
  readonly runId?: string;
}
