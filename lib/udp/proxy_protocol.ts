/**
 * The PROXY protocol, version 2, over datagrams: who the client is, before the client's bytes.
 *
 *   0D 0A 0D 0A 00 0D 0A 51 55 49 54 0A │ 21 │ family │ length │ addresses and ports │ TLVs
 *
 * The header is written in place, into the room before a payload. Where one side is IPv4 and the
 * other IPv6, the IPv4 one is written as a mapped address: the client is never left out. Both
 * IPv4, mapped or not, make an IPv4 header.
 *
 * Pure. Decoding never throws: what is wrong with a header is a value.
 *
 * Source: haproxy, `doc/proxy-protocol.txt` (2020/03/05), sections 2.2 to 2.2.6.
 *
 * @module
 */
import { crc32c, formatIpBytes } from "#lib/base/mod.ts";
import { CLIENT_AT, isIpv4, LOCAL_AT, makeTuple, PORTS_AT, type TupleEnd } from "./tuple.ts";

const SIGNATURE = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];
const COMMAND_LOCAL = 0x20;
const COMMAND_PROXY = 0x21;
const FAMILY_UDP4 = 0x12;
const FAMILY_UDP6 = 0x22;
const ADDRESSES4_BYTES = 12;
const ADDRESSES6_BYTES = 36;
/** Bytes before the addresses. */
export const PROXY_FIXED_BYTES = 16;
/** The longest header with addresses of either family and no TLV. */
export const PROXY_HEADER_BYTES_MAX: number = PROXY_FIXED_BYTES + ADDRESSES6_BYTES;
/** TLVs of a header that is sent fit beside it into a slot's headroom. */
export const PROXY_TLV_BYTES_MAX = 76;

/** Types of TLVs (`PP2_TYPE_…`). */
export const PROXY_TLV = {
  ALPN: 0x01,
  AUTHORITY: 0x02,
  CRC32C: 0x03,
  NOOP: 0x04,
  UNIQUE_ID: 0x05,
} as const;

/** One type-length-value of a header. */
export interface ProxyTlv {
  /** 0 to 255. */
  readonly type: number;
  /** At most 128 bytes of a `UNIQUE_ID`. */
  readonly value: Uint8Array;
}

/**
 * Writes a header so that it ends where the payload begins.
 *
 * @param payloadAt There must be {@link PROXY_HEADER_BYTES_MAX} and the TLVs' bytes before it.
 * @param tuple The client's address and the one that it sent to (see `tuple.ts`), from `at` on.
 * @param tlvs As {@link encodeTlvs} made them.
 * @returns Bytes of the header: the datagram begins so many before `payloadAt`.
 */
export function writeProxyHeader(
  target: Uint8Array,
  payloadAt: number,
  tuple: Uint32Array,
  tupleAt: number,
  tlvs?: Uint8Array,
): number {
  const isV4 = isIpv4(tuple, tupleAt + CLIENT_AT) && isIpv4(tuple, tupleAt + LOCAL_AT);
  const addressesBytes = isV4 ? ADDRESSES4_BYTES : ADDRESSES6_BYTES;
  const lengthBytes = addressesBytes + (tlvs?.length ?? 0);
  const headerBytes = PROXY_FIXED_BYTES + lengthBytes;
  let at = payloadAt - headerBytes;
  at = writeFixed(target, at, COMMAND_PROXY, isV4 ? FAMILY_UDP4 : FAMILY_UDP6, lengthBytes);
  const from = isV4 ? 3 : 0;
  for (let word = from; word < 4; word++) {
    at = write32(target, at, tuple[tupleAt + CLIENT_AT + word]);
  }
  for (let word = from; word < 4; word++) {
    at = write32(target, at, tuple[tupleAt + LOCAL_AT + word]);
  }
  at = write32(target, at, tuple[tupleAt + PORTS_AT]);
  if (tlvs !== undefined) target.set(tlvs, at);
  return headerBytes;
}

/** A whole header from texts. Throws `RangeError` on text that is no address. */
export function encodeProxyHeader(
  source: TupleEnd,
  destination: TupleEnd,
  tlvs: readonly ProxyTlv[] = [],
): Uint8Array<ArrayBuffer> {
  const tlvBytes = encodeTlvs(tlvs);
  const target = new Uint8Array(PROXY_HEADER_BYTES_MAX + tlvBytes.length);
  const tuple = makeTuple(source, destination);
  const length = writeProxyHeader(target, target.length, tuple, 0, tlvBytes);
  return target.slice(target.length - length);
}

/** A header that says: this datagram is the balancer's own, as a health probe is. */
export function encodeLocalHeader(): Uint8Array<ArrayBuffer> {
  const target = new Uint8Array(PROXY_FIXED_BYTES);
  writeFixed(target, 0, COMMAND_LOCAL, 0, 0);
  return target;
}

/** TLVs as bytes. Throws `RangeError` past {@link PROXY_TLV_BYTES_MAX}. */
export function encodeTlvs(tlvs: readonly ProxyTlv[]): Uint8Array<ArrayBuffer> {
  const total = tlvs.reduce((sum, { value }) => sum + 3 + value.length, 0);
  if (total > PROXY_TLV_BYTES_MAX) {
    throw new RangeError(
      `Cannot send ${total} bytes of TLVs: want at most ${PROXY_TLV_BYTES_MAX}`,
    );
  }
  const bytes = new Uint8Array(total);
  let at = 0;
  for (const { type, value } of tlvs) {
    if (!Number.isInteger(type) || type < 0 || type > 0xff) {
      throw new RangeError(`Cannot send a TLV of type ${type}: want 0 to 255`);
    }
    bytes[at] = type;
    at = write16(bytes, at + 1, value.length);
    bytes.set(value, at);
    at += value.length;
  }
  return bytes;
}

/** What is wrong with a header. */
export type ProxyRefusal =
  /** The datagram ends before the header does. */
  | "cut short"
  /** The version is not 2. */
  | "version"
  /** Neither `PROXY` nor `LOCAL`. */
  | "command"
  /** No such family or transport, or one that a datagram cannot come from. */
  | "family"
  /** The length has no room for the addresses. */
  | "length"
  /** A TLV is longer than what is left. */
  | "tlv"
  /** The checksum is of other bytes. */
  | "checksum";

/** What a datagram begins with. */
export type ProxyDecoded =
  /** Not with a header: all of it is payload. */
  | { readonly kind: "none" }
  | { readonly kind: "refused"; readonly reason: ProxyRefusal }
  | {
    readonly kind: "header";
    readonly command: "proxy" | "local";
    /** Absent where the header tells none (`LOCAL`, `UNSPEC`): the sender is who it seems. */
    readonly source?: TupleEnd;
    readonly destination?: TupleEnd;
    readonly tlvs: readonly ProxyTlv[];
    /** Where the payload begins, from the datagram's start. */
    readonly headerBytes: number;
  };

/** Reads the header of a datagram, where it has one. */
export function decodeProxyHeader(datagram: Uint8Array): ProxyDecoded {
  if (!startsWithSignature(datagram)) return { kind: "none" };
  const refused = (reason: ProxyRefusal): ProxyDecoded => ({ kind: "refused", reason });
  if (datagram.length < PROXY_FIXED_BYTES) return refused("cut short");
  const versionCommand = datagram[12];
  if (versionCommand >> 4 !== 2) return refused("version");
  if (versionCommand !== COMMAND_LOCAL && versionCommand !== COMMAND_PROXY) {
    return refused("command");
  }
  const lengthBytes = (datagram[14] << 8) | datagram[15];
  const headerBytes = PROXY_FIXED_BYTES + lengthBytes;
  if (headerBytes > datagram.length) return refused("cut short");
  const header = datagram.subarray(0, headerBytes);
  if (versionCommand === COMMAND_LOCAL) {
    // Whatever it says is to be ignored, TLVs too.
    return { kind: "header", command: "local", tlvs: [], headerBytes };
  }
  const addressesBytes = addressesBytesOf(header[13]);
  if (addressesBytes === undefined) return refused("family");
  if (addressesBytes > lengthBytes) return refused("length");
  const tlvs = decodeTlvs(header, PROXY_FIXED_BYTES + addressesBytes);
  if (tlvs === undefined) return refused("tlv");
  if (!hasGoodChecksum(header, tlvs)) return refused("checksum");
  const plain = tlvs.map(({ type, value }) => ({ type, value }));
  const base = { kind: "header", command: "proxy", tlvs: plain, headerBytes } as const;
  return addressesBytes === 0 ? base : { ...base, ...readAddresses(header, addressesBytes) };
}

/** 0 for what has no addresses; `undefined` for what a datagram cannot come from. */
function addressesBytesOf(family: number): number | undefined {
  if (family === FAMILY_UDP4) return ADDRESSES4_BYTES;
  if (family === FAMILY_UDP6) return ADDRESSES6_BYTES;
  return family === 0 ? 0 : undefined;
}

function readAddresses(
  header: Uint8Array,
  addressesBytes: number,
): { readonly source: TupleEnd; readonly destination: TupleEnd } {
  const size = addressesBytes === ADDRESSES4_BYTES ? 4 : 16;
  const at = PROXY_FIXED_BYTES;
  const ports = at + 2 * size;
  const read = (from: number, port: number): TupleEnd => ({
    address: formatIpBytes(header.subarray(from, from + size)),
    port: (header[port] << 8) | header[port + 1],
  });
  return { source: read(at, ports), destination: read(at + size, ports + 2) };
}

interface PlacedTlv extends ProxyTlv {
  readonly valueAt: number;
}

function decodeTlvs(header: Uint8Array, from: number): PlacedTlv[] | undefined {
  const tlvs: PlacedTlv[] = [];
  let at = from;
  while (at < header.length) {
    if (at + 3 > header.length) return undefined;
    const valueAt = at + 3;
    const end = valueAt + ((header[at + 1] << 8) | header[at + 2]);
    if (end > header.length) return undefined;
    tlvs.push({ type: header[at], value: header.slice(valueAt, end), valueAt });
    at = end;
  }
  return tlvs;
}

function hasGoodChecksum(header: Uint8Array, tlvs: readonly PlacedTlv[]): boolean {
  const found = tlvs.find(({ type }) => type === PROXY_TLV.CRC32C);
  if (found === undefined) return true;
  if (found.value.length !== 4) return false;
  const cleared = header.slice();
  cleared.fill(0, found.valueAt, found.valueAt + 4);
  const told = new DataView(found.value.buffer, found.value.byteOffset).getUint32(0, false);
  return crc32c(cleared) === told;
}

function startsWithSignature(datagram: Uint8Array): boolean {
  if (datagram.length < SIGNATURE.length) return false;
  return SIGNATURE.every((byte, index) => datagram[index] === byte);
}

function writeFixed(
  target: Uint8Array,
  at: number,
  command: number,
  family: number,
  lengthBytes: number,
): number {
  for (let index = 0; index < SIGNATURE.length; index++) target[at + index] = SIGNATURE[index];
  target[at + 12] = command;
  target[at + 13] = family;
  return write16(target, at + 14, lengthBytes);
}

function write16(target: Uint8Array, at: number, value: number): number {
  target[at] = value >> 8;
  target[at + 1] = value & 0xff;
  return at + 2;
}

function write32(target: Uint8Array, at: number, value: number): number {
  target[at] = value >>> 24;
  target[at + 1] = value >>> 16;
  target[at + 2] = value >>> 8;
  target[at + 3] = value;
  return at + 4;
}
