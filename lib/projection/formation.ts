/**
 * One formation as the events tell it, and the rule by which an event changes it.
 *
 *   created ─▶ PENDING      launching, running, degraded ─▶ RUNNING
 *   completed ─▶ SUCCEEDED  failed ─▶ FAILED  cancelled ─▶ CANCELLED   (these three are the end)
 *
 * The mapping is the reference's. Ours: an ended formation never changes again; a wish to cancel
 * is a phase of its own (`cancelling`) until the end; a changed number of replicas is kept.
 *
 * A formation is never changed: an event makes a new object, or answers the same one.
 *
 * @module
 */
import { countOf, type Fields, objectOf, parseUuid, textOf, textsOf } from "./fields.ts";

/** The reference's states. */
export type FormationStatus = "PENDING" | "RUNNING" | "SUCCEEDED" | "FAILED" | "CANCELLED";

/** Ours, finer: the last phase that an event told, or `cancelling`. */
export type FormationViewPhase =
  | "created"
  | "launching"
  | "running"
  | "degraded"
  | "cancelling"
  | "completed"
  | "failed"
  | "cancelled";

/** A formation. What is not known is absent. */
export interface Formation {
  /** UUID, lower case with hyphens. */
  readonly id: string;
  /** Its name; empty where no event gave one. */
  readonly name: string;
  /** By the reference's rules. */
  readonly status: FormationStatus;
  /** By ours. */
  readonly phase: FormationViewPhase;
  /** Why it is in its phase, for people. */
  readonly reason?: string;
  /** What was submitted; the data of its first event where no event brought that. */
  readonly document: unknown;
  /** Whether {@link Formation.document} is what was submitted. */
  readonly hasDocument: boolean;
  /** Members whose number of replicas was changed, and to what. */
  readonly replicas: Readonly<Record<string, number>>;
  /** CloudEvents source of its first event: who drives it. */
  readonly source?: string;
  /** Time of its first event. */
  readonly createdAt?: string;
  /** Time of the last event that changed it. */
  readonly updatedAt?: string;
  /** Place of its first event in the log. */
  readonly firstSeq: number;
  /** Place of the last event that changed it. */
  readonly seq: number;
}

/** An event about a formation, taken apart. */
export interface FormationFact {
  /** The last word of its type. */
  readonly phase: string;
  /** The event's data. */
  readonly data: Fields;
  /** The event's time. */
  readonly time: string | undefined;
  /** The event's source. */
  readonly source?: string | undefined;
  /** The event's place in the log. */
  readonly seq: number;
}

const STATUS_BY_PHASE: ReadonlyMap<string, FormationStatus> = new Map([
  ["created", "PENDING"],
  ["launching", "RUNNING"],
  ["running", "RUNNING"],
  ["degraded", "RUNNING"],
  ["completed", "SUCCEEDED"],
  ["failed", "FAILED"],
  ["cancelled", "CANCELLED"],
]);

/** Whether a formation has ended for ever. */
export function isFormationEnded(formation: Formation): boolean {
  return formation.status !== "PENDING" && formation.status !== "RUNNING";
}

/** Whether a phase word is one that changes a formation. */
export function isFormationPhase(phase: string): boolean {
  return STATUS_BY_PHASE.has(phase) || phase === "cancel_requested" || phase === "scaled";
}

/**
 * The formation that an event names: its data in either spelling, then its subject, which is the
 * bare id or ours (`formation:<id>`). `undefined` where none of them is there, or the first one
 * that is there is not a UUID.
 */
export function formationIdOfEvent(data: Fields, subject: unknown): string | undefined {
  const text = textOf(data, "formationId") ?? textOf(data, "formation_id") ??
    (typeof subject === "string" ? subject.replace(/^(urn:cellos:)?formation:/, "") : undefined);
  return text === undefined ? undefined : parseUuid(text);
}

/** Cells that an event about a formation names. */
export function cellIdsOf(data: Fields): readonly string[] {
  return textsOf(data, "cellIds");
}

/** A formation of which nothing is known but that an event names it. */
export function newFormation(id: string, fact: FormationFact): Formation {
  const document = objectOf(fact.data, "document");
  return {
    id,
    name: nameOf(fact.data),
    status: "PENDING",
    phase: "created",
    document: document ?? fact.data,
    hasDocument: document !== undefined,
    replicas: {},
    firstSeq: fact.seq,
    seq: fact.seq,
    ...(fact.source === undefined ? {} : { source: fact.source }),
    ...(fact.time === undefined ? {} : { createdAt: fact.time }),
  };
}

/** The formation after an event; the same object where it has ended before. */
export function evolveFormation(formation: Formation, fact: FormationFact): Formation {
  if (isFormationEnded(formation)) return formation;
  const name = nameOf(fact.data);
  const document = formation.hasDocument ? undefined : objectOf(fact.data, "document");
  const known: Formation = {
    ...formation,
    seq: fact.seq,
    ...(name === "" ? {} : { name }),
    ...(document === undefined ? {} : { document, hasDocument: true }),
    ...(fact.time === undefined ? {} : { updatedAt: fact.time }),
  };
  if (fact.phase === "scaled") return scaled(known, fact.data);
  const status = STATUS_BY_PHASE.get(fact.phase);
  const phase = nextPhase(known, fact.phase, status);
  // Why it is being cancelled stays said while its cells go on telling what they do.
  if (phase === "cancelling" && status !== undefined) return { ...known, status, phase };
  const { reason: _, ...rest } = known;
  const reason = textOf(fact.data, "reason");
  return {
    ...rest,
    status: status ?? known.status,
    phase,
    ...(reason === undefined ? {} : { reason }),
  };
}

function nextPhase(
  formation: Formation,
  word: string,
  status: FormationStatus | undefined,
): FormationViewPhase {
  if (status === undefined) return "cancelling";
  // Its cells go on telling what they do, but there is only one way left.
  const isOpen = status === "PENDING" || status === "RUNNING";
  return isOpen && formation.phase === "cancelling" ? "cancelling" : word as FormationViewPhase;
}

function scaled(formation: Formation, data: Fields): Formation {
  const member = textOf(data, "member");
  const replicas = countOf(data, "replicas");
  if (member === undefined || replicas === undefined) return formation;
  return { ...formation, replicas: { ...formation.replicas, [member]: replicas } };
}

function nameOf(data: Fields): string {
  return textOf(data, "formationName") ?? textOf(data, "name") ?? "";
}
