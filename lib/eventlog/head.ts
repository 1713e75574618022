/**
 * The head record: what the log's last commit was, kept outside the database, so that a tail
 * that went missing is noticed.
 *
 * Two slots of one fixed size are written in turn, so that a crash while writing one leaves the
 * other. A slot is text for people, padded with spaces, and ends with the SHA-256 of all the
 * rest; a reader builds the slot again from what it read and compares every byte.
 * Decoding never throws.
 *
 * @module
 */
import { hash } from "node:crypto";

/** Bytes of one slot. */
export const SLOT_BYTES = 512;
/** Bytes of the file: two slots. */
export const HEAD_BYTES: number = 2 * SLOT_BYTES;

const DIGEST_CHARACTERS = 64;
const TEXT_BYTES = SLOT_BYTES - DIGEST_CHARACTERS - 1;

/** What the log was after its last commit. */
export interface LogHead {
  /** How often the head was written: the greater of two slots is the newer. */
  readonly writes: number;
  /** Number of the last entry; 0 where there is none. */
  readonly seq: number;
  /** Its hash in hexadecimal; of the anchor where there is none. */
  readonly hash: string;
  /** The first entry that retention has left. */
  readonly firstSeq: number;
  /** Committed frames in the write-ahead log. */
  readonly walFrames: number;
  /** Salts of the write-ahead log; empty where it has no frame. */
  readonly walSalts: string;
}

/** The bytes of one slot. */
export function encodeHeadSlot(head: LogHead): Uint8Array<ArrayBuffer> {
  const { writes, seq, hash: lastHash, firstSeq, walFrames, walSalts } = head;
  const json = JSON.stringify({ writes, seq, hash: lastHash, firstSeq, walFrames, walSalts });
  const text = json.padEnd(TEXT_BYTES, " ");
  return new TextEncoder().encode(`${text}${hash("sha256", text, "hex")}\n`);
}

/** Reads one slot; `undefined` where any byte is not as it was written. */
export function decodeHeadSlot(bytes: Uint8Array): LogHead | undefined {
  if (bytes.length !== SLOT_BYTES) return undefined;
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    const padded = text.slice(0, TEXT_BYTES);
    const isWhole = text.slice(TEXT_BYTES) === `${hash("sha256", padded, "hex")}\n`;
    return isWhole ? checkHead(JSON.parse(padded)) : undefined;
  } catch {
    // Not UTF-8 or not JSON: then it is not as it was written, which is the answer.
    return undefined;
  }
}

function checkHead(value: LogHead): LogHead | undefined {
  const counts = [value.writes, value.seq, value.firstSeq, value.walFrames];
  const isHead = counts.every((count) => Number.isSafeInteger(count) && count >= 0) &&
    /^[0-9a-f]{64}$/.test(value.hash) && /^([0-9a-f]{16})?$/.test(value.walSalts);
  return isHead ? value : undefined;
}

/** Both slots of a head file, and the newer of the intact ones. */
export interface HeadFile {
  /** The newer intact slot; `undefined` where neither is. */
  readonly head: LogHead | undefined;
  /** Everything wrong with the file; empty where every byte is as it was written. */
  readonly problems: readonly string[];
}

/** Judges a whole head file. */
export function decodeHeadFile(bytes: Uint8Array): HeadFile {
  if (bytes.length !== HEAD_BYTES) {
    return { head: undefined, problems: [`found ${bytes.length} bytes, want ${HEAD_BYTES}`] };
  }
  const slots = [0, 1].map((index) =>
    decodeHeadSlot(bytes.subarray(index * SLOT_BYTES, (index + 1) * SLOT_BYTES))
  );
  const problems = slots.flatMap((slot, index) =>
    slot === undefined
      ? [`slot ${index} is not as it was written`]
      : slot.writes % 2 === index
      ? []
      : [`slot ${index} holds what belongs into the other`]
  );
  const [even, odd] = slots;
  if (even && odd && Math.abs(even.writes - odd.writes) !== 1) {
    problems.push(`the slots are ${Math.abs(even.writes - odd.writes)} writes apart, want 1`);
  }
  const head = even && (!odd || even.writes > odd.writes) ? even : odd;
  return { head, problems };
}
