/**
 * The bytes of a spool: a ring of framed records in a file of fixed size, and a head that says
 * where reading goes on.
 *
 *   slot 0 · slot 1 · padding to 4096 · ring of frames
 *
 * A position counts the bytes ever written to the ring; its place is the position modulo the
 * ring's size. Each frame carries its own position and index under its checksum, so that neither
 * a torn write nor a frame of an earlier lap is ever taken for a record, and a hole in the indexes
 * tells exactly how many records damage has cost.
 *
 * Nothing here throws on bytes that were read.
 *
 * @module
 */
import { assert } from "#lib/base/mod.ts";

/** Frames start at multiples of this; a frame's header has this size. */
export const FRAME_ALIGN_BYTES = 32;
/** Bytes of one head slot. */
export const SPOOL_SLOT_BYTES = 512;
/** Where the ring starts in the file. */
export const RING_START_BYTES = 4096;

/** What a frame holds: an event, a gap in the events, or nothing up to the ring's end. */
export type FrameKind = "event" | "gap" | "wrap";

const KIND_CODES: Readonly<Record<FrameKind, number>> = { event: 1, gap: 2, wrap: 3 };
const KINDS: ReadonlyMap<number, FrameKind> = new Map(
  Object.entries(KIND_CODES).map(([kind, code]) => [code, kind as FrameKind]),
);

/** One frame. */
export interface SpoolFrame {
  /** What it holds. */
  readonly kind: FrameKind;
  /** Bytes written to the ring before it. */
  readonly position: number;
  /** Events and gaps written before it; a wrap repeats the number of the next frame. */
  readonly index: number;
  /** When it was taken, milliseconds since 1970. */
  readonly recordedMs: number;
  /** JSON text; empty in a wrap. */
  readonly body: string;
}

/** Bytes that a body of so many bytes takes in the ring. */
export function frameBytes(bodyBytes: number): number {
  return Math.ceil((FRAME_ALIGN_BYTES + bodyBytes) / FRAME_ALIGN_BYTES) * FRAME_ALIGN_BYTES;
}

/** The bytes of a frame, padded. A wrap only has its header, and says with `spanBytes` how far it reaches. */
export function encodeFrame(frame: SpoolFrame, spanBytes?: number): Uint8Array<ArrayBuffer> {
  const body = new TextEncoder().encode(frame.body);
  const length = frame.kind === "wrap" ? FRAME_ALIGN_BYTES : frameBytes(body.length);
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  const bodyBytes = spanBytes === undefined ? body.length : spanBytes - FRAME_ALIGN_BYTES;
  // The code of the kind lies above the length, which needs 24 bits.
  assert(bodyBytes < 2 ** 28, "a frame's length fits its field");
  view.setUint32(0, KIND_CODES[frame.kind] * 2 ** 28 + bodyBytes);
  setU48(view, 8, frame.position);
  setU48(view, 14, frame.index);
  setU48(view, 20, frame.recordedMs);
  bytes.set(body, FRAME_ALIGN_BYTES);
  view.setUint32(4, frameChecksum(bytes, 0, frame.kind === "wrap" ? 0 : body.length));
  return bytes;
}

/** A frame that was found, and where the next one starts. */
export interface FoundFrame {
  /** The frame. */
  readonly frame: SpoolFrame;
  /** Position after it. */
  readonly nextPosition: number;
}

/**
 * Reads the frame at an offset of `bytes`; `undefined` where there is none with that position: cut
 * short, torn, changed, of an earlier lap, or never written.
 */
export function decodeFrame(
  bytes: Uint8Array<ArrayBuffer>,
  offset: number,
  position: number,
): FoundFrame | undefined {
  if (offset + FRAME_ALIGN_BYTES > bytes.length) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset + offset, FRAME_ALIGN_BYTES);
  const first = view.getUint32(0);
  const kind = KINDS.get(first >>> 28);
  const bodyBytes = first & 0x0fff_ffff;
  if (kind === undefined || getU48(view, 8) !== position) return undefined;
  const storedBytes = kind === "wrap" ? 0 : bodyBytes;
  if (offset + FRAME_ALIGN_BYTES + storedBytes > bytes.length) return undefined;
  if (frameChecksum(bytes, offset, storedBytes) !== view.getUint32(4)) return undefined;
  const start = offset + FRAME_ALIGN_BYTES;
  const body = new TextDecoder().decode(bytes.subarray(start, start + storedBytes));
  const frame = { kind, position, index: getU48(view, 14), recordedMs: getU48(view, 20), body };
  return { frame, nextPosition: position + frameBytes(bodyBytes) };
}

/** Where reading goes on, and what has not been told yet. */
export interface SpoolHead {
  /** Unique for the file, for ids of its gap events. */
  readonly spoolId: string;
  /** How often the head was written: the greater of two slots is the newer. */
  readonly writes: number;
  /** Bytes of the ring. */
  readonly capacityBytes: number;
  /** Position of the first frame that is left. */
  readonly position: number;
  /** Its index. */
  readonly index: number;
  /** Events that did not fit since the last frame. */
  readonly lost: number;
  /** Index of the frame that will tell of them: where it exists, they were told. */
  readonly lostIndex: number;
  /** When the first and the last of them came, milliseconds since 1970; 0 where there are none. */
  readonly lostFromMs: number;
  /** See `lostFromMs`. */
  readonly lostToMs: number;
}

const SLOT_TEXT_BYTES = SPOOL_SLOT_BYTES - 9;

/** The bytes of one slot: text, padded, then the checksum of it. */
export function encodeSpoolHead(head: SpoolHead): Uint8Array<ArrayBuffer> {
  const text = JSON.stringify(head);
  const bytes = new TextEncoder().encode(`${text.padEnd(SLOT_TEXT_BYTES, " ")}........\n`);
  assert(bytes.length === SPOOL_SLOT_BYTES, "a head fits its slot");
  const sum = crc32(bytes, 0, SLOT_TEXT_BYTES).toString(16).padStart(8, "0");
  bytes.set(new TextEncoder().encode(sum), SLOT_TEXT_BYTES);
  return bytes;
}

/** Reads the newer intact slot of the two at the start of a file; `undefined` where neither is. */
export function decodeSpoolHead(bytes: Uint8Array): SpoolHead | undefined {
  const slots = [0, SPOOL_SLOT_BYTES].map((start) =>
    decodeSlot(bytes.subarray(start, start + SPOOL_SLOT_BYTES))
  );
  const [even, odd] = slots;
  return even && (!odd || even.writes > odd.writes) ? even : odd;
}

function decodeSlot(bytes: Uint8Array): SpoolHead | undefined {
  if (bytes.length !== SPOOL_SLOT_BYTES) return undefined;
  const sum = crc32(bytes, 0, SLOT_TEXT_BYTES).toString(16).padStart(8, "0");
  const text = new TextDecoder().decode(bytes);
  if (text.slice(-9) !== `${sum}\n`) return undefined;
  try {
    const head = JSON.parse(text.slice(0, -9)) as SpoolHead;
    const counts = [
      head.writes,
      head.capacityBytes,
      head.position,
      head.index,
      head.lost,
      head.lostIndex,
      head.lostFromMs,
      head.lostToMs,
    ];
    const isHead = typeof head.spoolId === "string" &&
      counts.every((count) => Number.isSafeInteger(count) && count >= 0);
    return isHead ? head : undefined;
  } catch {
    // Not JSON, or null: then it is not as it was written, which is the answer.
    return undefined;
  }
}

/** A frame's place in the ring, as far as it is needed to read it again. */
export interface SpoolEntry {
  /** `hole` where damage has cost frames: there is nothing to read. */
  readonly kind: "event" | "gap" | "hole";
  /** Position of its first byte. */
  readonly position: number;
  /** Position after it. */
  readonly endPosition: number;
  /** Its index; of a hole the last one that is missing. */
  readonly index: number;
  /** Events that it tells as lost; 0 for an event. */
  readonly lost: number;
}

/** What a scan of the ring found. */
export interface SpoolScan {
  /** Everything that is left to be stored elsewhere, in order. */
  readonly entries: readonly SpoolEntry[];
  /** Position after the last frame. */
  readonly position: number;
  /** Index of the next frame. */
  readonly index: number;
}

/** Finds what was written from the head on, in the whole ring's bytes. */
export function scanRing(ring: Uint8Array<ArrayBuffer>, head: SpoolHead): SpoolScan {
  const entries: SpoolEntry[] = [];
  let { position, index } = head;
  const end = head.position + ring.length;
  while (position < end) {
    const found = findFrame(ring, position, end);
    if (found === undefined) break;
    const { frame, nextPosition } = found;
    if (frame.index > index) {
      const lost = frame.index - index;
      entries.push({
        kind: "hole",
        position,
        endPosition: frame.position,
        index: frame.index - 1,
        lost,
      });
    }
    position = nextPosition;
    index = frame.kind === "wrap" ? frame.index : frame.index + 1;
    if (frame.kind !== "wrap") entries.push(entryOf(found));
  }
  return { entries, position, index };
}

/** The place of a frame with an event or a gap. */
export function entryOf({ frame, nextPosition }: FoundFrame): SpoolEntry {
  const { kind, position, index } = frame;
  assert(kind !== "wrap", "a wrap holds nothing");
  const lost = kind === "gap" ? readGap(frame).lost : 0;
  return { kind, position, endPosition: nextPosition, index, lost };
}

/** The first frame at or after a position that is as it was written. */
function findFrame(
  ring: Uint8Array<ArrayBuffer>,
  from: number,
  end: number,
): FoundFrame | undefined {
  const view = new DataView(ring.buffer, ring.byteOffset, ring.length);
  for (let position = from; position < end; position += FRAME_ALIGN_BYTES) {
    // Most places hold no frame with their own position, and one look tells.
    if (getU48(view, position % ring.length + 8) !== position) continue;
    const found = decodeFrame(ring, position % ring.length, position);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Events that are missing between two frames. */
export interface SpoolGap {
  /** How many. */
  readonly lost: number;
  /** When the first of them came, milliseconds since 1970. */
  readonly fromMs: number;
  /** When the last of them came. */
  readonly toMs: number;
  /** Whether the spool was full, or its file no longer holds what was written there. */
  readonly cause: "spool_full" | "spool_damaged";
}

/** The body of a gap's frame. */
export function writeGap(gap: SpoolGap): string {
  return JSON.stringify(gap);
}

/** The gap that a frame holds; the frame's checksum has vouched for it. */
export function readGap(frame: SpoolFrame): SpoolGap {
  return JSON.parse(frame.body) as SpoolGap;
}

function frameChecksum(bytes: Uint8Array, offset: number, bodyBytes: number): number {
  const start = offset + FRAME_ALIGN_BYTES;
  const header = crc32(bytes, offset + 8, start);
  const kindAndLength = crc32(bytes, offset, offset + 4, header);
  return crc32(bytes, start, start + bodyBytes, kindAndLength);
}

function setU48(view: DataView, offset: number, value: number): void {
  assert(Number.isSafeInteger(value) && value >= 0 && value < 2 ** 48, "fits 48 bits");
  view.setUint16(offset, Math.floor(value / 2 ** 32));
  view.setUint32(offset + 2, value % 2 ** 32);
}

function getU48(view: DataView, offset: number): number {
  return view.getUint16(offset) * 2 ** 32 + view.getUint32(offset + 2);
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = (value & 1) ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value >>> 0;
});

/** CRC-32 (IEEE 802.3) of `bytes[start, end)`; `previous` goes on from an earlier part. */
export function crc32(bytes: Uint8Array, start: number, end: number, previous = 0): number {
  let value = ~previous;
  for (let at = start; at < end; at++) {
    value = CRC_TABLE[(value ^ bytes[at]) & 0xff] ^ (value >>> 8);
  }
  return ~value >>> 0;
}
