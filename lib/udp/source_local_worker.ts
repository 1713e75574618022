/**
 * Whether a prefix's addresses are this host's own, so that replies to them come back here: asked of
 * the kernel, in the namespace of the calling thread.
 *
 * IPv4: both ends of the prefix can be bound to. IPv6, where that needs an address on a link: the
 * routing table has a local route that holds the prefix.
 *
 * @module
 */
import { encodeSockaddr, openUdpListener, SyscallError } from "#ffi/mod.ts";
import { type Cidr, cidr, cidrContains, formatCidr, formatIp, ipFromBytes } from "#lib/base/mod.ts";
import { hostAt, hostRange } from "./source_pool.ts";

/** `RTF_LOCAL` (linux/ipv6_route.h). */
const ROUTE_IS_LOCAL = 0x8000_0000;

/** Throws `RangeError` with what to do where a prefix is not local. */
export function checkIsLocal(prefix: Cidr): void {
  const isLocal = prefix.family === 4 ? canBindEnds(prefix) : isRoutedHere(prefix);
  if (isLocal) return;
  const text = formatCidr(prefix);
  throw new RangeError(
    `Cannot use source addresses of ${text}: the prefix is not local to this host ` +
      `(ip route add local ${text} dev lo), nor is transparent asked for`,
  );
}

function canBindEnds(prefix: Cidr): boolean {
  const { count } = hostRange(prefix);
  return [0, count - 1].every((at) => {
    const address = formatIp(hostAt(prefix, at));
    try {
      openUdpListener({ address: encodeSockaddr({ family: "ipv4", address, port: 0 }) }).fd.close();
      return true;
    } catch (error) {
      if (error instanceof SyscallError && error.code === "EADDRNOTAVAIL") return false;
      throw error;
    }
  });
}

/** Source: `/proc/net/ipv6_route`: destination, its length, five more, the flags, the link. */
function isRoutedHere(prefix: Cidr): boolean {
  const lines = Deno.readTextFileSync("/proc/thread-self/net/ipv6_route").split("\n");
  return lines.some((line) => {
    const fields = line.trim().split(/\s+/);
    const address = fields.length < 10 ? undefined : ipFromBytes(Uint8Array.fromHex(fields[0]));
    if (address === undefined || (parseInt(fields[8], 16) & ROUTE_IS_LOCAL) === 0) return false;
    return cidrContains(cidr(address, parseInt(fields[1], 16)), prefix);
  });
}
