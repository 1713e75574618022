/**
 * What the UDP load balancer's core and its shell say to each other.
 *
 * The shell feeds datagrams, answers and time into `UdpManager` (`manager.ts`) and implements
 * {@link UdpSink}, which the manager calls directly: nothing is queued between them and nothing is
 * allocated for a datagram of a known flow. Payloads are slices of the caller's memory, valid
 * during the call only. Listeners, clusters and backends are small integers that the shell gives
 * out (0 and up), so that the core holds no names; flows are {@link FlowId}s that the core gives
 * out. Times are milliseconds of one monotonic clock; whole numbers below 2^31
 * (24 days) cost no allocation.
 *
 * @module
 */
import type { AccessRules } from "./access.ts";
import type { Affinity } from "./affinity.ts";

/**
 * A live flow: a positive integer of 31 bits, its slot in the low 20 bits and the slot's generation
 * above. The id of a closed flow is answered with nothing, or with a drop. An id comes up again
 * only after more than two million other flows were admitted.
 */
export type FlowId = number;

/** Bits of a {@link FlowId} that are its slot. */
export const SLOT_BITS = 20;
/** The slot of a flow, for tables of the shell: `fdBySlot[slotOf(flow)]`. */
export function slotOf(flow: FlowId): number {
  return flow & ((1 << SLOT_BITS) - 1);
}

/** {@link UdpSink.selectBackend}: the answer comes later, by `onBackendResolved`. */
export const SELECT_LATER: number = -1;
/** {@link UdpSink.selectBackend}: there is no backend; the flow is aborted. */
export const SELECT_NONE: number = -2;
/** Stands for "no backend" where a backend is optional. */
export const NO_BACKEND: number = -1;

/** Why a datagram was not passed on. Each has a column in the counters. */
export const DROP = {
  /** Empty, where the route does not forward empty datagrams. */
  invalid: 0,
  /** Longer than the listener's `maxDatagramBytes`. */
  truncated: 1,
  /** The listener has no route, or no backend was found for a new flow. */
  noBackend: 2,
  /** The flow table is full. */
  shed: 3,
  /** From upstream, for a flow that is not there, or that is between two backends. */
  unknownFlow: 4,
  /** The manager or the listener drains, and this would be a new flow. */
  draining: 5,
  /** The source is not allowed by the listener's access rules. */
  denied: 6,
  /** A limit on the number of flows (of the source's prefix, listener, cluster or backend). */
  flowLimit: 7,
  /** A limit on new flows a second (of the same scopes). */
  rateLimit: 8,
  /** A reply that would make an unproven source receive more than its share. */
  amplification: 9,
  /** The flow awaits a backend and its queue is full. */
  queueFull: 10,
  /** It was queued when its flow closed. */
  flowClosed: 11,
} as const;
/** A value of {@link DROP}. */
export type DropReason = (typeof DROP)[keyof typeof DROP];
/** Names of {@link DROP}, by value. */
export const DROP_NAMES: readonly string[] = Object.keys(DROP);

/** Why a flow ended. */
export const CLOSE = {
  /** Nothing came for the idle timeout. */
  idle: 0,
  /** No reply came for the (short) timeout of unreplied flows. */
  unreplied: 1,
  /** All replies arrived that `responses` allows for. */
  responsesReached: 2,
  /** All datagrams went out that `requests` allows for, and no replies are expected. */
  requestsReached: 3,
  /** `closeAll`, or the end of a drain. */
  drain: 4,
  /** `abortFlow`, or no backend was found. */
  aborted: 5,
  /** The table was full, and this was the oldest flow without a reply. */
  evicted: 6,
  /** Its backend went down or was removed, and the route says `close`. */
  backendGone: 7,
  /** Its upstream reported an error, and the route says `close`. */
  upstreamError: 8,
  /** The access rules changed, or the listener lost its route, and the change says `close`. */
  reconfigured: 9,
  /** The backend that was chosen has no room for another flow. */
  limited: 10,
} as const;
/** A value of {@link CLOSE}. */
export type CloseReason = (typeof CLOSE)[keyof typeof CLOSE];
/** Names of {@link CLOSE}, by value. */
export const CLOSE_NAMES: readonly string[] = Object.keys(CLOSE);

/** State of a backend, as far as flows that are on it are concerned. */
export type BackendState = "up" | "down" | "draining" | "removed";

/** What a flow does when its backend goes: choose another one with the client's next datagram, stay, or end. */
export type WhenGone = "reselect" | "keep" | "close";

/** How datagrams wait while a backend is awaited. */
export interface PendingOptions {
  /** Datagrams of one flow. @default {4} */
  readonly datagrams: number;
  /** Their bytes. @default {8192} */
  readonly bytes: number;
  /** What gives way when there is no room: what arrived, or what waited longest. @default {"newest"} */
  readonly drops: "newest" | "oldest";
}

/** How much a source may be sent before it has proved that it receives. */
export interface AmplificationGuard {
  /** Bytes sent to the client are at most so many times the bytes it sent. */
  readonly factor: number;
  /** The guard ends after so many round trips (a datagram of the client after a reply). 1 to 255. */
  readonly roundTrips: number;
}

/** What a listener does with new flows. A flow keeps the object that it was admitted with. */
export interface RouteConfig {
  /** Where backends are sought. */
  readonly cluster: number;
  /** What decides which backend a flow gets, for hashing policies. */
  readonly affinity: Affinity;
  /** Datagrams of the client that a flow takes; the next one opens another flow. 0: no end. */
  readonly requests: number;
  /** Replies for each datagram after which a flow is done; 0: none is expected; null: no end. */
  readonly responses: number | null;
  /** A flow ends when so long nothing came from the client and, by `backTimeoutMs`, from the backend. */
  readonly frontTimeoutMs: number;
  /** See `frontTimeoutMs`; the later of both counts. */
  readonly backTimeoutMs: number;
  /** Instead of `frontTimeoutMs` while no reply came. Null: `frontTimeoutMs`. */
  readonly unrepliedTimeoutMs: number | null;
  /** Which datagrams carry a PROXY protocol header to the backend. */
  readonly proxyProtocol: "none" | "first" | "until-reply" | "every";
  /** See {@link PendingOptions}. */
  readonly pending: PendingOptions;
  /** See {@link AmplificationGuard}. Null: no guard. */
  readonly amplification: AmplificationGuard | null;
  /** When the backend is down. */
  readonly whenDown: WhenGone;
  /** When the backend is removed. */
  readonly whenRemoved: WhenGone;
  /** When the upstream socket reports an error. */
  readonly whenUpstreamError: WhenGone;
  /** Whether datagrams without payload, which UDP allows, are forwarded. */
  readonly forwardEmpty: boolean;
}

/** A route's members where nothing else is said. */
export const ROUTE_DEFAULTS: Omit<RouteConfig, "cluster"> = {
  affinity: { by: "source" },
  requests: 0,
  responses: null,
  frontTimeoutMs: 30_000,
  backTimeoutMs: 30_000,
  unrepliedTimeoutMs: null,
  proxyProtocol: "none",
  pending: { datagrams: 4, bytes: 8192, drops: "newest" },
  amplification: null,
  whenDown: "reselect",
  whenRemoved: "reselect",
  whenUpstreamError: "reselect",
  forwardEmpty: true,
};

/** Members of a route that balances each datagram by itself: a flow is one datagram and its reply. */
export const PER_PACKET: Pick<RouteConfig, "requests" | "responses"> = {
  requests: 1,
  responses: 1,
};

/** A bound on flows of one scope. Absent members do not bound. */
export interface FlowLimit {
  /** Flows at one time. */
  readonly maxFlows?: number;
  /** New flows a second, on average. */
  readonly newFlowsPerSecond?: number;
  /** New flows at once. @default {the larger of 1 and newFlowsPerSecond} */
  readonly burst?: number;
}

/** The limit of each source prefix. */
export interface PrefixLimit extends FlowLimit {
  /** Bits of an IPv4 address that are one source. @default {32} */
  readonly ipv4Bits?: number;
  /** Bits of an IPv6 address that are one source. @default {64} */
  readonly ipv6Bits?: number;
}

/** A change, in force from the next datagram on. Live flows stay unless it says otherwise. */
export type ConfigEvent =
  | {
    /** A listener begins, or all of its settings change. */
    readonly type: "listener";
    readonly listener: number;
    /** Null: new flows have nowhere to go. */
    readonly route: RouteConfig | null;
    /** Longer datagrams are dropped, both ways. */
    readonly maxDatagramBytes: number;
    readonly access?: AccessRules;
    readonly limit?: FlowLimit;
    /** What becomes of the listener's flows that the new settings would not admit. @default {"keep"} */
    readonly flows?: "keep" | "close";
  }
  | { readonly type: "cluster"; readonly cluster: number; readonly limit: FlowLimit }
  | {
    readonly type: "backend";
    readonly backend: number;
    readonly limit: FlowLimit;
    /** What the backend writes into QUIC connection ids, where the route reads them. */
    readonly quicServerId?: Uint8Array;
  }
  | { readonly type: "prefixes"; readonly limit: PrefixLimit | null }
  | {
    /** The table's bound; lowering it closes nothing. At most what the manager was made for. */
    readonly type: "table";
    readonly maxFlows: number;
    readonly whenFull?: WhenFull;
  };

/** What happens to a new flow when the table is full: it is refused, or the oldest flow that has no reply ends. */
export type WhenFull = "refuse" | "evict-unreplied";

/**
 * What the manager tells its shell, during the shell's own calls.
 *
 * The shell may answer from within {@link UdpSink.selectBackend} by its return value only; no
 * callback may call an entry of the manager that changes it.
 */
export interface UdpSink {
  /**
   * A flow needs a backend: the answer is a backend, {@link SELECT_LATER} or {@link SELECT_NONE}.
   *
   * @param affinity 32 bits, equal for clients that belong together.
   * @param preferred The backend that the datagram itself names (QUIC), or {@link NO_BACKEND}.
   * @param avoid The backend that the flow leaves, or {@link NO_BACKEND}.
   */
  selectBackend(
    flow: FlowId,
    cluster: number,
    affinity: number,
    preferred: number,
    avoid: number,
  ): number;
  /**
   * The flow has this backend now; an upstream that it had before is to be closed. Not called for a
   * flow that meant to leave its backend and got the same one by the answer of `selectBackend`.
   */
  openUpstream(flow: FlowId, backend: number): void;
  /** Sends to the flow's backend; `withProxyHeader`: after a PROXY protocol header. */
  sendToBackend(
    flow: FlowId,
    bytes: Uint8Array,
    offset: number,
    length: number,
    withProxyHeader: boolean,
  ): void;
  /** Sends to the flow's client, from the address that the client sent to. */
  sendToClient(flow: FlowId, bytes: Uint8Array, offset: number, length: number): void;
  /** The flow ends; `manager.live.record(flow, now)` still tells all about it during this call. */
  closeFlow(flow: FlowId, reason: CloseReason): void;
  /** A datagram was dropped. Counted already; this is for those who watch. */
  drop(reason: DropReason, listener: number, lengthBytes: number): void;
}

/** All that is known of a flow. Addresses as text, times in milliseconds. */
export interface FlowRecord {
  /** Its id. */
  readonly flow: FlowId;
  /** Where its client's datagrams come in. */
  readonly listener: number;
  /** Where its backends were sought. */
  readonly cluster: number;
  /** {@link NO_BACKEND} where none was found yet. */
  readonly backend: number;
  /** Who sends. */
  readonly client: { readonly address: string; readonly port: number };
  /** The address that the client sends to, from which it is answered. */
  readonly local: { readonly address: string; readonly port: number };
  /** When its first datagram came, on the manager's clock. */
  readonly startedAtMs: number;
  /** How long it has lived. */
  readonly durationMs: number;
  /** Forwarded to the backend. */
  readonly datagramsIn: number;
  /** Their payload. */
  readonly bytesIn: number;
  /** Forwarded to the client. */
  readonly datagramsOut: number;
  /** Their payload. */
  readonly bytesOut: number;
  /** Datagrams of this flow that were dropped, either way. */
  readonly dropped: number;
  /** From the first datagram's arrival to the first reply; absent without a reply. */
  readonly firstReplyMs?: number;
  /** How often the flow moved to another backend. */
  readonly reselections: number;
}
