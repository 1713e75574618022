/**
 * A datagram's addresses as nine 32-bit words, which is how the flow table and its shell exchange
 * them: no text and no objects on the way.
 *
 *   words 0–3   client address, most significant first; IPv4 as ::ffff:a.b.c.d
 *   words 4–7   local address (the one that the client sent to), the same way
 *   word  8     client port × 65536 + local port
 *
 * @module
 */
import { formatIpBytes, type IpAddress, ipToBytes, parseIp } from "#lib/base/mod.ts";

/** Words of a tuple. */
export const TUPLE_WORDS = 9;
/** Where the client's address begins. */
export const CLIENT_AT = 0;
/** Where the local address begins. */
export const LOCAL_AT = 4;
/** Where the ports are. */
export const PORTS_AT = 8;

const MAPPED = 0xffff;

/** Writes the IPv4 address in `bytes[offset..offset+4]` (network order) as four words. */
export function writeIpv4(
  words: Uint32Array,
  at: number,
  bytes: Uint8Array,
  offset: number,
): void {
  words[at] = 0;
  words[at + 1] = 0;
  words[at + 2] = MAPPED;
  words[at + 3] = readWord(bytes, offset);
}

/** Writes the IPv6 address in `bytes[offset..offset+16]` (network order) as four words. */
export function writeIpv6(
  words: Uint32Array,
  at: number,
  bytes: Uint8Array,
  offset: number,
): void {
  for (let index = 0; index < 4; index++) {
    words[at + index] = readWord(bytes, offset + 4 * index);
  }
}

/** Writes both ports of a tuple. */
export function writePorts(words: Uint32Array, at: number, client: number, local: number): void {
  words[at + PORTS_AT] = ((client << 16) | local) >>> 0;
}

/** Writes an address as four words. */
export function writeAddress(words: Uint32Array, at: number, address: IpAddress): void {
  const bytes = ipToBytes(address);
  if (address.family === 4) writeIpv4(words, at, bytes, 0);
  else writeIpv6(words, at, bytes, 0);
}

/** One end of a tuple, for people and for tests. */
export interface TupleEnd {
  /** Text as `lib/base/ip.ts` writes it; a mapped IPv4 address is written as IPv4. */
  readonly address: string;
  /** 0 to 65535. */
  readonly port: number;
}

/**
 * The words of a tuple from texts.
 *
 * @throws {RangeError} where an address is none.
 */
export function makeTuple(client: TupleEnd, local: TupleEnd): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(TUPLE_WORDS);
  writeAddress(words, CLIENT_AT, requireIp(client.address));
  writeAddress(words, LOCAL_AT, requireIp(local.address));
  writePorts(words, 0, client.port, local.port);
  return words;
}

/** Whether the four words are an IPv4 address. */
export function isIpv4(words: Uint32Array, at: number): boolean {
  return words[at] === 0 && words[at + 1] === 0 && words[at + 2] === MAPPED;
}

/** The address in four words, as text. */
export function formatAddress(words: Uint32Array, at: number): string {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  for (let index = 0; index < 4; index++) view.setUint32(4 * index, words[at + index]);
  return formatIpBytes(isIpv4(words, at) ? bytes.subarray(12) : bytes);
}

/** The client's end of a tuple. */
export function clientOf(words: Uint32Array, at: number): TupleEnd {
  return { address: formatAddress(words, at + CLIENT_AT), port: words[at + PORTS_AT] >>> 16 };
}

/** The local end of a tuple. */
export function localOf(words: Uint32Array, at: number): TupleEnd {
  return { address: formatAddress(words, at + LOCAL_AT), port: words[at + PORTS_AT] & 0xffff };
}

/** One word of an address with only its first `bits` (0 to 128) of the address's bits kept. */
export function maskedWord(words: Uint32Array, at: number, index: number, bits: number): number {
  const kept = Math.min(32, Math.max(0, bits - 32 * index));
  return kept === 0 ? 0 : (words[at + index] & (-1 << (32 - kept))) >>> 0;
}

function readWord(bytes: Uint8Array, offset: number): number {
  return ((bytes[offset] << 24) | (bytes[offset + 1] << 16) | (bytes[offset + 2] << 8) |
    bytes[offset + 3]) >>> 0;
}

function requireIp(text: string): IpAddress {
  const address = parseIp(text);
  if (address === undefined) {
    throw new RangeError(`Cannot use ${JSON.stringify(text)}: it is not an IP address`);
  }
  return address;
}
