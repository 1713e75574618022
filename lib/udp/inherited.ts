/**
 * What a plane of workers leaves to its successor, in this process or in another: open sockets by
 * their descriptors, and the flows that live on them. Pure.
 *
 * All but the descriptors are plain values that JSON can hold. Worker number i of the successor
 * takes over what worker number i had: the kernel spreads clients over the same sockets as before.
 *
 * @module
 */
import type { FlowSnapshot } from "./snapshot.ts";

/** A flow, with what it sends by. */
export interface InheritedFlow extends FlowSnapshot {
  /** Its own socket, connected to its backend. */
  readonly fd?: number;
  /** Where it has an address instead: which of the prefix's, see `source_pool.ts`. */
  readonly source?: { readonly prefix: string; readonly host: number };
  /** Where its replies go, where that is a proxy: nine words, see `tuple.ts`. */
  readonly proxyTuple?: readonly number[];
}

/** A listener's socket. */
export interface InheritedListener {
  /** Its number. */
  readonly listener: number;
  /** The socket. */
  readonly fd: number;
  /** Losses at the socket that were told already; the kernel's count goes on. */
  readonly dropped: number;
}

/** A socket for source addresses. */
export interface InheritedSource {
  /** The prefix, as it was given. */
  readonly prefix: string;
  /** Whether it sends from addresses that are not this host's. */
  readonly isTransparent: boolean;
  /** The socket. */
  readonly fd: number;
  /** As {@link InheritedListener.dropped}. */
  readonly dropped: number;
}

/** All that one worker leaves. Who has it owns the descriptors. */
export interface ReleasedWorker {
  /** Its listeners. */
  readonly listeners: readonly InheritedListener[];
  /** Its sockets for source addresses. */
  readonly sources: readonly InheritedSource[];
  /** Its flows; each `fd` and each of the others is there once. */
  readonly flows: readonly InheritedFlow[];
  /** Datagrams that waited for a full socket or for a backend, and were given up. */
  readonly discarded: number;
}

/** What one worker gets for a listener. */
export interface ListenerInheritance {
  /** The open and bound socket. */
  readonly fd: number;
  /** See {@link InheritedListener.dropped}. */
  readonly dropped: number;
  /** The flows that came in there, with the numbers that listener and backends have here. */
  readonly flows: readonly InheritedFlow[];
  /** Sockets of workers that are no more: what waits in them is read, then they are closed. */
  readonly surplus?: readonly Pick<InheritedListener, "fd" | "dropped">[];
}

/** What a worker leaves that is gone. */
export const NOTHING_RELEASED: ReleasedWorker = {
  listeners: [],
  sources: [],
  flows: [],
  discarded: 0,
};

/** The descriptors of a listener's inheritance. */
export function descriptorsOfListener({ fd, flows, surplus }: ListenerInheritance): number[] {
  return [
    fd,
    ...surplus?.map((one) => one.fd) ?? [],
    ...flows.flatMap((flow) => flow.fd === undefined ? [] : [flow.fd]),
  ];
}
