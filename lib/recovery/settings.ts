/**
 * How recovery is set up: plain values, which another thread can be given.
 *
 * @module
 */
import type { PolicyRule } from "./policies.ts";

/** The reference's. */
export const SHUTDOWN_GRACE_MS_DEFAULT = 5000;
/** The reference's least. */
export const SHUTDOWN_GRACE_MS_MIN = 100;

/** The audit of a recovery. */
export interface AuditSettings {
  /** The live file. */
  readonly path: string;
  /** File with the key of a keyed chain; it must pass the rules of trusted files. */
  readonly keyFile?: string;
  /** Rows after which the file is synchronised; 1 unless told. Intents always are. */
  readonly syncEvery?: number;
  /** Milliseconds; 0: never for that. */
  readonly syncIntervalMs?: number;
  /** Bytes at which it is rotated, at least 4096; never unless told. */
  readonly maxBytes?: number;
  /** Milliseconds; a synchronisation that takes longer defers the rest of its turn. */
  readonly fsyncBudgetMs?: number;
  /** Milliseconds that a turn may spend on a rotation. */
  readonly rotationBudgetMs?: number;
}

/** See the module. */
export interface RecoverySettings {
  /** Who is recovered how; the first rule that fits. */
  readonly rules: readonly PolicyRule[];
  /** All of the commands' environment; see `recoveryEnvironment`. */
  readonly environment: Readonly<Record<string, string>>;
  /** Where it is written down; nowhere unless told. */
  readonly audit?: AuditSettings;
  /** Bytes kept of a command's output; 4096 unless told, 0: none. */
  readonly captureBytes?: number;
  /** Milliseconds that killed commands are waited for at the end. */
  readonly shutdownGraceMs?: number;
  /** Whether commands get cgroups, where the host has them; so unless told. */
  readonly usesCgroups?: boolean;
  /** Of the jitter. */
  readonly seed?: number;
  /** Milliseconds of a spawn window. */
  readonly windowMs?: number;
  /** Commands at a time. */
  readonly outstandingCapacity?: number;
  /** Entries of the debounce ledger. */
  readonly ledgerCapacity?: number;
  /** Agents that it can be busy with. */
  readonly agentsMax?: number;
  /** Agents of other pid namespaces may be recovered. */
  readonly allowsCrossNamespace?: boolean;
}
