/**
 * All cells, by id, with the formation that each belongs to.
 *
 * Bounded: where the table is full the oldest of those that have ended leave, and only where
 * there are none the oldest of all. Ids of ended cells that left are remembered for longer, so
 * that a late event does not raise a cell from the dead.
 *
 * @module
 */
import { type Cell, type CellFact, evolveCell, isCellEnded, newCell } from "./cell.ts";
import type { Fields } from "./fields.ts";
import { type Evictions, oldestKeys, type ProjectionLimits } from "./limits.ts";
import { SortedIds } from "./sorted_ids.ts";

/** Specs of which the last document is kept to be shared. */
const SHARED_SPECS_MAX = 1024;

/** See the module. */
export class CellTable {
  readonly #limits: ProjectionLimits;
  readonly #evictions: Evictions;
  readonly #onEvicted: (id: string) => void;
  readonly #cells = new Map<string, Cell>();
  readonly #ids = new SortedIds();
  /** Ids of ended cells in the table, in the order of their ends. */
  readonly #ended = new Set<string>();
  /** Ids of ended cells that left the table. */
  readonly #gone = new Set<string>();
  /** Ids of the cells of each formation. */
  readonly #members = new Map<string, Set<string>>();
  /** Formations of cells of which no event has come yet. */
  readonly #expected = new Map<string, string>();
  /** The last document of each spec, with its text. */
  readonly #lastSpecs = new Map<string, { readonly text: string; readonly spec: Fields }>();
  #live = 0;

  /** Empty. `onEvicted` is told each cell that leaves. */
  constructor(limits: ProjectionLimits, evictions: Evictions, onEvicted: (id: string) => void) {
    this.#limits = limits;
    this.#evictions = evictions;
    this.#onEvicted = onEvicted;
  }

  /** How many cells there are. */
  get size(): number {
    return this.#cells.size;
  }

  /** How many of them have not ended. */
  get liveCount(): number {
    return this.#live;
  }

  /** A cell. */
  get(id: string): Cell | undefined {
    return this.#cells.get(id);
  }

  /** All ids in order. */
  ids(): readonly string[] {
    return this.#ids.all();
  }

  /** Where in {@link CellTable.ids} those after `id` begin. */
  indexAfter(id: string): number {
    return this.#ids.indexAfter(id);
  }

  /** All cells, in the order in which they came. */
  values(): Iterable<Cell> {
    return this.#cells.values();
  }

  /** The cells of a formation, in the order of their ids. */
  membersOf(formationId: string): Cell[] {
    const ids = Array.from(this.#members.get(formationId) ?? []).sort();
    return ids.map((id) => this.#cells.get(id)!);
  }

  /** Applies an event; the cell where it changed, `undefined` where it did not. */
  apply(id: string, specId: string, fact: CellFact): Cell | undefined {
    const before = this.#cells.get(id);
    if (before === undefined && this.#gone.has(id)) return undefined;
    const known = before ?? this.#linked(newCell(id, specId, fact));
    const evolved = evolveCell(known, fact);
    if (evolved === before) return undefined;
    const cell = evolved.spec === known.spec ? evolved : this.#sharing(evolved);
    this.#put(cell, before);
    if (before === undefined) this.#keepWithin();
    return cell;
  }

  /** Notes that cells belong to a formation. Answers those that changed by it. */
  link(formationId: string, ids: readonly string[]): string[] {
    const changed: string[] = [];
    for (const id of ids) {
      const cell = this.#cells.get(id);
      if (cell === undefined) this.#expect(id, formationId);
      else if (cell.formationId === undefined && !isCellEnded(cell)) {
        this.#put({ ...cell, formationId }, cell);
        changed.push(id);
      }
    }
    return changed;
  }

  /** What a snapshot keeps beside the cells. */
  toSnapshot(): { ended: string[]; gone: string[]; expected: [string, string][] } {
    return {
      ended: Array.from(this.#ended),
      gone: Array.from(this.#gone),
      expected: Array.from(this.#expected),
    };
  }

  /** Takes a snapshot into an empty table. Cells come in the order of {@link CellTable.values}. */
  restore(
    cells: Iterable<Cell>,
    rest: {
      ended: readonly string[];
      gone: readonly string[];
      expected: Iterable<[string, string]>;
    },
  ): void {
    for (const id of rest.ended) this.#ended.add(id);
    for (const id of rest.gone) this.#gone.add(id);
    for (const [id, formationId] of rest.expected) this.#expected.set(id, formationId);
    for (const cell of cells) this.#put(cell, undefined);
    this.#keepWithin();
  }

  /** Cells of one spec share one document: it is most of what a cell weighs. */
  #sharing(cell: Cell): Cell {
    const { specId, spec } = cell;
    const text = JSON.stringify(spec);
    const last = this.#lastSpecs.get(specId);
    if (last !== undefined && last.text === text) return { ...cell, spec: last.spec };
    if (this.#lastSpecs.size >= SHARED_SPECS_MAX) this.#lastSpecs.clear();
    this.#lastSpecs.set(specId, { text, spec: spec! });
    return cell;
  }

  #linked(cell: Cell): Cell {
    const formationId = this.#expected.get(cell.id);
    if (formationId === undefined) return cell;
    this.#expected.delete(cell.id);
    return { ...cell, formationId };
  }

  #expect(id: string, formationId: string): void {
    if (this.#gone.has(id) || this.#expected.has(id)) return;
    this.#expected.set(id, formationId);
    if (this.#expected.size <= this.#limits.cells) return;
    for (const oldest of oldestKeys(this.#expected, this.#limits.cells)) {
      this.#expected.delete(oldest);
    }
  }

  #put(cell: Cell, before: Cell | undefined): void {
    this.#cells.set(cell.id, cell);
    if (before === undefined) {
      this.#ids.add(cell.id);
      this.#live++;
    }
    if (isCellEnded(cell)) {
      this.#live--;
      this.#ended.add(cell.id);
    }
    if (cell.formationId !== undefined && before?.formationId === undefined) {
      const members = this.#members.get(cell.formationId);
      if (members === undefined) this.#members.set(cell.formationId, new Set([cell.id]));
      else members.add(cell.id);
    }
  }

  #keepWithin(): void {
    const max = this.#limits.cells;
    while (this.#cells.size > max) {
      const isAnyEnded = this.#ended.size > 0;
      const excess = this.#cells.size - max;
      const oldest = oldestKeys(isAnyEnded ? this.#ended : this.#cells, max);
      for (const id of oldest.slice(0, Math.max(excess, max >> 4))) this.#evict(id);
    }
  }

  #evict(id: string): void {
    const cell = this.#cells.get(id)!;
    this.#cells.delete(id);
    this.#ids.remove(id);
    if (this.#ended.delete(id)) {
      this.#evictions.cells++;
      this.#remember(id);
    } else {
      this.#evictions.liveCells++;
      this.#live--;
    }
    if (cell.formationId !== undefined) this.#unlink(cell.formationId, id);
    this.#onEvicted(id);
  }

  #unlink(formationId: string, id: string): void {
    const members = this.#members.get(formationId);
    members?.delete(id);
    if (members?.size === 0) this.#members.delete(formationId);
  }

  #remember(id: string): void {
    this.#gone.add(id);
    if (this.#gone.size <= this.#limits.endedIds) return;
    for (const oldest of oldestKeys(this.#gone, this.#limits.endedIds)) this.#gone.delete(oldest);
  }
}
