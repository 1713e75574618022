/**
 * The log prefix that ties a logged packet to its rule and verdict: `cellos-flow <rule> <verdict>`.
 *
 * The verdict is the prefix's last word, so that a rule's name cannot be mistaken for it. The
 * table gives each prefix a small number, so that packed records carry two bytes, not a text.
 *
 * @module
 */

/** The first word of every prefix of ours; others on the same group are foreign. */
export const LOG_PREFIX_BASE = "cellos-flow";
/** Bytes that the kernel keeps of a prefix, without its NUL (`NF_LOG_PREFIXLEN`). */
export const LOG_PREFIX_BYTES_MAX = 127;

/** What a rule did with a packet: nothing known, let it go, or refused it. */
export const VERDICT = { unknown: 0, accept: 1, drop: 2 } as const;

/** A value of {@link VERDICT}. */
export type VerdictCode = (typeof VERDICT)[keyof typeof VERDICT];

/** A prefix taken apart. */
export interface LogPrefix {
  /** What became of the packet. */
  readonly verdict: VerdictCode;
  /** The rule that logged, such as `egress[0]`; absent for a bare verdict. */
  readonly ruleRef?: string;
}

/** Takes a prefix apart; nothing when it is not ours. */
export function parseLogPrefix(text: string): LogPrefix | undefined {
  const words = text.trim().split(/\s+/);
  if (words[0] !== LOG_PREFIX_BASE) return undefined;
  const last = words.length > 1 ? words[words.length - 1] : "";
  const verdict = last === "accept"
    ? VERDICT.accept
    : last === "drop"
    ? VERDICT.drop
    : VERDICT.unknown;
  const ruleWords = words.slice(1, verdict === VERDICT.unknown ? undefined : -1);
  return ruleWords.length === 0 ? { verdict } : { verdict, ruleRef: ruleWords.join(" ") };
}

/** The prefix that a rule logs with. Throws `RangeError` when the kernel would cut it. */
export function formatLogPrefix(ruleRef: string, verdict: "accept" | "drop"): string {
  const text = `${LOG_PREFIX_BASE} ${ruleRef} ${verdict}`;
  const sizeBytes = new TextEncoder().encode(text).length;
  if (sizeBytes > LOG_PREFIX_BYTES_MAX) {
    throw new RangeError(
      `Cannot log as ${JSON.stringify(text)}: ${sizeBytes} bytes, at most ${LOG_PREFIX_BYTES_MAX}`,
    );
  }
  return text;
}

/** Different prefixes that a table numbers; rulesets are ours, so this is far above need. */
export const PREFIXES_MAX = 16384;
/** The number of a prefix that is not ours. */
export const PREFIX_FOREIGN: number = -1;
/** The number of a prefix of ours that found the table full: its rule is not known. */
export const PREFIX_OVERFLOW = 0;

const BUCKETS = 1 << 16;
const textDecoder = new TextDecoder();

/** Numbers prefixes; a known one is found without making an object. */
export class PrefixTable {
  readonly #max: number;
  /** Slot to entry index plus one; open addressing, never removed. */
  readonly #slots = new Uint16Array(BUCKETS);
  readonly #entries: { bytes: Uint8Array; id: number; verdict: VerdictCode }[] = [];
  /** Texts by number; number 0 stands for those that did not fit. */
  readonly #texts: string[] = [LOG_PREFIX_BASE];
  #last = 0;

  /**
   * Starts empty.
   *
   * @param max Entries, foreign ones included.
   */
  constructor(max: number = PREFIXES_MAX) {
    this.#max = max;
  }

  /** Texts by number. Grows only at its end. */
  get texts(): readonly string[] {
    return this.#texts;
  }

  /** The verdict of the prefix that {@link PrefixTable.intern} was last asked for. */
  get lastVerdict(): VerdictCode {
    return this.#last as VerdictCode;
  }

  /**
   * The number of the prefix at `bytes[start .. start+length]` (its NUL is not part of it);
   * {@link PREFIX_FOREIGN} when not ours, {@link PREFIX_OVERFLOW} when the table is full.
   */
  intern(bytes: Uint8Array, start: number, length: number): number {
    let slot = hashBytes(bytes, start, length) & (BUCKETS - 1);
    while (this.#slots[slot] !== 0) {
      const entry = this.#entries[this.#slots[slot] - 1];
      if (sameBytes(entry.bytes, bytes, start, length)) {
        this.#last = entry.verdict;
        return entry.id;
      }
      slot = (slot + 1) & (BUCKETS - 1);
    }
    return this.#add(slot, bytes.slice(start, start + length));
  }

  #add(slot: number, bytes: Uint8Array): number {
    const text = textDecoder.decode(bytes);
    const parsed = parseLogPrefix(text);
    this.#last = parsed?.verdict ?? VERDICT.unknown;
    if (this.#entries.length >= this.#max) {
      return parsed === undefined ? PREFIX_FOREIGN : PREFIX_OVERFLOW;
    }
    const id = parsed === undefined ? PREFIX_FOREIGN : this.#texts.push(text) - 1;
    this.#entries.push({ bytes, id, verdict: this.lastVerdict });
    this.#slots[slot] = this.#entries.length;
    return id;
  }
}

function hashBytes(bytes: Uint8Array, start: number, length: number): number {
  let hash = 0x811c9dc5;
  for (let index = start; index < start + length; index++) {
    hash = Math.imul(hash ^ bytes[index], 0x01000193);
  }
  return (hash ^ hash >>> 16) >>> 0;
}

function sameBytes(known: Uint8Array, bytes: Uint8Array, start: number, length: number): boolean {
  if (known.length !== length) return false;
  for (let index = 0; index < length; index++) {
    if (known[index] !== bytes[start + index]) return false;
  }
  return true;
}
