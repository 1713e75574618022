/**
 * The identity of a flow as 40 bytes: family, protocol, ports and addresses, packed so that it can
 * be hashed and compared without making an object.
 *
 *   0 family (0, 4, 6) · 1 protocol · 2 flags · 3 zero · 4 source port · 6 destination port ·
 *   8 source address (16) · 24 destination address (16)
 *
 * Ports are big endian, as on the wire. For ICMP echo the identifier stands in the source port's
 * place, so that two pings are two flows. An IPv4 address fills the first four of its 16 bytes.
 *
 * @module
 */
import { formatIpBytes, ipToBytes, parseIp } from "#lib/base/mod.ts";

/** Bytes of a packed flow key. */
export const FLOW_KEY_BYTES = 40;

/** The key holds transport ports. */
export const KEY_HAS_PORTS = 1;
/** The key holds an ICMP echo identifier in the source port's place. */
export const KEY_HAS_ECHO_ID = 2;
/** A later fragment: the transport header is in another packet, so there are no ports. */
export const KEY_IS_FRAGMENT = 4;
/** The headers ended before the transport protocol could be told (or before its ports). */
export const KEY_IS_CUT = 8;

/** Offset of the source port in a key. */
export const KEY_SRC_PORT = 4;
/** Offset of the destination port in a key. */
export const KEY_DST_PORT = 6;
/** Offset of the source address in a key. */
export const KEY_SRC_ADDR = 8;
/** Offset of the destination address in a key. */
export const KEY_DST_ADDR = 24;

/** IANA protocol numbers that we name. */
export const IP_PROTOCOL = { icmp: 1, tcp: 6, udp: 17, icmp6: 58 } as const;

/** A connection's 5-tuple. */
export interface FlowKey {
  /** Source address. */
  readonly srcAddr: string;
  /** Source port. */
  readonly srcPort: number;
  /** Destination address. */
  readonly dstAddr: string;
  /** Destination port. */
  readonly dstPort: number;
  /** IANA protocol number. */
  readonly protocol: number;
}

/** The name that events use for a protocol number: `tcp`, `udp`, `icmp`, `icmp6`, or none. */
export function protocolName(protocol: number): string | undefined {
  switch (protocol) {
    case IP_PROTOCOL.tcp:
      return "tcp";
    case IP_PROTOCOL.udp:
      return "udp";
    case IP_PROTOCOL.icmp:
      return "icmp";
    case IP_PROTOCOL.icmp6:
      return "icmp6";
    default:
      return undefined;
  }
}

/** Packs a 5-tuple; nothing when an address cannot be parsed or the families differ. */
export function encodeFlowKey(key: FlowKey): Uint8Array<ArrayBuffer> | undefined {
  const src = parseIp(key.srcAddr);
  const dst = parseIp(key.dstAddr);
  if (src === undefined || dst === undefined || src.family !== dst.family) return undefined;
  const packed = new Uint8Array(FLOW_KEY_BYTES);
  packed[0] = src.family;
  packed[1] = key.protocol;
  packed[2] = KEY_HAS_PORTS;
  writePort(packed, KEY_SRC_PORT, key.srcPort);
  writePort(packed, KEY_DST_PORT, key.dstPort);
  packed.set(ipToBytes(src), KEY_SRC_ADDR);
  packed.set(ipToBytes(dst), KEY_DST_ADDR);
  return packed;
}

/** Writes a port, big endian. */
export function writePort(out: Uint8Array, at: number, port: number): void {
  out[at] = port >>> 8;
  out[at + 1] = port;
}

/** Reads a port, big endian. */
export function readPort(bytes: Uint8Array, at: number): number {
  return bytes[at] << 8 | bytes[at + 1];
}

/** The address at `at` of a key of this family as text. */
export function formatKeyAddress(bytes: Uint8Array, at: number, family: number): string {
  if (family === 4) return `${bytes[at]}.${bytes[at + 1]}.${bytes[at + 2]}.${bytes[at + 3]}`;
  return formatIpBytes(bytes.subarray(at, at + 16));
}

/** A 32-bit hash of the key at `at`; well mixed, not secret. */
export function hashFlowKey(bytes: Uint8Array, at: number): number {
  let hash = 0x811c9dc5;
  for (let index = at; index < at + FLOW_KEY_BYTES; index += 4) {
    const word = bytes[index] | bytes[index + 1] << 8 | bytes[index + 2] << 16 |
      bytes[index + 3] << 24;
    hash = Math.imul(hash ^ word, 0x9e3779b1);
    hash = hash << 15 | hash >>> 17;
  }
  hash = Math.imul(hash ^ hash >>> 16, 0x85ebca6b);
  hash = Math.imul(hash ^ hash >>> 13, 0xc2b2ae35);
  return (hash ^ hash >>> 16) >>> 0;
}
