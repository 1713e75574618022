/**
 * Data of the events about the UDP load balancer.
 *
 * @module
 */

/** A listener or a cluster is to be so from now on: written before it is. */
export interface UdpSetData {
  /** What it is. */
  readonly kind: "listener" | "cluster";
  /** Unique among its kind. */
  readonly name: string;
  /** As it was asked for. */
  readonly document: Readonly<Record<string, unknown>>;
}

/** A listener or a cluster is to be no more. */
export interface UdpRemovedData {
  /** What it is. */
  readonly kind: "listener" | "cluster";
  /** Its name. */
  readonly name: string;
}

/** A backend changed its state. */
export interface UdpBackendData {
  /** The cluster's name. */
  readonly cluster: string;
  /** The backend's name in it. */
  readonly backend: string;
  /** `10.0.0.1:53`. */
  readonly address: string;
  /** What it is now. */
  readonly state: "up" | "down" | "draining" | "removed";
  /** Why, in a sentence. */
  readonly reason: string;
  /** The cell that it is. */
  readonly cellId?: string;
}

/** A server took over what the one before it had left of the load balancer. */
export interface UdpInheritedData {
  /** Flows that go on. */
  readonly restored: number;
  /** Flows that do not: listener or backend is another now, or a limit has no room for them. */
  readonly flows: number;
  /** Listeners that do not go on: their name, address or port is another now. */
  readonly listeners: number;
  /** Datagrams that waited for room or for a backend, and were given up. */
  readonly discarded: number;
}

/** A flow ended. Sampled: one event stands for `sampledOf` flows. */
export interface UdpFlowClosedData {
  /** The listener's name. */
  readonly listener: string;
  /** The cluster's name. */
  readonly cluster: string;
  /** The backend's name; absent where none was found. */
  readonly backend?: string;
  /** `192.0.2.9:5353`. */
  readonly client: string;
  /** Why it ended: `idle`, `responsesReached`, `drain`, … */
  readonly reason: string;
  /** From its first datagram to its end. */
  readonly durationMs: number;
  /** Forwarded to the backend. */
  readonly datagramsIn: number;
  /** Of payload. */
  readonly bytesIn: number;
  /** Forwarded to the client. */
  readonly datagramsOut: number;
  /** Of payload. */
  readonly bytesOut: number;
  /** Of this flow, either way, dropped. */
  readonly dropped: number;
  /** From the first datagram to the first reply. */
  readonly firstReplyMs?: number;
  /** How many flows ended since the last such event, with this one. */
  readonly sampledOf: number;
}
