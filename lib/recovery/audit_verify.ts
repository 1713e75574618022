/**
 * Whether an audit is what was written: every row against its chain, across rotated files.
 *
 * Text is pushed as it is read; nothing but the line at hand is kept. What is told:
 *
 * - problems, each with file, line and reason; the first is the one that counts, since whoever changed
 *   a row without mending the rest shows there. Afterwards the row's own hash is believed, so that one
 *   changed row is one problem and not thousands;
 * - gaps in the numbers under an unbroken chain: rows that found the ring full, not rows taken away;
 * - a torn last line, as a crash leaves it.
 *
 * Without a key, whoever can write the file can write a chain that verifies; and no chain tells that
 * its newest rows were cut off: keep `lastHash` elsewhere for that.
 *
 * @module
 */
import { fromHex, sameBytes, toHex } from "#lib/base/mod.ts";
import {
  AUDIT_HEADER,
  AUDIT_HEADER_KEYED,
  CHAIN_START,
  chainDigest,
  isKnownRow,
  parseAuditRow,
  type ParsedRow,
} from "./audit_record.ts";

/** Problems and gaps that are listed; all are counted. */
export const FINDINGS_LISTED_MAX = 100;
/** Characters of a line; no row of ours comes near. */
const LINE_CHARS_MAX = 64 * 1024;
/** Reasons of a boot row that begins a chain. */
const BEGINNINGS: ReadonlySet<string> = new Set([
  "fresh",
  "legacy_v1",
  "schema_drift",
  "corrupt_tail",
]);

/** Something wrong. */
export interface AuditProblem {
  /** As it was named to {@link AuditVerifier.begin}. */
  readonly file: string;
  /** From 1. */
  readonly line: number;
  /** What is wrong, for people. */
  readonly reason: string;
}

/** Numbers that no row has. */
export interface AuditGap {
  /** See {@link AuditProblem.file}. */
  readonly file: string;
  /** Line of the row behind the gap. */
  readonly line: number;
  /** The first number without a row. */
  readonly firstSeq: string;
  /** The last one. */
  readonly lastSeq: string;
}

/** What a verification found. */
export interface AuditReport {
  /** No problem, and no torn end. */
  readonly isSound: boolean;
  /** Whether a key was given. */
  readonly isKeyed: boolean;
  /** Rows that were read. */
  readonly rowCount: number;
  /** Rows whose chain column is `-`. */
  readonly unchainedCount: number;
  /** What is wrong, the first first; at most {@link FINDINGS_LISTED_MAX}. */
  readonly problems: readonly AuditProblem[];
  /** All of them. */
  readonly problemCount: number;
  /** Numbers without a row, in their order; as bounded. */
  readonly gaps: readonly AuditGap[];
  /** Numbers that were burnt, in all gaps. */
  readonly burntCount: string;
  /** The last file ends within a line. */
  readonly tornTail?: { readonly file: string; readonly line: number };
  /** What is worth knowing and not wrong. */
  readonly notes: readonly string[];
  /** Of the last row. */
  readonly lastSeq: string;
  /** Of the last row; kept elsewhere, it tells a cut-off end. */
  readonly lastHash: string;
}

/** See the module. Files are given oldest first. */
export class AuditVerifier {
  readonly #key: Uint8Array | undefined;
  readonly #problems: AuditProblem[] = [];
  readonly #gaps: AuditGap[] = [];
  readonly #notes: string[] = [];
  #problemCount = 0;
  #burnt = 0n;
  #rowCount = 0;
  #unchainedCount = 0;
  #file = "";
  #fileCount = 0;
  #line = 0;
  #rest = "";
  #decoder = new TextDecoder();
  #hash: Uint8Array = CHAIN_START;
  #seq = 0n;
  #rowsOfFile = 0;

  /**
   * Starts.
   *
   * @param key Of a keyed chain.
   */
  constructor(key?: Uint8Array) {
    this.#key = key;
  }

  /** The next file begins. */
  begin(file: string): void {
    if (this.#fileCount > 0) this.#endFile(false);
    this.#file = file;
    this.#fileCount++;
    this.#line = 0;
    this.#rowsOfFile = 0;
    this.#decoder = new TextDecoder();
  }

  /** Takes the next bytes of the file. */
  push(chunk: Uint8Array): void {
    this.#rest += this.#decoder.decode(chunk, { stream: true });
    let from = 0;
    for (let end = this.#rest.indexOf("\n"); end >= 0; end = this.#rest.indexOf("\n", from)) {
      this.#takeLine(this.#rest.slice(from, end));
      from = end + 1;
    }
    this.#rest = this.#rest.slice(from);
    if (this.#rest.length > LINE_CHARS_MAX) {
      this.#line++;
      this.#tell("the line is longer than any row");
      this.#rest = "";
    }
  }

  /** All files were given. */
  end(): AuditReport {
    const torn = this.#endFile(true);
    const isTorn = torn !== undefined;
    return {
      isSound: this.#problemCount === 0 && !isTorn,
      isKeyed: this.#key !== undefined,
      rowCount: this.#rowCount,
      unchainedCount: this.#unchainedCount,
      problems: this.#problems,
      problemCount: this.#problemCount,
      gaps: this.#gaps,
      burntCount: `${this.#burnt}`,
      ...(torn === undefined ? {} : { tornTail: { file: this.#file, line: torn } }),
      notes: this.#notes,
      lastSeq: `${this.#seq}`,
      lastHash: toHex(this.#hash),
    };
  }

  #endFile(isLast: boolean): number | undefined {
    const rest = this.#rest + this.#decoder.decode();
    this.#rest = "";
    if (rest === "") {
      if (this.#line === 0) this.#note("the file is empty");
      return undefined;
    }
    this.#line++;
    if (isLast) return this.#line;
    this.#tell("the file ends within a line");
    return undefined;
  }

  #takeLine(line: string): void {
    this.#line++;
    if (this.#line === 1) return this.#takeHeader(line);
    const row = parseAuditRow(line);
    if (row === undefined) return this.#tell("this is not a row");
    this.#rowCount++;
    this.#rowsOfFile++;
    if (!isKnownRow(row)) this.#tell(`no row of kind ${JSON.stringify(row.kind)} looks like this`);
    const isBeginning = this.#takeChain(row);
    this.#takeSeq(row, isBeginning);
  }

  #takeHeader(line: string): void {
    const isKeyed = line === AUDIT_HEADER_KEYED;
    if (!isKeyed && line !== AUDIT_HEADER) return this.#tell("the first line is no header of ours");
    if (isKeyed && this.#key === undefined) this.#tell("the chain needs a key, and none was given");
    if (!isKeyed && this.#key !== undefined) this.#tell("the chain has no key, and one was given");
  }

  /** Returns whether a chain begins with this row. */
  #takeChain(row: ParsedRow): boolean {
    if (row.chain === "-") {
      this.#unchainedCount++;
      this.#hash = CHAIN_START;
      if (this.#key !== undefined) this.#tell("the row is not chained");
      return this.#rowCount === 1;
    }
    const stated = row.chain.length === 64 ? fromHex(row.chain) : undefined;
    if (stated === undefined) {
      this.#tell("the chain column is not a hash");
      return false;
    }
    const isBeginning = this.#checkChain(row, stated);
    this.#hash = stated;
    return isBeginning;
  }

  #checkChain(row: ParsedRow, stated: Uint8Array): boolean {
    const follows = (hash: Uint8Array) =>
      sameBytes(chainDigest(row.kind, hash, row.body, this.#key), stated);
    const [, previous, reason] = row.kind === "boot" ? row.columns : [];
    if (this.#rowCount === 1 && previous !== undefined && previous.length === 64) {
      const given = fromHex(previous);
      this.#note(`the files begin after row ${row.seq - 1n}, which was not given`);
      if (given === undefined || !follows(given)) this.#tell("the chain does not fit the row");
      return true;
    }
    if (previous !== undefined && previous !== "-" && previous !== toHex(this.#hash)) {
      this.#tell("the boot row names another row before it");
    }
    if (follows(this.#hash)) return this.#rowCount === 1;
    if (reason !== undefined && previous === "-" && follows(CHAIN_START)) {
      return this.#takeBeginning(reason);
    }
    this.#tell("the chain does not fit the row: it, or one before it, was changed or removed");
    return false;
  }

  #takeBeginning(reason: string): boolean {
    const isTold = BEGINNINGS.has(reason) || reason === "resume" && this.#unchainedCount > 0;
    const isPlausible = isTold && (this.#key === undefined || this.#rowsOfFile === 1);
    const text = `a new chain begins (${reason})`;
    if (isPlausible) this.#note(`line ${this.#line}: ${text}`);
    else this.#tell(text);
    return true;
  }

  #takeSeq(row: ParsedRow, isBeginning: boolean): void {
    const expected = this.#seq + 1n;
    if (row.seq > expected && !isBeginning) {
      this.#burnt += row.seq - expected;
      if (this.#gaps.length < FINDINGS_LISTED_MAX) {
        const [firstSeq, lastSeq] = [`${expected}`, `${row.seq - 1n}`];
        this.#gaps.push({ file: this.#file, line: this.#line, firstSeq, lastSeq });
      }
    }
    if (row.seq < expected && !isBeginning) {
      this.#tell(`the number ${row.seq} comes after ${this.#seq}`);
    }
    this.#seq = row.seq;
  }

  #tell(reason: string): void {
    this.#problemCount++;
    if (this.#problems.length < FINDINGS_LISTED_MAX) {
      this.#problems.push({ file: this.#file, line: this.#line, reason });
    }
  }

  #note(text: string): void {
    if (this.#notes.length < FINDINGS_LISTED_MAX) this.#notes.push(`${this.#file}: ${text}`);
  }
}
