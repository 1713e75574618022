/**
 * UDP load balancing: flows of datagrams between clients and backends.
 *
 *   datagram ─▶ UdpManager ─▶ (new flow) Balancer ─▶ backend
 *                   │
 *                   └─▶ UdpSink, which a shell implements: sockets, clock, threads
 *
 * ```ts ignore
 * const manager = new UdpManager({ sink, maxFlows: 100_000, tableSeed, hashKey });
 * manager.config({ type: "listener", listener: 0, maxDatagramBytes: 65_507, route }, now);
 * manager.onClientDatagram(0, words, 0, slab, offset, length, now);
 * const wakeAt = manager.pollTimeout();
 * ```
 *
 * Everything but `*_worker.ts` and `*_shell.ts` is pure.
 *
 * @module
 */
export * from "./access.ts";
export * from "./affinity.ts";
export * from "./balance.ts";
export { POLICIES, type Policy } from "./balance_policies.ts";
export * from "./config.ts";
export * from "./config_document.ts";
export { endpointText } from "./config_fields.ts";
export * from "./config_types.ts";
export * from "./contract.ts";
export * from "./counters.ts";
export * from "./flow_bound.ts";
export { FLOWS_MAX } from "./flow_table.ts";
export * from "./flow_view.ts";
export * from "./health.ts";
export * from "./health_check.ts";
export * from "./inherited.ts";
export * from "./keyed_hash.ts";
export * from "./manager.ts";
export * from "./proxy_protocol.ts";
export * from "./shell_counters.ts";
export type { FlowCaps, FlowSnapshot } from "./snapshot.ts";
export * from "./source_pool.ts";
export * from "./tuple.ts";
