/**
 * The facts of a formation's life as events: the reference's seven, and two of ours for what
 * somebody wants of a formation. Ids and times are given; the catalogue is in `lib/events`.
 *
 * A wish becomes an event before anything acts on it, so that it outlives a crash: a formation
 * that is to be cancelled says so first, and `cancelled` when its last cell has ended.
 *
 * @module
 */
import {
  type CloudEvent,
  EVENT_TYPES,
  type FormationData,
  type FormationScaledData,
  type FormationWishData,
  makeEvent,
} from "#lib/events/mod.ts";

/** The phases that events tell. */
export type FormationPhase =
  | "created"
  | "launching"
  | "running"
  | "degraded"
  | "completed"
  | "failed"
  | "cancelled";

/** What `created` says past the catalogue's shape. */
export interface FormationCreatedData extends FormationData {
  /** What was submitted, unknown members included. */
  readonly document: unknown;
}

/** What `failed` and `degraded` say past the catalogue's shape. */
export interface FormationTroubleData extends FormationData {
  /** Cells that failed for good. */
  readonly failedCells?: readonly string[];
}

/** Which formation the events are about, and who tells them. */
export interface FormationEventContext {
  /** CloudEvents source: `/celld/<host>`. */
  readonly source: string;
  /** UUID. */
  readonly formationId: string;
  /** Its name. */
  readonly formationName: string;
}

/** When and under which id a fact is told. */
export interface FormationEventStamp {
  /** Unique over all time; the same for every retry. */
  readonly id: string;
  /** RFC 3339, UTC. */
  readonly time: string;
}

const TYPE_BY_PHASE = {
  created: EVENT_TYPES.formationCreated,
  launching: EVENT_TYPES.formationLaunching,
  running: EVENT_TYPES.formationRunning,
  degraded: EVENT_TYPES.formationDegraded,
  completed: EVENT_TYPES.formationCompleted,
  failed: EVENT_TYPES.formationFailed,
  cancelled: EVENT_TYPES.formationCancelled,
} as const satisfies Record<FormationPhase, string>;

/** Makes the events of one formation. */
export class FormationEvents {
  readonly #context: FormationEventContext;

  /** For one formation. */
  constructor(context: FormationEventContext) {
    this.#context = context;
  }

  /** The formation was admitted. */
  created(stamp: FormationEventStamp, document: unknown, cellIds: readonly string[]): CloudEvent {
    const data: FormationCreatedData = { ...this.#named(), cellIds, document };
    return this.#make(stamp, EVENT_TYPES.formationCreated, data);
  }

  /** The formation is in another phase, with these cells, of which some have failed for good. */
  phase(
    stamp: FormationEventStamp,
    phase: FormationPhase,
    facts: Omit<FormationTroubleData, "formationId" | "formationName"> = {},
  ): CloudEvent {
    const data: FormationTroubleData = { ...this.#named(), ...facts };
    return this.#make(stamp, TYPE_BY_PHASE[phase], data);
  }

  /** Somebody wants the formation to end. */
  cancelRequested(stamp: FormationEventStamp, reason?: string): CloudEvent {
    const data: FormationWishData = {
      ...this.#named(),
      ...(reason === undefined ? {} : { reason }),
    };
    return this.#make(stamp, EVENT_TYPES.formationCancelRequested, data);
  }

  /** Somebody wants another number of replicas of a member. */
  scaled(stamp: FormationEventStamp, member: string, replicas: number): CloudEvent {
    const data: FormationScaledData = { ...this.#named(), member, replicas };
    return this.#make(stamp, EVENT_TYPES.formationScaled, data);
  }

  #named(): { formationId: string; formationName: string } {
    const { formationId, formationName } = this.#context;
    return { formationId, formationName };
  }

  #make(stamp: FormationEventStamp, type: string, data: object): CloudEvent {
    const { source, formationId } = this.#context;
    return makeEvent({ ...stamp, source, type, subject: `formation:${formationId}`, data });
  }
}
