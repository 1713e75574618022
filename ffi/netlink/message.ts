/**
 * Netlink messages: the sixteen-byte header, several messages a datagram, and the kernel's
 * answers (acknowledgement, end of dump) with their extended texts.
 *
 * Pure. Decoders never throw on any bytes: what is malformed is said in the result.
 *
 * Source: `linux/netlink.h`, RFC 3549 §2.2, netlink(7).
 *
 * @module
 */
import { align4, AttributeReader } from "./attribute.ts";

/** Bytes of a message header (`struct nlmsghdr`). */
export const NLMSG_HEADER_BYTES = 16;

/** Acknowledgement or error. */
export const NLMSG_ERROR = 2;
/** The end of a dump or of a batch of messages. */
export const NLMSG_DONE = 3;

/** It is a request. */
export const NLM_F_REQUEST = 0x1;
/** Part of an answer of several messages, ended by {@link NLMSG_DONE}. */
export const NLM_F_MULTI = 0x2;
/** Asks for an acknowledgement. */
export const NLM_F_ACK = 0x4;
/** A dump was inconsistent, since what it showed changed meanwhile. */
export const NLM_F_DUMP_INTR = 0x10;
/** Asks for all objects (`NLM_F_ROOT | NLM_F_MATCH`). */
export const NLM_F_DUMP = 0x300;
/** Replace what exists. */
export const NLM_F_REPLACE = 0x100;
/** Refuse when it exists. */
export const NLM_F_EXCL = 0x200;
/** Create when it does not exist. */
export const NLM_F_CREATE = 0x400;
/** Add to the end of a list. */
export const NLM_F_APPEND = 0x800;
/** On an acknowledgement: the request's payload is not repeated. */
const NLM_F_CAPPED = 0x100;
/** On an acknowledgement: attributes with more about the error follow. */
const NLM_F_ACK_TLVS = 0x200;

const NLMSGERR_ATTR_MSG = 1;
const NLMSGERR_ATTR_OFFS = 2;

/** A request to the kernel, not yet numbered. */
export interface NetlinkRequest {
  /** What it does, for errors: `create chain "output"`. */
  readonly what: string;
  /** Message type. */
  readonly type: number;
  /** Flags beside `NLM_F_REQUEST`, which is implied. */
  readonly flags: number;
  /** Fixed header of the family and attributes. */
  readonly body: Uint8Array;
}

/** A received message. */
export interface NetlinkMessage {
  /** Message type of the family, or one of the `NLMSG_…`. */
  readonly type: number;
  /** `NLM_F_…`. */
  readonly flags: number;
  /** Number of the request that it answers; 0 for none. */
  readonly seq: number;
  /** Port of the socket that it answers. */
  readonly portId: number;
  /** What follows the header; a view of the datagram unless copied. */
  readonly body: Uint8Array;
}

/** What a datagram held. */
export interface DecodedDatagram {
  /** Those that could be read. */
  readonly messages: readonly NetlinkMessage[];
  /** Why decoding stopped early, with the offset; absent when all was well. */
  readonly malformed?: { readonly reason: string; readonly offset: number };
}

/** What an {@link NLMSG_ERROR} message says. */
export interface NetlinkAck {
  /** 0, or the positive error number. */
  readonly errno: number;
  /** The kernel's own words, where it has some. */
  readonly text?: string;
  /** Offset of the attribute at fault within the request, header included. */
  readonly offset?: number;
}

/** Bytes that a request takes in a datagram. */
export function encodedLength(request: NetlinkRequest): number {
  return align4(NLMSG_HEADER_BYTES + request.body.length);
}

/** Writes one request at `offset`; returns the offset behind it, aligned. */
export function encodeMessage(
  request: NetlinkRequest,
  seq: number,
  target: Uint8Array,
  offset: number,
): number {
  const sizeBytes = NLMSG_HEADER_BYTES + request.body.length;
  const end = offset + align4(sizeBytes);
  const view = new DataView(target.buffer, target.byteOffset + offset, align4(sizeBytes));
  view.setUint32(0, sizeBytes, true);
  view.setUint16(4, request.type, true);
  view.setUint16(6, request.flags | NLM_F_REQUEST, true);
  view.setUint32(8, seq >>> 0, true);
  view.setUint32(12, 0, true);
  target.set(request.body, offset + NLMSG_HEADER_BYTES);
  target.fill(0, offset + sizeBytes, end);
  return end;
}

/** Splits a datagram into its messages; bodies are views of it. */
export function decodeMessages(bytes: Uint8Array): DecodedDatagram {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const messages: NetlinkMessage[] = [];
  let offset = 0;
  while (offset < bytes.length) {
    if (offset + NLMSG_HEADER_BYTES > bytes.length) {
      return { messages, malformed: { reason: "header cut short", offset } };
    }
    const sizeBytes = view.getUint32(offset, true);
    if (sizeBytes < NLMSG_HEADER_BYTES || sizeBytes > bytes.length - offset) {
      return { messages, malformed: { reason: `message length ${sizeBytes}`, offset } };
    }
    messages.push({
      type: view.getUint16(offset + 4, true),
      flags: view.getUint16(offset + 6, true),
      seq: view.getUint32(offset + 8, true),
      portId: view.getUint32(offset + 12, true),
      body: bytes.subarray(offset + NLMSG_HEADER_BYTES, offset + sizeBytes),
    });
    offset += align4(sizeBytes);
  }
  return { messages };
}

/**
 * Reads an {@link NLMSG_ERROR} message (or the error that ends a dump in {@link NLMSG_DONE});
 * `undefined` when it is too short to be one.
 */
export function decodeAck(message: NetlinkMessage): NetlinkAck | undefined {
  const { body } = message;
  // An old kernel ends some dumps without a status.
  if (message.type === NLMSG_DONE && body.length < 4) return { errno: 0 };
  if (body.length < 4) return undefined;
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  const errno = -view.getInt32(0, true);
  let at = 4;
  if (message.type === NLMSG_ERROR) {
    if (body.length < 4 + NLMSG_HEADER_BYTES) return undefined;
    at = (message.flags & NLM_F_CAPPED) !== 0
      ? 4 + NLMSG_HEADER_BYTES
      : 4 + Math.min(body.length, view.getUint32(4, true));
  }
  at = align4(at);
  // A dump may end with a positive number of its own, which is no error.
  if (errno <= 0) return { errno: 0 };
  if ((message.flags & NLM_F_ACK_TLVS) === 0) return { errno };
  return { errno, ...readAckAttributes(body, at) };
}

function readAckAttributes(body: Uint8Array, at: number): { text?: string; offset?: number } {
  const found: { text?: string; offset?: number } = {};
  const reader = new AttributeReader(body, at);
  while (reader.next()) {
    if (reader.type === NLMSGERR_ATTR_MSG) found.text = reader.string();
    else if (reader.type === NLMSGERR_ATTR_OFFS) found.offset = reader.u32();
  }
  return found;
}
