/**
 * How an audit goes on with a file that is already there: decided from its first line and its last
 * 4096 bytes.
 *
 * ```
 * empty, or not there                → begin (after what was rotated away, where there is some)
 * our header, last line whole        → append, boot "resume"
 * our header, last line torn         → cut it off, append, boot "corrupt_tail"
 * a v1 header                        → append, boot "legacy_v1", chain anew
 * the other kind of chain, no lines  → set the file aside, begin, boot "schema_drift"
 * anything else                      → append, boot "schema_drift", chain anew
 * ```
 *
 * A last row whose hash is not one still tells its number: the next one is higher.
 *
 * @module
 */
import { fromHex } from "#lib/base/mod.ts";
import { type ChainPlace } from "./audit_chain.ts";
import {
  AUDIT_HEADER,
  AUDIT_HEADER_KEYED,
  AUDIT_HEADER_V1,
  type BootReason,
  CHAIN_START,
  parseAuditRow,
} from "./audit_record.ts";

/** Bytes of a file's end that are looked at. */
export const RESUME_TAIL_BYTES = 4096;

/** What to do with the file. */
export type ResumePlan =
  | { readonly kind: "begin"; readonly reason: BootReason; readonly place: ChainPlace }
  | {
    readonly kind: "append";
    readonly reason: BootReason;
    readonly place: ChainPlace;
    /** Bytes that stay. */
    readonly keepBytes: number;
    /** Whether the boot row names the hash that it goes on from. */
    readonly isContinued: boolean;
  }
  | { readonly kind: "set_aside"; readonly reason: BootReason };

/** What is known of the file. */
export interface FileEnds {
  /** Bytes of all of it. */
  readonly sizeBytes: number;
  /** Its first line, without the end; `undefined` where it has no whole line. */
  readonly firstLine: string | undefined;
  /** Its last {@link RESUME_TAIL_BYTES}. */
  readonly tail: Uint8Array;
}

const BEGINNING: ChainPlace = { seq: 0n, hash: CHAIN_START };
const NEWLINE = 10;

/** Decides by the module's table. */
export function planResume(file: FileEnds, isKeyed: boolean): ResumePlan {
  const { sizeBytes, firstLine, tail } = file;
  if (sizeBytes === 0) return { kind: "begin", reason: "fresh", place: BEGINNING };
  const tornBytes = tail.length - 1 - tail.lastIndexOf(NEWLINE);
  if (firstLine === undefined) {
    // A header that did not get to its end; nothing else was ever written.
    const wanted = isKeyed ? AUDIT_HEADER_KEYED : AUDIT_HEADER;
    const text = new TextDecoder().decode(tail);
    const isTornHeader = sizeBytes === tail.length && wanted.startsWith(text);
    return isTornHeader
      ? { kind: "begin", reason: "corrupt_tail", place: BEGINNING }
      : { kind: "set_aside", reason: "schema_drift" };
  }
  if (tornBytes === tail.length) return { kind: "set_aside", reason: "schema_drift" };
  const keepBytes = sizeBytes - tornBytes;
  const anew = (reason: BootReason): ResumePlan => {
    return { kind: "append", reason, place: BEGINNING, keepBytes, isContinued: false };
  };
  if (firstLine.startsWith(AUDIT_HEADER_V1)) return anew("legacy_v1");
  if (!firstLine.startsWith(AUDIT_HEADER)) return anew("schema_drift");
  if (firstLine.startsWith(AUDIT_HEADER_KEYED) !== isKeyed) {
    return { kind: "set_aside", reason: "schema_drift" };
  }
  return planAppend(tail.subarray(0, tail.length - tornBytes), keepBytes, tornBytes > 0);
}

function planAppend(lines: Uint8Array, keepBytes: number, isTorn: boolean): ResumePlan {
  const text = new TextDecoder().decode(lines).trimEnd();
  const last = text.slice(text.lastIndexOf("\n") + 1);
  const torn: BootReason = isTorn ? "corrupt_tail" : "resume";
  if (last.startsWith("#")) {
    // The header and no row: killed between the two writes of another writer.
    return { kind: "append", reason: torn, place: BEGINNING, keepBytes, isContinued: false };
  }
  const row = parseAuditRow(last);
  if (row === undefined) {
    return {
      kind: "append",
      reason: "schema_drift",
      place: BEGINNING,
      keepBytes,
      isContinued: false,
    };
  }
  const hash = row.chain.length === 64 ? fromHex(row.chain) : undefined;
  if (hash === undefined) {
    const reason = row.chain === "-" ? torn : "schema_drift";
    const place = { seq: row.seq, hash: CHAIN_START };
    return { kind: "append", reason, place, keepBytes, isContinued: false };
  }
  const place = { seq: row.seq, hash };
  return { kind: "append", reason: torn, place, keepBytes, isContinued: !isTorn };
}

/** What an earlier celld meant to do, as its audit tells. */
export interface IntentSeen {
  /** The agent. */
  readonly pid: number;
  /** Its start time. */
  readonly generation: bigint;
  /** When its last beat was accepted. */
  readonly stallNs: bigint;
  /** From 1, over all rungs. */
  readonly attempt: number;
  /** `command`, `signal:15`, `restart_cell`, `webhook`. */
  readonly action: string;
  /** When it was meant, milliseconds since 1970. */
  readonly wallMs: number;
  /** Whether what it meant was followed by a `spawn`; always so for what is no command. */
  readonly isStarted: boolean;
}

/** Collects the intents of a text of whole lines; lines that are none are passed over. */
export function intentsIn(text: string): IntentSeen[] {
  const intents: IntentSeen[] = [];
  const open = new Map<number, number>();
  for (const line of text.split("\n")) {
    const row = parseAuditRow(line);
    const pid = Number(row?.columns[0]);
    if (row?.kind === "intent" && row.columns.length === 5 && isNumbers(row.columns.slice(0, 4))) {
      const [, generation, stallNs, attempt, action] = row.columns as string[] as [
        string,
        string,
        string,
        string,
        string,
      ];
      intents.push({
        pid,
        generation: BigInt(generation),
        stallNs: BigInt(stallNs),
        attempt: Number(attempt),
        action,
        wallMs: row.wallMs,
        isStarted: action !== "command",
      });
      open.set(pid, intents.length - 1);
    } else if (row?.kind === "spawn" || row?.kind === "refused") {
      const at = open.get(pid);
      if (at !== undefined) intents[at] = { ...intents[at]!, isStarted: true };
    }
  }
  return intents;
}

function isNumbers(columns: readonly string[]): boolean {
  return columns.every((column) => /^\d{1,20}$/.test(column));
}
