/**
 * Recovery: what is done about an agent that fell silent, and the record of it.
 *
 * ```
 * stall ─▶ line (storm budget) ─▶ ladder ─▶ gates ─▶ intent in the audit ─▶ signal, command, restart
 * ```
 *
 * Only what is pure is behind this door; what acts is behind `mod_shell.ts`.
 *
 * @module
 */
export * from "./audit_chain.ts";
export * from "./audit_record.ts";
export * from "./audit_resume.ts";
export * from "./audit_rotation.ts";
export * from "./audit_verify.ts";
export * from "./debounce_ledger.ts";
export * from "./environment.ts";
export * from "./envelope.ts";
export * from "./facts.ts";
export * from "./gate.ts";
export * from "./ladder.ts";
export * from "./metrics.ts";
export * from "./outputs.ts";
export * from "./policies.ts";
export * from "./recovery.ts";
export * from "./recovery_options.ts";
export * from "./settings.ts";
export * from "./storm.ts";
export * from "./template.ts";
