/**
 * The facts of a cell's life as events. Ids and times are given; the catalogue is in
 * `lib/events`.
 *
 * @module
 */
import {
  type CellPhase,
  type CloudEvent,
  EVENT_TYPES,
  type ExitReason,
  makeEvent,
} from "#lib/events/mod.ts";

/** Which cell and run the events are about, and who tells them. */
export interface CellEventContext {
  /** CloudEvents source: `/celld/<host>`. */
  readonly source: string;
  /** The cell. */
  readonly cellId: string;
  /** The name in its spec. */
  readonly specId: string;
  /** One run of it. */
  readonly runId: string;
}

/** When and under which id a fact is told. */
export interface EventStamp {
  /** Unique over all time; the same for every retry. */
  readonly id: string;
  /** RFC 3339, UTC. */
  readonly time: string;
}

/** How a workload ended, as `command.completed` tells it. */
export interface CompletedFacts {
  /** Why it ended. */
  readonly reason: ExitReason;
  /** Absent where the workload gave none. */
  readonly exitCode?: number;
  /** Such as `SIGKILL`. */
  readonly signal?: string;
  /** Milliseconds from the start to the end. */
  readonly durationMs: number;
}

/** Which place in a formation a cell is for. */
export interface FormationPlace {
  /** UUID. */
  readonly formationId: string;
  /** Of which member. */
  readonly member: string;
  /** From 0. */
  readonly replica: number;
  /** How many times the replica had been started before. */
  readonly attempt: number;
}

/** Makes the events of one run of one cell. */
export class CellEvents {
  readonly #context: CellEventContext;

  /** For one run. */
  constructor(context: CellEventContext) {
    this.#context = context;
  }

  /** Somebody wants the cell, and it will be made. */
  requested(
    stamp: EventStamp,
    spec: Readonly<Record<string, unknown>>,
    place?: FormationPlace,
  ): CloudEvent {
    return this.#make(stamp, EVENT_TYPES.cellRequested, { spec, ...place });
  }

  /** Somebody wants the cell to end; `reason` is a word for machines. */
  stopRequested(stamp: EventStamp, reason: string, force: boolean): CloudEvent {
    return this.#make(stamp, EVENT_TYPES.cellStopRequested, {
      reason,
      ...(force ? { force } : {}),
    });
  }

  /** The cell has entered a phase; `detail` says what is being done or why. */
  phase(stamp: EventStamp, phase: CellPhase, detail?: string): CloudEvent {
    return this.#make(stamp, EVENT_TYPES.cellPhase, {
      phase,
      ...(detail === undefined ? {} : { detail }),
    });
  }

  /** The cell was admitted, and will not be made. */
  refused(stamp: EventStamp, reason: string, detail: string): CloudEvent {
    const { source, cellId, specId } = this.#context;
    return makeEvent({
      ...stamp,
      source,
      type: EVENT_TYPES.cellRefused,
      subject: `cell:${cellId}`,
      data: { cellId, specId, reason, detail },
    });
  }

  /** The workload's program was executed. */
  started(stamp: EventStamp, policyDigest: string): CloudEvent {
    return this.#make(stamp, EVENT_TYPES.cellStarted, { policyDigest, startedAt: stamp.time });
  }

  /** The workload has ended. */
  completed(stamp: EventStamp, facts: CompletedFacts): CloudEvent {
    return this.#make(stamp, EVENT_TYPES.commandCompleted, { ...facts });
  }

  /** Nothing of the cell is left. `reason` says what went wrong, where something did. */
  destroyed(stamp: EventStamp, isClean: boolean, isSuccess: boolean, reason?: string): CloudEvent {
    return this.#make(stamp, EVENT_TYPES.cellDestroyed, {
      outcome: isSuccess ? "succeeded" : "failed",
      terminalState: isClean ? "clean" : "forced",
      ...(reason === undefined ? {} : { reason }),
    });
  }

  #make(stamp: EventStamp, type: string, data: Record<string, unknown>): CloudEvent {
    const { source, cellId, specId, runId } = this.#context;
    return makeEvent({
      ...stamp,
      source,
      type,
      subject: `cell:${cellId}`,
      data: { cellId, specId, runId, ...data },
    });
  }
}
