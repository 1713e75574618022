/**
 * The acting half of UDP load balancing: threads, sockets, probes. Apart from `mod.ts`, so that who
 * only configures or reads does not load it.
 *
 * @module
 */
export * from "./health_shell.ts";
export type { UdpPlanePort } from "./plane_port.ts";
export * from "./portable_shell.ts";
export type { OpenDatagramSocket } from "./portable_sockets_shell.ts";
export type { DatagramPeer } from "./send_lane.ts";
export * from "./udp_shell.ts";
export { UdpOrderError, UdpWorkerGoneError } from "./worker_link_shell.ts";
export type {
  BackendSettings,
  ClosedFlow,
  ClusterMember,
  ClusterSettings,
  CoreCounters,
  CounterValues,
  ListenAnswer,
  ListenerSettings,
} from "./worker_messages.ts";
