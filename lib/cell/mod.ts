/**
 * Cells: what a spec says, what it comes to, and how a cell lives.
 *
 * ```
 * spec ─▶ policy ─▶ ruleset (in the cell) ─▶ nft text, netlink
 *   │        └────▶ host ruleset (outside of it)
 *   ├───▶ view plan, network plan
 *   └───▶ lifecycle ─▶ exit
 * ```
 *
 * ```ts
 * import { cellTable, formatTable, makePolicy, NETWORK_POOLS_DEFAULT, parseCellSpec } from "#lib/cell/mod.ts";
 *
 * const spec = parseCellSpec(`
 * apiVersion: cellos.io/v1
 * kind: ExecutionCell
 * spec:
 *   id: demo
 *   authority:
 *     egressRules: [{ host: 192.0.2.1, port: 443 }]
 * `);
 * const table = cellTable(makePolicy(spec), {
 *   cellId: spec.id,
 *   nflogGroup: 100,
 *   hostAddresses: [],
 *   pools: NETWORK_POOLS_DEFAULT,
 *   linkAddresses: [],
 *   cellAddresses: [],
 * });
 * console.log(formatTable(table));
 * ```
 *
 * Only what is pure is behind this door; the shells beside it are put together by `lib/daemon`.
 *
 * @module
 */
export * from "./events.ts";
export * from "./exit.ts";
export * from "./guards.ts";
export * from "./host_ruleset.ts";
export * from "./lease.ts";
export * from "./lifecycle.ts";
export * from "./network_plan.ts";
export * from "./nft_text.ts";
export * from "./policy.ts";
export * from "./rule_counters.ts";
export * from "./ruleset.ts";
export * from "./seen_sets.ts";
export * from "./spec.ts";
export * from "./view_plan.ts";
export { type Inspect, type PathEntry, ViewError } from "./view_tree.ts";
