/**
 * The frame of VLP v0.2: one beat in 32 bytes, little endian.
 *
 * | offset | size | field                                                        |
 * | ------ | ---- | ------------------------------------------------------------ |
 * | 0      | 2    | magic `VA`                                                   |
 * | 2      | 1    | version 2                                                    |
 * | 3      | 1    | status: 0 ok, 1 degraded, 2 critical, 3 stall (never sent)   |
 * | 4      | 4    | pid, in the sender's own pid namespace; 0 and 1 are illegal  |
 * | 8      | 8    | the sender's monotonic time; all ones is illegal             |
 * | 16     | 8    | nonce; all ones is the last word of a process, only critical |
 * | 24     | 4    | payload, passed through                                      |
 * | 28     | 4    | CRC-32C of bytes 0 to 27                                     |
 *
 * Pure. The order of the checks is part of the protocol: the first failure is the answer.
 * Decoding never throws and allocates nothing; 64-bit fields are two 32-bit halves.
 *
 * @module
 */
import { crc32c } from "#lib/base/mod.ts";

/** Bytes of a frame. */
export const FRAME_BYTES = 32;
/** The largest value of 32 bits; both halves of the terminal nonce. */
export const U32_MAX = 0xffff_ffff;

/** Status bytes. */
export const STATUS = { ok: 0, degraded: 1, critical: 2, stall: 3 } as const;
/** Names of the status bytes, in their order. */
export const STATUS_NAMES = ["ok", "degraded", "critical", "stall"] as const;
/** What an agent says of itself, or `stall` where it says nothing any more. */
export type StatusName = typeof STATUS_NAMES[number];

/** What {@link decodeFrame} answers; 0 is a good frame, the rest in the order of the checks. */
export const DECODE = {
  ok: 0,
  badMagic: 1,
  badVersion: 2,
  badCrc: 3,
  badStatus: 4,
  stallOnWire: 5,
  badPid: 6,
  badTimestamp: 7,
  badNonce: 8,
} as const;
/** One of {@link DECODE}. */
export type DecodeResult = typeof DECODE[keyof typeof DECODE];

/** Names of the failures as metrics print them, by their {@link DECODE} number. */
export const DECODE_KINDS: readonly string[] = [
  "ok",
  "bad_magic",
  "bad_version",
  "bad_crc",
  "bad_status",
  "stall_on_wire",
  "bad_pid",
  "bad_timestamp",
  "bad_nonce",
];

/** A frame's fields; one object is decoded into again and again. */
export class VlpFrame {
  /** One of {@link STATUS}. */
  status = 0;
  /** The sender's pid as it sees itself. */
  pid = 0;
  /** Upper half of the sender's time. */
  timestampHi = 0;
  /** Lower half of the sender's time. */
  timestampLo = 0;
  /** Upper half of the nonce. */
  nonceHi = 0;
  /** Lower half of the nonce. */
  nonceLo = 0;
  /** Opaque. */
  payload = 0;

  /** Whether this is the last word of a process that panicked. */
  get isTerminal(): boolean {
    return this.nonceHi === U32_MAX && this.nonceLo === U32_MAX;
  }
}

/**
 * Decodes the frame at `offset` into `frame`, whose fields mean something only where the answer
 * is {@link DECODE}.ok. There must be {@link FRAME_BYTES} bytes: a datagram of another length is
 * not a frame, and its transport's to count.
 */
export function decodeFrame(bytes: Uint8Array, offset: number, frame: VlpFrame): DecodeResult {
  if (bytes[offset] !== 0x56 || bytes[offset + 1] !== 0x41) return DECODE.badMagic;
  if (bytes[offset + 2] !== 2) return DECODE.badVersion;
  if (crc32c(bytes, offset, 28) !== readU32(bytes, offset + 28)) return DECODE.badCrc;
  const status = bytes[offset + 3]!;
  if (status > STATUS.stall) return DECODE.badStatus;
  if (status === STATUS.stall) return DECODE.stallOnWire;
  const pid = readU32(bytes, offset + 4);
  if (pid < 2) return DECODE.badPid;
  frame.status = status;
  frame.pid = pid;
  frame.timestampLo = readU32(bytes, offset + 8);
  frame.timestampHi = readU32(bytes, offset + 12);
  if (frame.timestampHi === U32_MAX && frame.timestampLo === U32_MAX) return DECODE.badTimestamp;
  frame.nonceLo = readU32(bytes, offset + 16);
  frame.nonceHi = readU32(bytes, offset + 20);
  if (frame.isTerminal && status !== STATUS.critical) return DECODE.badNonce;
  frame.payload = readU32(bytes, offset + 24);
  return DECODE.ok;
}

/** Writes a frame with its checksum. It does not judge the fields: tests send bad ones. */
export function encodeFrame(frame: Readonly<VlpFrame>, into: Uint8Array, offset = 0): void {
  into[offset] = 0x56;
  into[offset + 1] = 0x41;
  into[offset + 2] = 2;
  into[offset + 3] = frame.status;
  writeU32(into, offset + 4, frame.pid);
  writeU32(into, offset + 8, frame.timestampLo);
  writeU32(into, offset + 12, frame.timestampHi);
  writeU32(into, offset + 16, frame.nonceLo);
  writeU32(into, offset + 20, frame.nonceHi);
  writeU32(into, offset + 24, frame.payload);
  writeU32(into, offset + 28, crc32c(into, offset, 28));
}

/** A frame that could not be decoded, for people: what was found, what is wanted. */
export function describeDecodeFailure(
  result: DecodeResult,
  bytes: Uint8Array,
  offset = 0,
): string {
  const hex = (value: number | undefined) =>
    value === undefined ? "nothing" : `0x${value.toString(16)}`;
  switch (result) {
    case DECODE.ok:
      return "a good frame";
    case DECODE.badMagic:
      return `magic ${hex(bytes[offset])} ${hex(bytes[offset + 1])}, want 0x56 0x41`;
    case DECODE.badVersion:
      return `version ${bytes[offset + 2]}, want 2`;
    case DECODE.badCrc: {
      const found = readU32(bytes, offset + 28);
      return `checksum ${hex(found)}, want ${hex(crc32c(bytes, offset, 28))}`;
    }
    case DECODE.badStatus:
      return `status ${bytes[offset + 3]}, want 0 to 2`;
    case DECODE.stallOnWire:
      return "status 3 (stall), which only an observer says";
    case DECODE.badPid:
      return `pid ${readU32(bytes, offset + 4)}, want 2 or more`;
    case DECODE.badTimestamp:
      return "a time of all ones";
    case DECODE.badNonce:
      return `the terminal nonce with status ${bytes[offset + 3]}, want critical`;
  }
}

/** Reads 32 bits, little endian. */
export function readU32(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>>
    0;
}

/** Writes 32 bits, little endian. */
export function writeU32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
  bytes[at + 2] = value >>> 16;
  bytes[at + 3] = value >>> 24;
}
