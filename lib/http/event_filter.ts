/**
 * Which events a reader wants: by type, cell, formation and subject.
 *
 * An event belongs to a formation where its data says so, in either spelling, or where its cell
 * belongs to it. A subject is matched as the CloudEvents attribute (`cell:build-1`) or, where it
 * begins with `cellos.`, as the broker's subject with its wildcards (`cellos.events.cell.*.>`).
 *
 * @module
 */
import type { CloudEvent } from "#lib/events/mod.ts";
import { z } from "@hono/zod-openapi";
import { parseUuid, textParameter } from "./parameters.ts";
import type { ControlPlane } from "./ports.ts";
import { ProblemError } from "./problem.ts";

/** What filters look at. */
export interface EventFacts {
  readonly type: string;
  readonly subject: string;
  readonly cellId: string | undefined;
  readonly formationId: string | undefined;
  readonly formationName: string | undefined;
}

/** Whether a reader wants an event. */
export type EventPredicate = (facts: EventFacts) => boolean;

/** Query parameters of {@link eventPredicate}. */
export const EVENT_FILTERS = {
  type: textParameter("Types, separated by commas; a `*` at the end stands for any end"),
  cell: textParameter("Only of this cell"),
  formation: textParameter("Only of this formation and its cells: id or name"),
  subject: textParameter("CloudEvents subject, or a subject of the broker with wildcards"),
} satisfies z.ZodRawShape;

/** What a reader asked for. */
export interface EventFilters {
  readonly type?: string | undefined;
  readonly cell?: string | undefined;
  readonly formation?: string | undefined;
  readonly subject?: string | undefined;
}

/** Takes the facts from an event. */
export function factsOf(event: CloudEvent): EventFacts {
  const data = (event.data ?? {}) as Record<string, unknown>;
  const text = (name: string) => typeof data[name] === "string" ? data[name] : undefined;
  const isAboutFormation = event.type.includes("formation.v1.");
  const formationId = text("formationId") ?? text("formation_id");
  return {
    type: event.type,
    subject: event.subject ?? "",
    cellId: text("cellId"),
    formationId: formationId === undefined ? undefined : parseUuid(formationId),
    formationName: text("formationName") ?? (isAboutFormation ? text("name") : undefined),
  };
}

/** The predicate for what a reader asked for; `undefined`: everything. Throws `ProblemError`. */
export function eventPredicate(
  filters: EventFilters,
  plane: Pick<ControlPlane, "cell" | "formation">,
): EventPredicate | undefined {
  const parts: EventPredicate[] = [];
  if (filters.type !== undefined) parts.push(typePredicate(filters.type));
  const { cell } = filters;
  if (cell !== undefined) parts.push((facts) => facts.cellId === cell);
  if (filters.formation !== undefined) parts.push(formationPredicate(filters.formation, plane));
  if (filters.subject !== undefined) parts.push(subjectPredicate(filters.subject));
  if (parts.length <= 1) return parts[0];
  return (facts) => parts.every((part) => part(facts));
}

function typePredicate(text: string): EventPredicate {
  const exact = new Set<string>();
  const starts: string[] = [];
  for (const type of text.split(",").map((one) => one.trim())) {
    if (type === "" || type.slice(0, -1).includes("*")) {
      throw new ProblemError(
        "bad-filter",
        `Cannot use type=${JSON.stringify(text)}: want types with a "*" only at the end`,
      );
    }
    if (type.endsWith("*")) starts.push(type.slice(0, -1));
    else exact.add(type);
  }
  return ({ type }) => exact.has(type) || starts.some((start) => type.startsWith(start));
}

function formationPredicate(
  wanted: string,
  plane: Pick<ControlPlane, "cell" | "formation">,
): EventPredicate {
  // A name may be given to a formation that is not there yet: it is looked up until it is.
  let id = parseUuid(wanted);
  const name = id === undefined ? wanted : undefined;
  return (facts) => {
    if (name !== undefined && facts.formationName === name) return true;
    if (name !== undefined) id = plane.formation({ name }).record?.id ?? id;
    if (id === undefined) return false;
    if (facts.formationId !== undefined) return facts.formationId === id;
    return facts.cellId !== undefined && plane.cell(facts.cellId).record?.formation_id === id;
  };
}

function subjectPredicate(wanted: string): EventPredicate {
  if (!wanted.startsWith("cellos.")) return ({ subject }) => subject === wanted;
  const pattern = wanted.split(".");
  if (pattern.some((token, at) => token === "" || (token === ">" && at < pattern.length - 1))) {
    throw new ProblemError(
      "bad-filter",
      `Cannot use subject=${JSON.stringify(wanted)}: it is no subject of the broker`,
    );
  }
  return (facts) => matchesSubject(pattern, brokerSubjectOf(facts).split("."));
}

/** `cellos.events.<entity>.<id>.<phase>`, as the original documents it. */
export function brokerSubjectOf(facts: EventFacts): string {
  const phase = token(facts.type.slice(facts.type.lastIndexOf(".") + 1));
  const { formationId, cellId } = facts;
  if (facts.type.includes("formation.v1.")) {
    return `cellos.events.formation.${token(formationId ?? "unknown")}.${phase}`;
  }
  if (cellId !== undefined) return `cellos.events.cell.${token(cellId)}.${phase}`;
  const domain = /^dev\.[a-z]+\.events\.([a-z0-9_]+)\./.exec(facts.type)?.[1] ?? "other";
  return `cellos.events.${domain}.unknown.${phase}`;
}

function token(text: string): string {
  return text.replace(/[^A-Za-z0-9_-]/g, "_") || "_";
}

function matchesSubject(pattern: readonly string[], subject: readonly string[]): boolean {
  for (const [at, wanted] of pattern.entries()) {
    if (wanted === ">") return subject.length > at;
    if (at >= subject.length || (wanted !== "*" && wanted !== subject[at])) return false;
  }
  return pattern.length === subject.length;
}
