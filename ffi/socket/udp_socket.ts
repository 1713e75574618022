/**
 * UDP sockets of a load balancer: where clients send to, one for each flow to its backend, and
 * one that sends from any address (udp(7), ip(7), ipv6(7)).
 *
 * All are non-blocking and close on exec. Addresses are the bytes of `encodeSockaddr`.
 *
 * @module
 */
import { parseIp } from "#lib/base/mod.ts";
import { check, ERRNO } from "../errno.ts";
import { Fd } from "../fd.ts";
import { call, NR, syscall, withScratch } from "../syscall.ts";
import {
  AF,
  decodeSockaddr,
  encodeSockaddr,
  inetSocketAddress,
  SOCKADDR_BYTES_MAX,
  type SocketAddress,
} from "./sockaddr.ts";
import {
  type BufferGrant,
  getOption,
  MTU_DISCOVERY,
  type MtuDiscovery,
  setOption,
  setReceiveBuffer,
  trySetOption,
  UDP_LEVEL,
  UDP_OPTION,
} from "./udp_options.ts";

const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const F_SETFD = 2;
const FD_CLOEXEC = 1;

/** How a listener is opened. */
export interface UdpListenerOptions {
  /** Where to listen, as bytes; port 0 lets the kernel choose. */
  readonly address: Uint8Array;
  /** Several sockets share the address, and the kernel spreads clients over them. @default {false} */
  readonly sharesPort?: boolean;
  /** Room for what is not read yet. @default {4 MiB} */
  readonly receiveBufferBytes?: number;
  /** For an IPv6 address: refuse IPv4 clients. @default {true} */
  readonly isV6Only?: boolean;
  /** The kernel may hand over runs of datagrams of one sender as one. @default {false} */
  readonly takesRuns?: boolean;
  /** What the kernel does about datagrams larger than the path. @default {"want"}, as the kernel */
  readonly mtuDiscovery?: MtuDiscovery;
  /** Each datagram tells where it was sent to; of use for a wildcard address. @default {true} */
  readonly tellsDestination?: boolean;
}

/** An open listener. */
export interface UdpListenerSocket {
  /** The socket; its owner closes it. */
  readonly fd: Fd;
  /** Where it listens, with the port that the kernel chose. */
  readonly address: SocketAddress;
  /** Its receive buffer. */
  readonly receiveBuffer: BufferGrant;
  /** Whether runs come as one; false where the kernel is too old. */
  readonly takesRuns: boolean;
}

/** Room for a burst while the loop is busy elsewhere: at 500 000 datagrams a second, 10 ms. */
export const LISTENER_BUFFER_BYTES: number = 4 * 1024 * 1024;

/** Opens a socket that clients send to; it tells each datagram's own address and its losses. */
export function openUdpListener(options: UdpListenerOptions): UdpListenerSocket {
  using stack = new DisposableStack();
  const family = familyOf(options.address);
  const fd = stack.use(openSocket(family));
  const number = fd.number;
  if (options.sharesPort === true) {
    setOption(number, UDP_LEVEL.socket, UDP_OPTION.SO_REUSEPORT, 1, "SO_REUSEPORT");
  }
  if (family === AF.inet6) {
    const only = options.isV6Only === false ? 0 : 1;
    setOption(number, UDP_LEVEL.ipv6, UDP_OPTION.IPV6_V6ONLY, only, "IPV6_V6ONLY");
  }
  if (options.tellsDestination !== false) tellDestination(number, family);
  setOption(number, UDP_LEVEL.socket, UDP_OPTION.SO_RXQ_OVFL, 1, "SO_RXQ_OVFL");
  if (options.mtuDiscovery !== undefined) setMtuDiscovery(number, family, options.mtuDiscovery);
  const asked = options.receiveBufferBytes ?? LISTENER_BUFFER_BYTES;
  const receiveBuffer = setReceiveBuffer(number, asked);
  const takesRuns = options.takesRuns === true &&
    trySetOption(number, UDP_LEVEL.udp, UDP_OPTION.UDP_GRO, 1) === 0;
  bindSocket(number, options.address);
  if (options.tellsDestination !== false) answerFromAny(number, family);
  const address = localAddress(number);
  stack.move();
  return { fd, address, receiveBuffer, takesRuns };
}

/**
 * Takes over a listener that is open and bound, with all that is queued in it: by the server before,
 * and without close-on-exec where it came through an execve. What may be another now is set again;
 * to refuse IPv4 clients or not stays as it was. Where it fails, the socket is closed.
 *
 * Runs are never turned off: one that is queued already would come as one datagram.
 */
export function adoptUdpListener(
  socket: Fd | number,
  options: Omit<UdpListenerOptions, "address">,
): UdpListenerSocket {
  using stack = new DisposableStack();
  const fd = stack.use(typeof socket === "number" ? new Fd(socket) : socket);
  const number = fd.number;
  const { address, family } = adopt(number);
  if (options.sharesPort === true) {
    // Others may join it, also where it was alone until now.
    setOption(number, UDP_LEVEL.socket, UDP_OPTION.SO_REUSEPORT, 1, "SO_REUSEPORT");
  }
  if (options.tellsDestination !== false) {
    tellDestination(number, family);
    answerFromAny(number, family);
  }
  setOption(number, UDP_LEVEL.socket, UDP_OPTION.SO_RXQ_OVFL, 1, "SO_RXQ_OVFL");
  setMtuDiscovery(number, family, options.mtuDiscovery ?? "want");
  const asked = options.receiveBufferBytes ?? LISTENER_BUFFER_BYTES;
  const receiveBuffer = setReceiveBuffer(number, asked);
  const takesRuns = options.takesRuns === true &&
    trySetOption(number, UDP_LEVEL.udp, UDP_OPTION.UDP_GRO, 1) === 0;
  stack.move();
  return { fd, address, receiveBuffer, takesRuns };
}

/** How a flow's socket is opened. */
export interface UdpFlowSocketOptions {
  /** The one peer; the kernel drops what others send. */
  readonly backend: Uint8Array;
  /** An own address to send from, for more flows than one address has ports. */
  readonly source?: Uint8Array;
  /** Whether runs of datagrams may come as one. */
  readonly takesRuns?: boolean;
  /** What the kernel does about datagrams larger than the path. */
  readonly mtuDiscovery?: MtuDiscovery;
}

/** Opens a socket of one flow. Answers its number, which the caller owns, or `-errno`. */
export function openUdpFlowSocket(options: UdpFlowSocketOptions): number {
  const { backend, source, takesRuns, mtuDiscovery } = options;
  const family = familyOf(backend);
  const fd = syscall(NR.socket, family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return fd;
  let result = 0;
  if (source !== undefined) {
    // The port is chosen by connect, which may reuse it for another backend.
    trySetOption(fd, UDP_LEVEL.ip, UDP_OPTION.IP_BIND_ADDRESS_NO_PORT, 1);
    result = withScratch((arena) => syscall(NR.bind, fd, arena.copy(source), source.length));
  }
  if (result === 0) {
    result = withScratch((arena) => syscall(NR.connect, fd, arena.copy(backend), backend.length));
  }
  if (result < 0) {
    closeUdpSocket(fd);
    return result;
  }
  if (takesRuns === true) trySetOption(fd, UDP_LEVEL.udp, UDP_OPTION.UDP_GRO, 1);
  if (mtuDiscovery !== undefined) setMtuDiscovery(fd, family, mtuDiscovery);
  return fd;
}

/** Closes a socket by its number. */
export function closeUdpSocket(fd: number): void {
  syscall(NR.close, fd);
}

/** How a socket that sends from many addresses is opened. */
export interface UdpSourceSocketOptions {
  /** The wildcard address of the backends' family, with the port that replies come to. */
  readonly address: Uint8Array;
  /** Send from addresses that are not this machine's (needs `CAP_NET_ADMIN`). @default {false} */
  readonly isTransparent?: boolean;
  /** Room for what is not read yet. @default {4 MiB} */
  readonly receiveBufferBytes?: number;
  /** Several workers share the port. Their source addresses must differ. @default {false} */
  readonly sharesPort?: boolean;
}

/**
 * Opens one unconnected socket for all flows, each of which has a source address of its own, given
 * with each datagram. Foreign senders are not kept out by the kernel: the owner compares.
 */
export function openUdpSourceSocket(options: UdpSourceSocketOptions): UdpListenerSocket {
  using stack = new DisposableStack();
  const family = familyOf(options.address);
  const fd = stack.use(openSocket(family));
  const number = fd.number;
  const [level, freeBind, transparent] = family === AF.inet6
    ? [UDP_LEVEL.ipv6, UDP_OPTION.IPV6_FREEBIND, UDP_OPTION.IPV6_TRANSPARENT]
    : [UDP_LEVEL.ip, UDP_OPTION.IP_FREEBIND, UDP_OPTION.IP_TRANSPARENT];
  setOption(number, level, freeBind, 1, "FREEBIND");
  if (options.isTransparent === true) setOption(number, level, transparent, 1, "TRANSPARENT");
  if (options.sharesPort === true) {
    setOption(number, UDP_LEVEL.socket, UDP_OPTION.SO_REUSEPORT, 1, "SO_REUSEPORT");
  }
  tellDestination(number, family);
  setOption(number, UDP_LEVEL.socket, UDP_OPTION.SO_RXQ_OVFL, 1, "SO_RXQ_OVFL");
  tellErrors(number, family);
  const asked = options.receiveBufferBytes ?? LISTENER_BUFFER_BYTES;
  const receiveBuffer = setReceiveBuffer(number, asked);
  bindSocket(number, options.address);
  const address = localAddress(number);
  stack.move();
  return { fd, address, receiveBuffer, takesRuns: false };
}

/**
 * Takes over a socket of {@link openUdpSourceSocket}, with all that is queued in it; as
 * {@link adoptUdpListener}.
 */
export function adoptUdpSourceSocket(
  socket: Fd | number,
  options: Pick<UdpSourceSocketOptions, "receiveBufferBytes"> = {},
): UdpListenerSocket {
  using stack = new DisposableStack();
  const fd = stack.use(typeof socket === "number" ? new Fd(socket) : socket);
  const number = fd.number;
  const { address, family } = adopt(number);
  tellDestination(number, family);
  setOption(number, UDP_LEVEL.socket, UDP_OPTION.SO_RXQ_OVFL, 1, "SO_RXQ_OVFL");
  tellErrors(number, family);
  const asked = options.receiveBufferBytes ?? LISTENER_BUFFER_BYTES;
  const receiveBuffer = setReceiveBuffer(number, asked);
  stack.move();
  return { fd, address, receiveBuffer, takesRuns: false };
}

/**
 * Takes over a socket of {@link openUdpFlowSocket}, with its pending error and all that is queued in
 * it. Answers 0, or `-errno`; the caller owns the number either way.
 */
export function adoptUdpFlowSocket(
  fd: number,
  options: Pick<UdpFlowSocketOptions, "mtuDiscovery"> = {},
): number {
  const result = closeOnExec(fd);
  if (result < 0 || options.mtuDiscovery === undefined) return result;
  const value = MTU_DISCOVERY[options.mtuDiscovery];
  const ip = trySetOption(fd, UDP_LEVEL.ip, UDP_OPTION.IP_MTU_DISCOVER, value);
  const ipv6 = trySetOption(fd, UDP_LEVEL.ipv6, UDP_OPTION.IPV6_MTU_DISCOVER, value);
  // A socket of one family knows nothing of the other's.
  return Math.max(ip, ipv6);
}

/** Asks for what ICMP said about datagrams of an unconnected socket, on its error queue. */
export function tellErrors(fd: number, family: number): void {
  const [level, option] = family === AF.inet6
    ? [UDP_LEVEL.ipv6, UDP_OPTION.IPV6_RECVERR]
    : [UDP_LEVEL.ip, UDP_OPTION.IP_RECVERR];
  setOption(fd, level, option, 1, "RECVERR");
}

/** Address family of an encoded address (`AF_…`). */
export function familyOf(address: Uint8Array): number {
  return address[0] | (address[1] << 8);
}

/** The address that a socket has. */
export function localAddress(fd: number): SocketAddress {
  return withScratch((arena) => {
    const at = arena.alloc(SOCKADDR_BYTES_MAX);
    const size = arena.alloc(4);
    arena.view.setUint32(size, SOCKADDR_BYTES_MAX, true);
    call("getsockname", fd, arena.address(at), arena.address(size));
    const length = arena.view.getUint32(size, true);
    const address = decodeSockaddr(arena.bytes.subarray(at, at + length));
    if (address === undefined) throw new TypeError(`Cannot read the address of socket ${fd}`);
    return address;
  });
}

/**
 * Has the kernel give a listener nothing any more: it is connected to itself, so that none of those
 * who share its address is passed by for it. What is queued in it can be read still. One that cannot
 * be connected goes on to get datagrams.
 */
export function detachUdpListener(fd: number): void {
  const address = localAddress(fd);
  if (!("address" in address)) return;
  const isWildcard = parseIp(address.address)?.bits === 0n;
  const loopback = address.family === "ipv6" ? "::1" : "127.0.0.1";
  const self = encodeSockaddr(
    inetSocketAddress(isWildcard ? loopback : address.address, address.port),
  );
  withScratch((arena) => syscall(NR.connect, fd, arena.copy(self), self.length));
}

/** Address and family of a socket that another one opened; it is closed on exec from now on. */
function adopt(fd: number): { address: SocketAddress; family: number } {
  check(closeOnExec(fd), "fcntl F_SETFD");
  const isDatagram = getOption(fd, UDP_LEVEL.socket, UDP_OPTION.SO_TYPE) === SOCK_DGRAM;
  const address = localAddress(fd);
  const isBound = "port" in address && address.port !== 0;
  if (isDatagram && isBound && address.family === "ipv4") return { address, family: AF.inet };
  if (isDatagram && isBound && address.family === "ipv6") return { address, family: AF.inet6 };
  throw new TypeError(`Cannot adopt descriptor ${fd}: it is no bound UDP socket`);
}

function closeOnExec(fd: number): number {
  return syscall(NR.fcntl, fd, F_SETFD, FD_CLOEXEC);
}

function openSocket(family: number): Fd {
  return new Fd(call("socket", family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

function bindSocket(fd: number, address: Uint8Array): void {
  const result = withScratch((arena) => syscall(NR.bind, fd, arena.copy(address), address.length));
  check(result, `bind ${describe(address)}`);
}

function describe(bytes: Uint8Array): string {
  const address = decodeSockaddr(bytes);
  if (address?.family === "ipv4") return `${address.address}:${address.port}`;
  if (address?.family === "ipv6") return `[${address.address}]:${address.port}`;
  return "an unknown address";
}

function tellDestination(fd: number, family: number): void {
  if (family === AF.inet6) {
    setOption(fd, UDP_LEVEL.ipv6, UDP_OPTION.IPV6_RECVPKTINFO, 1, "IPV6_RECVPKTINFO");
  } else setOption(fd, UDP_LEVEL.ip, UDP_OPTION.IP_PKTINFO, 1, "IP_PKTINFO");
}

/**
 * A bound IPv6 socket may send from an address that is this host's by a local route alone, like every
 * IPv4 socket (`ip_route_output_key` asks the routes, `ip6_datagram_send_ctl` the interfaces).
 * Before the socket is bound, it would let it have an address that is nobody's.
 */
function answerFromAny(fd: number, family: number): void {
  if (family !== AF.inet6) return;
  setOption(fd, UDP_LEVEL.ipv6, UDP_OPTION.IPV6_FREEBIND, 1, "IPV6_FREEBIND");
}

function setMtuDiscovery(fd: number, family: number, wanted: MtuDiscovery): void {
  const value = MTU_DISCOVERY[wanted];
  // An IPv6 socket may have IPv4 peers, whose setting is its own.
  const ip = trySetOption(fd, UDP_LEVEL.ip, UDP_OPTION.IP_MTU_DISCOVER, value);
  if (family === AF.inet6) {
    setOption(fd, UDP_LEVEL.ipv6, UDP_OPTION.IPV6_MTU_DISCOVER, value, "IPV6_MTU_DISCOVER");
  } else check(ip, "setsockopt IP_MTU_DISCOVER");
}

/** Whether an error of opening a flow's socket means that a limit was reached. */
export function isLimitError(errno: number): boolean {
  return errno === ERRNO.EMFILE || errno === ERRNO.ENFILE || errno === ERRNO.ENOBUFS ||
    errno === ERRNO.ENOMEM || errno === ERRNO.EAGAIN;
}
