/**
 * Socket addresses as bytes: IPv4, IPv6, Unix, netlink.
 *
 * Pure. Encoding a value that cannot be one throws `TypeError` or `RangeError`; decoding never
 * throws: bytes that are no address are `undefined`.
 *
 * Source: `linux/in.h`, `linux/in6.h`, unix(7), netlink(7).
 *
 * @module
 */
import { formatIpBytes, ipToBytes, parseIp } from "#lib/base/mod.ts";

/** Address families (`AF_…`). */
export const AF = { unix: 1, inet: 2, inet6: 10, netlink: 16 } as const;

/** The longest Unix path (`sun_path`), with its NUL where there is one. */
const UNIX_PATH_BYTES_MAX = 108;
/** Bytes of the longest socket address here, for the buffer of a receiving call. */
export const SOCKADDR_BYTES_MAX = 112;

/** A socket address. */
export type SocketAddress =
  | { readonly family: "ipv4"; readonly address: string; readonly port: number }
  | {
    readonly family: "ipv6";
    readonly address: string;
    readonly port: number;
    /** Index of the link, for link-local addresses; else 0. */
    readonly scopeId?: number;
    /** @default {0} */
    readonly flowInfo?: number;
  }
  /** A path; one that starts with NUL is an abstract name; empty is a socket without a name. */
  | { readonly family: "unix"; readonly path: string }
  /** Port 0 is the kernel; `groups` is a mask of multicast groups. */
  | { readonly family: "netlink"; readonly port: number; readonly groups: number };

/** The bytes of an address, as `bind` and `connect` take them. */
export function encodeSockaddr(address: SocketAddress): Uint8Array<ArrayBuffer> {
  switch (address.family) {
    case "ipv4":
    case "ipv6":
      return encodeInet(address);
    case "unix":
      return encodeUnix(address.path);
    case "netlink": {
      const bytes = new Uint8Array(12);
      const view = new DataView(bytes.buffer);
      view.setUint16(0, AF.netlink, true);
      view.setUint32(4, address.port, true);
      view.setUint32(8, address.groups, true);
      return bytes;
    }
  }
}

/** The address of an internet socket from text of either family. Throws `TypeError`. */
export function inetSocketAddress(address: string, port: number): SocketAddress {
  const ip = parseIp(address);
  if (ip === undefined) throw new TypeError(`Cannot use ${JSON.stringify(address)}: no address`);
  return { family: ip.family === 4 ? "ipv4" : "ipv6", address, port };
}

/** Decodes what the kernel wrote; `undefined` when it is cut short or of another family. */
export function decodeSockaddr(bytes: Uint8Array): SocketAddress | undefined {
  if (bytes.length < 2) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  switch (view.getUint16(0, true)) {
    case AF.inet:
      if (bytes.length < 8) return undefined;
      return {
        family: "ipv4",
        address: formatIpBytes(bytes.subarray(4, 8)),
        port: view.getUint16(2, false),
      };
    case AF.inet6:
      if (bytes.length < 28) return undefined;
      return {
        family: "ipv6",
        address: formatIpBytes(bytes.subarray(8, 24)),
        port: view.getUint16(2, false),
        scopeId: view.getUint32(24, true),
        flowInfo: view.getUint32(4, false),
      };
    case AF.unix:
      return { family: "unix", path: decodeUnixPath(bytes.subarray(2)) };
    case AF.netlink:
      if (bytes.length < 12) return undefined;
      return {
        family: "netlink",
        port: view.getUint32(4, true),
        groups: view.getUint32(8, true),
      };
    default:
      return undefined;
  }
}

function encodeInet(
  address: Extract<SocketAddress, { family: "ipv4" | "ipv6" }>,
): Uint8Array<ArrayBuffer> {
  const ip = parseIp(address.address);
  const isIpv4 = address.family === "ipv4";
  if (ip === undefined || (ip.family === 4) !== isIpv4) {
    throw new TypeError(`Cannot use ${JSON.stringify(address.address)} as ${address.family}`);
  }
  const { port } = address;
  if (!Number.isInteger(port) || port < 0 || port > 0xffff) {
    throw new RangeError(`Cannot use port ${port}: want 0 to 65535`);
  }
  const bytes = new Uint8Array(isIpv4 ? 16 : 28);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, isIpv4 ? AF.inet : AF.inet6, true);
  view.setUint16(2, port, false);
  bytes.set(ipToBytes(ip), isIpv4 ? 4 : 8);
  if (address.family === "ipv6") {
    view.setUint32(4, address.flowInfo ?? 0, false);
    view.setUint32(24, address.scopeId ?? 0, true);
  }
  return bytes;
}

function encodeUnix(path: string): Uint8Array<ArrayBuffer> {
  const isAbstract = path.startsWith("\0");
  if (!isAbstract && path.includes("\0")) {
    throw new TypeError(`Cannot use path ${JSON.stringify(path)}: it holds a NUL`);
  }
  const encoded = new TextEncoder().encode(path);
  // A path ends with a NUL; an abstract name is as long as the address says.
  const sizeBytes = encoded.length + (isAbstract || path === "" ? 0 : 1);
  if (sizeBytes > UNIX_PATH_BYTES_MAX) {
    throw new RangeError(
      `Cannot use path ${JSON.stringify(path)}: want at most ${UNIX_PATH_BYTES_MAX - 1} bytes`,
    );
  }
  const bytes = new Uint8Array(2 + sizeBytes);
  new DataView(bytes.buffer).setUint16(0, AF.unix, true);
  bytes.set(encoded, 2);
  return bytes;
}

function decodeUnixPath(bytes: Uint8Array): string {
  const isAbstract = bytes.length > 0 && bytes[0] === 0;
  const nul = isAbstract ? -1 : bytes.indexOf(0);
  const text = new TextDecoder("utf-8", { ignoreBOM: true });
  return text.decode(nul < 0 ? bytes : bytes.subarray(0, nul));
}
