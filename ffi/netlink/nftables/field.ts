/**
 * What the fields of a ruleset are to nf_tables: how a packet's field is loaded into a register,
 * which protocol it takes for granted, how its values are bytes, and what `nft` calls its type.
 *
 * Numbers of types and of protocol fields are those of the `nft` tool: they are kept in the
 * kernel only so that `nft list` can print keys as they were written. The kernel itself
 * looks at lengths alone.
 *
 * Source: `linux/netfilter/nf_tables.h`; nftables `include/datatype.h`, `include/proto.h`.
 *
 * @module
 */
import { encodeUtf8, ipToBytes, parseCidr } from "#lib/base/mod.ts";
import { align4 } from "../attribute.ts";
import type { NftField } from "./ruleset.ts";

/** Length of an interface name with its NULs (`IFNAMSIZ`). */
export const IFNAME_BYTES = 16;

/** Where a payload's offset counts from (`NFT_PAYLOAD_…_HEADER`). */
const NETWORK_HEADER = 1;
const TRANSPORT_HEADER = 2;

const NFT_META_IIFNAME = 6;
const NFT_META_OIFNAME = 7;
const NFT_META_NFPROTO = 15;
const NFT_META_L4PROTO = 16;

/** `meta nfproto` values. */
export const NFPROTO: Readonly<Record<string, number>> = { ipv4: 2, ipv6: 10 };
/** `meta l4proto` values with a name. */
export const IPPROTO: Readonly<Record<string, number>> = {
  icmp: 1,
  tcp: 6,
  udp: 17,
  "ipv6-icmp": 58,
};
/** `fib … type` values (`RTN_…`). */
const FIB_ADDRESS_TYPES: Readonly<Record<string, number>> = {
  local: 2,
  broadcast: 3,
  multicast: 5,
};

/** How a field gets into a register. */
export type NftLoad =
  | { readonly kind: "meta"; readonly key: number }
  | { readonly kind: "payload"; readonly base: number; readonly offset: number }
  | { readonly kind: "fib" };

/** How values of a field are bytes. */
type ValueKind = "be" | "host" | "ifname" | "ipv4" | "ipv6";

/** What is known of one field. */
export interface NftFieldInfo {
  readonly load: NftLoad;
  readonly sizeBytes: number;
  readonly value: ValueKind;
  /** `nft`'s data type, six bits in the type of a key. */
  readonly dataType: number;
  /** The network protocol that the field takes for granted. */
  readonly nfproto?: number;
  /** The transport protocol that the field takes for granted. */
  readonly l4proto?: number;
  /** Words for numbers. */
  readonly names?: Readonly<Record<string, number>>;
  /** `nft`'s numbers of the header and of the field in it, for `typeof`. */
  readonly udata?: { readonly header: number; readonly field: number };
}

function ports(l4proto: number, header: number, offset: number): NftFieldInfo {
  return {
    load: { kind: "payload", base: TRANSPORT_HEADER, offset },
    sizeBytes: 2,
    value: "be",
    dataType: 13,
    l4proto,
    udata: { header, field: offset === 0 ? 1 : 2 },
  };
}

function address(value: "ipv4" | "ipv6", offset: number, field: number): NftFieldInfo {
  const isIpv4 = value === "ipv4";
  return {
    load: { kind: "payload", base: NETWORK_HEADER, offset },
    sizeBytes: isIpv4 ? 4 : 16,
    value,
    dataType: isIpv4 ? 7 : 8,
    nfproto: NFPROTO[value],
    udata: { header: isIpv4 ? 12 : 13, field },
  };
}

function icmp(
  family: "ipv4" | "ipv6",
  what: "type" | "id",
  field: number,
): NftFieldInfo {
  const typeOfType = family === "ipv4" ? 14 : 29;
  return {
    load: { kind: "payload", base: TRANSPORT_HEADER, offset: what === "type" ? 0 : 4 },
    sizeBytes: what === "type" ? 1 : 2,
    value: "be",
    dataType: what === "type" ? typeOfType : DATA_TYPE_INTEGER,
    nfproto: NFPROTO[family],
    l4proto: family === "ipv4" ? IPPROTO.icmp : IPPROTO["ipv6-icmp"],
    udata: { header: family === "ipv4" ? 4 : 14, field },
  };
}

function meta(key: number, sizeBytes: number, value: ValueKind, dataType: number): NftFieldInfo {
  return { load: { kind: "meta", key }, sizeBytes, value, dataType };
}

/** `nft`'s integer type, which has no length of its own. */
export const DATA_TYPE_INTEGER = 4;

/** All fields. */
export const NFT_FIELDS: Readonly<Record<NftField, NftFieldInfo>> = {
  "meta nfproto": { ...meta(NFT_META_NFPROTO, 1, "host", 2), names: NFPROTO },
  "meta l4proto": { ...meta(NFT_META_L4PROTO, 1, "host", 12), names: IPPROTO },
  "meta iifname": meta(NFT_META_IIFNAME, IFNAME_BYTES, "ifname", 41),
  "meta oifname": meta(NFT_META_OIFNAME, IFNAME_BYTES, "ifname", 41),
  "ip saddr": address("ipv4", 12, 11),
  "ip daddr": address("ipv4", 16, 12),
  "ip6 saddr": address("ipv6", 8, 8),
  "ip6 daddr": address("ipv6", 24, 9),
  "tcp sport": ports(IPPROTO.tcp, 8, 0),
  "tcp dport": ports(IPPROTO.tcp, 8, 2),
  "udp sport": ports(IPPROTO.udp, 6, 0),
  "udp dport": ports(IPPROTO.udp, 6, 2),
  "icmp type": icmp("ipv4", "type", 1),
  "icmp id": icmp("ipv4", "id", 4),
  "icmpv6 type": icmp("ipv6", "type", 1),
  "icmpv6 id": icmp("ipv6", "id", 6),
  "fib daddr type": {
    load: { kind: "fib" },
    sizeBytes: 4,
    value: "host",
    dataType: 38,
    names: FIB_ADDRESS_TYPES,
  },
};

/** A value as the kernel compares it, and how many leading bits of it count. */
export interface NftValue {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Below `bytes.length * 8` for an address prefix only. */
  readonly prefixBits: number;
}

/** Encodes a value of a field. Throws `TypeError` when the field cannot have it. */
export function encodeValue(field: NftField, value: string | number): NftValue {
  const info = NFT_FIELDS[field];
  const whole = (bytes: Uint8Array<ArrayBuffer>) => ({ bytes, prefixBits: bytes.length * 8 });
  if (info.value === "ifname") return whole(encodeInterfaceName(field, value));
  if (info.value === "ipv4" || info.value === "ipv6") return encodeAddress(field, value);
  return whole(encodeNumber(field, value));
}

/** Encodes a key: one value a field, padded to four bytes each where there are several. */
export function encodeKey(
  fields: readonly NftField[],
  values: readonly (string | number)[],
): Uint8Array<ArrayBuffer> {
  if (fields.length !== values.length) {
    throw new TypeError(`Cannot encode a key of ${values.length} values: want ${fields.length}`);
  }
  const key = new Uint8Array(keyBytes(fields));
  let offset = 0;
  fields.forEach((field, index) => {
    const { bytes, prefixBits } = encodeValue(field, values[index]);
    if (prefixBits !== bytes.length * 8) throw notAValue(field, values[index]);
    key.set(bytes, offset);
    offset += align4(bytes.length);
  });
  return key;
}

/** Length of a key: a single field has its own, several are padded to four bytes each. */
export function keyBytes(fields: readonly NftField[]): number {
  if (fields.length === 1) return NFT_FIELDS[fields[0]].sizeBytes;
  return fields.reduce((sum, field) => sum + align4(NFT_FIELDS[field].sizeBytes), 0);
}

/** The type of a key as `nft` numbers it: six bits a field. */
export function keyType(fields: readonly NftField[]): number {
  if (fields.length < 1 || fields.length > 5) {
    throw new RangeError(`Cannot make a key of ${fields.length} fields: want 1 to 5`);
  }
  return fields.reduce((type, field) => type * 64 + NFT_FIELDS[field].dataType, 0);
}

function encodeNumber(field: NftField, value: string | number): Uint8Array<ArrayBuffer> {
  const info = NFT_FIELDS[field];
  const number = typeof value === "number" ? value : info.names?.[value];
  const max = 2 ** (info.sizeBytes * 8) - 1;
  if (number === undefined || !Number.isInteger(number) || number < 0 || number > max) {
    throw notAValue(field, value);
  }
  const bytes = new Uint8Array(info.sizeBytes);
  for (let index = 0; index < bytes.length; index++) {
    const shift = info.value === "be" ? bytes.length - 1 - index : index;
    bytes[index] = Math.floor(number / 2 ** (8 * shift)) & 0xff;
  }
  return bytes;
}

function encodeInterfaceName(field: NftField, value: string | number): Uint8Array<ArrayBuffer> {
  const encoded = encodeUtf8(String(value));
  const isName = typeof value === "string" && encoded.length > 0 &&
    encoded.length < IFNAME_BYTES && !/[\0/\s*]/.test(value);
  if (!isName) throw notAValue(field, value);
  const bytes = new Uint8Array(IFNAME_BYTES);
  bytes.set(encoded);
  return bytes;
}

function encodeAddress(field: NftField, value: string | number): NftValue {
  const prefix = typeof value === "string" ? parseCidr(value) : undefined;
  const wanted = NFT_FIELDS[field].value === "ipv4" ? 4 : 6;
  if (prefix === undefined || prefix.family !== wanted) throw notAValue(field, value);
  return { bytes: ipToBytes(prefix), prefixBits: prefix.prefixLength };
}

function notAValue(field: NftField, value: unknown): TypeError {
  return new TypeError(`Cannot match ${JSON.stringify(field)}: no value ${JSON.stringify(value)}`);
}
