/**
 * The acting half of UDP load balancing: threads, sockets, probes. Apart from `mod.ts`, so that who
 * only configures or reads does not load it.
 *
 * @module
 */
export * from "./health_shell.ts";
export * from "./portable_shell.ts";
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
