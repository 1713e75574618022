/**
 * Walks the packets of a datagram of nflog in place.
 *
 * For the hot path: one cursor serves every datagram, `next()` moves to the next packet, and
 * the fields say where its parts stand in the bytes; nothing is allocated. It never throws on
 * any bytes. A malformed message is counted and skipped; where even its length is wrong, the
 * rest of the datagram is given up.
 *
 * Source: `linux/netfilter/nfnetlink_log.h`.
 *
 * @module
 */

/** `NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET`. */
const NFULNL_MSG_PACKET = 4 << 8;
const NLMSG_DONE = 3;
const NLMSG_HEADER_BYTES = 16;
/** Where attributes begin: behind `nlmsghdr` and `nfgenmsg`. */
const ATTRIBUTES_OFFSET = 20;

const NFULA_PACKET_HDR = 1;
const NFULA_MARK = 2;
const NFULA_IFINDEX_INDEV = 4;
const NFULA_IFINDEX_OUTDEV = 5;
const NFULA_PAYLOAD = 9;
const NFULA_PREFIX = 10;
const NFULA_UID = 11;
const NFULA_SEQ = 12;
const NFULA_GID = 14;

/** What a numeric field holds when the packet does not have it. */
export const NFLOG_ABSENT: number = -1;

/** A cursor over the packets of one datagram. */
export class NflogCursor {
  /** Packets given by {@link NflogCursor.next} since the cursor was made. */
  packets = 0;
  /** Messages of other types (acknowledgements, errors), since the cursor was made. */
  foreign = 0;
  /** Messages, or ends of datagrams, that could not be read. */
  malformed = 0;

  /** The group that logged the packet. */
  group = 0;
  /** Address family of the hook: 2 IPv4, 10 IPv6. */
  family = 0;
  /** Ethertype, such as 0x0800; {@link NFLOG_ABSENT} without (as all numbers below). */
  hwProtocol: number = NFLOG_ABSENT;
  /** 0 prerouting, 1 input, 2 forward, 3 output, 4 postrouting. */
  hook: number = NFLOG_ABSENT;
  /** Packet mark. */
  mark: number = NFLOG_ABSENT;
  /** Index of the link that it came from. */
  inDevice: number = NFLOG_ABSENT;
  /** Index of the link that it goes to. */
  outDevice: number = NFLOG_ABSENT;
  /** User of the sending socket. */
  uid: number = NFLOG_ABSENT;
  /** Group of the sending socket. */
  gid: number = NFLOG_ABSENT;
  /** Number of the packet within its log group and socket, unsigned 32 bits. */
  sequence: number = NFLOG_ABSENT;
  /** Where the log prefix starts. */
  prefixStart = 0;
  /** Its length in bytes, without the NUL. */
  prefixLength = 0;
  /** Where the packet's network header starts. */
  payloadStart = 0;
  /** Bytes of the packet that were copied; 0 when none. */
  payloadLength = 0;

  #bytes: Uint8Array = new Uint8Array(0);
  #end = 0;
  #next = 0;

  /** Begins a datagram: the first `lengthBytes` of `bytes`. */
  reset(bytes: Uint8Array, lengthBytes: number = bytes.length): void {
    this.#bytes = bytes;
    this.#end = Math.min(lengthBytes, bytes.length);
    this.#next = 0;
  }

  /** Moves to the next packet; `false` at the end of the datagram. */
  next(): boolean {
    const bytes = this.#bytes;
    while (this.#next < this.#end) {
      const at = this.#next;
      const left = this.#end - at;
      const length = left < NLMSG_HEADER_BYTES ? 0 : u32(bytes, at);
      if (length < NLMSG_HEADER_BYTES || length > left) {
        this.malformed += 1;
        this.#next = this.#end;
        return false;
      }
      this.#next = at + ((length + 3) & ~3);
      const type = bytes[at + 4] | bytes[at + 5] << 8;
      if (type === NLMSG_DONE) continue; // ends a batch
      if (type !== NFULNL_MSG_PACKET) this.foreign += 1;
      else if (this.#readPacket(at, at + length)) return true;
      else this.malformed += 1;
    }
    return false;
  }

  #readPacket(at: number, end: number): boolean {
    if (at + ATTRIBUTES_OFFSET > end) return false;
    const bytes = this.#bytes;
    this.#clear();
    this.family = bytes[at + 16];
    this.group = be16(bytes, at + 18);
    let attribute = at + ATTRIBUTES_OFFSET;
    while (attribute + 4 <= end) {
      const sizeBytes = bytes[attribute] | bytes[attribute + 1] << 8;
      if (sizeBytes < 4 || attribute + sizeBytes > end) return false;
      const type = bytes[attribute + 2] | (bytes[attribute + 3] & 0x3f) << 8;
      if (!this.#readAttribute(type, attribute + 4, sizeBytes - 4)) return false;
      attribute += (sizeBytes + 3) & ~3;
    }
    this.packets += 1;
    return true;
  }

  #readAttribute(type: number, start: number, length: number): boolean {
    const bytes = this.#bytes;
    if (type === NFULA_PAYLOAD) {
      this.payloadStart = start;
      this.payloadLength = length;
      return true;
    }
    if (type === NFULA_PREFIX) {
      this.prefixStart = start;
      this.prefixLength = length > 0 && bytes[start + length - 1] === 0 ? length - 1 : length;
      return true;
    }
    if (!isNumber(type)) return true;
    if (length < 4) return false;
    switch (type) {
      case NFULA_SEQ:
        this.sequence = be32(bytes, start);
        break;
      case NFULA_UID:
        this.uid = be32(bytes, start);
        break;
      case NFULA_GID:
        this.gid = be32(bytes, start);
        break;
      case NFULA_MARK:
        this.mark = be32(bytes, start);
        break;
      case NFULA_IFINDEX_INDEV:
        this.inDevice = be32(bytes, start);
        break;
      case NFULA_IFINDEX_OUTDEV:
        this.outDevice = be32(bytes, start);
        break;
      case NFULA_PACKET_HDR:
        this.hwProtocol = be16(bytes, start);
        this.hook = bytes[start + 2];
        break;
    }
    return true;
  }

  #clear(): void {
    this.hwProtocol = NFLOG_ABSENT;
    this.hook = NFLOG_ABSENT;
    this.mark = NFLOG_ABSENT;
    this.inDevice = NFLOG_ABSENT;
    this.outDevice = NFLOG_ABSENT;
    this.uid = NFLOG_ABSENT;
    this.gid = NFLOG_ABSENT;
    this.sequence = NFLOG_ABSENT;
    this.prefixStart = 0;
    this.prefixLength = 0;
    this.payloadStart = 0;
    this.payloadLength = 0;
  }
}

/** Whether it is an attribute of four bytes that the cursor reads. */
function isNumber(type: number): boolean {
  return type === NFULA_PACKET_HDR || type === NFULA_MARK || type === NFULA_IFINDEX_INDEV ||
    type === NFULA_IFINDEX_OUTDEV || type === NFULA_UID || type === NFULA_SEQ || type === NFULA_GID;
}

function be16(bytes: Uint8Array, at: number): number {
  return bytes[at] << 8 | bytes[at + 1];
}

function be32(bytes: Uint8Array, at: number): number {
  return (bytes[at] << 24 | bytes[at + 1] << 16 | bytes[at + 2] << 8 | bytes[at + 3]) >>> 0;
}

function u32(bytes: Uint8Array, at: number): number {
  return (bytes[at + 3] << 24 | bytes[at + 2] << 16 | bytes[at + 1] << 8 | bytes[at]) >>> 0;
}
