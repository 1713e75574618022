/**
 * What the recovery worker and its owner say to each other.
 *
 * @module
 */
import type { TimedRecoveryEvent } from "./envelope.ts";
import type { ObservedBatch } from "./facts.ts";
import type { RecoverySamples } from "./metrics.ts";
import type { RecoveryOutput } from "./outputs.ts";
import type { RecoverySettings } from "./settings.ts";

/** To the worker. */
export type RunnerOrder =
  | { readonly kind: "start"; readonly settings: RecoverySettings }
  | { readonly kind: "observed"; readonly batch: ObservedBatch }
  | { readonly kind: "samples"; readonly id: number }
  | { readonly kind: "stop" };

/** From the worker. */
export type RunnerMessage =
  | { readonly kind: "ready" }
  | { readonly kind: "failed"; readonly message: string }
  | { readonly kind: "events"; readonly events: readonly TimedRecoveryEvent[] }
  | { readonly kind: "order"; readonly order: RecoveryOutput & { kind: "restartCell" | "webhook" } }
  | { readonly kind: "trouble"; readonly text: string }
  | { readonly kind: "samples"; readonly id: number; readonly samples: RecoverySamples }
  | { readonly kind: "stopped" };
