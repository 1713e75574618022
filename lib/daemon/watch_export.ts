/**
 * The export file of a stand-alone observer: a row for each beat and each transition, tab-separated, as
 * the reference writes them.
 *
 * ```
 * <ns> beat <pid> <nonce> ok|degraded|critical <payload>
 * <ns> stall <pid> <last nonce> stall -
 * <ns> decode|io|ctrunc - - - <text>
 * <ns> mismatch <claimed pid> - - auth_failure|origin_conflict|namespace_conflict
 * <ns> eviction <pid> - - -
 * ```
 *
 * The end of an agent is a row `stall` too: it is told at once here, where the reference finds it out by
 * its silence. Datagrams that are refused are told once a look with their number, not each.
 *
 * @module
 */
import {
  Fd,
  OPEN,
  openFile,
  syncData,
  syncFd,
  SyscallError,
  truncateFd,
  writeFd,
} from "#ffi/mod.ts";
import { type AgentEvent, type CounterTable, STATUS_NAMES } from "#lib/liveness/mod.ts";
import { BEAT_FIELDS } from "#lib/liveness/mod_shell.ts";
import { WatchError } from "./watch_support.ts";

/** Rotated files that are kept. */
const GENERATIONS = 5;
const U32 = 2n ** 32n;
const NONCE_TERMINAL = 2n ** 64n - 1n;
/** Agents whose last nonce is remembered. */
const NONCES_MAX = 262_144;

/** How it is written. */
export interface ExportOptions {
  readonly path: string;
  /** Bytes at which it is rotated; never unless told. */
  readonly maxBytes?: number;
  /** Rows after which it is synchronised; 0: never. */
  readonly syncEvery: number;
}

/** See the module. */
export class ExportFile {
  readonly #options: ExportOptions;
  readonly #encoder = new TextEncoder();
  readonly #lastNonce = new Map<number, bigint>();
  #fd: Fd;
  #sizeBytes: number;
  #unsynced = 0;
  /** A write was cut short: the file may hold part of a row. */
  #isRagged = false;
  #counters: CounterTable = {};

  /** Opens the file. Throws {@link WatchError} where it is not a file of ours alone. */
  constructor(options: ExportOptions) {
    this.#options = options;
    ({ fd: this.#fd, sizeBytes: this.#sizeBytes } = openExport(options.path));
  }

  /** Takes beats: rows of `BEAT_FIELDS` numbers. Throws what the disk says. */
  beats(rows: Float64Array): void {
    const lines: string[] = [];
    for (let at = 0; at < rows.length; at += BEAT_FIELDS) {
      const [ns, pid, status, high, low, payload] = rows.subarray(at, at + BEAT_FIELDS);
      const nonce = BigInt(high!) * U32 + BigInt(low!);
      lines.push(`${ns}\tbeat\t${pid}\t${nonce}\t${STATUS_NAMES[status!]}\t${payload}`);
      // A last word does not count on.
      if (nonce === NONCE_TERMINAL) continue;
      if (this.#lastNonce.size >= NONCES_MAX) this.#lastNonce.clear();
      this.#lastNonce.set(pid!, nonce);
    }
    this.#write(lines);
  }

  /** Takes transitions. Throws what the disk says. */
  events(events: readonly AgentEvent[]): void {
    this.#write(events.map((event) => this.#lineOf(event)).filter((line) => line !== undefined));
  }

  /** Takes counters: what was refused since the last time is told. Throws what the disk says. */
  refusals(counters: CounterTable, ns: number): void {
    const before = this.#counters;
    this.#counters = counters;
    const lines: string[] = [];
    for (const [name, value] of Object.entries(counters)) {
      const count = value - (before[name] ?? 0);
      const row = count > 0 ? rowOfCounter(name) : undefined;
      if (row !== undefined) lines.push(`${ns}\t${row[0]}\t-\t-\t-\t${row[1]} (${count})`);
    }
    this.#write(lines);
  }

  /** Synchronises and closes. Never throws. */
  close(): void {
    try {
      syncData(this.#fd);
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
    }
    this.#fd.close();
  }

  #lineOf(event: AgentEvent): string | undefined {
    const ns = Math.round(event.atNs);
    switch (event.kind) {
      case "conflict":
        return event.reason === "uid"
          ? undefined
          : `${ns}\tmismatch\t${event.claimedPid}\t-\t-\t${MISMATCHES[event.reason]}`;
      case "gone": {
        const { hostPid } = event.agent;
        const nonce = this.#lastNonce.get(hostPid) ?? 0n;
        this.#lastNonce.delete(hostPid);
        if (event.reason === "evicted") return `${ns}\teviction\t${hostPid}\t-\t-\t-`;
        const isStall = event.reason === "exit" && event.agent.status !== "stall";
        return isStall ? stallLine(ns, hostPid, nonce) : undefined;
      }
      case "stalled":
        return stallLine(ns, event.agent.hostPid, this.#lastNonce.get(event.agent.hostPid) ?? 0n);
      default:
        return undefined;
    }
  }

  #write(lines: readonly string[]): void {
    if (lines.length === 0) return;
    const bytes = this.#encoder.encode(`${lines.join("\n")}\n`);
    if (this.#isRagged) truncateFd(this.#fd, this.#sizeBytes);
    this.#isRagged = true;
    writeFd(this.#fd, bytes);
    this.#isRagged = false;
    this.#sizeBytes += bytes.length;
    this.#unsynced += lines.length;
    const { syncEvery, maxBytes = Infinity } = this.#options;
    if (syncEvery > 0 && this.#unsynced >= syncEvery) {
      syncData(this.#fd);
      this.#unsynced = 0;
    }
    if (this.#sizeBytes >= maxBytes) this.#rotate();
  }

  #rotate(): void {
    const { path } = this.#options;
    syncData(this.#fd);
    for (let generation = GENERATIONS - 1; generation >= 1; generation--) {
      renameIfThere(`${path}.${generation}`, `${path}.${generation + 1}`);
    }
    renameIfThere(path, `${path}.1`);
    const { fd, sizeBytes } = openExport(path);
    this.#fd.close();
    [this.#fd, this.#sizeBytes] = [fd, sizeBytes];
  }
}

const MISMATCHES = {
  pid: "auth_failure",
  mainPid: "auth_failure",
  origin: "origin_conflict",
  namespace: "namespace_conflict",
} as const;

function stallLine(ns: number, pid: number, nonce: bigint): string {
  return `${ns}\tstall\t${pid}\t${nonce}\tstall\t-`;
}

/** The kind of row and the text for a counter of refused datagrams. */
function rowOfCounter(name: string): [kind: string, text: string] | undefined {
  const decode = /^varta_decode_errors_total\{kind="(\w+)"\}$/.exec(name);
  if (decode !== null) return ["decode", decode[1]!];
  if (name === "varta_io_errors_total") return ["io", "peer refused"];
  if (name === "varta_ctrl_truncated_total") return ["ctrunc", "control data truncated"];
  return undefined;
}

function openExport(path: string): { fd: Fd; sizeBytes: number } {
  const fail = (why: string, cause?: unknown) =>
    new WatchError(`Cannot write --export-file ${JSON.stringify(path)}: ${why}`, { cause });
  let fd: Fd;
  try {
    const flags = OPEN.READ_WRITE | OPEN.APPEND | OPEN.CREATE | OPEN.NOFOLLOW | OPEN.NONBLOCK;
    fd = openFile(path, { flags, mode: 0o600 });
  } catch (cause) {
    throw fail((cause as Error).message, cause);
  }
  const { isFile, uid, nlink, size } = Deno.statSync(`/proc/thread-self/fd/${fd.number}`);
  if (isFile && uid === Deno.uid() && nlink === 1) {
    syncParent(path);
    return { fd, sizeBytes: size };
  }
  fd.close();
  throw fail("want a regular file of ours, with one name");
}

/** Makes the names durable: of a new file, and of those that were moved. */
function syncParent(path: string): void {
  const folder = path.includes("/") ? path.slice(0, path.lastIndexOf("/") + 1) : ".";
  using directory = openFile(folder, { flags: OPEN.DIRECTORY });
  syncFd(directory);
}

function renameIfThere(from: string, to: string): void {
  try {
    Deno.renameSync(from, to);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
