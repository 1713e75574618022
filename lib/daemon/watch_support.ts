/**
 * What the parts of a stand-alone observer share: its errors, secrets in files, warnings that do not
 * repeat themselves.
 *
 * @module
 */
import { readTrustedText } from "#lib/recovery/mod_shell.ts";
import type { WatchSettings } from "./watch_settings.ts";

/** The observer could not start, or not go on: exit code 1. */
export class WatchError extends Error {
  /** For logs. */
  override name = "WatchError";
  /** As the reference's. */
  readonly exitCode = 1;
}

/** A flag names something that cannot be used: exit code 2. */
export class WatchConfigError extends Error {
  /** For logs. */
  override name = "WatchConfigError";
  /** Wrong use of the command line. */
  readonly exitCode = 2;
}

/** Reads what a flag names. Throws {@link WatchConfigError}. */
export function readSecretFile(flag: string, path: string): string {
  try {
    return readTrustedText(path);
  } catch (cause) {
    throw new WatchConfigError(`Cannot use ${flag}: ${(cause as Error).message}`, { cause });
  }
}

/** 64 hex digits as 32 bytes. Throws {@link WatchConfigError}. */
export function parseKey(flag: string, text: string): Uint8Array {
  if (!/^[0-9a-fA-F]{64}$/.test(text)) {
    // Not a word of it: it is a secret.
    throw new WatchConfigError(`Cannot use ${flag}: want 64 hex digits`);
  }
  return Uint8Array.from(text.match(/../g)!, (byte) => parseInt(byte, 16));
}

/** The keys of the secure UDP socket. Throws {@link WatchConfigError}. */
export function readWatchKeys(
  settings: Pick<WatchSettings, "keyFile" | "acceptedKeyFile" | "masterKeyFile">,
): { sharedKeys: Uint8Array[]; masterKey?: Uint8Array } {
  const { keyFile, acceptedKeyFile, masterKeyFile } = settings;
  const sharedKeys: Uint8Array[] = [];
  if (keyFile !== undefined) {
    const keys = keysIn("--key-file", keyFile);
    if (keys.length !== 1) {
      throw new WatchConfigError(`Cannot use --key-file: found ${keys.length} keys, want one`);
    }
    sharedKeys.push(...keys);
  }
  if (acceptedKeyFile !== undefined) {
    const keys = keysIn("--accepted-key-file", acceptedKeyFile);
    if (keys.length === 0) throw new WatchConfigError("Cannot use --accepted-key-file: no key");
    sharedKeys.push(...keys);
  }
  if (masterKeyFile === undefined) return { sharedKeys };
  const text = readSecretFile("--master-key-file", masterKeyFile);
  return { sharedKeys, masterKey: parseKey("--master-key-file", text) };
}

function keysIn(flag: string, path: string): Uint8Array[] {
  return readSecretFile(flag, path).split("\n").map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => parseKey(flag, line));
}

/** Kinds of warnings, as the reference's counter names them. */
export const WARNING_KINDS = [
  "file_export_io",
  "audit_io",
  "prom_serve",
  "heartbeat_io",
  "audit_ring_warn",
  "audit_ring_critical",
] as const;
/** One of {@link WARNING_KINDS}. */
export type WarningKind = typeof WARNING_KINDS[number];

/** The least time between two warnings of a kind, in milliseconds. */
const WARNING_INTERVAL_MS = 10_000;

/** Tells each kind of trouble now and then, and counts the rest. */
export class Warnings {
  /** Not told, by kind. */
  readonly suppressed = new Map<WarningKind, number>(WARNING_KINDS.map((kind) => [kind, 0]));
  readonly #toldMs = new Map<WarningKind, number>();
  readonly #tell: (text: string) => void;
  readonly #nowMs: () => number;

  constructor(tell: (text: string) => void, nowMs: () => number = () => performance.now()) {
    this.#tell = tell;
    this.#nowMs = nowMs;
  }

  /** Something went wrong. */
  warn(kind: WarningKind, text: string): void {
    const toldMs = this.#toldMs.get(kind);
    if (toldMs !== undefined && this.#nowMs() - toldMs < WARNING_INTERVAL_MS) {
      this.suppressed.set(kind, this.suppressed.get(kind)! + 1);
      return;
    }
    this.#toldMs.set(kind, this.#nowMs());
    this.#tell(text);
  }
}

/** Puts a file in the place of another in one step; nobody reads half of it. */
export function replaceFile(path: string, text: string): void {
  const next = `${path}.new`;
  try {
    Deno.writeTextFileSync(next, text, { mode: 0o600, createNew: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
    // Left behind by one that was killed; whatever it is, nothing is written through it.
    Deno.removeSync(next);
    Deno.writeTextFileSync(next, text, { mode: 0o600, createNew: true });
  }
  Deno.renameSync(next, path);
}
