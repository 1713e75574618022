/**
 * What a server tells of cells that went on, or ended, while no server was there: made of what the
 * log has, and of what the cell's init wrote down. Computes only.
 *
 * @module
 */
import { signalName } from "#ffi/mod.ts";
import {
  CellEvents,
  classifyExit,
  type EventStamp,
  isSuccess,
  makePolicy,
  policyDigest,
} from "#lib/cell/mod.ts";
import type { EndedCell } from "#lib/cell/mod_shell.ts";
import { type CloudEvent, EVENT_TYPES, makeEvent } from "#lib/events/mod.ts";
import type { EarlierFlow } from "#lib/flow/mod.ts";
import type { Cell, Flow, Projection } from "#lib/projection/mod.ts";
import type { EarlierLife } from "./cell_listener.ts";
import type { CellAction } from "./serve_reconcile.ts";

/** The reason of a stop request that celld makes itself, for a cell that was silent too long. */
export const STALLED = "stalled";

/** Recent flows of an adopted cell that are not told again. */
const EARLIER_FLOWS_MAX = 256;

/** The actions that only tell of an end. */
export type EndAction = Extract<CellAction, "complete" | "finish" | "lose" | "cancel">;

/** What the end is told with. */
export interface EndContext {
  /** What is kept of the cell; absent where nothing is. */
  readonly ended: EndedCell | undefined;
  /** CloudEvents source: `/celld/<host>`. */
  readonly source: string;
  stamp(): EventStamp;
}

/** What the log tells of a cell that is adopted. */
export function earlierLife(projection: Projection, cellId: string, nowMs: number): EarlierLife {
  const cell = projection.cell(cellId);
  const summary = projection.flowSummary(cellId);
  const flows = projection.flows({ cellId, limit: EARLIER_FLOWS_MAX })
    .filter(({ end }) => end === undefined).reverse().map(earlierFlow);
  const startedAtMs = cell?.startedAt === undefined ? undefined : Date.parse(cell.startedAt);
  const updatedMs = Date.parse(cell?.updatedAt ?? "") || nowMs;
  return {
    ...(startedAtMs === undefined ? {} : { startedAtMs }),
    silentSinceMs: Math.max(flows.at(-1)?.observedAtMs ?? 0, updatedMs),
    audit: {
      decisions: (summary?.allowed ?? 0) + (summary?.denied ?? 0),
      lost: summary?.lost ?? 0,
      repeats: 0,
      flows,
    },
  };
}

/** The events that bring a cell to its end; to be appended all or none. */
export function endFacts(cell: Cell, action: EndAction, context: EndContext): CloudEvent[] {
  const { source } = context;
  const ids = { cellId: cell.id, runId: cell.runId ?? cell.id };
  const events = new CellEvents({ source, ...ids, specId: cell.specId });
  const stamp = () => context.stamp();
  if (action === "cancel") {
    return [events.refused(stamp(), "stopped", "it was stopped before it was started")];
  }
  if (action === "finish") {
    const isGood = cell.reason === "exited" && cell.exitCode === 0;
    return [events.destroyed(stamp(), isGood, isGood)];
  }
  const { record, end, endedAtMs } = context.ended ?? {};
  const exit = classifyExit({
    record: end?.record ?? { kind: "lost" },
    oomKills: end?.oomKills ?? 0,
    pidsMaxHits: end?.pidsMaxHits ?? 0,
    timedOut: false,
    stopRequested: cell.stopReason !== undefined,
    stalled: cell.stopReason === STALLED,
  });
  const facts: CloudEvent[] = [];
  const hasRun = record !== undefined && end?.record.kind !== "execFailed";
  if (cell.startedAt === undefined && hasRun) {
    facts.push(events.started(stamp(), policyDigest(makePolicy(record.spec))));
  }
  if (cell.startedAt !== undefined || hasRun) facts.push(unwatchedGap(cell, ids, context));
  const launchedAtMs = record?.launchedAtMs ?? Infinity;
  return [
    ...facts,
    events.completed(stamp(), {
      reason: exit.reason,
      ...(exit.reason === "lost" ? {} : { exitCode: exit.exitCode }),
      ...(exit.signal === undefined ? {} : { signal: signalName(exit.signal) }),
      durationMs: Math.max(0, (endedAtMs ?? 0) - launchedAtMs),
    }),
    events.destroyed(stamp(), false, isSuccess(exit), "it ended while no celld was there"),
  ];
}

/** Its counters went with its network: how much was missed, nobody can say. */
function unwatchedGap(
  cell: Cell,
  ids: { cellId: string; runId: string },
  { source, stamp }: EndContext,
): CloudEvent {
  const to = stamp();
  return makeEvent({
    ...to,
    source,
    type: EVENT_TYPES.flowGap,
    subject: `cell:${cell.id}`,
    data: {
      ...ids,
      lost: 0,
      sequenceLost: 0,
      socketDrops: 0,
      from: cell.updatedAt ?? to.time,
      to: to.time,
      cause: "unwatched",
      isCountUnknown: true,
    },
  });
}

function earlierFlow(flow: Flow): EarlierFlow {
  const { decision, ruleRef, protocol, srcAddr, srcPort, dstAddr, dstPort, observedAt } = flow;
  return {
    decision,
    ...(ruleRef === undefined ? {} : { ruleRef }),
    ...(protocol === undefined ? {} : { protocol }),
    ...(srcAddr === undefined ? {} : { srcAddr }),
    ...(srcPort === undefined ? {} : { srcPort }),
    ...(dstAddr === undefined ? {} : { dstAddr }),
    ...(dstPort === undefined ? {} : { dstPort }),
    observedAtMs: Date.parse(observedAt ?? "") || 0,
  };
}
