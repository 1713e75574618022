/**
 * The state that a log of events comes to: one apply function, for replay and live alike.
 *
 *   LogEntry ──apply──▶ cells, formations, flows, hosts ──▶ lists, counts, records
 *                          └── snapshot() ⇄ restore()
 *
 * - It never throws, whatever an event holds: unknown types, missing and wrong members, places
 *   out of order. What it could not use is counted, and the cursor advances all the same.
 * - The cursor is the highest place applied, and never falls. A place counts once: a second
 *   delivery changes nothing.
 * - What has ended stays ended: cells that are destroyed, formations that completed, failed or
 *   were cancelled.
 * - The same entries in the same order make the same state; a snapshot and the entries after it
 *   make what all the entries make.
 *
 * Cells, formations, flows and hosts are never changed but replaced, so that whoever keeps one
 * can tell by identity whether it is still the last; `version()` tells it of a whole table.
 * Every table is bounded; see `limits.ts`.
 *
 * @module
 */
import type { LogEntry } from "#lib/eventlog/log.ts";
import { EVENT_TYPES } from "#lib/events/mod.ts";
import { type Cell, type CellFactKind, isCellEnded } from "./cell.ts";
import type { FlowSummary, FlowTotals } from "./cell_flows.ts";
import { CellTable } from "./cell_table.ts";
import { CELL_KINDS, FLOW_TYPES, formationPhaseOf, HOST_KINDS, UDP_KINDS } from "./event_kinds.ts";
import { type Fields, fieldsOf, parseUuid, textOf, textsOf } from "./fields.ts";
import type { Flow } from "./flow.ts";
import { type FlowChange, FlowTable } from "./flow_table.ts";
import { cellIdsOf, type Formation, formationIdOfEvent, isFormationPhase } from "./formation.ts";
import { FormationTable } from "./formation_table.ts";
import { evolveHost, type Host, type HostFactKind, newHost } from "./host.ts";
import {
  type Evictions,
  noEvictions,
  oldestKeys,
  PROJECTION_LIMITS_DEFAULT,
  type ProjectionLimits,
} from "./limits.ts";
import {
  type CellFilter,
  type FlowFilter,
  flowMatcher,
  FLOWS_PAGE_DEFAULT,
  type FormationFilter,
  matchesCell,
  matchesFormation,
  takeMatching,
} from "./queries.ts";
import { SeenNumbers } from "./seen_numbers.ts";
import { type UdpSetting, UdpTable } from "./udp_table.ts";
import { type ProjectionSnapshot, readSnapshot, SNAPSHOT_SCHEMA, writeCells } from "./snapshot.ts";

/** The tables, by name. */
export type ProjectionTable = "cell" | "formation" | "flow" | "host" | "udp";

/** What an entry changed. */
export interface ProjectionChange {
  /** The entry's place in the log. */
  readonly seq: number;
  /** In which table. */
  readonly table: ProjectionTable;
  /** Which row: a cell's or formation's id, a host's name; of flows, the cell's id. */
  readonly id: string;
  /** Cells that changed along with it. */
  readonly cellIds?: readonly string[];
}

/** What became of the entries. */
export interface ApplyCounts {
  /** Changed something. */
  applied: number;
  /** Were understood and changed nothing: facts about what has ended, repeated decisions. */
  unchanged: number;
  /** Are of a type that nothing is made of, or lack what their type must have. */
  ignored: number;
  /** Name a formation by what is not a UUID, or none at all. */
  malformed: number;
  /** Had been applied before, or have no place. */
  redelivered: number;
}

type Outcome = ProjectionChange | Exclude<keyof ApplyCounts, "applied" | "redelivered">;

/** One event, taken apart. */
interface Fact {
  readonly seq: number;
  readonly data: Fields;
  readonly time: string | undefined;
  readonly source: string | undefined;
  readonly subject: unknown;
}

/** See the module. */
export class Projection {
  readonly #limits: ProjectionLimits;
  readonly #evictions: Evictions = noEvictions();
  readonly #counts: ApplyCounts = {
    applied: 0,
    unchanged: 0,
    ignored: 0,
    malformed: 0,
    redelivered: 0,
  };
  readonly #versions: Record<ProjectionTable, number> = {
    cell: 0,
    formation: 0,
    flow: 0,
    host: 0,
    udp: 0,
  };
  readonly #cells: CellTable;
  readonly #formations: FormationTable;
  readonly #flows: FlowTable;
  readonly #hosts = new Map<string, Host>();
  readonly #udp = new UdpTable();
  #seen = new SeenNumbers();

  /** Of an empty log. */
  constructor(limits: Partial<ProjectionLimits> = {}) {
    this.#limits = { ...PROJECTION_LIMITS_DEFAULT, ...limits };
    this.#flows = new FlowTable(this.#limits, this.#evictions);
    this.#cells = new CellTable(this.#limits, this.#evictions, (id) => this.#flows.drop(id));
    this.#formations = new FormationTable(this.#limits, this.#evictions);
  }

  /** The highest place in the log that was applied; 0 before the first. */
  get cursor(): number {
    return this.#seen.cursor;
  }

  /** What became of the entries so far. */
  get counts(): Readonly<ApplyCounts> {
    return this.#counts;
  }

  /** What left its table because that was full. */
  get evictions(): Readonly<Evictions> {
    return this.#evictions;
  }

  /** How much there is. */
  get sizes(): Readonly<Record<"cells" | "liveCells" | "formations" | "flows" | "hosts", number>> {
    return {
      cells: this.#cells.size,
      liveCells: this.#cells.liveCount,
      formations: this.#formations.size,
      flows: this.#flows.size,
      hosts: this.#hosts.size,
    };
  }

  /** A number that grows when a table changes, for caches of what was made of it. */
  version(table: ProjectionTable): number {
    return this.#versions[table];
  }

  /** Takes an entry of the log; `undefined` where it changed nothing. */
  apply(entry: LogEntry): ProjectionChange | undefined {
    if (!this.#seen.add(entry.seq)) {
      this.#counts.redelivered++;
      return undefined;
    }
    const outcome = this.#dispatch(entry);
    if (typeof outcome === "string") {
      this.#counts[outcome]++;
      return undefined;
    }
    this.#counts.applied++;
    this.#versions[outcome.table]++;
    if (outcome.cellIds !== undefined && outcome.table !== "cell") this.#versions.cell++;
    return outcome;
  }

  /** A cell. */
  cell(id: string): Cell | undefined {
    return this.#cells.get(id);
  }

  /** Cells, by id. */
  cells(filter: CellFilter = {}): Cell[] {
    const { formation, after, limit } = filter;
    const matches = (cell: Cell) => matchesCell(cell, filter);
    if (formation !== undefined) {
      const members = this.cellsOf(this.formationNamed(formation)?.id ?? formation);
      const rest = after === undefined ? members : members.filter(({ id }) => id > after);
      return takeMatching(rest, matches, limit);
    }
    const start = after === undefined ? 0 : this.#cells.indexAfter(after);
    const rows = rowsFrom(this.#cells.ids(), start, (id) => this.#cells.get(id)!);
    return takeMatching(rows, matches, limit);
  }

  /** The cells of a formation, by id. */
  cellsOf(formationId: string): Cell[] {
    return this.#cells.membersOf(parseUuid(formationId) ?? formationId);
  }

  /** A formation, by its id in any spelling. */
  formation(id: string): Formation | undefined {
    return this.#formations.get(parseUuid(id) ?? id);
  }

  /** The formation of a name that has not ended; where all have, the one that came last. */
  formationByName(name: string): Formation | undefined {
    return this.#formations.byName(name);
  }

  /** A formation by its id where the text is one, else by its name. */
  formationNamed(idOrName: string): Formation | undefined {
    return parseUuid(idOrName) === undefined
      ? this.formationByName(idOrName)
      : this.formation(idOrName);
  }

  /** Formations, by id. */
  formations(filter: FormationFilter = {}): Formation[] {
    const start = filter.after === undefined ? 0 : this.#formations.indexAfter(filter.after);
    const rows = rowsFrom(this.#formations.ids(), start, (id) => this.#formations.get(id)!);
    return takeMatching(rows, (formation) => matchesFormation(formation, filter), filter.limit);
  }

  /** Recent flows, newest first. */
  flows(filter: FlowFilter = {}): Flow[] {
    const { cellId, formation, limit = FLOWS_PAGE_DEFAULT } = filter;
    const matches = flowMatcher(filter);
    if (formation === undefined) return takeMatching(this.#flows.newest(cellId), matches, limit);
    const members = new Set(this.cells({ formation }).map(({ id }) => id));
    return takeMatching(
      this.#flows.newest(cellId),
      (flow) => members.has(flow.cellId) && matches(flow),
      limit,
    );
  }

  /** The counts of a cell's flows, by verdict and rule; `undefined` where it has none. */
  flowSummary(cellId: string): FlowSummary | undefined {
    return this.#flows.summary(cellId);
  }

  /** The sums of some cells' flows, or of all cells'. */
  flowTotals(cellIds?: Iterable<string>): Readonly<FlowTotals> {
    return this.#flows.totals(cellIds);
  }

  /** Hosts, by name. */
  hosts(): Host[] {
    return Array.from(this.#hosts.values()).sort((a, b) => a.id < b.id ? -1 : 1);
  }

  /** Listeners and clusters of the UDP load balancer, by kind and name. */
  udpSettings(): UdpSetting[] {
    return this.#udp.rows();
  }

  /** Everything, as a value that survives JSON. Entries after its cursor lead on from it. */
  snapshot(): ProjectionSnapshot {
    return {
      schema: SNAPSHOT_SCHEMA,
      cursor: this.cursor,
      seen: this.#seen.toRanges(),
      counts: { ...this.#counts },
      evictions: { ...this.#evictions },
      cells: { ...writeCells(this.#cells.values()), ...this.#cells.toSnapshot() },
      formations: {
        rows: Array.from(this.#formations.values()),
        ...this.#formations.toSnapshot(),
      },
      flows: this.#flows.toSnapshot(),
      hosts: Array.from(this.#hosts.values()),
      udp: this.#udp.rows(),
    };
  }

  /**
   * The projection of a snapshot, which may come from a file. Throws `SnapshotError` where it is
   * of another schema or damaged: replay the log from its start then.
   */
  static restore(value: unknown, limits: Partial<ProjectionLimits> = {}): Projection {
    const { seen, cells, formations, flows, hosts, udp, counts, evictions } = readSnapshot(value);
    const projection = new Projection(limits);
    projection.#seen = seen;
    projection.#cells.restore(cells.rows, cells);
    projection.#formations.restore(formations.rows, formations);
    projection.#flows.restore(flows);
    for (const host of hosts) projection.#hosts.set(host.id, host);
    projection.#udp.restore(udp);
    Object.assign(projection.#counts, counts);
    for (const name of Object.keys(evictions) as (keyof Evictions)[]) {
      projection.#evictions[name] += evictions[name];
    }
    return projection;
  }

  #dispatch({ seq, event }: LogEntry): Outcome {
    const { type, data, time, source, subject } = fieldsOf(event);
    if (typeof type !== "string") return "ignored";
    const fact: Fact = {
      seq,
      data: fieldsOf(data),
      time: typeof time === "string" ? time : undefined,
      source: typeof source === "string" ? source : undefined,
      subject,
    };
    if (FLOW_TYPES.has(type)) return this.#applyFlow(type, fact);
    const cellKind = CELL_KINDS.get(type);
    if (cellKind !== undefined) return this.#applyCell(cellKind, fact);
    const hostKind = HOST_KINDS.get(type);
    if (hostKind !== undefined) return this.#applyHost(hostKind, fact);
    const isUdpSet = UDP_KINDS.get(type);
    if (isUdpSet !== undefined) return this.#applyUdp(isUdpSet, fact);
    const phase = formationPhaseOf(type);
    return phase === undefined ? "ignored" : this.#applyFormation(phase, fact);
  }

  #applyCell(kind: CellFactKind, fact: Fact): Outcome {
    const { data, seq } = fact;
    const id = textOf(data, "cellId");
    if (id === undefined) return "ignored";
    // A refusal may come before the spec was read; then only a cell that is known can be refused.
    const known = kind === "refused" ? this.#cells.get(id)?.specId : undefined;
    const specId = textOf(data, "specId") ?? known;
    if (specId === undefined) return "ignored";
    const cell = this.#cells.apply(id, specId, { kind, ...fact });
    return cell === undefined ? "unchanged" : { seq, table: "cell", id };
  }

  #applyFormation(phase: string, fact: Fact): Outcome {
    const { data, seq } = fact;
    const id = formationIdOfEvent(data, fact.subject);
    if (id === undefined) return "malformed";
    if (!isFormationPhase(phase)) return "ignored";
    const formation = this.#formations.apply(id, { phase, ...fact });
    if (formation === undefined) return "unchanged";
    const cellIds = this.#cells.link(id, cellIdsOf(data));
    const change = { seq, table: "formation" as const, id };
    return cellIds.length === 0 ? change : { ...change, cellIds };
  }

  #applyFlow(type: string, { data, time, seq }: Fact): Outcome {
    let change: FlowChange | undefined;
    if (type === EVENT_TYPES.flowDecision) change = this.#flows.decide(data, time, seq);
    else if (type === EVENT_TYPES.flowClosed) change = this.#flows.close(data, time);
    else if (type === EVENT_TYPES.flowGap) change = this.#flows.lose(data);
    else change = this.#flows.count(data);
    if (change !== undefined) return { seq, table: "flow", id: change.cellId };
    return textOf(data, "decisionId") === undefined ? "ignored" : "unchanged";
  }

  #applyUdp(isSet: boolean, { data, seq }: Fact): Outcome {
    const id = this.#udp.apply(isSet, data, seq);
    return id === undefined ? "unchanged" : { seq, table: "udp", id };
  }

  #applyHost(kind: HostFactKind, fact: Fact): Outcome {
    const { data, seq } = fact;
    const id = textOf(data, "host");
    if (id === undefined) return "ignored";
    const before = this.#hosts.get(id);
    if (before === undefined && this.#hosts.size >= this.#limits.hosts) this.#evictHosts();
    const host = evolveHost(before ?? newHost(id, seq), { kind, ...fact });
    if (host === before) return "unchanged";
    this.#hosts.set(id, host);
    const cellIds = kind === "recovered" ? this.#endRemoved(fact) : [];
    const change = { seq, table: "host" as const, id };
    return cellIds.length === 0 ? change : { ...change, cellIds };
  }

  /** Cells that a new celld cleaned up have ended, though nobody was there to say so. */
  #endRemoved(fact: Fact): string[] {
    return textsOf(fact.data, "removed").filter((id) => {
      const cell = this.#cells.get(id);
      if (cell === undefined || isCellEnded(cell)) return false;
      // The event's data is the host's: nothing of it is about the cell.
      this.#cells.apply(id, cell.specId, { kind: "removed", ...fact, data: {} });
      return true;
    });
  }

  #evictHosts(): void {
    for (const id of oldestKeys(this.#hosts, this.#limits.hosts)) {
      this.#hosts.delete(id);
      this.#evictions.hosts++;
    }
  }
}

function* rowsFrom<T>(ids: readonly string[], start: number, get: (id: string) => T): Iterable<T> {
  for (let index = start; index < ids.length; index++) yield get(ids[index]);
}
