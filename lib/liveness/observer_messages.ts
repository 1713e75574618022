/**
 * What the observer worker and its owner say to each other.
 *
 * Events go one way, in transferred batches of JSON. The owner says by a shared counter how many it has
 * dealt with. A slow owner does not stop the receiving of beats: stalls stay due in the tracker until
 * there is room for them, and what has no room at all is counted as lost, and told.
 *
 * @module
 */
import type { AgentRow } from "./agent_directory.ts";
import type { UidRange } from "./listener.ts";
import type { CounterTable } from "./observer_counters.ts";
import type { ObserverOptions } from "./observer_options.ts";
import type { ExpectedAgent } from "./thresholds.ts";

/** The name that makes a loaded copy of the program the observer worker. */
export const OBSERVER_WORKER_NAME = "celld-observer";
/** Batches on their way to the owner before stalls wait in the tracker. */
export const BATCHES_OUTSTANDING_MAX = 16;
/** Events kept for an owner that is behind; more are counted as lost. */
export const EVENTS_WAITING_MAX = 65_536;
/** Numbers of one beat in a batch of beats: time, pid, status, nonce (2), payload, origin. */
export const BEAT_FIELDS = 7;

/** The host's own socket. */
export interface HostSocketOptions {
  /** Where it is. */
  readonly path: string;
  /** Permission bits. @default {0o600} */
  readonly mode?: number;
  /** Users besides our own that may send. */
  readonly allowedUids?: readonly number[];
  /** Whether systemd's notifications are taken as well. @default {true} */
  readonly takesNotifications?: boolean;
  /** Bytes of the receive buffer; 0 leaves the kernel's. */
  readonly receiveBufferBytes?: number;
  /** Datagrams that may wait. */
  readonly queueLength?: number;
}

/** A UDP socket. Without keys everything that comes is believed to be what it says: unverified. */
export interface UdpOptions {
  /** Where to listen. */
  readonly address: string;
  /** 0 lets the kernel choose. */
  readonly port: number;
  /** Keys of 32 bytes; with any, only sealed frames are taken. */
  readonly sharedKeys?: readonly Uint8Array[];
  /** The key from which each agent's own is derived. */
  readonly masterKey?: Uint8Array;
  /** The operator vouches for the network: stalls of its agents may lead to recovery. */
  readonly allowsRecovery?: boolean;
}

/** How the observer is started. */
export interface LivenessOptions extends Omit<ObserverOptions, "nsInode" | "pidMax"> {
  /** The host's socket; without it only cells' sockets are served. */
  readonly socket?: HostSocketOptions;
  /** A UDP socket as well. */
  readonly udp?: UdpOptions;
  /** Descriptors of agents that are held; beyond it an exit is not told at once. */
  readonly pidfdsMax?: number;
  /** `boottime` goes on while the machine is suspended. @default {"monotonic"} */
  readonly clock?: "monotonic" | "boottime";
  /** Rounds of the loop that take longer are counted, in milliseconds. @default {250} */
  readonly iterationBudgetMs?: number;
  /** Whether each beat is told, in packed batches. @default {false} */
  readonly tellsBeats?: boolean;
}

/** A socket for a cell's own processes. */
export interface CellSocketOrder {
  /** The cell; not one that has a socket already. */
  readonly cellId: string;
  /** Where the socket is on the host; the cell gets it mounted. */
  readonly path: string;
  /** Who may send, as the host numbers them. */
  readonly uids: readonly UidRange[];
  /** Who owns the socket, as the host numbers them. */
  readonly owner?: { readonly uid: number; readonly gid: number };
  /** Permission bits. @default {0o600} */
  readonly mode?: number;
  /** Labels that its agents get. */
  readonly labels?: Readonly<Record<string, string>>;
  /** Silence that makes a stall for its agents, in nanoseconds; by the rules unless told. */
  readonly thresholdNs?: number;
  /** An agent that must come, `withinNs` from now. */
  readonly expected?: ExpectedAgent;
}

/** What is known once a socket is bound. */
export interface SocketFacts {
  /** Whether each datagram brings a descriptor of its sender. */
  readonly hasPidfds: boolean;
  /** Bytes of the receive buffer; 0 where they could not be set. */
  readonly receiveBufferBytes: number;
  /** Datagrams that may wait; absent where the kernel does not say. */
  readonly queueLength?: number;
  /** Whether the queue is shorter than what was asked for. */
  readonly isQueueLow: boolean;
  /** Whether the directory could be written out; counted where not. */
  readonly isParentSynced: boolean;
}

/** What is known once the observer runs. */
export interface ObserverFacts {
  /** The host's socket. */
  readonly socket?: SocketFacts;
  /** Port of the UDP socket. */
  readonly udpPort?: number;
  /** Wall time of the observer's time 0, milliseconds. */
  readonly startedAtMs: number;
  /** `CLOCK_MONOTONIC` at the observer's time 0, nanoseconds. */
  readonly startedAtMonotonicNs: number;
  /** Inode of its pid namespace; 0 where unknown. */
  readonly nsInode: number;
  /** Descriptors of agents that are held at most. */
  readonly pidfdsMax: number;
}

/** Owner to worker. */
export type ObserverOrder =
  | {
    readonly kind: "start";
    readonly options: LivenessOptions;
    readonly handled: Int32Array<SharedArrayBuffer>;
  }
  | { readonly kind: "addCell"; readonly id: number; readonly order: CellSocketOrder }
  | { readonly kind: "removeCell"; readonly id: number; readonly cellId: string }
  | { readonly kind: "agents"; readonly id: number }
  | { readonly kind: "counters"; readonly id: number }
  | { readonly kind: "stop" };

/** An answer to an order with an id. */
export interface ObserverAnswer {
  readonly socket?: SocketFacts;
  readonly agents?: readonly AgentRow[];
  readonly counters?: CounterTable;
}

/** Worker to owner. */
export type ObserverMessage =
  | { readonly kind: "loaded" }
  | { readonly kind: "ready"; readonly facts: ObserverFacts }
  | { readonly kind: "refused"; readonly code: string; readonly message: string }
  | { readonly kind: "done"; readonly id: number; readonly answer: ObserverAnswer }
  | {
    readonly kind: "failed";
    readonly id: number;
    readonly code: string;
    readonly message: string;
  }
  /** Events as a JSON array; `lost` events had no room since the start. */
  | { readonly kind: "events"; readonly json: Uint8Array<ArrayBuffer>; readonly lost: number }
  | { readonly kind: "beats"; readonly beats: Float64Array<ArrayBuffer> }
  /** A socket broke; it is closed. */
  | { readonly kind: "broken"; readonly cellId?: string; readonly message: string }
  | { readonly kind: "stopped" };
