/**
 * What the tests of this folder share: namespaces with `lo` up, and sockets to send from.
 *
 * @module
 */
import { call, createNetns, ERRNO, Fd, NR, syscall, withNetns, withScratch } from "#ffi/mod.ts";
import { NetlinkConn, setLinkUp } from "#ffi/netlink/mod.ts";
import { encodeSockaddr, inetSocketAddress } from "#ffi/socket/mod.ts";

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;

/** A fresh namespace whose `lo` is up. */
export function netnsWithLoopback(): Fd {
  const netns = createNetns();
  withNetns(netns, () => {
    using route = NetlinkConn.open("route");
    setLinkUp(route, 1);
  });
  return netns;
}

/** A socket made in a namespace. */
export function socketIn(
  netns: Fd,
  kind: "tcp4" | "tcp6" | "udp4" | "udp6",
): Fd {
  const family = kind.endsWith("4") ? AF_INET : AF_INET6;
  const type = kind.startsWith("tcp") ? SOCK_STREAM : SOCK_DGRAM;
  return withNetns(netns, () => new Fd(call("socket", family, type | SOCK_CLOEXEC, 0)));
}

/** Binds, and for TCP listens. */
export function bindSocket(socket: Fd, address: string, port: number, isListening = false): void {
  withScratch((arena) => {
    const bytes = encodeSockaddr(inetSocketAddress(address, port));
    call("bind", socket.number, arena.copy(bytes), bytes.length);
  });
  if (isListening) call("listen", socket.number, 8);
}

/** Sends one datagram; returns 0 or the error's name, such as `EPERM`. */
export function sendTo(socket: Fd, address: string, port: number, sizeBytes = 8): string | 0 {
  return withScratch((arena) => {
    const to = encodeSockaddr(inetSocketAddress(address, port));
    const data = arena.alloc(sizeBytes);
    const result = syscall(
      NR.sendto,
      socket.number,
      arena.address(data),
      sizeBytes,
      0,
      arena.copy(to),
      to.length,
    );
    return result < 0 ? nameOf(-result) : 0;
  });
}

/** Connects; returns 0 or the error's name. */
export function connectTo(socket: Fd, address: string, port: number): string | 0 {
  return withScratch((arena) => {
    const to = encodeSockaddr(inetSocketAddress(address, port));
    const result = syscall(NR.connect, socket.number, arena.copy(to), to.length);
    return result < 0 ? nameOf(-result) : 0;
  });
}

function nameOf(errno: number): string {
  return Object.entries(ERRNO).find(([, number]) => number === errno)?.[0] ?? `E${errno}`;
}
