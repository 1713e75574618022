/**
 * A projection as a JSON value, so that a restart costs the state and not the history.
 *
 * Documents that cells share are written once. The reader takes what may come from a damaged
 * file: it checks the schema's number and the shape that the tables rely on, and refuses the
 * rest. It cannot notice a changed letter in a name: whoever keeps snapshots keeps a digest.
 *
 * @module
 */
import type { Cell } from "./cell.ts";
import { type Fields, fieldsOf } from "./fields.ts";
import type { FlowTableSnapshot } from "./flow_table.ts";
import type { Formation } from "./formation.ts";
import type { Host } from "./host.ts";
import { type Evictions, noEvictions } from "./limits.ts";
import { SeenNumbers, type SeenRange } from "./seen_numbers.ts";
import type { UdpSetting } from "./udp_table.ts";

/** Changes with every change of what is in a snapshot or of what events mean. */
export const SNAPSHOT_SCHEMA = 3;

/** A cell whose document is a place in the list of documents. */
export type CellRow = Omit<Cell, "spec"> & { readonly spec?: number };

/** Everything that a projection is. */
export interface ProjectionSnapshot {
  /** {@link SNAPSHOT_SCHEMA} of the writer. */
  readonly schema: number;
  /** The last place that is in it. */
  readonly cursor: number;
  /** All places that are in it. */
  readonly seen: readonly SeenRange[];
  /** What became of the entries. */
  readonly counts: Readonly<Record<string, number>>;
  /** What left its table. */
  readonly evictions: Readonly<Evictions>;
  /** Cells and what is remembered of those that left. */
  readonly cells: {
    /** In the order in which they came. */
    readonly rows: readonly CellRow[];
    /** Documents of cells, each once. */
    readonly specs: readonly Fields[];
    /** Those that have ended, in the order of their ends. */
    readonly ended: readonly string[];
    /** Ids of those that ended and left the table. */
    readonly gone: readonly string[];
    /** Formations of cells of which no event has come yet. */
    readonly expected: readonly (readonly [id: string, formationId: string])[];
  };
  /** Formations and what is remembered of those that left. */
  readonly formations: {
    /** In the order in which they came. */
    readonly rows: readonly Formation[];
    /** Those that have ended, in the order of their ends. */
    readonly ended: readonly string[];
    /** Ids of those that ended and left the table. */
    readonly gone: readonly string[];
  };
  /** Flows and their counts. */
  readonly flows: FlowTableSnapshot;
  /** Hosts. */
  readonly hosts: readonly Host[];
  /** Settings of the UDP load balancer. */
  readonly udp: readonly UdpSetting[];
}

/** What was read of a snapshot. */
export interface SnapshotParts {
  /** All places that are in it. */
  readonly seen: SeenNumbers;
  /** What became of the entries. */
  readonly counts: Readonly<Record<string, number>>;
  /** What left its table. */
  readonly evictions: Evictions;
  /** Cells, with their documents. */
  readonly cells: {
    /** In the order in which they came. */
    readonly rows: readonly Cell[];
    /** Those that have ended, in the order of their ends. */
    readonly ended: readonly string[];
    /** Ids of those that ended and left the table. */
    readonly gone: readonly string[];
    /** Formations of cells of which no event has come yet. */
    readonly expected: readonly [string, string][];
  };
  /** Formations. */
  readonly formations: {
    /** In the order in which they came. */
    readonly rows: readonly Formation[];
    /** Those that have ended, in the order of their ends. */
    readonly ended: readonly string[];
    /** Ids of those that ended and left the table. */
    readonly gone: readonly string[];
  };
  /** Flows and their counts. */
  readonly flows: Fields;
  /** Hosts. */
  readonly hosts: readonly Host[];
  /** Settings of the UDP load balancer. */
  readonly udp: readonly UdpSetting[];
}

/** A value is no snapshot that this version reads. The log has everything: replay it. */
export class SnapshotError extends Error {
  /** For logs. */
  override name = "SnapshotError";

  /** Says what is wrong. */
  constructor(reason: string) {
    super(`Cannot restore the snapshot: ${reason}`);
  }
}

/** Cells with their documents in a list of their own, each text once. */
export function writeCells(cells: Iterable<Cell>): { rows: CellRow[]; specs: Fields[] } {
  // Most cells share the very object; only what is new is looked at as text.
  const places = new Map<Fields, number>();
  const placesByText = new Map<string, number>();
  const specs: Fields[] = [];
  const placeOf = (spec: Fields) => {
    const text = JSON.stringify(spec);
    let place = placesByText.get(text);
    if (place === undefined) {
      place = specs.push(spec) - 1;
      placesByText.set(text, place);
    }
    places.set(spec, place);
    return place;
  };
  const rows: CellRow[] = [];
  for (const { spec, ...cell } of cells) {
    rows.push(
      spec === undefined ? cell : { ...cell, spec: places.get(spec) ?? placeOf(spec) },
    );
  }
  return { rows, specs };
}

/** Checks and takes apart a snapshot. Throws {@link SnapshotError}. */
export function readSnapshot(value: unknown): SnapshotParts {
  const fields = fieldsOf(value);
  if (fields.schema !== SNAPSHOT_SCHEMA) {
    throw new SnapshotError(
      `found schema ${JSON.stringify(fields.schema) ?? "nothing"}, want ${SNAPSHOT_SCHEMA}`,
    );
  }
  const seen = SeenNumbers.fromRanges(list(fields, "seen"));
  if (seen === undefined || seen.cursor !== fields.cursor) {
    throw new SnapshotError("seen is not the places up to the cursor");
  }
  const cells = part(fields, "cells");
  const formations = part(fields, "formations");
  return {
    seen,
    counts: numbersOf(part(fields, "counts")),
    evictions: { ...noEvictions(), ...numbersOf(part(fields, "evictions")) },
    cells: {
      rows: readCells(cells),
      ended: texts(cells, "ended"),
      gone: texts(cells, "gone"),
      expected: list(cells, "expected").map(pair),
    },
    formations: {
      rows: rowsOf(formations, ["id", "name", "status", "phase"]) as unknown as Formation[],
      ended: texts(formations, "ended"),
      gone: texts(formations, "gone"),
    },
    flows: part(fields, "flows"),
    hosts: rowsOf({ rows: list(fields, "hosts") }, ["id", "state"]) as unknown as Host[],
    udp: rowsOf({ rows: list(fields, "udp") }, ["kind", "name"]) as unknown as UdpSetting[],
  };
}

function readCells(fields: Fields): Cell[] {
  const specs = list(fields, "specs");
  return rowsOf(fields, ["id", "specId", "state", "phase"]).map(({ spec, ...cell }) => {
    if (spec === undefined) return cell as unknown as Cell;
    const found = typeof spec === "number" ? specs[spec] : undefined;
    if (found === undefined) throw new SnapshotError(`a cell's document ${spec} is not there`);
    return { ...cell, spec: found } as unknown as Cell;
  });
}

/** The rows, each with text in the members that the tables rely on. */
function rowsOf(fields: Fields, names: readonly string[]): Fields[] {
  return list(fields, "rows").map((row) => {
    const members = fieldsOf(row);
    const missing = names.find((name) => typeof members[name] !== "string");
    if (missing !== undefined) throw new SnapshotError(`a row has no ${missing}`);
    return members;
  });
}

function part(fields: Fields, name: string): Fields {
  const value = fields[name];
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new SnapshotError(`${name} is not an object`);
  }
  return value as Fields;
}

function list(fields: Fields, name: string): readonly unknown[] {
  const value = fields[name];
  if (!Array.isArray(value)) throw new SnapshotError(`${name} is not a list`);
  return value;
}

function texts(fields: Fields, name: string): readonly string[] {
  const items = list(fields, name);
  if (!items.every((item) => typeof item === "string")) {
    throw new SnapshotError(`${name} is not a list of texts`);
  }
  return items as readonly string[];
}

function pair(value: unknown): [string, string] {
  const [id, formationId] = Array.isArray(value) ? value : [];
  if (typeof id !== "string" || typeof formationId !== "string") {
    throw new SnapshotError("expected is not a list of pairs");
  }
  return [id, formationId];
}

function numbersOf(fields: Fields): Record<string, number> {
  return Object.fromEntries(
    Object.entries(fields).filter((entry): entry is [string, number] =>
      Number.isSafeInteger(entry[1])
    ),
  );
}
