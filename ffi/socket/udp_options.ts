/**
 * Settings of UDP sockets, by name and with their type (udp(7), ip(7), ipv6(7), socket(7)).
 *
 * @module
 */
import { check, ERRNO } from "../errno.ts";
import { call, NR, syscall, withScratch } from "../syscall.ts";

/** Levels of options and control messages. */
export const UDP_LEVEL = { socket: 1, ip: 0, ipv6: 41, udp: 17 } as const;

/** Option numbers, and types of control messages where both are the same. */
export const UDP_OPTION = {
  SO_REUSEADDR: 2,
  SO_TYPE: 3,
  SO_ERROR: 4,
  SO_SNDBUF: 7,
  SO_RCVBUF: 8,
  SO_REUSEPORT: 15,
  SO_SNDBUFFORCE: 32,
  SO_RCVBUFFORCE: 33,
  SO_RXQ_OVFL: 40,
  SO_MEMINFO: 55,
  IP_PKTINFO: 8,
  IP_MTU_DISCOVER: 10,
  IP_RECVERR: 11,
  IP_FREEBIND: 15,
  IP_TRANSPARENT: 19,
  IP_BIND_ADDRESS_NO_PORT: 24,
  IPV6_MTU_DISCOVER: 23,
  IPV6_RECVERR: 25,
  IPV6_V6ONLY: 26,
  IPV6_RECVPKTINFO: 49,
  IPV6_PKTINFO: 50,
  IPV6_TRANSPARENT: 75,
  IPV6_FREEBIND: 78,
  UDP_SEGMENT: 103,
  UDP_GRO: 104,
} as const;

/** What the kernel does about datagrams larger than the path (`IP_PMTUDISC_…`). */
export const MTU_DISCOVERY = { dont: 0, want: 1, do: 2, probe: 3 } as const;

/** See {@link MTU_DISCOVERY}. */
export type MtuDiscovery = keyof typeof MTU_DISCOVERY;

/** Sets an integer option; answers `0` or `-errno`. */
export function trySetOption(fd: number, level: number, option: number, value: number): number {
  return withScratch((arena) => {
    const at = arena.alloc(4);
    arena.view.setInt32(at, value, true);
    return syscall(NR.setsockopt, fd, level, option, arena.address(at), 4);
  });
}

/** Sets an integer option. Throws `SyscallError`. */
export function setOption(
  fd: number,
  level: number,
  option: number,
  value: number,
  what: string,
): void {
  check(trySetOption(fd, level, option, value), `setsockopt ${what}`);
}

/** Reads an integer option. Throws `SyscallError`. */
export function getOption(fd: number, level: number, option: number): number {
  return withScratch((arena) => {
    const value = arena.alloc(4);
    const size = arena.alloc(4);
    arena.view.setUint32(size, 4, true);
    call("getsockopt", fd, level, option, arena.address(value), arena.address(size));
    return arena.view.getInt32(value, true);
  });
}

/** Place of the drops among the numbers of `SO_MEMINFO` (SK_MEMINFO_DROPS), and how many there are. */
const MEMINFO_DROPS = 8;
const MEMINFO_NUMBERS = 9;

/** Datagrams that the kernel dropped at a socket so far, its receive buffer being full. */
export function socketDrops(fd: number): number {
  return withScratch((arena) => {
    const numbers = arena.alloc(4 * MEMINFO_NUMBERS);
    const size = arena.alloc(4);
    arena.view.setUint32(size, 4 * MEMINFO_NUMBERS, true);
    arena.view.setUint32(numbers + 4 * MEMINFO_DROPS, 0, true);
    const { socket } = UDP_LEVEL;
    const at = [arena.address(numbers), arena.address(size)] as const;
    // A kernel that does not tell has none to tell.
    if (syscall(NR.getsockopt, fd, socket, UDP_OPTION.SO_MEMINFO, ...at) < 0) return 0;
    return arena.view.getUint32(numbers + 4 * MEMINFO_DROPS, true);
  });
}

/**
 * Takes a socket's pending error, and clears it.
 *
 * @returns A positive error number, such as that of `ECONNREFUSED` after an ICMP message; else 0.
 */
export function takeSocketError(fd: number): number {
  return getOption(fd, UDP_LEVEL.socket, UDP_OPTION.SO_ERROR);
}

/** What a receive buffer was asked to be and is, in bytes of payload and overhead. */
export interface BufferGrant {
  /** What was asked for. */
  readonly askedBytes: number;
  /** What the kernel grants. */
  readonly grantedBytes: number;
}

/**
 * Sets the receive buffer: past the system's limit where this process may, else up to it. The
 * answer tells the shortfall.
 */
export function setReceiveBuffer(fd: number, askedBytes: number): BufferGrant {
  const { socket } = UDP_LEVEL;
  const forced = trySetOption(fd, socket, UDP_OPTION.SO_RCVBUFFORCE, askedBytes);
  if (forced === -ERRNO.EPERM) {
    setOption(fd, socket, UDP_OPTION.SO_RCVBUF, askedBytes, "SO_RCVBUF");
  } else {
    check(forced, "setsockopt SO_RCVBUFFORCE");
  }
  // The kernel doubles what it is told, for its own overhead, and tells the double.
  const grantedBytes = Math.floor(getOption(fd, socket, UDP_OPTION.SO_RCVBUF) / 2);
  return { askedBytes, grantedBytes };
}
