/**
 * What may be asked of a projection's lists: filters as values, and pages.
 *
 * @module
 */
import { cidrContains, parseCidr, parseIp } from "#lib/base/mod.ts";
import type { CellPhase } from "#lib/events/mod.ts";
import type { Cell, CellState } from "./cell.ts";
import type { Flow } from "./flow.ts";
import type { Formation, FormationStatus } from "./formation.ts";

/** Which cells. What is absent does not matter. */
export interface CellFilter {
  /** The reference's state. */
  readonly state?: CellState;
  /** Ours. */
  readonly phase?: CellPhase;
  /** A formation's id or name. */
  readonly formation?: string;
  /** The name in their spec. */
  readonly specId?: string;
  /** `succeeded` or `failed`. */
  readonly outcome?: string;
  /** Only ids after this one: the last of the page before. */
  readonly after?: string;
  /** At most so many. */
  readonly limit?: number;
}

/** Which formations. */
export interface FormationFilter {
  /** The reference's state. */
  readonly status?: FormationStatus;
  /** Exactly this name. */
  readonly name?: string;
  /** Only ids after this one. */
  readonly after?: string;
  /** At most so many. */
  readonly limit?: number;
}

/** Which of the recent flows; they come newest first. */
export interface FlowFilter {
  /** Of a cell. */
  readonly cellId?: string;
  /** Of the cells of a formation, by its id or name. */
  readonly formation?: string;
  /** Of a run. */
  readonly runId?: string;
  /** The verdict. */
  readonly decision?: "allow" | "deny";
  /** `egress` or `ingress`. */
  readonly direction?: string;
  /** `tcp`, `udp`, `icmp`, `icmp6`. */
  readonly protocol?: string;
  /** The rule that decided. */
  readonly ruleRef?: string;
  /** An address or a prefix that holds the source. */
  readonly src?: string;
  /** An address or a prefix that holds the destination. */
  readonly dst?: string;
  /** The destination's port. */
  readonly dstPort?: number;
  /** Whether it was allowed and no end of it is known. */
  readonly isOpen?: boolean;
  /** Only those decided after this place in the log. */
  readonly since?: number;
  /** Only those decided before this place: the last of the page before. */
  readonly before?: number;
  /** At most so many; 100 where it is absent. */
  readonly limit?: number;
}

/** Flows on a page where nobody says how many. */
export const FLOWS_PAGE_DEFAULT = 100;

/** Whether a cell is asked for, its formation aside. */
export function matchesCell(cell: Cell, filter: CellFilter): boolean {
  const { state, phase, specId, outcome } = filter;
  return (state === undefined || cell.state === state) &&
    (phase === undefined || cell.phase === phase) &&
    (specId === undefined || cell.specId === specId) &&
    (outcome === undefined || cell.outcome === outcome);
}

/** Whether a formation is asked for. */
export function matchesFormation(formation: Formation, filter: FormationFilter): boolean {
  const { status, name } = filter;
  return (status === undefined || formation.status === status) &&
    (name === undefined || formation.name === name);
}

/** A test for flows, with the filter's texts read once. Cell and formation aside. */
export function flowMatcher(filter: FlowFilter): (flow: Flow) => boolean {
  const { runId, decision, direction, protocol, ruleRef, dstPort, isOpen, since, before } = filter;
  const isSource = addressMatcher(filter.src);
  const isDestination = addressMatcher(filter.dst);
  return (flow) =>
    (runId === undefined || flow.runId === runId) &&
    (decision === undefined || flow.decision === decision) &&
    (direction === undefined || flow.direction === direction) &&
    (protocol === undefined || flow.protocol === protocol) &&
    (ruleRef === undefined || flow.ruleRef === ruleRef) &&
    (dstPort === undefined || flow.dstPort === dstPort) &&
    (isOpen === undefined || isOpenFlow(flow) === isOpen) &&
    (since === undefined || flow.seq > since) &&
    (before === undefined || flow.seq < before) &&
    isSource(flow.srcAddr) && isDestination(flow.dstAddr);
}

/** The first items that pass, at most so many. */
export function takeMatching<T>(
  items: Iterable<T>,
  matches: (item: T) => boolean,
  limit: number = Number.POSITIVE_INFINITY,
): T[] {
  const taken: T[] = [];
  if (limit <= 0) return taken;
  for (const item of items) {
    if (!matches(item)) continue;
    taken.push(item);
    if (taken.length >= limit) break;
  }
  return taken;
}

function isOpenFlow(flow: Flow): boolean {
  return flow.decision === "allow" && flow.end === undefined;
}

function addressMatcher(text: string | undefined): (address: string | undefined) => boolean {
  if (text === undefined) return () => true;
  const prefix = parseCidr(text);
  if (prefix === undefined) return () => false;
  return (address) => {
    const parsed = address === undefined ? undefined : parseIp(address);
    return parsed !== undefined && cidrContains(prefix, parsed);
  };
}
