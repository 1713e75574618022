/**
 * The UDP load balancer as a user writes it down: listeners and clusters by name.
 *
 * `config.ts` reads a document into these; `lib/daemon` gives names their numbers and hands them
 * to the workers. Every member is filled in. Source of the fields: `docs/protocol/udp.md`.
 *
 * @module
 */
import type { AccessRules } from "./access.ts";
import type { Policy } from "./balance_policies.ts";
import type { FlowLimit, PrefixLimit, RouteConfig, WhenFull } from "./contract.ts";
import type { HealthProbe } from "./health_check.ts";
import type { HealthSettings } from "./health.ts";
import type { SourceAddresses } from "./source_pool.ts";

/** An address and a port. */
export interface UdpAddress {
  /** IPv4 or IPv6, canonical text. */
  readonly address: string;
  /** 1 to 65535; of a listener 0 lets the kernel choose. */
  readonly port: number;
}

/** Where datagrams of clients arrive, and what becomes of them. */
export interface ListenerConfig {
  /** Unique among listeners. */
  readonly name: string;
  /** Does not change while the listener lives. */
  readonly listen: UdpAddress;
  /** Name of the cluster; null: nowhere to go. */
  readonly cluster: string | null;
  /** What is done with flows. */
  readonly route: Omit<RouteConfig, "cluster">;
  /** Longer datagrams are dropped, 1 to 65535. */
  readonly maxDatagramBytes: number;
  /** Who may open a flow. */
  readonly access: AccessRules;
  /** A bound on flows; absent: none. */
  readonly limit?: FlowLimit;
  /** What becomes of flows that changed settings would not admit. */
  readonly onChange: "keep" | "close";
  /** Prefixes whose datagrams begin with a PROXY protocol header. */
  readonly proxyFrom: AccessRules["allow"];
  /** Of the socket, in bytes. */
  readonly receiveBufferBytes: number;
  /** Whether an IPv6 listener takes no IPv4. */
  readonly ipv6Only: boolean;
  /** Whether bursts of one sender are taken as one (UDP_GRO). */
  readonly gro: boolean;
}

/** A backend of a cluster. */
export interface BackendConfig extends UdpAddress {
  /** Unique in its cluster; its address and port where the document gives none. */
  readonly name: string;
  /** Its share, 1 to 65535. */
  readonly weight: number;
  /** Only when no other is up. */
  readonly backup: boolean;
  /** A bound on flows; absent: none. */
  readonly limit?: FlowLimit;
  /** Hex digits: plaintext server id in its QUIC connection ids. */
  readonly quicServerId?: string;
  /** Own addresses that its flows' sockets go round. */
  readonly sources?: readonly string[];
}

/** Running cells of a formation as backends. */
export interface CellBackends {
  /** Name of the formation. */
  readonly formation: string;
  /** Only of this member; absent: of all. */
  readonly member?: string;
  /** That the cells listen on. */
  readonly port: number;
  /** Each cell's share. */
  readonly weight: number;
}

/** How a cluster's backends are watched. */
export interface HealthConfig extends HealthSettings {
  /** How a backend is asked. */
  readonly probe: HealthProbe;
}

/** Where flows go. */
export interface ClusterConfig {
  /** Unique among clusters. */
  readonly name: string;
  /** How a new flow is given a backend. */
  readonly balance: Policy;
  /** When no backend is up: try those that are down, or none. */
  readonly failOpen: boolean;
  /** Those that the document names. */
  readonly backends: readonly BackendConfig[];
  /** Beside `backends`. */
  readonly cells?: CellBackends;
  /** How they are watched. */
  readonly health: HealthConfig;
  /** A bound on flows; absent: none. */
  readonly limit?: FlowLimit;
  /** Each flow has an own address of these, and no socket. */
  readonly sourceAddresses?: SourceAddresses;
}

/** What carries datagrams: the fast shell where it can run, that one or none, or the portable one. */
export type ShellChoice = "auto" | "fast" | "portable";

/** The balancer's own settings. */
export interface BalancerConfig {
  /** What carries datagrams. */
  readonly shell: ShellChoice;
  /** Threads; each has its own part of every listener's flows. */
  readonly workers: number;
  /** Of all workers. */
  readonly maxFlows: number;
  /** When there is no room for a new flow. */
  readonly whenFull: WhenFull;
  /** Of each source prefix. */
  readonly prefixes?: PrefixLimit;
}

/** A whole document. */
export interface UdpConfig {
  /** The balancer itself. */
  readonly balancer: BalancerConfig;
  /** In the order of the document. */
  readonly listeners: readonly ListenerConfig[];
  /** In the order of the document. */
  readonly clusters: readonly ClusterConfig[];
}

/** Bounds and defaults of documents. */
export const UDP_CONFIG_LIMITS = {
  listenersMax: 256,
  clustersMax: 256,
  backendsMax: 1024,
  prefixesMax: 1024,
  workersMax: 64,
  maxFlowsDefault: 65_536,
  maxFlowsMax: 1_048_576,
  /** The most that a datagram carries: over IPv6. Over IPv4 it is 65507. */
  maxDatagramBytesDefault: 65_527,
  maxDatagramBytesMax: 65_535,
  receiveBufferBytesDefault: 4 * 1024 * 1024,
  receiveBufferBytesMax: 1024 * 1024 * 1024,
  timeoutMsMax: 24 * 60 * 60 * 1000,
} as const;
