/**
 * Connections as conntrack tells them: in events, in dumps, in answers.
 *
 * Pure; decoding never throws: a message that is not a connection, or lacks its first tuple, is
 * `undefined`.
 *
 * Source: `linux/netfilter/nfnetlink_conntrack.h`, `linux/netfilter/nf_conntrack_common.h`.
 *
 * @module
 */
import { formatIpBytes, ipToBytes, parseIp } from "#lib/base/mod.ts";
import { AttributeReader, type AttributeWriter } from "../attribute.ts";
import { type NetlinkMessage, NLM_F_CREATE } from "../message.ts";

/** `NFNL_SUBSYS_CTNETLINK`, in the upper byte of a message type. */
const SUBSYSTEM = 1 << 8;
/** `IPCTNL_MSG_CT_…` as full message types. */
export const CT_MSG = { new: SUBSYSTEM, get: SUBSYSTEM | 1, delete: SUBSYSTEM | 2 } as const;
/** Bytes of `struct nfgenmsg`. */
const NFGENMSG_BYTES = 4;

const CTA_TUPLE_ORIG = 1;
const CTA_TUPLE_REPLY = 2;
const CTA_STATUS = 3;
const CTA_PROTOINFO = 4;
const CTA_TIMEOUT = 7;
const CTA_MARK = 8;
const CTA_COUNTERS_ORIG = 9;
const CTA_COUNTERS_REPLY = 10;
const CTA_ID = 12;
const CTA_TIMESTAMP = 20;

const CTA_TUPLE_IP = 1;
const CTA_TUPLE_PROTO = 2;
const CTA_PROTO_NUM = 1;
const CTA_PROTO_SRC_PORT = 2;
const CTA_PROTO_DST_PORT = 3;
const CTA_PROTO_ICMP_ID = 4;
const CTA_PROTO_ICMP_TYPE = 5;
const CTA_PROTO_ICMP_CODE = 6;
const CTA_PROTO_ICMPV6_ID = 7;
const CTA_PROTO_ICMPV6_TYPE = 8;
const CTA_PROTO_ICMPV6_CODE = 9;
const CTA_PROTOINFO_TCP = 1;
const CTA_PROTOINFO_TCP_STATE = 1;

const IPPROTO_ICMP = 1;
const IPPROTO_ICMPV6 = 58;

/** Bits of {@link ConntrackEntry.status} (`IPS_…`). */
export const CT_STATUS = {
  seenReply: 0x2,
  assured: 0x4,
  confirmed: 0x8,
  sourceNat: 0x10,
  destinationNat: 0x20,
  dying: 0x200,
} as const;

/** Names of TCP states by number (`TCP_CONNTRACK_…`). */
const TCP_STATES: readonly ConntrackTcpState[] = [
  "none",
  "synSent",
  "synReceived",
  "established",
  "finWait",
  "closeWait",
  "lastAck",
  "timeWait",
  "close",
  "synSent2",
];

/** A state of a TCP connection. */
export type ConntrackTcpState =
  | "none"
  | "synSent"
  | "synReceived"
  | "established"
  | "finWait"
  | "closeWait"
  | "lastAck"
  | "timeWait"
  | "close"
  | "synSent2";

/** One direction of a connection. */
export interface ConntrackTuple {
  /** Source address as text. */
  readonly source: string;
  /** Destination address as text. */
  readonly destination: string;
  /** IP protocol number. */
  readonly protocol: number;
  /** TCP, UDP and the like. */
  readonly sourcePort?: number;
  /** TCP, UDP and the like. */
  readonly destinationPort?: number;
  /** ICMP and ICMPv6 only, all three together. */
  readonly icmpId?: number;
  /** See {@link ConntrackTuple.icmpId}. */
  readonly icmpType?: number;
  /** See {@link ConntrackTuple.icmpId}. */
  readonly icmpCode?: number;
}

/** Packets and bytes of one direction, headers included. */
export interface ConntrackCounters {
  /** Packets of the direction. */
  readonly packets: bigint;
  /** Their bytes, from the network header on. */
  readonly bytes: bigint;
}

/** A connection. */
export interface ConntrackEntry {
  /** What the message means; `update` also for the entries of a dump. */
  readonly kind: "new" | "update" | "destroy";
  /** As the first packet had it. */
  readonly original: ConntrackTuple;
  /** As answers have it; differs from the mirrored original under NAT. */
  readonly reply?: ConntrackTuple;
  /** See {@link CT_STATUS}. */
  readonly status?: number;
  /** A number of the kernel for the connection; unique among those alive. */
  readonly id?: number;
  /** Seconds until it expires. */
  readonly timeoutSeconds?: number;
  /** Connection mark (`CONNMARK`). */
  readonly mark?: number;
  /** Absent unless accounting is on, and in update events. */
  readonly originalCounters?: ConntrackCounters;
  /** As {@link ConntrackEntry.originalCounters}, of the answers. */
  readonly replyCounters?: ConntrackCounters;
  /** TCP only. */
  readonly tcpState?: ConntrackTcpState;
  /** Nanoseconds since 1970; absent unless timestamps are on. */
  readonly startedNs?: bigint;
  /** When it ended; in destroy events only. */
  readonly stoppedNs?: bigint;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** Decodes a connection. */
export function decodeConntrack(message: NetlinkMessage): ConntrackEntry | undefined {
  const { type, flags, body } = message;
  if (type !== CT_MSG.new && type !== CT_MSG.delete) return undefined;
  const kind = type === CT_MSG.delete ? "destroy" : flags & NLM_F_CREATE ? "new" : "update";
  const entry: Partial<Mutable<ConntrackEntry>> = {};
  const reader = new AttributeReader(body, NFGENMSG_BYTES);
  while (reader.next()) readEntryAttribute(reader, entry);
  const { original } = entry;
  if (original === undefined || reader.error !== undefined) return undefined;
  return { ...entry, kind, original };
}

function readEntryAttribute(
  reader: AttributeReader,
  entry: Partial<Mutable<ConntrackEntry>>,
): void {
  switch (reader.type) {
    case CTA_TUPLE_ORIG:
      return assign(entry, "original", readTuple(reader.nested()));
    case CTA_TUPLE_REPLY:
      return assign(entry, "reply", readTuple(reader.nested()));
    case CTA_STATUS:
      return assign(entry, "status", reader.be32());
    case CTA_TIMEOUT:
      return assign(entry, "timeoutSeconds", reader.be32());
    case CTA_MARK:
      return assign(entry, "mark", reader.be32());
    case CTA_ID:
      return assign(entry, "id", reader.be32());
    case CTA_COUNTERS_ORIG:
      return assign(entry, "originalCounters", readCounters(reader.nested()));
    case CTA_COUNTERS_REPLY:
      return assign(entry, "replyCounters", readCounters(reader.nested()));
    case CTA_PROTOINFO:
      return assign(entry, "tcpState", readTcpState(reader.nested()));
    case CTA_TIMESTAMP:
      return readTimestamps(reader.nested(), entry);
  }
}

function assign<T, K extends keyof T>(target: T, name: K, value: T[K] | undefined): void {
  if (value !== undefined) target[name] = value;
}

function readTuple(reader: AttributeReader): ConntrackTuple | undefined {
  const tuple: Partial<Mutable<ConntrackTuple>> = {};
  while (reader.next()) {
    if (reader.type === CTA_TUPLE_IP) readTupleAddresses(reader.nested(), tuple);
    else if (reader.type === CTA_TUPLE_PROTO) readTupleProtocol(reader.nested(), tuple);
  }
  const { source, destination, protocol } = tuple;
  if (source === undefined || destination === undefined || protocol === undefined) {
    return undefined;
  }
  return { ...tuple, source, destination, protocol };
}

function readTupleAddresses(
  reader: AttributeReader,
  tuple: Partial<Mutable<ConntrackTuple>>,
): void {
  while (reader.next()) {
    if (reader.length !== 4 && reader.length !== 16) continue;
    // IPv4 source and destination are 1 and 2, IPv6 the same 3 and 4.
    const address = formatIpBytes(reader.bytes());
    if (reader.type === 1 || reader.type === 3) tuple.source = address;
    else if (reader.type === 2 || reader.type === 4) tuple.destination = address;
  }
}

function readTupleProtocol(
  reader: AttributeReader,
  tuple: Partial<Mutable<ConntrackTuple>>,
): void {
  while (reader.next()) {
    switch (reader.type) {
      case CTA_PROTO_NUM:
        tuple.protocol = reader.u8();
        break;
      case CTA_PROTO_SRC_PORT:
        tuple.sourcePort = reader.be16();
        break;
      case CTA_PROTO_DST_PORT:
        tuple.destinationPort = reader.be16();
        break;
      case CTA_PROTO_ICMP_ID:
      case CTA_PROTO_ICMPV6_ID:
        tuple.icmpId = reader.be16();
        break;
      case CTA_PROTO_ICMP_TYPE:
      case CTA_PROTO_ICMPV6_TYPE:
        tuple.icmpType = reader.u8();
        break;
      case CTA_PROTO_ICMP_CODE:
      case CTA_PROTO_ICMPV6_CODE:
        tuple.icmpCode = reader.u8();
        break;
    }
  }
}

function readCounters(reader: AttributeReader): ConntrackCounters {
  const counters = { packets: 0n, bytes: 0n };
  while (reader.next()) {
    if (reader.type === 1) counters.packets = reader.be64();
    else if (reader.type === 2) counters.bytes = reader.be64();
  }
  return counters;
}

function readTcpState(reader: AttributeReader): ConntrackTcpState | undefined {
  while (reader.next()) {
    if (reader.type !== CTA_PROTOINFO_TCP) continue;
    const tcp = reader.nested();
    while (tcp.next()) {
      if (tcp.type === CTA_PROTOINFO_TCP_STATE) return TCP_STATES[tcp.u8()];
    }
  }
  return undefined;
}

function readTimestamps(
  reader: AttributeReader,
  entry: Partial<Mutable<ConntrackEntry>>,
): void {
  while (reader.next()) {
    if (reader.type === 1) entry.startedNs = reader.be64();
    else if (reader.type === 2) entry.stoppedNs = reader.be64();
  }
}

/** Writes a tuple as the original direction of a request. Fails on a bad address. */
export function writeOriginalTuple(writer: AttributeWriter, tuple: ConntrackTuple): void {
  const source = parseIp(tuple.source);
  const destination = parseIp(tuple.destination);
  if (source === undefined || destination === undefined || source.family !== destination.family) {
    writer.fail(`no pair of addresses: ${tuple.source}, ${tuple.destination}`);
    return;
  }
  const first = source.family === 4 ? 1 : 3;
  writer.nest(CTA_TUPLE_ORIG, () => {
    writer.nest(CTA_TUPLE_IP, () => {
      writer.bytes(first, ipToBytes(source)).bytes(first + 1, ipToBytes(destination));
    });
    writer.nest(CTA_TUPLE_PROTO, () => writeTupleProtocol(writer, tuple));
  });
}

function writeTupleProtocol(writer: AttributeWriter, tuple: ConntrackTuple): void {
  const { protocol, sourcePort, destinationPort, icmpId, icmpType, icmpCode } = tuple;
  writer.u8(CTA_PROTO_NUM, protocol);
  if (sourcePort !== undefined) writer.be16(CTA_PROTO_SRC_PORT, sourcePort);
  if (destinationPort !== undefined) writer.be16(CTA_PROTO_DST_PORT, destinationPort);
  if (protocol !== IPPROTO_ICMP && protocol !== IPPROTO_ICMPV6) return;
  const first = protocol === IPPROTO_ICMP ? CTA_PROTO_ICMP_ID : CTA_PROTO_ICMPV6_ID;
  writer.be16(first, icmpId ?? 0).u8(first + 1, icmpType ?? 0).u8(first + 2, icmpCode ?? 0);
}
