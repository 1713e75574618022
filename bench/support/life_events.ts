/**
 * Events as celld writes them, by number: cells that start, decide flows, close them and end, so
 * many cells at a time. The same number is always the same event.
 *
 * @module
 */
import { type CloudEvent, EVENT_TYPES } from "#lib/events/mod.ts";

/** Cells that live at the same time. */
export const LIFE_CELLS = 5000;
/** Events of one cell's life: pending, started, flows, completed, destroyed. */
export const LIFE_EVENTS = 20;
const TIME = "2026-05-16T00:00:00.000Z";

/** One event of many lives. */
export function lifeEvent(index: number): CloudEvent {
  const generation = Math.floor(index / (LIFE_CELLS * LIFE_EVENTS));
  const step = Math.floor(index / LIFE_CELLS) % LIFE_EVENTS;
  const cell = index % LIFE_CELLS;
  const names = { cellId: `cell-${generation}-${cell}`, runId: `run-${generation}-${cell}` };
  const identity = { ...names, specId: `spec-${cell % 50}` };
  if (step === 0) return eventOf(index, EVENT_TYPES.cellPhase, { ...identity, phase: "pending" });
  if (step === 1) return eventOf(index, EVENT_TYPES.cellStarted, identity);
  if (step === LIFE_EVENTS - 2) {
    const end = { exitCode: 0, reason: "exited", durationMs: 12 };
    return eventOf(index, EVENT_TYPES.commandCompleted, { ...identity, ...end });
  }
  if (step === LIFE_EVENTS - 1) {
    return eventOf(index, EVENT_TYPES.cellDestroyed, { ...identity, outcome: "succeeded" });
  }
  const tuple = {
    ...names,
    direction: "egress",
    srcAddr: "10.213.0.1",
    srcPort: 40_000 + (step >> 1),
    dstAddr: "192.0.2.1",
    dstPort: 443,
    protocol: "tcp",
  };
  return step % 2 === 0 ? decision(index, tuple) : closed(index, tuple);
}

/** A cell that runs, by number. */
export function runningCell(index: number): CloudEvent {
  const digits = String(index).padStart(6, "0");
  return eventOf(index, EVENT_TYPES.cellStarted, {
    cellId: `cell-${digits}`,
    specId: "bench",
    runId: `0190a5c4-7e1b-7c55-9b1e-aa3d30${digits}`,
  });
}

function decision(index: number, tuple: Readonly<Record<string, unknown>>): CloudEvent {
  return eventOf(index, EVENT_TYPES.flowDecision, {
    schemaVersion: "1.0.0",
    decisionId: idOf(index),
    decision: "allow",
    reasonCode: "nft_log_accept",
    nftRuleRef: `egress[${index % 4}]`,
    ...tuple,
    policyDigest: `sha256:${"0".repeat(64)}`,
    observedAt: TIME,
  });
}

function closed(index: number, tuple: Readonly<Record<string, unknown>>): CloudEvent {
  return eventOf(index, EVENT_TYPES.flowClosed, {
    ...tuple,
    packetsOut: 10,
    bytesOut: 1000,
    packetsIn: 9,
    bytesIn: 9000,
    closedAt: "2026-05-16T00:00:01.000Z",
    reason: "closed",
  });
}

function eventOf(
  index: number,
  type: string,
  data: Readonly<Record<string, unknown>>,
): CloudEvent {
  return {
    specversion: "1.0",
    id: idOf(index),
    source: "/celld/bench",
    type,
    subject: `cell:${data.cellId}`,
    time: TIME,
    datacontenttype: "application/json",
    data,
  };
}

function idOf(index: number): string {
  return `6f9619ff-8b86-4d01-b42d-${String(index).padStart(12, "0")}`;
}
