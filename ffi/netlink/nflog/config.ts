/**
 * Takes a group of nflog: from then on the socket receives what `log group N` logs in its
 * namespace.
 *
 * One message binds and configures, so no packet is ever logged under other settings. A group has
 * one owner; a second one is told by {@link NflogGroupTakenError}. The kernel acknowledges some
 * values without applying them (a buffer above 128 KiB), so those are refused here.
 *
 * Source: `linux/netfilter/nfnetlink_log.h`.
 *
 * @module
 */
import { AttributeWriter } from "../attribute.ts";
import { type NetlinkConn, NetlinkError } from "../conn.ts";
import type { NetlinkRequest } from "../message.ts";

/** `NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_CONFIG`. */
const NFULNL_MSG_CONFIG = 4 << 8 | 1;
const NFULA_CFG_CMD = 1;
const NFULA_CFG_MODE = 2;
const NFULA_CFG_NLBUFSIZ = 3;
const NFULA_CFG_TIMEOUT = 4;
const NFULA_CFG_QTHRESH = 5;
const NFULA_CFG_FLAGS = 6;
const NFULNL_CFG_CMD_BIND = 1;
const NFULNL_CFG_CMD_UNBIND = 2;
const NFULNL_COPY_PACKET = 2;
const NFULNL_CFG_F_SEQ = 1;

const EPERM = 1;
const EBUSY = 16;
/** A larger buffer is acknowledged and ignored by the kernel. */
const BUFFER_BYTES_MAX = 131_072;

/** How packets of a group are delivered. */
export interface NflogOptions {
  /** 0 to 65535. */
  readonly group: number;
  /** Leading bytes of each packet; 0 means all of it. @default {128} */
  readonly copyRangeBytes?: number;
  /** How long a lone packet may wait for company, in hundredths of a second. @default {1} */
  readonly timeoutCentis?: number;
  /** Packets that are sent together at most. @default {32} */
  readonly queueThreshold?: number;
  /** Bytes that are sent together at most; up to 128 KiB. @default {65536} */
  readonly bufferBytes?: number;
}

/** Another socket owns the group (or this one already). */
export class NflogGroupTakenError extends Error {
  /** The name of the class. */
  override name = "NflogGroupTakenError";
  /** The group. */
  readonly group: number;

  /** Tells a refusal; `options.cause` is the kernel's. */
  constructor(group: number, options: ErrorOptions) {
    super(`Cannot bind nflog group ${group}: it is taken by another socket`, options);
    this.group = group;
  }
}

/**
 * Binds a group to the connection's socket, with sequence numbers on. Throws
 * {@link NflogGroupTakenError}, or `NetlinkError` for another refusal. The kernel tells a taken
 * group as EPERM, as it does a missing CAP_NET_ADMIN. Packets that come meanwhile are in
 * `conn.takePending()`.
 */
export function bindNflogGroup(conn: NetlinkConn, options: NflogOptions): void {
  try {
    conn.request(encodeNflogBind(options));
  } catch (error) {
    const isTaken = error instanceof NetlinkError &&
      (error.errno === EPERM || error.errno === EBUSY);
    throw isTaken ? new NflogGroupTakenError(options.group, { cause: error }) : error;
  }
}

/**
 * Gives a group back. What the kernel still held is delivered before the acknowledgement and so
 * stands in `conn.takePending()`. Read the socket empty first: in a full receive buffer the
 * acknowledgement is lost, which is told as `NetlinkError` (EPROTO) though the group is free.
 */
export function unbindNflogGroup(conn: NetlinkConn, group: number): void {
  conn.request(config(`unbind nflog group ${group}`, group, (writer) => {
    writer.u8(NFULA_CFG_CMD, NFULNL_CFG_CMD_UNBIND);
  }));
}

/** The request of {@link bindNflogGroup}. Throws `RangeError` on a bad option. */
export function encodeNflogBind(options: NflogOptions): NetlinkRequest {
  const {
    group,
    copyRangeBytes = 128,
    timeoutCentis = 1,
    queueThreshold = 32,
    bufferBytes = 65_536,
  } = options;
  if (bufferBytes > BUFFER_BYTES_MAX) {
    throw new RangeError(
      `Cannot use an nflog buffer of ${bufferBytes} bytes: want at most ${BUFFER_BYTES_MAX}`,
    );
  }
  // struct nfulnl_msg_config_mode: be32 range, u8 mode, u8 padding.
  const mode = new Uint8Array(6);
  new DataView(mode.buffer).setUint32(0, copyRangeBytes, false);
  mode[4] = NFULNL_COPY_PACKET;
  return config(`bind nflog group ${group}`, group, (writer) => {
    writer.u8(NFULA_CFG_CMD, NFULNL_CFG_CMD_BIND).bytes(NFULA_CFG_MODE, mode);
    writer.be32(NFULA_CFG_TIMEOUT, timeoutCentis).be32(NFULA_CFG_QTHRESH, queueThreshold);
    writer.be32(NFULA_CFG_NLBUFSIZ, bufferBytes).be16(NFULA_CFG_FLAGS, NFULNL_CFG_F_SEQ);
  });
}

function config(
  what: string,
  group: number,
  write: (writer: AttributeWriter) => void,
): NetlinkRequest {
  if (!Number.isInteger(group) || group < 0 || group > 0xffff) {
    throw new RangeError(`Cannot ${what}: want 0 to 65535`);
  }
  // struct nfgenmsg: any family, version 0, the group in network order.
  const writer = new AttributeWriter(128).header(new Uint8Array([0, 0, group >> 8, group & 0xff]));
  write(writer);
  return { what, type: NFULNL_MSG_CONFIG, flags: 0, body: writer.finish(what) };
}
