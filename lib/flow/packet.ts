/**
 * Reads the network and transport headers of a captured packet.
 *
 * {@link writeFlowKey} is the one decoder: it writes a packed key and makes no object, for the hot
 * path. {@link decodeAttribution} dresses its result for people. Neither throws on any bytes: what
 * cannot be read is absent.
 *
 * IPv6 extension headers are walked. A later fragment, whose transport header is elsewhere, has
 * its protocol but no ports, and says so. Ports are read for TCP and UDP only.
 *
 * Sources: RFC 791, RFC 8200 §4, RFC 4302 §2.2 (length of the authentication header).
 *
 * @module
 */
import {
  FLOW_KEY_BYTES,
  type FlowKey,
  formatKeyAddress,
  IP_PROTOCOL,
  KEY_DST_ADDR,
  KEY_DST_PORT,
  KEY_HAS_ECHO_ID,
  KEY_HAS_PORTS,
  KEY_IS_CUT,
  KEY_IS_FRAGMENT,
  KEY_SRC_ADDR,
  KEY_SRC_PORT,
  protocolName,
  readPort,
} from "./flow_key.ts";

const IPV4_HEADER_BYTES = 20;
const IPV6_HEADER_BYTES = 40;
/** Extension headers of one packet that are walked; after more it counts as cut. */
export const EXTENSION_HEADERS_MAX = 16;

/** IANA numbers of the IPv6 extension headers that are walked. */
export const EXTENSION_HEADER = {
  hopByHop: 0,
  routing: 43,
  fragment: 44,
  authentication: 51,
  destination: 60,
  mobility: 135,
  hip: 139,
  shim6: 140,
} as const;
const EXTENSION_HEADERS: ReadonlySet<number> = new Set(Object.values(EXTENSION_HEADER));

/** What a packet says of its flow; absent is what the captured bytes do not tell. */
export interface FlowAttribution {
  /** Source address. */
  readonly srcAddr?: string;
  /** Source port, of TCP and UDP. */
  readonly srcPort?: number;
  /** Destination address. */
  readonly dstAddr?: string;
  /** Destination port, of TCP and UDP. */
  readonly dstPort?: number;
  /** `tcp`, `udp`, `icmp`, `icmp6`. */
  readonly protocol?: string;
  /** IANA number, also of protocols that have no name here. */
  readonly protocolNumber?: number;
  /** A later fragment: ports are in the first one. */
  readonly fragment?: true;
}

/**
 * Writes the packed key of the packet at `packet[start .. start+length]` to `out[at …]` (see
 * `flow_key.ts`). Returns the family, 0 when the bytes are no IP packet (the key is then all zero).
 */
export function writeFlowKey(
  packet: Uint8Array,
  start: number,
  length: number,
  out: Uint8Array,
  at: number,
): number {
  out.fill(0, at, at + FLOW_KEY_BYTES);
  if (length < 1) return 0;
  const version = packet[start] >>> 4;
  if (version === 4) return writeIpv4(packet, start, length, out, at);
  if (version === 6) return writeIpv6(packet, start, length, out, at);
  return 0;
}

function writeIpv4(
  packet: Uint8Array,
  start: number,
  length: number,
  out: Uint8Array,
  at: number,
): number {
  const headerBytes = (packet[start] & 0x0f) * 4;
  if (headerBytes < IPV4_HEADER_BYTES || length < headerBytes) return 0;
  out[at] = 4;
  out[at + 1] = packet[start + 9];
  for (let index = 0; index < 4; index++) {
    out[at + KEY_SRC_ADDR + index] = packet[start + 12 + index];
    out[at + KEY_DST_ADDR + index] = packet[start + 16 + index];
  }
  const fragmentOffset = (packet[start + 6] & 0x1f) | packet[start + 7];
  if (fragmentOffset !== 0) out[at + 2] = KEY_IS_FRAGMENT;
  else writeTransport(packet, start + headerBytes, start + length, out, at);
  return 4;
}

function writeIpv6(
  packet: Uint8Array,
  start: number,
  length: number,
  out: Uint8Array,
  at: number,
): number {
  if (length < IPV6_HEADER_BYTES) return 0;
  out[at] = 6;
  for (let index = 0; index < 16; index++) {
    out[at + KEY_SRC_ADDR + index] = packet[start + 8 + index];
    out[at + KEY_DST_ADDR + index] = packet[start + 24 + index];
  }
  const end = start + length;
  let next = packet[start + 6];
  let cursor = start + IPV6_HEADER_BYTES;
  for (let walked = 0; isExtension(next); walked++) {
    if (cursor + 8 > end || walked === EXTENSION_HEADERS_MAX) {
      out[at + 2] = KEY_IS_CUT;
      return 6;
    }
    const isLater = next === EXTENSION_HEADER.fragment &&
      (packet[cursor + 2] | packet[cursor + 3] & 0xf8) !== 0;
    const headerBytes = extensionBytes(next, packet[cursor + 1]);
    next = packet[cursor];
    cursor += headerBytes;
    if (isLater) {
      out[at + 1] = next;
      out[at + 2] = KEY_IS_FRAGMENT;
      return 6;
    }
  }
  out[at + 1] = next;
  writeTransport(packet, cursor, end, out, at);
  return 6;
}

function isExtension(next: number): boolean {
  return EXTENSION_HEADERS.has(next);
}

function extensionBytes(kind: number, lengthField: number): number {
  if (kind === EXTENSION_HEADER.fragment) return 8;
  // The authentication header counts in words of four bytes, less two; all others in eights.
  return kind === EXTENSION_HEADER.authentication ? (lengthField + 2) * 4 : (lengthField + 1) * 8;
}

function writeTransport(
  packet: Uint8Array,
  cursor: number,
  end: number,
  out: Uint8Array,
  at: number,
): void {
  const protocol = out[at + 1];
  if (protocol === IP_PROTOCOL.tcp || protocol === IP_PROTOCOL.udp) {
    if (cursor + 4 > end) {
      out[at + 2] = KEY_IS_CUT;
      return;
    }
    out[at + 2] = KEY_HAS_PORTS;
    for (let index = 0; index < 4; index++) {
      out[at + KEY_SRC_PORT + index] = packet[cursor + index];
    }
  } else if (cursor + 6 <= end && isEcho(protocol, packet[cursor])) {
    out[at + 2] = KEY_HAS_ECHO_ID;
    out[at + KEY_SRC_PORT] = packet[cursor + 4];
    out[at + KEY_SRC_PORT + 1] = packet[cursor + 5];
  }
}

function isEcho(protocol: number, type: number): boolean {
  if (protocol === IP_PROTOCOL.icmp) return type === 8 || type === 0;
  return protocol === IP_PROTOCOL.icmp6 && (type === 128 || type === 129);
}

/** Reads the headers of a packet; everything is absent when it is no IP packet. */
export function decodeAttribution(payload: Uint8Array): FlowAttribution {
  const key = new Uint8Array(FLOW_KEY_BYTES);
  writeFlowKey(payload, 0, payload.length, key, 0);
  return attributionOfKey(key, 0);
}

/** The attribution that a packed key stands for. */
export function attributionOfKey(bytes: Uint8Array, at: number): FlowAttribution {
  const family = bytes[at];
  if (family === 0) return {};
  const protocolNumber = bytes[at + 1];
  const flags = bytes[at + 2];
  const addresses = {
    srcAddr: formatKeyAddress(bytes, at + KEY_SRC_ADDR, family),
    dstAddr: formatKeyAddress(bytes, at + KEY_DST_ADDR, family),
  };
  const cutBeforeProtocol = (flags & KEY_IS_CUT) !== 0 && protocolNumber === 0;
  if (cutBeforeProtocol) return addresses;
  const protocol = protocolName(protocolNumber);
  return {
    ...addresses,
    protocolNumber,
    ...(protocol === undefined ? {} : { protocol }),
    ...((flags & KEY_HAS_PORTS) === 0 ? {} : {
      srcPort: readPort(bytes, at + KEY_SRC_PORT),
      dstPort: readPort(bytes, at + KEY_DST_PORT),
    }),
    ...((flags & KEY_IS_FRAGMENT) === 0 ? {} : { fragment: true as const }),
  };
}

/** The 5-tuple, or nothing when a part is missing (no ports, no IP packet). */
export function flowKeyOf(attribution: FlowAttribution): FlowKey | undefined {
  const { srcAddr, srcPort, dstAddr, dstPort, protocolNumber } = attribution;
  if (srcAddr === undefined || dstAddr === undefined || protocolNumber === undefined) {
    return undefined;
  }
  if (srcPort === undefined || dstPort === undefined) return undefined;
  return { srcAddr, srcPort, dstAddr, dstPort, protocol: protocolNumber };
}
