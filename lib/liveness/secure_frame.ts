/**
 * Frames sealed for an untrusted network: ChaCha20-Poly1305 (RFC 8439) over a frame.
 *
 *   60 bytes, one key for all:   prefix 8 | counter 4 | sealed 32 | tag 16
 *   64 bytes, a key for each:    pid 4 | prefix 8 | counter 4 | sealed 32 | tag 16
 *
 * The nonce is prefix and counter. The longer form authenticates its four bytes of pid as
 * well, and its key is derived from a master key and that pid (HKDF-SHA256, no salt).
 *
 * Pure: no randomness; prefixes come from the caller. Opening never throws on a packet's bytes;
 * a key of another length than {@link KEY_BYTES} throws `RangeError`.
 *
 * @module
 */
import { createCipheriv, createDecipheriv, hkdfSync } from "node:crypto";
import { encodeUtf8 } from "#lib/base/mod.ts";
import { FRAME_BYTES, readU32, writeU32 } from "./vlp_frame.ts";

/** Bytes of every key. */
export const KEY_BYTES = 32;
/** Bytes of the prefix of a sender's session. */
export const PREFIX_BYTES = 8;
/** Bytes of a packet under a key that all agents share. */
export const SHARED_PACKET_BYTES = 60;
/** Bytes of a packet under a key of the agent's own. */
export const MASTER_PACKET_BYTES = 64;

const TAG_BYTES = 16;
const NONCE_BYTES = 12;
const CIPHER = "chacha20-poly1305";
const NO_SALT = new Uint8Array(0);
const INFO_AGENT = encodeUtf8("varta-agent-v1\0");
const INFO_PREFIX = encodeUtf8("varta-iv-prefix-v1\0");
const INFO_EPOCH = encodeUtf8("varta-epoch-v1\0");

/** The key of one agent, from the master key. */
export function deriveAgentKey(masterKey: Uint8Array, pid: number): Uint8Array<ArrayBuffer> {
  checkKey(masterKey);
  return derive(masterKey, INFO_AGENT, u32(pid), KEY_BYTES);
}

/** The prefix that a client uses, from its session's salt of 16 bytes. */
export function derivePrefix(salt: Uint8Array, index: number): Uint8Array<ArrayBuffer> {
  return derive(salt, INFO_PREFIX, u32(index), PREFIX_BYTES);
}

/** The key of an epoch: reserved by the protocol, used by nobody yet. */
export function deriveEpochKey(agentKey: Uint8Array, epoch: bigint): Uint8Array<ArrayBuffer> {
  checkKey(agentKey);
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, epoch, true);
  return derive(agentKey, INFO_EPOCH, bytes, KEY_BYTES);
}

/** Where a packet of the shared or the master form has its nonce. */
export function nonceOffset(packetBytes: number): 0 | 4 {
  return packetBytes === MASTER_PACKET_BYTES ? 4 : 0;
}

/** The pid that a packet of the master form claims, before anything is known about it. */
export function claimedPid(packet: Uint8Array): number {
  return readU32(packet, 0);
}

/** What to seal a frame with. */
export interface SealOptions {
  /** The shared key, or the agent's. */
  readonly key: Uint8Array;
  /** Eight bytes that this session alone uses. */
  readonly prefix: Uint8Array;
  /** Never twice under one prefix. */
  readonly counter: number;
  /** The agent's pid: makes a packet of the master form. */
  readonly agentPid?: number;
}

/** Seals the 32 bytes of a frame. */
export function sealFrame(frame: Uint8Array, options: SealOptions): Uint8Array<ArrayBuffer> {
  checkKey(options.key);
  const { agentPid } = options;
  const start = agentPid === undefined ? 0 : 4;
  const packet = new Uint8Array(start + NONCE_BYTES + FRAME_BYTES + TAG_BYTES);
  if (agentPid !== undefined) writeU32(packet, 0, agentPid);
  packet.set(options.prefix.subarray(0, PREFIX_BYTES), start);
  writeU32(packet, start + PREFIX_BYTES, options.counter);
  const nonce = packet.subarray(start, start + NONCE_BYTES);
  const cipher = createCipheriv(CIPHER, options.key, nonce, { authTagLength: TAG_BYTES });
  if (start > 0) cipher.setAAD(packet.subarray(0, start), { plaintextLength: FRAME_BYTES });
  packet.set(cipher.update(frame.subarray(0, FRAME_BYTES)), start + NONCE_BYTES);
  cipher.final();
  packet.set(cipher.getAuthTag(), start + NONCE_BYTES + FRAME_BYTES);
  return packet;
}

/**
 * Opens a packet of either form with one key; `undefined` where the key is not its.
 *
 * @param isPidBound Whether the packet's own pid is authenticated too: so under an agent's key.
 *   A shared key opens the longer form without.
 */
export function openFrame(
  packet: Uint8Array,
  key: Uint8Array,
  isPidBound: boolean,
): Uint8Array | undefined {
  checkKey(key);
  if (packet.length !== SHARED_PACKET_BYTES && packet.length !== MASTER_PACKET_BYTES) {
    return undefined;
  }
  const start = nonceOffset(packet.length);
  const sealedAt = start + NONCE_BYTES;
  const nonce = packet.subarray(start, sealedAt);
  const decipher = createDecipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES });
  if (isPidBound) decipher.setAAD(packet.subarray(0, start), { plaintextLength: FRAME_BYTES });
  decipher.setAuthTag(packet.subarray(sealedAt + FRAME_BYTES));
  const frame = decipher.update(packet.subarray(sealedAt, sealedAt + FRAME_BYTES));
  try {
    decipher.final();
  } catch {
    // The tag does not match: the one answer that a wrong key and a forged packet get.
    return undefined;
  }
  return frame;
}

function derive(
  secret: Uint8Array,
  label: Uint8Array,
  suffix: Uint8Array,
  sizeBytes: number,
): Uint8Array<ArrayBuffer> {
  const info = new Uint8Array(label.length + suffix.length);
  info.set(label);
  info.set(suffix, label.length);
  return new Uint8Array(hkdfSync("sha256", secret, NO_SALT, info, sizeBytes));
}

function u32(value: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(4);
  writeU32(bytes, 0, value);
  return bytes;
}

function checkKey(key: Uint8Array): void {
  if (key.length !== KEY_BYTES) {
    throw new RangeError(`Cannot use a key of ${key.length} bytes: want ${KEY_BYTES}`);
  }
}
