/**
 * Reads SQLite's write-ahead log as bytes, to know exactly how much of it is committed and intact.
 *
 * SQLite itself reads up to the first frame whose checksum fails and takes that for the end: a
 * flipped byte in the middle silently drops every later commit. Here the caller learns where the
 * intact part ends, and compares it with what the head file says must be there.
 *
 * Never throws on any bytes. Source: <https://www.sqlite.org/fileformat2.html#walformat>.
 *
 * @module
 */

/** Bytes before the first frame. */
export const WAL_HEADER_BYTES = 32;
/** Bytes before the page of a frame. */
export const WAL_FRAME_HEADER_BYTES = 24;

const MAGIC_LITTLE_ENDIAN = 0x377f0682;
const MAGIC_BIG_ENDIAN = 0x377f0683;
const FORMAT_VERSION = 3007000;

/** What was found in a write-ahead log. */
export interface WalContents {
  /** Size of the file. */
  readonly sizeBytes: number;
  /** Whether the header is intact. Without it nothing else in the file counts. */
  readonly headerValid: boolean;
  /** Page size that the header names; 0 without a valid header. */
  readonly pageSize: number;
  /** The two salts as 16 hexadecimal digits: they name this generation of the file. */
  readonly salts: string;
  /** Frames up to the last intact commit. */
  readonly committedFrames: number;
  /** Bytes up to there, header included; 0 where nothing is committed. */
  readonly committedBytes: number;
  /** Size of the database after the last intact commit, in pages. */
  readonly databasePages: number;
  /** For each page the offset of its newest committed content. */
  readonly pages: ReadonlyMap<number, number>;
}

/** Size of a log of `frames` frames; 0 of none. */
export function walBytes(frames: number, pageSize: number): number {
  return frames === 0 ? 0 : WAL_HEADER_BYTES + frames * (WAL_FRAME_HEADER_BYTES + pageSize);
}

/** Reads a whole write-ahead log. */
export function readWal(bytes: Uint8Array): WalContents {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const header = readHeader(view);
  if (header === undefined) return nothing(bytes.length);
  const pages = new Map<number, number>();
  let pending: [page: number, offset: number][] = [];
  let { sums } = header;
  let committedFrames = 0;
  let databasePages = 0;
  const frameBytes = WAL_FRAME_HEADER_BYTES + header.pageSize;
  for (let index = 0; WAL_HEADER_BYTES + (index + 1) * frameBytes <= bytes.length; index++) {
    const offset = WAL_HEADER_BYTES + index * frameBytes;
    if (view.getUint32(offset + 8) !== header.salt1) break;
    if (view.getUint32(offset + 12) !== header.salt2) break;
    sums = checksum(view, offset, 8, sums, header.littleEndian);
    sums = checksum(
      view,
      offset + WAL_FRAME_HEADER_BYTES,
      header.pageSize,
      sums,
      header.littleEndian,
    );
    if (view.getUint32(offset + 16) !== sums[0] >>> 0) break;
    if (view.getUint32(offset + 20) !== sums[1] >>> 0) break;
    pending.push([view.getUint32(offset), offset + WAL_FRAME_HEADER_BYTES]);
    const sizeAfterCommit = view.getUint32(offset + 4);
    if (sizeAfterCommit === 0) continue;
    for (const [page, at] of pending) pages.set(page, at);
    pending = [];
    committedFrames = index + 1;
    databasePages = sizeAfterCommit;
  }
  return {
    sizeBytes: bytes.length,
    headerValid: true,
    pageSize: header.pageSize,
    salts: saltsText(header.salt1, header.salt2),
    committedFrames,
    committedBytes: walBytes(committedFrames, header.pageSize),
    databasePages,
    pages,
  };
}

/** The salts in a log's first 32 bytes, as {@link WalContents.salts}; empty where it is shorter. */
export function readWalSalts(header: Uint8Array): string {
  if (header.length < WAL_HEADER_BYTES) return "";
  const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
  return saltsText(view.getUint32(16), view.getUint32(20));
}

type Sums = readonly [number, number];

function readHeader(view: DataView) {
  if (view.byteLength < WAL_HEADER_BYTES) return undefined;
  const magic = view.getUint32(0);
  if (magic !== MAGIC_LITTLE_ENDIAN && magic !== MAGIC_BIG_ENDIAN) return undefined;
  const littleEndian = magic === MAGIC_LITTLE_ENDIAN;
  const sums = checksum(view, 0, 24, [0, 0], littleEndian);
  if (view.getUint32(24) !== sums[0] >>> 0 || view.getUint32(28) !== sums[1] >>> 0) {
    return undefined;
  }
  const pageSize = view.getUint32(8);
  const validSize = pageSize >= 512 && pageSize <= 65536 && (pageSize & (pageSize - 1)) === 0;
  if (view.getUint32(4) !== FORMAT_VERSION || !validSize) return undefined;
  return { littleEndian, pageSize, salt1: view.getUint32(16), salt2: view.getUint32(20), sums };
}

/** SQLite's own checksum: two running sums over pairs of 32-bit words. */
function checksum(
  view: DataView,
  offset: number,
  length: number,
  from: Sums,
  littleEndian: boolean,
): Sums {
  let [first, second] = from;
  for (let at = offset; at < offset + length; at += 8) {
    first = (first + view.getUint32(at, littleEndian) + second) | 0;
    second = (second + view.getUint32(at + 4, littleEndian) + first) | 0;
  }
  return [first, second];
}

function saltsText(salt1: number, salt2: number): string {
  return salt1.toString(16).padStart(8, "0") + salt2.toString(16).padStart(8, "0");
}

function nothing(sizeBytes: number): WalContents {
  return {
    sizeBytes,
    headerValid: false,
    pageSize: 0,
    salts: "",
    committedFrames: 0,
    committedBytes: 0,
    databasePages: 0,
    pages: new Map(),
  };
}
