/**
 * What the flow worker and its owner say to each other.
 *
 * Records go one way, in transferred batches; the owner says by a shared counter how many it has
 * dealt with, so that a slow owner stops the worker's reading rather than filling memory: the
 * kernel's socket buffer is then the only queue, and its losses are counted.
 *
 * @module
 */
import type { FlowListenerStats } from "./stats.ts";

/** The name that makes a loaded copy of the program the flow worker. */
export const FLOW_WORKER_NAME = "celld-flow";
/** Batches on their way to the owner before the worker stops reading. */
export const BATCHES_OUTSTANDING_MAX = 64;

/** A cell to listen to. */
export interface WatchOrder {
  /** The number that its records carry, 0 to 2^32-1; not watched already. */
  readonly cell: number;
  /** Descriptor of its network namespace; only used while the order is carried out. */
  readonly netnsFd: number;
  /** The nflog group that its ruleset logs to. */
  readonly group: number;
  /** Whether ends of connections are told too; needs accounting switched on in the namespace. */
  readonly conntrack: boolean;
  /** Asks for accepted flows to be told by a program in the kernel, where that allows it. */
  readonly programs?: ProgramsOrder;
  /** Packed keys of flows that another listener told of and not the end; with `conntrack`. */
  readonly knownOpen?: readonly Uint8Array[];
}

/** What the flow program needs to know. */
export interface ProgramsOrder {
  /** Descriptor of the cell's cgroup in v2; only used while the order is carried out. */
  readonly cgroupFd: number;
  /** The rules that mark what they accept, the first with mark 1. */
  readonly acceptRefs: readonly string[];
}

/** What came of a {@link WatchOrder}. */
export interface WatchAnswer {
  /** Why no program tells of accepted flows, though that was asked for; absent otherwise. */
  readonly programsRefused?: string;
}

/** What of starting to listen failed. */
export type ListenStep = "netns" | "bind" | "conntrack" | "watch";

/** A failure as it crosses threads. */
export interface WireFailure {
  readonly step: ListenStep | "unwatch" | "worker";
  /** Kernel name of the error (`EPERM`), or the error's name where it is none of the kernel's. */
  readonly code: string;
  readonly message: string;
}

/** Owner to worker. */
export type FlowWorkerOrder =
  | { readonly kind: "start"; readonly handled: Int32Array<SharedArrayBuffer> }
  | { readonly kind: "watch"; readonly id: number; readonly order: WatchOrder }
  | { readonly kind: "unwatch"; readonly id: number; readonly cell: number }
  | { readonly kind: "pause"; readonly ms: number }
  | { readonly kind: "stop" };

/** Worker to owner. */
export type FlowWorkerMessage =
  | { readonly kind: "ready" }
  | {
    readonly kind: "done";
    readonly id: number;
    readonly stats?: FlowListenerStats;
    readonly watch?: WatchAnswer;
  }
  | { readonly kind: "failed"; readonly id: number; readonly failure: WireFailure }
  /** `newPrefixes` follow those of the batches before. */
  | {
    readonly kind: "batch";
    readonly records: Uint8Array<ArrayBuffer>;
    readonly newPrefixes: readonly string[];
  }
  /** A listener's socket broke; it is closed. */
  | { readonly kind: "broken"; readonly cell: number; readonly failure: WireFailure }
  | { readonly kind: "stopped" };
