/**
 * What the API asks of a celld about the UDP load balancer: `udp` of the `ControlPlane`.
 *
 * @module
 */
import type { Refusal } from "./ports.ts";

/** The two things that have names. */
export type UdpKind = "listener" | "cluster";

/** A listener as the API shows it. */
export interface UdpListenerRecord {
  /** Unique among its kind. */
  readonly name: string;
  /** Where it really listens: `10.0.0.1:53`. */
  readonly address: string;
  /** Name of its cluster; null: nowhere to go. */
  readonly cluster: string | null;
  /** `ready`, `draining`, or why it does not listen. */
  readonly status: string;
  /** Live flows. */
  readonly flows: number;
  /** Totals since it began, by name: `datagramsIn`, `bytesOut`, `dropped.denied`, …. */
  readonly counters: Readonly<Record<string, number>>;
  /** Its document with every default filled in. */
  readonly settings: Readonly<Record<string, unknown>>;
}

/** A backend of a cluster as the API shows it. */
export interface UdpBackendRecord {
  /** Unique among its kind. */
  readonly name: string;
  /** An address and a port. */
  readonly address: string;
  /** `up`, `down` or `draining`. */
  readonly status: string;
  /** Why, in a sentence. */
  readonly reason: string;
  /** Its share. */
  readonly weight: number;
  /** Only when no other is up. */
  readonly backup: boolean;
  /** The cell that it is. */
  readonly cell_id: string | null;
  /** Live flows. */
  readonly flows: number;
  /** Totals since it began, by name. */
  readonly counters: Readonly<Record<string, number>>;
}

/** A cluster as the API shows it. */
export interface UdpClusterRecord {
  /** Unique among its kind. */
  readonly name: string;
  /** How a new flow is given a backend. */
  readonly balance: string;
  /** In the order of the document, cells last. */
  readonly backends: readonly UdpBackendRecord[];
  /** Its document with every default filled in. */
  readonly settings: Readonly<Record<string, unknown>>;
}

/** A live flow. */
export interface UdpFlowRecord {
  /** Name of the listener. */
  readonly listener: string;
  /** Name of the cluster. */
  readonly cluster: string;
  /** Null where none was found yet. */
  readonly backend: string | null;
  /** An address and a port. */
  readonly client: string;
  /** Since its first datagram. */
  readonly duration_ms: number;
  /** Forwarded to the backend. */
  readonly datagrams_in: number;
  /** Of payload. */
  readonly bytes_in: number;
  /** Forwarded to the client. */
  readonly datagrams_out: number;
  /** Of payload. */
  readonly bytes_out: number;
}

/** What a document changed. */
export interface UdpChange {
  /** `listener/dns`, `cluster/dns`, …. */
  readonly set: readonly string[];
  /** What is no more. */
  readonly removed: readonly string[];
  /** What was so already. */
  readonly unchanged: readonly string[];
}

/** What is to take nothing new, or again. */
export interface UdpDrainWish {
  /** Of what. */
  readonly target: { readonly listener: string } | {
    /** Name of the cluster. */
    readonly cluster: string;
    /** Name of the backend. */
    readonly backend: string;
  };
  /** False ends a drain. */
  readonly isDraining: boolean;
  /** Live flows of a listener end after so many milliseconds at the latest. */
  readonly afterMs: number;
}

/** Which live flows. */
export interface UdpFlowQuery {
  /** Name of the listener. */
  readonly listener?: string;
  /** Name of the cluster. */
  readonly cluster?: string;
  /** The most that are told. */
  readonly limit: number;
}

/** The UDP load balancer. */
export interface UdpPort {
  /**
   * Sets the listeners and clusters of a document, live flows kept. Resolves once the change is
   * durable and in force. `isPruning`: what the document does not name is removed. `isDryRun`:
   * nothing is changed, and what would be is told.
   */
  apply(
    document: Readonly<Record<string, unknown>>,
    options: { readonly isPruning: boolean; readonly isDryRun: boolean },
  ): Promise<UdpChange | Refusal>;
  /** Removes a listener or a cluster; a cluster that a listener names is a conflict. */
  remove(kind: UdpKind, name: string): Promise<UdpChange | Refusal>;
  /** Begins or ends a drain. */
  drain(wish: UdpDrainWish): Promise<UdpChange | Refusal>;
  /** In the order of their names. */
  listeners(): Promise<readonly UdpListenerRecord[] | Refusal>;
  /** In the order of their names. */
  clusters(): Promise<readonly UdpClusterRecord[] | Refusal>;
  /** In no order that means anything. */
  flows(query: UdpFlowQuery): Promise<readonly UdpFlowRecord[] | Refusal>;
}
