/**
 * What a UDP worker and its owner say to each other.
 *
 * Listeners, clusters and backends are small integers that the owner gives out; names stay with it.
 * Orders are carried out in order; each with an `id` is answered once.
 *
 * @module
 */
import type { MtuDiscovery } from "#ffi/mod.ts";
import type { AccessRules } from "./access.ts";
import type { Policy } from "./balance_policies.ts";
import type {
  BackendState,
  ConfigEvent,
  FlowLimit,
  FlowRecord,
  PrefixLimit,
  RouteConfig,
  WhenFull,
} from "./contract.ts";
import type { InheritedSource, ListenerInheritance, ReleasedWorker } from "./inherited.ts";
import type { HashKey } from "./keyed_hash.ts";
import type { ProxyTlv } from "./proxy_protocol.ts";
import type { FlowSnapshot } from "./snapshot.ts";
import type { SourceAddresses } from "./source_pool.ts";

/** Name of a UDP worker's thread, by which a loaded copy of the program knows what it is. */
export const UDP_WORKER_NAME = "celld-udp";

/** A listener. `address`, `port` and the socket's settings stay as they were when it is changed. */
export interface ListenerSettings {
  /** Its number. */
  readonly listener: number;
  /** An IPv4 or IPv6 address. */
  readonly address: string;
  /** 0 lets the kernel choose, where there is one worker. */
  readonly port: number;
  /** Null: nowhere to go. */
  readonly route: RouteConfig | null;
  /** Longer datagrams are dropped, both ways. @default {65535} */
  readonly maxDatagramBytes?: number;
  /** Who may open a flow. */
  readonly access?: AccessRules;
  /** Bounds on its flows. */
  readonly limit?: FlowLimit;
  /** What becomes of flows that the new settings would not admit. @default {"keep"} */
  readonly flows?: "keep" | "close";
  /** Room for what is not read yet. @default {4 MiB} */
  readonly receiveBufferBytes?: number;
  /** For an IPv6 address: refuse IPv4 clients. @default {true} */
  readonly isV6Only?: boolean;
  /** Runs of datagrams are taken as one, where senders burst. @default {false} */
  readonly takesRuns?: boolean;
  /** What the kernel does about datagrams larger than the path. */
  readonly mtuDiscovery?: MtuDiscovery;
  /** Prefixes whose datagrams begin with a PROXY protocol header, which is believed. */
  readonly proxyFrom?: AccessRules["allow"];
}

/** A listener's settings as the core takes them; no datagram is longer than `bytesMax`. */
export function listenerEvent(
  { listener, route, maxDatagramBytes, access, limit, flows }: ListenerSettings,
  bytesMax: number,
): ConfigEvent {
  return {
    type: "listener",
    listener,
    route,
    maxDatagramBytes: Math.min(maxDatagramBytes ?? bytesMax, bytesMax),
    ...(access === undefined ? {} : { access }),
    ...(limit === undefined ? {} : { limit }),
    ...(flows === undefined ? {} : { flows }),
  };
}

/** A backend. */
export interface BackendSettings {
  /** Its number. */
  readonly backend: number;
  /** An IPv4 or IPv6 address. */
  readonly address: string;
  /** The port. */
  readonly port: number;
  /** What it is for hashing policies, the same in all workers. @default {its address and port} */
  readonly identity?: string;
  /** Bounds on its flows. */
  readonly limit?: FlowLimit;
  /** Plaintext server id in its QUIC connection ids. */
  readonly quicServerId?: Uint8Array;
  /** Own addresses that its flows' sockets go round; absent: the kernel chooses. */
  readonly sources?: readonly string[];
  /** What the kernel does about datagrams larger than the path. */
  readonly mtuDiscovery?: MtuDiscovery;
  /** Sent with PROXY protocol headers. */
  readonly tlvs?: readonly ProxyTlv[];
}

/** A backend's place in a cluster. */
export interface ClusterMember {
  /** Its number. */
  readonly backend: number;
  /** 1 to 65535. @default {100} */
  readonly weight?: number;
  /** Only used when no other member is up. @default {false} */
  readonly isBackup?: boolean;
}

/** A cluster. */
export interface ClusterSettings {
  /** Its number. */
  readonly cluster: number;
  /** How a backend is chosen. */
  readonly policy: Policy;
  /** Among whom. */
  readonly members: readonly ClusterMember[];
  /** When none is up: choose among all, or none. @default {true} */
  readonly failOpen?: boolean;
  /** Bounds on its flows. */
  readonly limit?: FlowLimit;
  /** Each flow has an own address of these, and no socket. */
  readonly sourceAddresses?: SourceAddresses;
}

/** What a worker is made of. */
export interface UdpWorkerOptions {
  /** 0 and up. */
  readonly worker: number;
  /** More than one share each listener's port. */
  readonly workers: number;
  readonly maxFlows: number;
  readonly whenFull?: WhenFull;
  readonly hashKey: HashKey;
  readonly tableSeed: number;
  /** The longest datagram that any listener may take. @default {65535} */
  readonly datagramBytesMax?: number;
  /** Flow records are told. @default {true} */
  readonly tellsFlows?: boolean;
  /** The core looks at every promise after every call. @default {false} */
  readonly checkInvariants?: boolean;
  /** See `shell_counters.ts`. */
  readonly counters: SharedArrayBuffer;
  /** Two 32-bit numbers: orders sent by the owner, orders taken by the worker. */
  readonly orders: SharedArrayBuffer;
  /** Rings by which workers hand datagrams to each other, one a worker; see `hand_over.ts`. */
  readonly rings: readonly SharedArrayBuffer[];
  /** Which worker owns a QUIC connection; see `hand_over.ts`. */
  readonly directory: SharedArrayBuffer;
}

/** A change. */
export type UdpOrder =
  | {
    readonly type: "listen";
    readonly settings: ListenerSettings;
    /** The worker owns its descriptors, whatever becomes of the order. */
    readonly inherited?: ListenerInheritance;
  }
  | { readonly type: "unlisten"; readonly listener: number }
  | {
    readonly type: "cluster";
    readonly settings: ClusterSettings;
    /** As those of `listen`. */
    readonly inherited?: readonly InheritedSource[];
  }
  | { readonly type: "remove-cluster"; readonly cluster: number }
  | { readonly type: "backend"; readonly settings: BackendSettings }
  | { readonly type: "backend-state"; readonly backend: number; readonly state: BackendState }
  | { readonly type: "prefixes"; readonly limit: PrefixLimit | null }
  | { readonly type: "table"; readonly maxFlows: number; readonly whenFull?: WhenFull }
  /** Nothing new; what lives ends after so many milliseconds at the latest. */
  | { readonly type: "drain"; readonly afterMs: number; readonly listener?: number }
  | { readonly type: "undrain"; readonly listener?: number }
  | { readonly type: "close-flows"; readonly listener?: number }
  | { readonly type: "snapshot" }
  /** All listeners are there: sockets for source addresses that were inherited are read. */
  | { readonly type: "serve" }
  /** Nothing more is taken from clients until `release`, so that no worker hands any over. */
  | { readonly type: "pause" }
  /** Sockets and flows are let go of; then the thread ends as when it is told to stop. */
  | { readonly type: "release" }
  | {
    readonly type: "counters";
    readonly listeners: readonly number[];
    readonly backends: readonly number[];
  };

/** Owner to worker. */
export type UdpWorkerOrder =
  | { readonly kind: "start"; readonly options: UdpWorkerOptions }
  /** Eventfds of all workers, by which they wake each other. */
  | { readonly kind: "peers"; readonly wakeFds: readonly number[] }
  | { readonly kind: "order"; readonly id: number; readonly order: UdpOrder }
  | { readonly kind: "stop" };

/** What an opened listener turned out to be. */
export interface ListenAnswer {
  /** The port. */
  readonly port: number;
  /** What of the receive buffer the kernel did not grant. */
  readonly bufferShortBytes: number;
  /** Whether runs of datagrams may come as one. */
  readonly takesRuns: boolean;
  /** Flows of a predecessor that go on here. */
  readonly restored: number;
}

/** Counters of the core, by name. */
export interface CoreCounters {
  /** Of the listeners asked for, and of none (-1). */
  readonly listeners: readonly { readonly listener: number; readonly values: CounterValues }[];
  /** Of the backends asked for. */
  readonly backends: readonly { readonly backend: number; readonly values: CounterValues }[];
  /** Live flows. */
  readonly flows: number;
  /** Bytes of the flow table and of what waits. */
  readonly sizeBytes: number;
  /** Datagrams that wait in write queues. */
  readonly waiting: number;
}

/** A counter's value by its name. */
export type CounterValues = Readonly<Record<string, number>>;

/** What an order came to. */
export type OrderAnswer =
  | { readonly type: "done" }
  | { readonly type: "listening"; readonly listen: ListenAnswer }
  | { readonly type: "flows"; readonly flows: readonly FlowSnapshot[] }
  | { readonly type: "released"; readonly released: ReleasedWorker }
  | { readonly type: "counters"; readonly counters: CoreCounters };

/** A closed flow, with the name of its reason. */
export interface ClosedFlow extends FlowRecord {
  /** Name of the reason, see `CLOSE`. */
  readonly reason: string;
}

/** Traffic of a backend since the last time, for passive health. */
export interface BackendTraffic {
  readonly backend: number;
  readonly sent: number;
  readonly received: number;
  /** Names of the ICMP errors that came, one each. */
  readonly icmp: readonly string[];
}

/** Worker to owner. */
export type UdpWorkerMessage =
  | { readonly kind: "ready"; readonly wakeFd: number }
  | { readonly kind: "done"; readonly id: number; readonly answer: OrderAnswer }
  | {
    readonly kind: "failed";
    readonly id: number;
    readonly code: string;
    readonly message: string;
  }
  | {
    readonly kind: "report";
    readonly closed: readonly ClosedFlow[];
    /** Closed flows that are not told, since too many ended at once. */
    readonly untold: number;
    readonly traffic: readonly BackendTraffic[];
  }
  | { readonly kind: "stopped" }
  /** The thread ends, and has closed its sockets. */
  | { readonly kind: "died"; readonly reason: string };
