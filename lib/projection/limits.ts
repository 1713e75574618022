/**
 * How much a projection keeps, and what it did not: every table is bounded, and what leaves one
 * is counted.
 *
 * @module
 */

/** The bounds of a projection's tables. */
export interface ProjectionLimits {
  /** Cells, those that have ended included. */
  readonly cells: number;
  /** Formations, those that have ended included. */
  readonly formations: number;
  /** Recent flows of one cell. */
  readonly flowsPerCell: number;
  /** Recent flows of all cells. */
  readonly flows: number;
  /** Cells of which flows, counts and counters are kept. */
  readonly flowCells: number;
  /** Rules that are counted by name in one cell. */
  readonly rulesPerCell: number;
  /** Hosts. */
  readonly hosts: number;
  /** Ids of cells and formations that ended and left their table, remembered as ended. */
  readonly endedIds: number;
}

/** The bounds where nobody names others. */
export const PROJECTION_LIMITS_DEFAULT: ProjectionLimits = {
  cells: 200_000,
  formations: 20_000,
  flowsPerCell: 256,
  flows: 100_000,
  flowCells: 200_000,
  rulesPerCell: 1024,
  hosts: 4096,
  endedIds: 1_000_000,
};

/** What left a table because it was full. */
export interface Evictions {
  /** Cells that had ended. */
  cells: number;
  /** Cells that had not ended: the bound is too low. */
  liveCells: number;
  /** Formations that had ended. */
  formations: number;
  /** Formations that had not ended: the bound is too low. */
  liveFormations: number;
  /** Recent flows; their counts stay. */
  flows: number;
  /** Cells of which flows were kept. */
  flowCells: number;
  /** Decisions and counters of rules past the bound, which no rule's row has. */
  rules: number;
  /** Hosts. */
  hosts: number;
}

/** Counts from nothing. */
export function noEvictions(): Evictions {
  return {
    cells: 0,
    liveCells: 0,
    formations: 0,
    liveFormations: 0,
    flows: 0,
    flowCells: 0,
    rules: 0,
    hosts: 0,
  };
}

/**
 * What is to leave a full table: the oldest sixteenth. One at a time would be slow, as finding
 * the first of a map that lost its first ones means passing their places each time.
 */
export function oldestKeys<K>(table: ReadonlyMap<K, unknown> | ReadonlySet<K>, max: number): K[] {
  const keys: K[] = [];
  const count = Math.max(1, table.size - max, max >> 4);
  for (const key of table.keys()) {
    if (keys.length >= count) break;
    keys.push(key);
  }
  return keys;
}
