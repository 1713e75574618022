/**
 * What `apply` and `diff` are given: the text of a formation or of a cell's specification, known
 * apart by its kind. What is in it, the server judges.
 *
 * @module
 */
import { parse } from "yaml";
import { UsageError } from "./exit_codes.ts";

/** A document that was read. */
export interface Manifest {
  readonly kind: "formation" | "cell";
  /** A formation's name, or the id in a cell's specification. */
  readonly name: string;
  /** As it was written. */
  readonly text: string;
  /** What it says. */
  readonly document: Readonly<Record<string, unknown>>;
}

/** More aliases than a document needs, fewer than would fill the memory. */
const ALIASES_MAX = 100;

/** Reads a document, JSON or YAML. Throws a `UsageError` where it is neither kind. */
export function readManifest(path: string, text: string): Manifest {
  const document = parseDocument(path, text);
  const spec = objectOf(document.spec);
  if (document.kind === "ExecutionCell") {
    return { kind: "cell", name: textOf(spec.id) ?? "-", text, document };
  }
  const isFormation = document.kind === "Formation" ||
    (document.kind === undefined && Array.isArray(document.members));
  if (!isFormation) {
    throw new UsageError(
      `Cannot use ${JSON.stringify(path)}: it is neither a formation nor a cell`,
      "give it kind: Formation or kind: ExecutionCell",
    );
  }
  const name = [objectOf(document.metadata).name, spec.name, document.name]
    .map(textOf).find((one) => one !== undefined);
  if (name === undefined) {
    throw new UsageError(
      `Cannot use ${JSON.stringify(path)}: the formation has no name`,
      "give it a name, or metadata.name",
    );
  }
  return { kind: "formation", name, text, document };
}

function parseDocument(path: string, text: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = parse(text, { maxAliasCount: ALIASES_MAX, logLevel: "silent" });
  } catch (error) {
    const [line] = (error as Error).message.split("\n");
    throw new UsageError(`Cannot read ${JSON.stringify(path)}: ${line}`);
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw new UsageError(`Cannot read ${JSON.stringify(path)}: want one document with members`);
}

function objectOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? value as Record<string, unknown> : {};
}

function textOf(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}
