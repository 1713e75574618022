/**
 * What a plane of UDP load balancing can do, whatever carries its datagrams: `UdpPlane` on threads
 * with system calls of their own, or `PortableUdpPlane` on what the runtime has. Pure.
 *
 * @module
 */
import type { BackendState, PrefixLimit, WhenFull } from "./contract.ts";
import type { HealthView } from "./health.ts";
import type { InheritedSource, ListenerInheritance, ReleasedWorker } from "./inherited.ts";
import type { HashKey } from "./keyed_hash.ts";
import type { FlowSnapshot } from "./snapshot.ts";
import type { BackendHealth, PlaneCounters } from "./udp_shell.ts";
import type {
  BackendSettings,
  ClosedFlow,
  ClusterSettings,
  ListenAnswer,
  ListenerSettings,
} from "./worker_messages.ts";

/** A plane. Each order rejects with `UdpOrderError`, or `UdpWorkerGoneError` where it is gone. */
export interface UdpPlanePort {
  /** Told of each flow that ended. */
  onFlow: (flow: ClosedFlow) => void;
  /** Told of flows that ended without being told, too many at once. */
  onUntold: (count: number) => void;
  /** Told of each change of a backend's health. */
  onHealth: (backend: number, isUp: boolean, reason: string) => void;
  /** Told when it cannot go on, once for each thread that died. */
  onGone: (error: Error) => void;
  /** What the operator should know: bounds that were cut. */
  readonly told: readonly string[];
  /** Of the hashing policies: with it a successor chooses the same backends. */
  readonly hashKey: HashKey;
  /** Flows at one time. */
  readonly maxFlows: number;
  /** How many threads there are. */
  readonly workers: number;
  /**
   * Opens a listener, or changes one without losing a flow. `inherited`: what each worker may take
   * over of a predecessor's; the plane owns the descriptors, also where it throws.
   */
  setListener(
    settings: ListenerSettings,
    inherited?: readonly (ListenerInheritance | undefined)[],
  ): Promise<ListenAnswer>;
  /** Closes a listener and ends its flows. */
  removeListener(listener: number): Promise<void>;
  /** Sets a cluster. `inherited`: as of {@link UdpPlanePort.setListener}. */
  setCluster(
    settings: ClusterSettings,
    inherited?: readonly (readonly InheritedSource[] | undefined)[],
  ): Promise<void>;
  /** All flows of a predecessor are here. */
  serveInherited(): Promise<void>;
  /** Forgets a cluster. */
  removeCluster(cluster: number): Promise<void>;
  /** Sets a backend and how its health is found; where nothing is said, it is up. */
  setBackend(settings: BackendSettings, health?: BackendHealth): Promise<void>;
  /** Says how a backend is, against or without its health; `removed` forgets it. */
  setBackendState(backend: number, state: BackendState): Promise<void>;
  /** What is known of a backend's health; `undefined` where nobody looks. */
  healthOf(backend: number): HealthView | undefined;
  /** Bounds flows of each source prefix. */
  setPrefixLimit(limit: PrefixLimit | null): Promise<void>;
  /** Bounds flows, up to what the plane was started with. Throws `RangeError`. */
  setMaxFlows(maxFlows: number, whenFull?: WhenFull): Promise<void>;
  /**
   * Admits nothing new, and resolves when all flows are done: after `afterMs` at the latest, when
   * the rest ends.
   */
  drain(afterMs: number, listener?: number): Promise<void>;
  /** Ends a drain before its time. */
  undrain(listener?: number): Promise<void>;
  /** Live flows. */
  snapshot(): Promise<FlowSnapshot[]>;
  /** The shell's counters, by `SHELL_COUNTER`'s names; 0 for what a plane cannot know. */
  shellCounters(): Readonly<Record<string, number>>;
  /** All counters. */
  counters(): Promise<PlaneCounters>;
  /** Ends all flows and sockets; the second time it does nothing. */
  stop(): Promise<void>;
  /** Ends it, and lets go of what a successor can take over; never rejects. */
  release(): Promise<ReleasedWorker[]>;
}
