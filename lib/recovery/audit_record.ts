/**
 * Rows of the recovery audit: the reference's TSV v2, byte for byte, and the hash that chains them.
 *
 * ```
 * boot      seq wall_ms observer_ns boot     daemon_pid prev|- reason                          chain
 * spawn     seq wall_ms observer_ns spawn    agent_pid child_pid mode program source length    chain
 * complete  seq wall_ms observer_ns complete agent_pid child_pid outcome exit|- signal|-
 *                                            duration_ns stdout_len stderr_len truncated       chain
 * refused   seq wall_ms observer_ns refused  agent_pid reason                                  chain
 * intent    seq wall_ms observer_ns intent   agent_pid generation stall_ns attempt action      chain
 * ```
 *
 * The first four kinds are the reference's. `intent` is ours: it is on the disk before anything is
 * done, so that a celld that is killed meanwhile does not do it again for the same stall.
 *
 * `chain` is `SHA256("VARTA-AUDIT-v2" 00 kind 00 prev 00 body)`: the body is the row up to the tab before
 * the column, `prev` the raw 32 bytes of the row before, zeros at first. Whoever can write the file
 * can compute that anew; with a key it is `HMAC-SHA256(key, "CELLD-AUDIT-v2-keyed" 00 …)`, whose label
 * keeps the two apart, and the header says so.
 *
 * @module
 */
import { createHash, createHmac } from "node:crypto";
import { concatBytes, encodeUtf8 } from "#lib/base/mod.ts";

/** First line of a file, without its end. */
export const AUDIT_HEADER = "# varta-watch recovery audit v2";
/** First line of a file whose chain needs a key. */
export const AUDIT_HEADER_KEYED = `${AUDIT_HEADER} keyed hmac-sha256`;
/** First line of the format before. */
export const AUDIT_HEADER_V1 = "# varta-watch recovery audit v1";
/** Bytes of a free text in a row; so that two rows always fit the tail that a resume reads. */
export const FREE_TEXT_BYTES_MAX = 512;
/** What the first row is chained to. */
export const CHAIN_START: Uint8Array<ArrayBuffer> = new Uint8Array(32);

const LABEL = "VARTA-AUDIT-v2";
const LABEL_KEYED = "CELLD-AUDIT-v2-keyed";

/** Why a file was opened, or begun. */
export type BootReason =
  | "fresh"
  | "resume"
  | "legacy_v1"
  | "corrupt_tail"
  | "schema_drift"
  | "rotation";

/** What every row says first. */
export interface RowTimes {
  /** Milliseconds since 1970. */
  readonly wallMs: number;
  /** Nanoseconds since the observer began. */
  readonly observerNs: bigint;
}

/** A row without its sequence and chain. */
export type AuditRow =
  | RowTimes & {
    readonly kind: "boot";
    readonly daemonPid: number;
    /** Chain of the row before, in hex, where it goes on from one. */
    readonly previous: string | undefined;
    readonly reason: BootReason;
  }
  | RowTimes & {
    readonly kind: "spawn";
    readonly agentPid: number;
    readonly childPid: number;
    readonly program: string;
    /** `inline`, or the file that the command is from. */
    readonly source: string;
    readonly templateLength: number;
  }
  | RowTimes & {
    readonly kind: "complete";
    readonly agentPid: number;
    readonly childPid: number;
    readonly outcome: "reaped" | "killed" | "reap_failed";
    readonly exitCode: number | undefined;
    readonly signal: number | undefined;
    readonly durationNs: bigint;
    readonly stdoutLength: number;
    readonly stderrLength: number;
    readonly isTruncated: boolean;
  }
  | RowTimes & { readonly kind: "refused"; readonly agentPid: number; readonly reason: string }
  | RowTimes & {
    readonly kind: "intent";
    readonly agentPid: number;
    readonly generation: bigint;
    readonly stallNs: bigint;
    readonly attempt: number;
    /** `command`, `signal:15`, `restart_cell`, `webhook`. */
    readonly action: string;
  };

/** A kind of row. */
export type AuditKind = AuditRow["kind"];

/** Makes a text fit a column: no tab, no line's end, and not too long. */
export function sanitizeText(text: string): string {
  const flat = text.replace(/[\t\r\n]/g, " ");
  const bytes = encodeUtf8(flat);
  if (bytes.length <= FREE_TEXT_BYTES_MAX) return flat;
  // A character that was cut through is left out.
  return new TextDecoder().decode(bytes.subarray(0, FREE_TEXT_BYTES_MAX)).replace(/\uFFFD+$/, "");
}

/** A row up to its chain column. */
export function auditBody(seq: bigint, row: AuditRow): string {
  const head = [seq, row.wallMs, row.observerNs, row.kind];
  return [...head, ...columnsOf(row)].join("\t");
}

function columnsOf(row: AuditRow): (string | number | bigint | boolean)[] {
  switch (row.kind) {
    case "boot":
      return [row.daemonPid, row.previous ?? "-", row.reason];
    case "spawn": {
      const texts = [sanitizeText(row.program), sanitizeText(row.source)];
      return [row.agentPid, row.childPid, "exec", ...texts, row.templateLength];
    }
    case "complete":
      return [
        row.agentPid,
        row.childPid,
        row.outcome,
        row.exitCode ?? "-",
        row.signal ?? "-",
        row.durationNs,
        row.stdoutLength,
        row.stderrLength,
        row.isTruncated,
      ];
    case "refused":
      return [row.agentPid, sanitizeText(row.reason)];
    case "intent":
      return [
        row.agentPid,
        row.generation,
        row.stallNs,
        row.attempt,
        sanitizeText(row.action),
      ];
  }
}

/** The hash of a row, raw; see the module. */
export function chainDigest(
  kind: string,
  previous: Uint8Array,
  body: string,
  key?: Uint8Array,
): Uint8Array<ArrayBuffer> {
  const label = key === undefined ? LABEL : LABEL_KEYED;
  const input = concatBytes(
    encodeUtf8(`${label}\0${kind}\0`),
    previous,
    encodeUtf8(`\0${body}`),
  );
  const hash = key === undefined ? createHash("sha256") : createHmac("sha256", key);
  return new Uint8Array(hash.update(input).digest());
}

/** A row as it stands in a file, taken apart; `undefined` where it is none. */
export interface ParsedRow {
  /** Its number, from 1. */
  readonly seq: bigint;
  /** Milliseconds since 1970. */
  readonly wallMs: number;
  /** As written; perhaps none of ours. */
  readonly kind: string;
  /** Columns after the kind, without the chain. */
  readonly columns: readonly string[];
  /** Up to the tab before the chain. */
  readonly body: string;
  /** As written: 64 hexadecimal digits, `-`, or something else. */
  readonly chain: string;
}

/** Columns after the kind, by kind. */
export const ROW_COLUMNS: Readonly<Record<AuditKind, number>> = {
  boot: 3,
  spawn: 6,
  complete: 9,
  refused: 2,
  intent: 5,
};

/** Takes a line (without its end) apart. Never throws. */
export function parseAuditRow(line: string): ParsedRow | undefined {
  const columns = line.split("\t");
  if (columns.length < 6) return undefined;
  const [seq, wallMs, , kind] = columns as [string, string, string, string];
  if (!/^\d{1,20}$/.test(seq) || !/^\d{1,16}$/.test(wallMs)) return undefined;
  const chain = columns.at(-1)!;
  return {
    seq: BigInt(seq),
    wallMs: Number(wallMs),
    kind,
    columns: columns.slice(4, -1),
    body: line.slice(0, line.length - chain.length - 1),
    chain,
  };
}

/** Whether a row's kind is known and it has that kind's columns. */
export function isKnownRow(row: ParsedRow): boolean {
  return row.columns.length === (ROW_COLUMNS as Record<string, number>)[row.kind];
}
