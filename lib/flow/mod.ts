/**
 * Flow audit: what the kernel decided about a cell's connections, as events.
 *
 *   ruleset `log group N` ─▶ flow worker: packed records ─▶ FlowSession ─▶ CloudEvents
 *   connection tracker    ─▶      "              "
 *   flow program (eBPF)   ─▶      "              "        accepted flows, where it is asked for
 *
 * ```ts ignore
 * const audit = await FlowAudit.start();
 * const session = new FlowSession({ cell: 1, cellId: "demo", runId, source: "/celld/host" });
 * audit.onBatch = (batch) => sink.push(session.handleBatch(batch, () => crypto.randomUUID()));
 * await audit.watch({ cell: 1, netnsFd, group: 100, conntrack: true });
 * ```
 *
 * Everything but `*_worker.ts` and `*_shell.ts` is pure.
 *
 * @module
 */
export * from "./accumulator.ts";
export * from "./activation.ts";
export type { ListenStep, ProgramsOrder, WatchAnswer, WatchOrder } from "./audit_messages.ts";
export * from "./audit_shell.ts";
export * from "./augment.ts";
export * from "./decision.ts";
export * from "./earlier.ts";
export * from "./flow_key.ts";
export * from "./flow_programs_shell.ts";
export * from "./nflog_record.ts";
export * from "./packet.ts";
export * from "./prefix.ts";
export * from "./program_counters.ts";
export * from "./record.ts";
export * from "./sequence.ts";
export * from "./session.ts";
export * from "./stats.ts";
export * from "./time_text.ts";
