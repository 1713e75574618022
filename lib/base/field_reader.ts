/**
 * Reads fields of an untrusted document and collects everything that is wrong with it, so that
 * its author hears of all mistakes at once, each with its exact path.
 *
 * A reader method answers `undefined` after it has noted a problem; whoever asked goes on with
 * the next field, and asks for {@link FieldReader.problems} at the end.
 *
 * @module
 */
import { didYouMean } from "./did_you_mean.ts";

/** One mistake in a document. */
export interface FieldProblem {
  /** Where: `spec.authority.egressRules[1].port`; empty for the document as a whole. */
  readonly path: string;
  /** What is there, as JSON, shortened. */
  readonly found: string;
  /** What should be there, in words. */
  readonly wanted: string;
  /** The field that was probably meant, or what to write instead. */
  readonly suggestion?: string;
}

/** More problems than this are not listed: nobody reads them, and an attacker could ask for many. */
export const PROBLEMS_MAX = 50;

/** How much of a found value is shown, in characters. */
const FOUND_LENGTH_MAX = 60;

/** One problem as a line. */
export function formatProblem({ path, found, wanted, suggestion }: FieldProblem): string {
  const where = path === "" ? "" : `${path}: `;
  const hint = suggestion === undefined ? "" : ` (${suggestion})`;
  return `${where}found ${found}, want ${wanted}${hint}`;
}

/** An object whose fields are being read. */
export type Fields = Readonly<Record<string, unknown>>;

/** What an integer must be. */
export interface IntegerBounds {
  /** The least. */
  readonly min: number;
  /** The most. */
  readonly max: number;
}

/** Collects problems; see the module. */
export class FieldReader {
  readonly #problems: FieldProblem[] = [];

  /** What was wrong, in the order in which the document was read; at most {@link PROBLEMS_MAX}. */
  get problems(): readonly FieldProblem[] {
    return this.#problems;
  }

  /** Notes a problem; answers `undefined`, so that it can be returned. */
  note(path: string, value: unknown, wanted: string, suggestion?: string): undefined {
    if (this.#problems.length >= PROBLEMS_MAX) return undefined;
    const found = describe(value);
    this.#problems.push({
      path,
      found,
      wanted,
      ...(suggestion === undefined ? {} : { suggestion }),
    });
    return undefined;
  }

  /**
   * An object that has no other fields than `known`. `unavailable` names fields that others
   * understand and we do not yet: they are refused with what is written there.
   */
  object(
    path: string,
    value: unknown,
    known: readonly string[],
    unavailable: Readonly<Record<string, string>> = {},
  ): Fields | undefined {
    const fields = this.record(path, value);
    if (fields === undefined) return undefined;
    for (const name of Object.keys(fields)) {
      if (known.includes(name)) continue;
      const at = joinPath(path, name);
      if (Object.hasOwn(unavailable, name)) {
        this.note(at, fields[name], "no such field", unavailable[name]);
        continue;
      }
      const meant = didYouMean(name, known);
      this.note(
        at,
        fields[name],
        `no unknown field; known are ${known.join(", ")}`,
        meant === undefined ? undefined : `did you mean ${JSON.stringify(meant)}?`,
      );
    }
    return fields;
  }

  /** An object of any fields. */
  record(path: string, value: unknown): Fields | undefined {
    if (typeof value === "object" && value !== null && !Array.isArray(value)) {
      return value as Fields;
    }
    return this.note(path, value, "an object");
  }

  /** A list of at most `countMax` items. */
  list(path: string, value: unknown, countMax: number): readonly unknown[] | undefined {
    if (!Array.isArray(value)) return this.note(path, value, "a list");
    if (value.length > countMax) {
      return this.note(path, value, `at most ${countMax} items`);
    }
    return value;
  }

  /** Text without NUL, of at most `lengthMax` characters. */
  text(path: string, value: unknown, wanted: string, lengthMax = 4096): string | undefined {
    if (typeof value !== "string") return this.note(path, value, wanted);
    if (value.length > lengthMax) return this.note(path, value, `at most ${lengthMax} characters`);
    // The kernel ends text at NUL, and lone surrogates have no bytes.
    if (value.includes("\0") || !value.isWellFormed()) {
      return this.note(path, value, `${wanted} without NUL or broken characters`);
    }
    return value;
  }

  /** Text that a pattern matches whole. */
  matching(path: string, value: unknown, pattern: RegExp, wanted: string): string | undefined {
    const text = this.text(path, value, wanted);
    if (text === undefined) return undefined;
    return pattern.test(text) ? text : this.note(path, value, wanted);
  }

  /** An absolute path without `.`, `..` or doubled slashes; a slash at its end is taken off. */
  absolutePath(path: string, value: unknown): string | undefined {
    const wanted = 'an absolute path, without "." or ".." in it';
    const text = this.text(path, value, wanted, 1024);
    if (text === undefined) return undefined;
    if (text === "/") return text;
    const parts = text.replace(/\/$/, "").split("/");
    const isClean = parts.length > 1 && parts[0] === "" &&
      parts.slice(1).every((part) => part !== "" && part !== "." && part !== "..");
    return isClean ? parts.join("/") : this.note(path, value, wanted);
  }

  /** An integer within bounds. */
  integer(path: string, value: unknown, { min, max }: IntegerBounds): number | undefined {
    if (typeof value === "number" && Number.isInteger(value) && value >= min && value <= max) {
      return value;
    }
    return this.note(path, value, `an integer from ${min} to ${max}`);
  }

  /** `true` or `false`. */
  flag(path: string, value: unknown): boolean | undefined {
    return typeof value === "boolean" ? value : this.note(path, value, "true or false");
  }

  /** One of a few words. */
  choice<T extends string>(path: string, value: unknown, choices: readonly T[]): T | undefined {
    const found = choices.find((choice) => choice === value);
    if (found !== undefined) return found;
    const meant = typeof value === "string" ? didYouMean(value, choices) : undefined;
    return this.note(
      path,
      value,
      choices.map((choice) => JSON.stringify(choice)).join(" or "),
      meant === undefined ? undefined : `did you mean ${JSON.stringify(meant)}?`,
    );
  }
}

/** The path of a field of the object at `path`. */
export function joinPath(path: string, name: string): string {
  const plain = /^[A-Za-z_][A-Za-z0-9_-]*$/.test(name);
  if (!plain) return `${path}[${describe(name)}]`;
  return path === "" ? name : `${path}.${name}`;
}

function describe(value: unknown): string {
  if (value === undefined) return "nothing";
  if (Array.isArray(value) && value.length > 8) return `a list of ${value.length}`;
  let text: string | undefined;
  try {
    text = JSON.stringify(value);
  } catch {
    // A cycle, or deeper than the stack: what it is says enough.
  }
  if (text === undefined) return `a ${typeof value}`;
  return text.length > FOUND_LENGTH_MAX ? `${text.slice(0, FOUND_LENGTH_MAX)}…` : text;
}
