/**
 * What the original's command line takes from answers: its models and how strictly it decodes them.
 *
 * @module
 */

/** Its exit codes. */
export const EXIT = { ok: 0, usage: 1, api: 2, validation: 3 } as const;

/** A command ends with a code and a line. */
export class Failure extends Error {
  readonly code: number;

  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

/** Members by name. */
export type Json = Record<string, unknown>;

/** A formation as it decodes one. */
export interface Formation {
  readonly id: string;
  readonly name: string;
  readonly state: string;
  readonly tenant?: string;
  readonly created_at?: string;
  readonly updated_at?: string;
  readonly cells: readonly Cell[];
  readonly document: unknown;
}

/** A cell as it decodes one. */
export interface Cell {
  readonly id: string;
  readonly name: string;
  readonly state: string;
  readonly outcome?: string;
}

/** The items of any of the envelopes that it takes; two lists at once are refused. */
export function listOf(body: unknown, key: string): unknown[] {
  if (Array.isArray(body)) return body;
  const members = body as Json;
  const found = [key, "items"].filter((name) => name in members);
  if (found.length !== 1 || !Array.isArray(members[found[0]])) {
    throw new Failure(EXIT.api, `decode: want one of ${key}, items`);
  }
  return members[found[0]] as unknown[];
}

/** A text that defaults where it is absent, and must not be null. */
function text(members: Json, name: string): string {
  const value = members[name] === undefined ? "" : members[name];
  if (typeof value !== "string") throw new Failure(EXIT.api, `decode: ${name} is no text`);
  return value;
}

function optional(members: Json, name: string): { [name: string]: string } {
  const value = members[name];
  if (value === undefined || value === null) return {};
  if (typeof value !== "string") throw new Failure(EXIT.api, `decode: ${name} is no text`);
  return { [name]: value };
}

/** Decodes a formation. */
export function formationOf(value: unknown): Formation {
  const members = value as Json;
  if ("state" in members && "status" in members) {
    throw new Failure(EXIT.api, "decode: duplicate field `state`");
  }
  const { cells = [] } = members;
  if (!Array.isArray(cells)) throw new Failure(EXIT.api, "decode: cells is no list");
  return {
    id: text(members, "id"),
    name: text(members, "name"),
    state: text(members, "state" in members ? "state" : "status"),
    ...optional(members, "tenant"),
    ...optional(members, "created_at"),
    ...optional(members, "updated_at"),
    cells: cells.map(cellOf),
    document: members.document,
  };
}

/** Decodes a cell. */
export function cellOf(value: unknown): Cell {
  const members = value as Json;
  if ("destroyed_at" in members && "finished_at" in members) {
    throw new Failure(EXIT.api, "decode: duplicate field `finished_at`");
  }
  return {
    id: text(members, "id"),
    name: text(members, "name"),
    state: text(members, "state"),
    ...optional(members, "outcome"),
  };
}

/** A document's name, wherever it stands. */
export function nameOf(document: Json): string {
  const nested = (name: string) => (document[name] as Json | undefined)?.name;
  const name = document.name ?? nested("metadata") ?? nested("spec");
  return typeof name === "string" ? name : "";
}

/** By id where the text is a UUID, else by name. */
export function formationPath(name: string): string {
  const isUuid = /^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$/i.test(name);
  return isUuid ? `/v1/formations/${name}` : `/v1/formations/by-name/${encodeURIComponent(name)}`;
}
