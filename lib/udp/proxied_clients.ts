/**
 * Clients behind a trusted proxy: who a datagram is really from, by its PROXY protocol header.
 *
 * A proxy may send the header with every datagram, or with a flow's first; then what it told is
 * remembered for its sending socket, for a bounded number of them. Pure.
 *
 * @module
 */
import { parseIp } from "#lib/base/mod.ts";
import { decodeProxyHeader } from "./proxy_protocol.ts";
import { CLIENT_AT, LOCAL_AT, PORTS_AT, TUPLE_WORDS, writeAddress } from "./tuple.ts";

/** Proxies' sockets that are remembered; the oldest are forgotten first. */
export const PROXIED_CLIENTS_MAX = 65_536;
/** {@link ProxiedClients.read}: the datagram is not to be passed on. */
export const PROXY_REFUSED = -1;

/** See the module. */
export class ProxiedClients {
  readonly #told = new Map<string, Uint32Array<ArrayBuffer>>();

  /** How many sockets are remembered. */
  get size(): number {
    return this.#told.size;
  }

  /**
   * Reads who a datagram is from, and writes it over the tuple of who sent it.
   *
   * @returns Bytes of the header, before the payload; or {@link PROXY_REFUSED}.
   */
  read(tuple: Uint32Array, bytes: Uint8Array, offset: number, length: number): number {
    const decoded = decodeProxyHeader(bytes.subarray(offset, offset + length));
    if (decoded.kind === "refused") return PROXY_REFUSED;
    const sender = tuple.join(" ");
    if (decoded.kind === "none") {
      const told = this.#told.get(sender);
      if (told === undefined) return PROXY_REFUSED;
      tuple.set(told);
      return 0;
    }
    if (decoded.source !== undefined && decoded.destination !== undefined) {
      writeEnd(tuple, CLIENT_AT, decoded.source.address);
      writeEnd(tuple, LOCAL_AT, decoded.destination.address);
      const ports = (decoded.source.port << 16) | decoded.destination.port;
      tuple[PORTS_AT] = ports >>> 0;
    }
    this.#remember(sender, tuple);
    return decoded.headerBytes;
  }

  #remember(sender: string, tuple: Uint32Array): void {
    this.#told.delete(sender);
    this.#told.set(sender, tuple.slice(0, TUPLE_WORDS) as Uint32Array<ArrayBuffer>);
    if (this.#told.size <= PROXIED_CLIENTS_MAX) return;
    for (const oldest of this.#told.keys()) {
      this.#told.delete(oldest);
      return;
    }
  }
}

function writeEnd(tuple: Uint32Array, at: number, address: string): void {
  const ip = parseIp(address);
  if (ip !== undefined) writeAddress(tuple, at, ip);
}
