/**
 * A formation's manifest, in either of its two shapes, as a checked value.
 *
 * - flat: `{ name, coordinator, members: [{ id, authorizedBy? }, …] }`
 * - as kubectl has it: `{ apiVersion, kind: "Formation", metadata: { name }, spec: { … } }`
 *
 * Members that nobody knows are kept: the document goes into the log as it was sent. What
 * celld itself reads past the reference's members: `spec`, `replicas`, `restart` and `critical`
 * of a member, and `restart` of the formation.
 *
 * The cell documents in `members[].spec` are not read here but by `lib/cell`, which another
 * domain's core cannot import: the daemon calls it with {@link memberDocument}, and gives what
 * came out to `admission.ts`.
 *
 * @module
 */
import { FORMATION_PROBLEMS_MAX, FormationError, quote } from "./errors.ts";
import {
  RESTART_BACKOFF_MAX_MS_DEFAULT,
  RESTART_BACKOFF_MS_DEFAULT,
  RESTART_NEVER,
  type RestartPolicy,
  RESTARTS_MAX_DEFAULT,
  type RestartWhen,
} from "./restart.ts";

/** Members that one formation may have. */
export const MEMBERS_MAX = 1000;
/** Replicas that one member may have. */
export const REPLICAS_MAX = 1000;
/** Characters of a name or an id. */
export const NAME_LENGTH_MAX = 253;

/** The only `apiVersion` of the second shape. */
const API_VERSION = "cellos.io/v1";
const KIND = "Formation";
const DAY_SECONDS = 86_400;
// deno-lint-ignore no-control-regex -- control characters are what it is looking for
const CONTROL = /[\u0000-\u001f\u007f-\u009f]/;

/** One member of a formation. */
export interface FormationMember {
  /** Unique in its formation. */
  readonly id: string;
  /** The member that it has its authority from; only the coordinator has none. */
  readonly authorizedBy?: string;
  /** The document of its cell, unread; absent where somebody else starts it. */
  readonly spec?: Readonly<Record<string, unknown>>;
  /** How many cells of it are wanted, from 0. */
  readonly replicas: number;
  /** What happens when one of them ends. */
  readonly restart: RestartPolicy;
  /** Whether the formation fails when one of them fails for good. Absent: only the coordinator's. */
  readonly critical?: boolean;
}

/** A manifest, read; not yet admitted. */
export interface FormationManifest {
  /** Its name. */
  readonly name: string;
  /** Ids that are named as coordinator, each once. */
  readonly coordinators: readonly string[];
  /** At least one, in their order. */
  readonly members: readonly FormationMember[];
  /** What was sent. */
  readonly document: Readonly<Record<string, unknown>>;
}

type Fields = Readonly<Record<string, unknown>>;

/** Reads a manifest's value. Throws {@link FormationError} of kind `BadRequest`, with all problems. */
export function readManifest(document: unknown): FormationManifest {
  const problems: string[] = [];
  const fields = asFields(document);
  if (fields === undefined) {
    throw new FormationError("BadRequest", [`found ${quote(document)}, want an object`]);
  }
  const reader = new Reader(problems);
  const body = reader.body(fields);
  const name = reader.name(fields, body.fields);
  const members = reader.members(body);
  const coordinators = reader.coordinators(body, members);
  if (problems.length > 0 || name === undefined) throw new FormationError("BadRequest", problems);
  return { name, coordinators, members: members.map(({ member }) => member), document: fields };
}

/**
 * The cell document of a member, for `readCellSpec`: a complete one as it is, and a bare spec
 * with the envelope around it and the member's id where it has none of its own.
 */
export function memberDocument(member: FormationMember): unknown {
  const { spec } = member;
  if (spec === undefined) return undefined;
  if ("kind" in spec || "apiVersion" in spec || "spec" in spec) return spec;
  return { apiVersion: API_VERSION, kind: "ExecutionCell", spec: { id: member.id, ...spec } };
}

/** The part of a document that has the members, and where it is. */
interface Body {
  readonly fields: Fields;
  readonly path: string;
}

interface ReadMember {
  readonly member: FormationMember;
  readonly isCoordinator: boolean;
}

/** Collects problems on the way; see {@link readManifest}. */
class Reader {
  readonly #problems: string[];

  constructor(problems: string[]) {
    this.#problems = problems;
  }

  body(fields: Fields): Body {
    const { apiVersion, kind, spec } = fields;
    if (spec === undefined && kind === undefined && apiVersion === undefined) {
      return { fields, path: "" };
    }
    if (apiVersion !== undefined && apiVersion !== API_VERSION) {
      this.#note("apiVersion", apiVersion, JSON.stringify(API_VERSION));
    }
    if (kind !== undefined && kind !== KIND) this.#note("kind", kind, JSON.stringify(KIND));
    // A flat document may say what it is, too.
    if (spec === undefined) return { fields, path: "" };
    const body = asFields(spec);
    if (body !== undefined) return { fields: body, path: "spec." };
    this.#note("spec", spec, "an object");
    return { fields: {}, path: "spec." };
  }

  name(fields: Fields, body: Fields): string | undefined {
    const named = [asFields(fields.metadata)?.name, body.name, fields.name];
    const found = named.find((value) => value !== undefined);
    return this.#label("name", found);
  }

  members(body: Body): ReadMember[] {
    const path = `${body.path}members`;
    const { members, restart } = body.fields;
    if (!Array.isArray(members) || members.length === 0 || members.length > MEMBERS_MAX) {
      this.#note(path, members, `a list of 1 to ${MEMBERS_MAX} members`);
      return [];
    }
    const byDefault = this.#restart(`${body.path}restart`, restart, RESTART_NEVER);
    const read = members.flatMap((item, index) =>
      this.#member(`${path}[${index}]`, item, byDefault) ?? []
    );
    const ids = new Set<string>();
    for (const { member: { id } } of read) {
      if (ids.has(id)) this.#problem(`${path}: found ${quote(id)} twice, want each id once`);
      ids.add(id);
    }
    return read;
  }

  /** Named at the top by id, as `{ id }`, or as a list of those; or marked at the member. */
  coordinators(body: Body, members: readonly ReadMember[]): string[] {
    const { coordinator, coordinators } = body.fields;
    const found = new Set<string>();
    for (const [field, value] of Object.entries({ coordinator, coordinators })) {
      if (value === undefined || value === null) continue;
      const path = `${body.path}${field}`;
      for (const item of Array.isArray(value) ? value : [value]) {
        const id = this.#label(path, asFields(item)?.id ?? item);
        if (id !== undefined) found.add(id);
      }
    }
    for (const { member, isCoordinator } of members) if (isCoordinator) found.add(member.id);
    return Array.from(found);
  }

  #member(path: string, value: unknown, byDefault: RestartPolicy): ReadMember | undefined {
    const fields = asFields(value);
    if (fields === undefined) return this.#note(path, value, "an object");
    const id = this.#label(`${path}.id`, fields.id);
    const { authorizedBy, spec, critical } = fields;
    const authoriser = authorizedBy === undefined || authorizedBy === null
      ? undefined
      : this.#label(`${path}.authorizedBy`, authorizedBy);
    const cell = spec === undefined || spec === null ? undefined : asFields(spec);
    if (cell === undefined && spec !== undefined && spec !== null) {
      this.#note(`${path}.spec`, spec, "an object");
    }
    if (critical !== undefined && typeof critical !== "boolean") {
      this.#note(`${path}.critical`, critical, "true or false");
    }
    const replicas = fields.replicas === undefined
      ? 1
      : this.#integer(`${path}.replicas`, fields.replicas, 0, REPLICAS_MAX) ?? 1;
    const restart = this.#restart(`${path}.restart`, fields.restart, byDefault);
    if (id === undefined) return undefined;
    const member: FormationMember = {
      id,
      ...(authoriser === undefined ? {} : { authorizedBy: authoriser }),
      ...(cell === undefined ? {} : { spec: cell }),
      replicas,
      restart,
      ...(typeof critical === "boolean" ? { critical } : {}),
    };
    return { member, isCoordinator: fields.coordinator === true || fields.role === "coordinator" };
  }

  /** A word, or an object with the numbers. */
  #restart(path: string, value: unknown, byDefault: RestartPolicy): RestartPolicy {
    if (value === undefined || value === null) return byDefault;
    const fields = asFields(value) ?? { policy: value };
    const when = this.#when(path, fields.policy);
    if (when === undefined) return byDefault;
    const seconds = (name: string, fallbackMs: number) => {
      const given = fields[name];
      const read = given === undefined
        ? undefined
        : this.#integer(`${path}.${name}`, given, 0, DAY_SECONDS);
      return read === undefined ? fallbackMs : read * 1000;
    };
    const limit = fields.maxRestarts === undefined
      ? when === "on-failure" ? RESTARTS_MAX_DEFAULT : undefined
      : this.#integer(`${path}.maxRestarts`, fields.maxRestarts, 0, 1_000_000);
    const backoffMs = seconds("backoffSeconds", RESTART_BACKOFF_MS_DEFAULT);
    return {
      when,
      ...(limit === undefined ? {} : { maxRestarts: limit }),
      backoffMs,
      backoffMaxMs: Math.max(
        backoffMs,
        seconds("maxBackoffSeconds", RESTART_BACKOFF_MAX_MS_DEFAULT),
      ),
    };
  }

  /** Takes kubectl's spelling too: `OnFailure`. */
  #when(path: string, value: unknown): RestartWhen | undefined {
    const words: Readonly<Record<string, RestartWhen>> = {
      never: "never",
      onfailure: "on-failure",
      always: "always",
    };
    const key = typeof value === "string" ? value.toLowerCase().replaceAll("-", "") : "";
    if (Object.hasOwn(words, key)) return words[key];
    return this.#note(path, value, '"never", "on-failure" or "always"');
  }

  #label(path: string, value: unknown): string | undefined {
    const isLabel = typeof value === "string" && value.trim() !== "" &&
      value.length <= NAME_LENGTH_MAX && value.isWellFormed() && !CONTROL.test(value);
    if (isLabel) return value;
    return this.#note(path, value, `text of 1 to ${NAME_LENGTH_MAX} characters`);
  }

  #integer(path: string, value: unknown, min: number, max: number): number | undefined {
    if (Number.isInteger(value) && (value as number) >= min && (value as number) <= max) {
      return value as number;
    }
    return this.#note(path, value, `an integer from ${min} to ${max}`);
  }

  #note(path: string, found: unknown, wanted: string): undefined {
    this.#problem(`${path}: found ${quote(found)}, want ${wanted}`);
  }

  #problem(text: string): void {
    if (this.#problems.length < FORMATION_PROBLEMS_MAX) this.#problems.push(text);
  }
}

function asFields(value: unknown): Fields | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? value as Fields
    : undefined;
}
