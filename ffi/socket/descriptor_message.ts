/**
 * One message with descriptors, to and from a Unix socket that keeps messages whole (unix(7),
 * `SCM_RIGHTS`, cmsg(3)).
 *
 * What is received closes on exec. Descriptors of a message that did not come whole are closed:
 * the kernel cuts it where it is longer than there is room for, or where this process may have no
 * more descriptors.
 *
 * @module
 */
import { Arena } from "../arena.ts";
import { check, ERRNO } from "../errno.ts";
import { Fd } from "../fd.ts";
import { NR, syscall } from "../syscall.ts";

/** The most descriptors of one message (`SCM_MAX_FD`). */
export const DESCRIPTORS_MAX = 253;
/** The most bytes of one message. */
export const MESSAGE_BYTES_MAX: number = 64 * 1024;

const MSG_CTRUNC = 0x8;
const MSG_TRUNC = 0x20;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x4000_0000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const CMSG_HEADER_BYTES = 16;
/** `struct msghdr`: its size, and where its fields are. */
const MSGHDR = { bytes: 56, iov: 16, iovLength: 24, control: 32, controlLength: 40, flags: 48 };
const IOVEC_BYTES = 16;
const CONTROL_BYTES = align(CMSG_HEADER_BYTES + 4 * DESCRIPTORS_MAX);

/** A message that cannot be sent, or that did not come whole. */
export class DescriptorMessageError extends Error {
  /** The class's name. */
  override name = "DescriptorMessageError";
  /** A word for programs: the payload's length, the descriptors' number, or cut by the kernel. */
  readonly reason: "payload" | "descriptors" | "truncated";

  /** Says what was wanted, and why it cannot be. */
  constructor(reason: DescriptorMessageError["reason"], message: string) {
    super(message);
    this.reason = reason;
  }
}

/** A received message; the caller owns its descriptors. */
export interface DescriptorMessage {
  /** Its bytes: a copy. */
  readonly payload: Uint8Array<ArrayBuffer>;
  /** Its descriptors in the sender's order. */
  readonly fds: Fd[];
}

/** Memory of one call at a time, of this thread. */
interface Room {
  readonly arena: Arena;
  readonly header: number;
  readonly iovec: number;
  readonly control: number;
  readonly payload: number;
}

let threadRoom: Room | undefined;

/** Only a thread that sends or receives has one. */
function roomOfThread(): Room {
  if (threadRoom !== undefined) return threadRoom;
  const arena = new Arena(MESSAGE_BYTES_MAX + 4096);
  threadRoom = {
    arena,
    header: arena.alloc(MSGHDR.bytes),
    iovec: arena.alloc(IOVEC_BYTES),
    control: arena.alloc(CONTROL_BYTES),
    payload: arena.alloc(MESSAGE_BYTES_MAX),
  };
  return threadRoom;
}

/**
 * Sends a message; false where the socket has no room now. The descriptors stay the caller's.
 * Throws {@link DescriptorMessageError} before the kernel is asked, or `SyscallError`: `EPIPE`
 * where the peer is gone, without a signal.
 */
export function sendDescriptors(
  fd: Fd,
  payload: Uint8Array,
  descriptors: readonly number[],
): boolean {
  checkSize(payload.length, descriptors.length);
  const room = roomOfThread();
  room.arena.bytes.set(payload, room.payload);
  writeHeader(room, payload.length, writeControl(room, descriptors));
  const result = enter("sendmsg", fd, room, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (result === -ERRNO.EAGAIN!) return false;
  check(result, "sendmsg");
  return true;
}

/**
 * Takes the next message; `"closed"` where the peer is gone and all of its messages were taken.
 * Throws {@link DescriptorMessageError} for a message that was cut, after its descriptors were
 * closed; the next call takes the next message.
 */
export function receiveDescriptors(fd: Fd): DescriptorMessage | "empty" | "closed" {
  const room = roomOfThread();
  writeHeader(room, MESSAGE_BYTES_MAX, CONTROL_BYTES);
  const result = enter("recvmsg", fd, room, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (result === -ERRNO.EAGAIN!) return "empty";
  const size = check(result, "recvmsg");
  const fds = readControl(room);
  const flags = room.arena.view.getUint32(room.header + MSGHDR.flags, true);
  const isCut = (flags & (MSG_TRUNC | MSG_CTRUNC)) !== 0;
  if (size > 0 && !isCut) {
    return { payload: room.arena.bytes.slice(room.payload, room.payload + size), fds };
  }
  for (const one of fds) one.close();
  // Nobody sends an empty message here: it is the end, or as good as that.
  if (size === 0) return "closed";
  const part = (flags & MSG_TRUNC) !== 0 ? "payload" : "list of descriptors";
  throw new DescriptorMessageError("truncated", `Cannot receive a message: its ${part} was cut`);
}

function checkSize(payloadBytes: number, descriptors: number): void {
  if (payloadBytes < 1 || payloadBytes > MESSAGE_BYTES_MAX) {
    throw new DescriptorMessageError(
      "payload",
      `Cannot send a message of ${payloadBytes} bytes: want 1 to ${MESSAGE_BYTES_MAX}`,
    );
  }
  if (descriptors > DESCRIPTORS_MAX) {
    throw new DescriptorMessageError(
      "descriptors",
      `Cannot send ${descriptors} descriptors in a message: want at most ${DESCRIPTORS_MAX}`,
    );
  }
}

/** Enters the kernel, past a signal, and past one word that the peer closed without reading all. */
function enter(
  name: "sendmsg" | "recvmsg",
  fd: Fd,
  { arena, header }: Room,
  flags: number,
): number {
  let wasReset = false;
  for (;;) {
    const result = syscall(NR[name], fd.number, arena.address(header), flags);
    if (result === -ERRNO.EINTR!) continue;
    // It comes before the messages that are there, once: they, or the end, come after it.
    if (result !== -ERRNO.ECONNRESET! || wasReset) return result;
    wasReset = true;
  }
}

/** The kernel writes over what it used: a header is for one call. */
function writeHeader(room: Room, payloadBytes: number, controlBytes: number): void {
  const { arena, header, iovec } = room;
  const { view } = arena;
  arena.bytes.fill(0, header, header + MSGHDR.bytes);
  view.setBigUint64(iovec, arena.address(room.payload), true);
  view.setBigUint64(iovec + 8, BigInt(payloadBytes), true);
  view.setBigUint64(header + MSGHDR.iov, arena.address(iovec), true);
  view.setBigUint64(header + MSGHDR.iovLength, 1n, true);
  view.setBigUint64(header + MSGHDR.control, arena.address(room.control), true);
  view.setBigUint64(header + MSGHDR.controlLength, BigInt(controlBytes), true);
}

/** Bytes of the control message; none without descriptors. */
function writeControl({ arena, control }: Room, descriptors: readonly number[]): number {
  if (descriptors.length === 0) return 0;
  const { view } = arena;
  const sizeBytes = CMSG_HEADER_BYTES + 4 * descriptors.length;
  view.setBigUint64(control, BigInt(sizeBytes), true);
  view.setInt32(control + 8, SOL_SOCKET, true);
  view.setInt32(control + 12, SCM_RIGHTS, true);
  descriptors.forEach((number, at) => {
    view.setInt32(control + CMSG_HEADER_BYTES + 4 * at, number, true);
  });
  return align(sizeBytes);
}

function readControl({ arena, header, control }: Room): Fd[] {
  const { view } = arena;
  const fds: Fd[] = [];
  const end = control + view.getUint32(header + MSGHDR.controlLength, true);
  for (let at = control; at + CMSG_HEADER_BYTES <= end;) {
    const sizeBytes = view.getUint32(at, true);
    if (sizeBytes < CMSG_HEADER_BYTES) break;
    const isRights = view.getInt32(at + 8, true) === SOL_SOCKET &&
      view.getInt32(at + 12, true) === SCM_RIGHTS;
    for (let one = at + CMSG_HEADER_BYTES; isRights && one + 4 <= at + sizeBytes; one += 4) {
      fds.push(new Fd(view.getInt32(one, true)));
    }
    at += align(sizeBytes);
  }
  return fds;
}

/** Control messages begin at words of eight bytes. */
function align(sizeBytes: number): number {
  return Math.ceil(sizeBytes / 8) * 8;
}
