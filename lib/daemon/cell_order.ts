/**
 * What every order of a cell needs, whoever gives it: an id, its secrets, a clock, and the error
 * for a cell that cannot be.
 *
 * @module
 */
import type { CellSpec } from "#lib/cell/mod.ts";
import type { RunClock } from "./cell_run.ts";

/** The most of a secret file that is read, in bytes. */
const SECRET_BYTES_MAX = 64 * 1024;
const CELL_ID_BYTES_MAX = 63;

/** The cell could not be run; `exitCode` is what `celld run` exits with. */
export class RunError extends Error {
  override name = "RunError";
  readonly exitCode: number = 125;
}

/** The clock of the machine. */
export const SYSTEM_CLOCK: RunClock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  nextId: () => crypto.randomUUID(),
};

/** `<spec id>-<8 hex>`: many runs of one spec are many cells. */
export function makeCellId(specId: string, uuid: string): string {
  const suffix = `-${uuid.slice(0, 8)}`;
  return specId.slice(0, CELL_ID_BYTES_MAX - suffix.length).replace(/-+$/, "") + suffix;
}

/** Reads the secrets that a spec names; a missing one is an error before anything is made. */
export function readSecrets(spec: CellSpec): Record<string, string> {
  const values: Record<string, string> = {};
  for (const { name, fromEnv, fromFile } of spec.run?.secrets ?? []) {
    values[name] = fromEnv !== undefined
      ? readSecretVariable(name, fromEnv)
      : readSecretFile(name, fromFile ?? "");
  }
  return values;
}

function readSecretVariable(name: string, variable: string): string {
  const value = Deno.env.get(variable);
  if (value !== undefined) return value;
  throw new RunError(`Cannot read secret ${JSON.stringify(name)}: ${variable} is not set`);
}

function readSecretFile(name: string, path: string): string {
  try {
    const { size } = Deno.statSync(path);
    if (size > SECRET_BYTES_MAX) throw new RangeError(`it has ${size} bytes, more than 65536`);
    return Deno.readTextFileSync(path);
  } catch (cause) {
    throw new RunError(`Cannot read secret ${JSON.stringify(name)}: ${reasonOf(cause)}`, { cause });
  }
}

/** What an error says. */
export function reasonOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
