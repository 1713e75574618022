/**
 * IPv4 and IPv6 addresses and prefixes as plain values: parse, format, compare.
 *
 * An address is its family and its bits; a prefix is an address with a length. Parsers answer
 * `undefined` for text that is not one, and never throw. They are strict, since these texts
 * become policy: four decimal numbers without leading zeros, no zone ids, no short IPv4 forms.
 * IPv6 text is written by RFC 5952 (lower case, longest run of zeros shortened, mapped IPv4 in
 * dots).
 *
 * @module
 */

/** Which protocol an address belongs to. */
export type IpFamily = 4 | 6;

/** One address. Compare with {@link sameIp}, or by `family` and `bits`. */
export interface IpAddress {
  /** Which protocol. */
  readonly family: IpFamily;
  /** The address as an unsigned number: 32 bits, or 128. */
  readonly bits: bigint;
}

/** A prefix. Bits past the length are zero where it comes from {@link parseCidr} or {@link cidr}. */
export interface Cidr {
  /** Which protocol. */
  readonly family: IpFamily;
  /** The network address as an unsigned number. */
  readonly bits: bigint;
  /** 0 to 32, or 0 to 128. */
  readonly prefixLength: number;
}

const DECIMAL = /^(0|[1-9][0-9]{0,2})$/;
const HEX_GROUP = /^[0-9a-fA-F]{1,4}$/;
const PREFIX_LENGTH = /^(0|[1-9][0-9]{0,2})$/;
/** The longest text: eight groups, the last two of them as dotted IPv4. */
const ADDRESS_TEXT_MAX = 45;

/** Bits in an address of a family: 32 or 128. */
export function ipWidth(family: IpFamily): number {
  return family === 4 ? 32 : 128;
}

/** Parses an IPv4 or IPv6 address; `undefined` where the text is neither. */
export function parseIp(text: string): IpAddress | undefined {
  if (text.length > ADDRESS_TEXT_MAX) return undefined;
  return text.includes(":") ? parseIpv6(text) : parseIpv4(text);
}

/**
 * Parses a prefix (`10.0.0.0/8`) or a single address, which gets the full length. Bits past the
 * length are cleared, so `10.1.2.3/8` is `10.0.0.0/8`; use {@link hasHostBits} to refuse them.
 */
export function parseCidr(text: string): Cidr | undefined {
  const slash = text.indexOf("/");
  const address = parseIp(slash < 0 ? text : text.slice(0, slash));
  if (address === undefined) return undefined;
  if (slash < 0) return cidr(address, ipWidth(address.family));
  const lengthText = text.slice(slash + 1);
  if (!PREFIX_LENGTH.test(lengthText)) return undefined;
  const prefixLength = Number(lengthText);
  return prefixLength > ipWidth(address.family) ? undefined : cidr(address, prefixLength);
}

/** Whether a prefix text sets bits past its length, as `10.1.2.3/8` does. */
export function hasHostBits(text: string): boolean {
  const prefix = parseCidr(text);
  const address = parseIp(text.split("/")[0]);
  return prefix !== undefined && address !== undefined && prefix.bits !== address.bits;
}

/** The prefix of `prefixLength` bits that holds an address. */
export function cidr(address: IpAddress, prefixLength: number): Cidr {
  const width = ipWidth(address.family);
  if (!Number.isInteger(prefixLength) || prefixLength < 0 || prefixLength > width) {
    throw new RangeError(`Cannot make a prefix of ${prefixLength} bits: want 0 to ${width}`);
  }
  const hostBits = BigInt(width - prefixLength);
  return { family: address.family, bits: (address.bits >> hostBits) << hostBits, prefixLength };
}

/** The last address of a prefix (IPv4: its broadcast address). */
export function lastIp(prefix: Cidr): IpAddress {
  const hostBits = BigInt(ipWidth(prefix.family) - prefix.prefixLength);
  return { family: prefix.family, bits: prefix.bits | ((1n << hostBits) - 1n) };
}

/** Whether a prefix is one single address. */
export function isHostCidr(prefix: Cidr): boolean {
  return prefix.prefixLength === ipWidth(prefix.family);
}

/** Whether an address, or the whole of a prefix, lies within `outer`. */
export function cidrContains(outer: Cidr, inner: IpAddress | Cidr): boolean {
  if (outer.family !== inner.family) return false;
  const innerLength = "prefixLength" in inner ? inner.prefixLength : ipWidth(inner.family);
  if (innerLength < outer.prefixLength) return false;
  const shift = BigInt(ipWidth(outer.family) - outer.prefixLength);
  return (outer.bits >> shift) === (inner.bits >> shift);
}

/** Whether two prefixes share an address. */
export function cidrsOverlap(a: Cidr, b: Cidr): boolean {
  return cidrContains(a, b) || cidrContains(b, a);
}

/** Whether two addresses are the same one. */
export function sameIp(a: IpAddress, b: IpAddress): boolean {
  return a.family === b.family && a.bits === b.bits;
}

/** Whether two prefixes are the same one. */
export function sameCidr(a: Cidr, b: Cidr): boolean {
  return sameIp(a, b) && a.prefixLength === b.prefixLength;
}

/** An address as text. */
export function formatIp(address: IpAddress): string {
  return formatIpBytes(ipToBytes(address));
}

/** A prefix as text, always with its length: `192.0.2.1/32`. */
export function formatCidr(prefix: Cidr): string {
  return `${formatIp(prefix)}/${prefix.prefixLength}`;
}

/** The address in network byte order: 4 or 16 bytes. */
export function ipToBytes(address: IpAddress): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(ipWidth(address.family) / 8);
  let rest = address.bits;
  for (let index = bytes.length - 1; index >= 0; index--) {
    bytes[index] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  return bytes;
}

/** An address from 4 or 16 bytes in network order; `undefined` at any other length. */
export function ipFromBytes(bytes: Uint8Array): IpAddress | undefined {
  if (bytes.length !== 4 && bytes.length !== 16) return undefined;
  let bits = 0n;
  for (const byte of bytes) bits = (bits << 8n) | BigInt(byte);
  return { family: bytes.length === 4 ? 4 : 6, bits };
}

/**
 * The text of the address in 4 or 16 bytes, without bigint on the way: for packet paths.
 * Throws `RangeError` at any other length.
 */
export function formatIpBytes(bytes: Uint8Array): string {
  if (bytes.length === 4) return `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}`;
  if (bytes.length !== 16) {
    throw new RangeError(`Cannot format an address of ${bytes.length} bytes: want 4 or 16`);
  }
  const groups: number[] = [];
  for (let index = 0; index < 16; index += 2) groups.push((bytes[index] << 8) | bytes[index + 1]);
  if (groups[5] === 0xffff && groups.every((group, index) => index >= 5 || group === 0)) {
    return `::ffff:${bytes[12]}.${bytes[13]}.${bytes[14]}.${bytes[15]}`;
  }
  return formatGroups(groups);
}

function formatGroups(groups: readonly number[]): string {
  const run = longestZeroRun(groups);
  const hex = groups.map((group) => group.toString(16));
  if (run.length < 2) return hex.join(":");
  return `${hex.slice(0, run.start).join(":")}::${hex.slice(run.start + run.length).join(":")}`;
}

/** The first of the longest runs, as RFC 5952 §4.2.3 asks for. */
function longestZeroRun(groups: readonly number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  let start = 0;
  for (let index = 0; index <= groups.length; index++) {
    if (index < groups.length && groups[index] === 0) continue;
    if (index - start > best.length) best = { start, length: index - start };
    start = index + 1;
  }
  return best;
}

function parseIpv4(text: string): IpAddress | undefined {
  const parts = text.split(".");
  if (parts.length !== 4) return undefined;
  let bits = 0;
  for (const part of parts) {
    if (!DECIMAL.test(part) || Number(part) > 255) return undefined;
    bits = bits * 256 + Number(part);
  }
  return { family: 4, bits: BigInt(bits) };
}

function parseIpv6(text: string): IpAddress | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  // Dotted IPv4 may only stand at the very end, which is in the last half.
  const head = parseGroups(halves[0], halves.length === 1);
  const tail = halves.length === 2 ? parseGroups(halves[1], true) : [];
  if (head === undefined || tail === undefined) return undefined;
  const missing = 8 - head.length - tail.length;
  if (halves.length === 1 ? missing !== 0 : missing < 1) return undefined;
  const groups = [...head, ...Array<number>(missing).fill(0), ...tail];
  return { family: 6, bits: groups.reduce((bits, group) => (bits << 16n) | BigInt(group), 0n) };
}

function parseGroups(text: string, mayEndInIpv4: boolean): number[] | undefined {
  if (text === "") return [];
  const groups: number[] = [];
  const parts = text.split(":");
  for (const [index, part] of parts.entries()) {
    if (mayEndInIpv4 && index === parts.length - 1 && part.includes(".")) {
      const dotted = parseIpv4(part);
      if (dotted === undefined) return undefined;
      groups.push(Number(dotted.bits >> 16n), Number(dotted.bits & 0xffffn));
    } else if (HEX_GROUP.test(part)) {
      groups.push(parseInt(part, 16));
    } else {
      return undefined;
    }
  }
  return groups;
}
