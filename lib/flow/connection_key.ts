/**
 * What conntrack says of a connection, in the words of this domain.
 *
 * @module
 */
import type { ConntrackCounters, ConntrackEntry, ConntrackTuple } from "#ffi/mod.ts";
import { ipToBytes, parseIp } from "#lib/base/mod.ts";
import {
  FLOW_KEY_BYTES,
  IP_PROTOCOL,
  KEY_DST_ADDR,
  KEY_DST_PORT,
  KEY_HAS_ECHO_ID,
  KEY_HAS_PORTS,
  KEY_SRC_ADDR,
  KEY_SRC_PORT,
  writePort,
} from "./flow_key.ts";
import type { CloseReason, FlowCounts } from "./record.ts";

const NS_PER_MS = 1_000_000n;

/** Writes the key that packets of this connection have; `false` when its addresses are none. */
export function writeConnectionKey(tuple: ConntrackTuple, out: Uint8Array, at: number): boolean {
  const src = parseIp(tuple.source);
  const dst = parseIp(tuple.destination);
  out.fill(0, at, at + FLOW_KEY_BYTES);
  if (src === undefined || dst === undefined || src.family !== dst.family) return false;
  out[at] = src.family;
  out[at + 1] = tuple.protocol;
  out.set(ipToBytes(src), at + KEY_SRC_ADDR);
  out.set(ipToBytes(dst), at + KEY_DST_ADDR);
  if (tuple.protocol === IP_PROTOCOL.tcp || tuple.protocol === IP_PROTOCOL.udp) {
    out[at + 2] = KEY_HAS_PORTS;
    writePort(out, at + KEY_SRC_PORT, tuple.sourcePort ?? 0);
    writePort(out, at + KEY_DST_PORT, tuple.destinationPort ?? 0);
  } else if (tuple.icmpId !== undefined) {
    out[at + 2] = KEY_HAS_ECHO_ID;
    writePort(out, at + KEY_SRC_PORT, tuple.icmpId);
  }
  return true;
}

/** Whether a connection stays within its host: such traffic is not audited. */
export function isLocalConnection({ source, destination }: ConntrackTuple): boolean {
  return source === destination || source.startsWith("127.") || source === "::1";
}

/** The totals of a connection; zero where accounting is off. */
export function countsOf(entry: ConntrackEntry): FlowCounts {
  const out = entry.originalCounters;
  const back = entry.replyCounters;
  return {
    packetsOut: number(out, "packets"),
    bytesOut: number(out, "bytes"),
    packetsIn: number(back, "packets"),
    bytesIn: number(back, "bytes"),
  };
}

function number(counters: ConntrackCounters | undefined, part: keyof ConntrackCounters): number {
  return Number(counters?.[part] ?? 0n);
}

/** When the connection was opened, ms since 1970; 0 where the kernel does not say. */
export function openedMsOf(entry: ConntrackEntry): number {
  return Number((entry.startedNs ?? 0n) / NS_PER_MS);
}

/** Whether the endpoints have ended it. */
export function isClosing(entry: ConntrackEntry): boolean {
  return entry.tcpState === "timeWait" || entry.tcpState === "close";
}

/** Why a connection is gone. */
export function closeReasonOf(entry: ConntrackEntry): CloseReason {
  return isClosing(entry) ? "closed" : "expired";
}
