/**
 * Reads the body of one nflog packet message: what follows `nlmsghdr` and `nfgenmsg`.
 *
 * A slow and obvious decoder of the two attributes that a decision needs; the worker reads whole
 * datagrams in place with `ffi/netlink/nflog` instead, and a test shows that both agree. Never
 * throws: bad bytes are a returned value.
 *
 * Source: `linux/netfilter/nfnetlink_log.h`.
 *
 * @module
 */

/** Attribute: the captured packet, from its network header on. */
export const NFULA_PAYLOAD = 9;
/** Attribute: the text that the ruleset's `log prefix` says. */
export const NFULA_PREFIX = 10;

const ATTRIBUTE_HEADER_BYTES = 4;
const NLA_TYPE_MASK = 0x3fff;
const textDecoder = new TextDecoder();

/** One decoded packet message. */
export interface NflogRecord {
  /** The log prefix, such as `cellos-flow egress[0] accept`. */
  readonly prefix: string;
  /** The captured packet; empty when only metadata was copied. */
  readonly payload: Uint8Array;
}

/** Why a body could not be read. */
export interface NflogMalformed {
  /** `tooShort`: not even one attribute header; `missingPrefix`: no prefix attribute. */
  readonly malformed: "tooShort" | "missingPrefix";
  /** Bytes that there were. */
  readonly sizeBytes: number;
}

/** Decodes a message body. Attributes after a malformed one are not read. */
export function decodeNflogRecord(body: Uint8Array): NflogRecord | NflogMalformed {
  if (body.length < ATTRIBUTE_HEADER_BYTES) {
    return { malformed: "tooShort", sizeBytes: body.length };
  }
  let prefix: string | undefined;
  let payload: Uint8Array | undefined;
  let cursor = 0;
  while (cursor + ATTRIBUTE_HEADER_BYTES <= body.length) {
    const length = body[cursor] | body[cursor + 1] << 8;
    const type = (body[cursor + 2] | body[cursor + 3] << 8) & NLA_TYPE_MASK;
    if (length < ATTRIBUTE_HEADER_BYTES || cursor + length > body.length) break;
    const value = body.subarray(cursor + ATTRIBUTE_HEADER_BYTES, cursor + length);
    if (type === NFULA_PREFIX) prefix = decodeCString(value);
    else if (type === NFULA_PAYLOAD) payload = value.slice();
    cursor += (length + 3) & ~3;
  }
  if (prefix === undefined) return { malformed: "missingPrefix", sizeBytes: body.length };
  return { prefix, payload: payload ?? new Uint8Array(0) };
}

function decodeCString(value: Uint8Array): string {
  const end = value.indexOf(0);
  return textDecoder.decode(end < 0 ? value : value.subarray(0, end));
}
