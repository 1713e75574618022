/**
 * All formations, by id and by name.
 *
 * Bounded as the cells are: those that have ended leave first, and are remembered as ended.
 *
 * @module
 */
import {
  evolveFormation,
  type Formation,
  type FormationFact,
  isFormationEnded,
  newFormation,
} from "./formation.ts";
import { type Evictions, oldestKeys, type ProjectionLimits } from "./limits.ts";
import { SortedIds } from "./sorted_ids.ts";

/** See the module. */
export class FormationTable {
  readonly #limits: ProjectionLimits;
  readonly #evictions: Evictions;
  readonly #formations = new Map<string, Formation>();
  readonly #ids = new SortedIds();
  readonly #idsByName = new Map<string, Set<string>>();
  readonly #ended = new Set<string>();
  readonly #gone = new Set<string>();

  /** Empty; counts what leaves it in `evictions`. */
  constructor(limits: ProjectionLimits, evictions: Evictions) {
    this.#limits = limits;
    this.#evictions = evictions;
  }

  /** How many formations there are. */
  get size(): number {
    return this.#formations.size;
  }

  /** A formation. */
  get(id: string): Formation | undefined {
    return this.#formations.get(id);
  }

  /** The formation of a name that has not ended; where all have, the one that came last. */
  byName(name: string): Formation | undefined {
    let found: Formation | undefined;
    for (const id of this.#idsByName.get(name) ?? []) {
      const formation = this.#formations.get(id)!;
      if (found === undefined || isBetter(formation, found)) found = formation;
    }
    return found;
  }

  /** All ids in order. */
  ids(): readonly string[] {
    return this.#ids.all();
  }

  /** Where in {@link FormationTable.ids} those after `id` begin. */
  indexAfter(id: string): number {
    return this.#ids.indexAfter(id);
  }

  /** All formations, in the order in which they came. */
  values(): Iterable<Formation> {
    return this.#formations.values();
  }

  /** Applies an event; the formation where it changed, `undefined` where it did not. */
  apply(id: string, fact: FormationFact): Formation | undefined {
    const before = this.#formations.get(id);
    if (before === undefined && this.#gone.has(id)) return undefined;
    const formation = evolveFormation(before ?? newFormation(id, fact), fact);
    if (formation === before) return undefined;
    this.#put(formation, before);
    if (before === undefined) this.#keepWithin();
    return formation;
  }

  /** What a snapshot keeps beside the formations. */
  toSnapshot(): { ended: string[]; gone: string[] } {
    return { ended: Array.from(this.#ended), gone: Array.from(this.#gone) };
  }

  /** Takes a snapshot into an empty table. */
  restore(
    formations: Iterable<Formation>,
    rest: { ended: readonly string[]; gone: readonly string[] },
  ): void {
    for (const id of rest.ended) this.#ended.add(id);
    for (const id of rest.gone) this.#gone.add(id);
    for (const formation of formations) this.#put(formation, undefined);
    this.#keepWithin();
  }

  #put(formation: Formation, before: Formation | undefined): void {
    const { id, name } = formation;
    this.#formations.set(id, formation);
    if (before === undefined) this.#ids.add(id);
    if (isFormationEnded(formation)) this.#ended.add(id);
    if (before?.name === name) return;
    if (before !== undefined) this.#unname(before);
    const ids = this.#idsByName.get(name);
    if (ids === undefined) this.#idsByName.set(name, new Set([id]));
    else ids.add(id);
  }

  #unname({ id, name }: Formation): void {
    const ids = this.#idsByName.get(name);
    ids?.delete(id);
    if (ids?.size === 0) this.#idsByName.delete(name);
  }

  #keepWithin(): void {
    const max = this.#limits.formations;
    while (this.#formations.size > max) {
      const excess = this.#formations.size - max;
      const oldest = oldestKeys(this.#ended.size > 0 ? this.#ended : this.#formations, max);
      for (const id of oldest.slice(0, Math.max(excess, max >> 4))) this.#evict(id);
    }
  }

  #evict(id: string): void {
    this.#unname(this.#formations.get(id)!);
    this.#formations.delete(id);
    this.#ids.remove(id);
    if (!this.#ended.delete(id)) {
      this.#evictions.liveFormations++;
      return;
    }
    this.#evictions.formations++;
    this.#gone.add(id);
    if (this.#gone.size <= this.#limits.endedIds) return;
    for (const oldest of oldestKeys(this.#gone, this.#limits.endedIds)) this.#gone.delete(oldest);
  }
}

function isBetter(a: Formation, b: Formation): boolean {
  const isALive = !isFormationEnded(a);
  const isBLive = !isFormationEnded(b);
  return isALive === isBLive ? a.firstSeq > b.firstSeq : isALive;
}
