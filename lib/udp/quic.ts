/**
 * QUIC's connection ids, as far as they can be read from outside: where they are in a packet, which
 * backend they belong to.
 *
 * Two ways lead from an id to a backend. Ids that carry the backend's server id in plaintext after
 * their first octet (the plaintext scheme of QUIC-LB, draft-ietf-quic-load-balancers §4.1) tell it
 * on any worker. Ids that a backend chose itself are learned from its long-header replies, in a
 * table of bounded size. Ids that a backend issues later are encrypted: such a connection is found
 * after a change of address only if it uses plaintext server ids. Headers: RFC 8999 and 9000 §17.
 *
 * @module
 */
import { toHex } from "#lib/base/mod.ts";
import { NO_BACKEND } from "./contract.ts";

/** Longest connection id of QUIC version 1. */
export const CONNECTION_ID_BYTES_MAX = 20;

const LONG_HEADER = 0x80;
const FIXED_BIT = 0x40;
/** First octet, version, length of the first id. */
const LONG_ID_AT = 6;

/** Whether the datagram begins with a long header. */
export function isLongHeader(bytes: Uint8Array, offset: number, length: number): boolean {
  return length > LONG_ID_AT && (bytes[offset] & LONG_HEADER) !== 0;
}

/**
 * Length of the destination connection id, and -1 where the datagram is not QUIC or too short. It
 * begins at {@link connectionIdAt}.
 *
 * @param shortBytes How long ids are in short headers, which do not say.
 */
export function connectionIdLength(
  bytes: Uint8Array,
  offset: number,
  length: number,
  shortBytes: number,
): number {
  if (length === 0) return -1;
  if ((bytes[offset] & LONG_HEADER) !== 0) {
    if (length <= LONG_ID_AT) return -1;
    const idBytes = bytes[offset + LONG_ID_AT - 1];
    return idBytes > CONNECTION_ID_BYTES_MAX || LONG_ID_AT + idBytes > length ? -1 : idBytes;
  }
  if ((bytes[offset] & FIXED_BIT) === 0 || length < 1 + shortBytes) return -1;
  return shortBytes;
}

/** Where the destination connection id begins. */
export function connectionIdAt(bytes: Uint8Array, offset: number): number {
  return offset + ((bytes[offset] & LONG_HEADER) !== 0 ? LONG_ID_AT : 1);
}

/** Which backend a connection id belongs to. */
export class QuicRouter {
  readonly #max: number;
  /** Ids as hexadecimal text; the oldest first. */
  readonly #learned = new Map<string, number>();
  readonly #servers = new Map<string, number>();

  /** @param max Learned ids; the oldest gives way. */
  constructor(max: number) {
    this.#max = max;
  }

  /** Learned ids. */
  get size(): number {
    return this.#learned.size;
  }

  /** Gives a backend its plaintext server id, in place of an earlier one. Null takes it away. */
  setServer(backend: number, serverId: Uint8Array | null): void {
    for (const [id, owner] of this.#servers) if (owner === backend) this.#servers.delete(id);
    if (serverId !== null) this.#servers.set(toHex(serverId), backend);
  }

  /** Learns the source connection id of a backend's long-header datagram. */
  learn(bytes: Uint8Array, offset: number, length: number, backend: number): void {
    const skipped = connectionIdLength(bytes, offset, length, 0);
    if (skipped < 0 || !isLongHeader(bytes, offset, length)) return;
    const lengthAt = offset + LONG_ID_AT + skipped;
    const idBytes = bytes[lengthAt];
    const end = lengthAt + 1 + idBytes;
    if (lengthAt >= offset + length || idBytes === 0 || idBytes > CONNECTION_ID_BYTES_MAX) return;
    if (end > offset + length) return;
    const id = toHex(bytes.subarray(lengthAt + 1, end));
    this.#learned.delete(id);
    this.#learned.set(id, backend);
    if (this.#learned.size <= this.#max) return;
    for (const oldest of this.#learned.keys()) {
      this.#learned.delete(oldest);
      break;
    }
  }

  /** Forgets what was learned of a backend. */
  forget(backend: number): void {
    for (const [id, owner] of this.#learned) if (owner === backend) this.#learned.delete(id);
    this.setServer(backend, null);
  }

  /** The backend of the id at `bytes[at..at+idBytes]`, or {@link NO_BACKEND}. */
  backendOf(bytes: Uint8Array, at: number, idBytes: number, serverIdBytes: number): number {
    if (idBytes <= 0) return NO_BACKEND;
    if (serverIdBytes > 0 && idBytes > serverIdBytes) {
      const server = this.#servers.get(toHex(bytes.subarray(at + 1, at + 1 + serverIdBytes)));
      if (server !== undefined) return server;
    }
    return this.#learned.get(toHex(bytes.subarray(at, at + idBytes))) ?? NO_BACKEND;
  }
}
