/**
 * A socket for the own addresses of one prefix: opened, or a predecessor's taken over.
 *
 * @module
 */
import {
  adoptUdpSourceSocket,
  encodeSockaddr,
  inetSocketAddress,
  openUdpSourceSocket,
  UDP_BATCH,
  type UdpListenerSocket,
  type UdpSendBatch,
} from "#ffi/mod.ts";
import { type Cidr, parseCidr } from "#lib/base/mod.ts";
import type { InheritedSource } from "./inherited.ts";
import { checkIsLocal } from "./source_local_worker.ts";
import { type SourceAddresses, SourcePool } from "./source_pool.ts";
import { TUPLE_WORDS } from "./tuple.ts";
import { WriteQueue } from "./write_queue.ts";

/** Datagrams that one prefix's queue holds. */
export const SOURCE_QUEUE_MAX = 1024;
/** Prefixes that there may be at one time. */
export const SOURCE_PREFIXES_MAX = 16;

/** A backend, as replies are compared with it. */
export interface SourcePeer {
  /** Four words, most significant first. */
  readonly words: Uint32Array;
  readonly port: number;
}

/** How a flow is sent: from an address of this prefix to that backend. */
export interface SourceWay {
  readonly prefix: string;
  readonly peer: SourcePeer;
}

/** An open socket with what waits for it. */
export interface SourceSocket {
  readonly prefix: string;
  readonly parsed: Cidr;
  readonly isTransparent: boolean;
  readonly isV6: boolean;
  readonly opened: UdpListenerSocket;
  readonly pool: SourcePool;
  readonly batch: UdpSendBatch;
  readonly queue: WriteQueue;
  readonly tuples: Uint32Array;
  readonly offsets: Int32Array;
  readonly lengths: Int32Array;
  readonly index: number;
  /** Whether a cluster still asks for it. */
  isWanted: boolean;
  droppedTotal: number;
  /** It was taken over, and is not read yet: see `Sources.serve`. */
  isHeld: boolean;
}

/** Who asks for each prefix. Throws `RangeError` where they are too many. */
export function byPrefix(all: readonly SourceAddresses[]): Map<string, SourceAddresses> {
  const wanted = new Map<string, SourceAddresses>();
  for (const one of all) {
    for (const prefix of [one.ipv4, one.ipv6]) {
      if (prefix !== undefined) wanted.set(prefix, one);
    }
  }
  if (wanted.size > SOURCE_PREFIXES_MAX) {
    throw new RangeError(
      `Cannot use ${wanted.size} source prefixes: want at most ${SOURCE_PREFIXES_MAX}`,
    );
  }
  return wanted;
}

/**
 * Opens a prefix's socket. Throws `RangeError` where the prefix cannot be used.
 *
 * @param inherited Open sockets by their descriptors: the one that is taken over is taken out, and is
 *   closed where it cannot be used.
 */
export function openSource(
  { prefix, isTransparent, maxFlows, batch, index }:
    & Pick<SourceSocket, "prefix" | "isTransparent" | "batch" | "index">
    & { readonly maxFlows: number },
  inherited: Map<number, InheritedSource>,
): SourceSocket {
  const parsed = parseCidr(prefix);
  if (parsed === undefined) {
    throw new RangeError(`Cannot use source addresses of ${JSON.stringify(prefix)}: no prefix`);
  }
  if (!isTransparent) checkIsLocal(parsed);
  const isV6 = parsed.family === 6;
  const found = [...inherited.values()].find((one) =>
    one.prefix === prefix && one.isTransparent === isTransparent
  );
  if (found !== undefined) inherited.delete(found.fd);
  return {
    prefix,
    parsed,
    isTransparent,
    isV6,
    opened: found === undefined ? open(isV6, isTransparent) : adopt(isV6, found),
    pool: new SourcePool(parsed, maxFlows),
    batch,
    queue: new WriteQueue(SOURCE_QUEUE_MAX),
    tuples: new Uint32Array(UDP_BATCH * TUPLE_WORDS),
    offsets: new Int32Array(UDP_BATCH),
    lengths: new Int32Array(UDP_BATCH),
    index,
    isWanted: true,
    droppedTotal: found?.dropped ?? 0,
    isHeld: found !== undefined,
  };
}

function open(isV6: boolean, isTransparent: boolean): UdpListenerSocket {
  const address = encodeSockaddr(inetSocketAddress(isV6 ? "::" : "0.0.0.0", 0));
  return openUdpSourceSocket({ address, isTransparent });
}

function adopt(isV6: boolean, { prefix, fd }: InheritedSource): UdpListenerSocket {
  const adopted = adoptUdpSourceSocket(fd);
  if (adopted.address.family === (isV6 ? "ipv6" : "ipv4")) return adopted;
  adopted.fd.close();
  const reason = `the socket is of ${adopted.address.family}`;
  throw new TypeError(`Cannot use source addresses of ${prefix}: ${reason}`);
}
