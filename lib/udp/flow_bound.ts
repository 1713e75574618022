/**
 * How many flows a host can carry with a socket each, and what says so. Flows that have an own
 * address instead (`source_pool.ts`) are not bounded so. Pure.
 *
 * @module
 */

import type { FlowLimit } from "./contract.ts";

/** What bounds flows. */
export interface FlowBoundInput {
  /** What was asked for; absent: as many as there can be. */
  readonly asked?: number | undefined;
  /** Soft limit on descriptors of this process (`RLIMIT_NOFILE`). */
  readonly filesMax: number;
  /** Descriptors that are open now. */
  readonly filesOpen: number;
  /** `net.ipv4.ip_local_port_range`. */
  readonly portFirst: number;
  /** The last of them. */
  readonly portLast: number;
  /** Own addresses that flows' sockets go round. @default {1} */
  readonly sources?: number;
}

/** The bound, and why it is lower than what was asked for. */
export interface FlowBound {
  /** Flows at one time. */
  readonly maxFlows: number;
  /** Flows at one time where they need no sockets. */
  readonly maxUnsocketed: number;
  /** Sentences for the operator; empty where nothing was cut. */
  readonly told: readonly string[];
}

/** Descriptors that are kept for everything else. */
export const FILES_KEPT = 256;
/** The core's own bound. */
const CORE_MAX = 1_000_000;
/** Flows where nothing is asked for. */
const DEFAULT_MAX = 65_536;

/** Bounds flows by descriptors and ports. */
export function boundFlows(input: FlowBoundInput): FlowBound {
  const asked = Math.min(input.asked ?? DEFAULT_MAX, CORE_MAX);
  const files = Math.max(1, input.filesMax - input.filesOpen - FILES_KEPT);
  const ports = Math.max(1, (input.portLast - input.portFirst + 1) * (input.sources ?? 1));
  const told: string[] = [];
  const isAsked = input.asked !== undefined;
  if (isAsked && files < asked) {
    told.push(
      `Flows are bounded to ${files}, not ${asked}: this process may open ${input.filesMax} ` +
        `descriptors (LimitNOFILE)`,
    );
  }
  if (isAsked && ports < asked) {
    told.push(
      `Flows are bounded to ${ports}, not ${asked}: there are ${ports} local ports for them ` +
        `(net.ipv4.ip_local_port_range, or more source addresses)`,
    );
  }
  return { maxFlows: Math.min(asked, files, ports), maxUnsocketed: asked, told };
}

/** One worker's part of a bound that all share: rounded up, so that the sum is no less. */
export function shareOf(bound: number, workers: number): number {
  return Math.ceil(bound / workers);
}

/** One worker's part of a limit. */
export function shareLimit(
  { maxFlows, newFlowsPerSecond, burst }: FlowLimit,
  workers: number,
): FlowLimit {
  return {
    ...(maxFlows === undefined ? {} : { maxFlows: shareOf(maxFlows, workers) }),
    ...(newFlowsPerSecond === undefined ? {} : { newFlowsPerSecond: newFlowsPerSecond / workers }),
    ...(burst === undefined ? {} : { burst: Math.max(1, shareOf(burst, workers)) }),
  };
}

/** The same as a member, where there is a limit. */
export function sharedLimit(limit: FlowLimit | undefined, workers: number): { limit?: FlowLimit } {
  return limit === undefined ? {} : { limit: shareLimit(limit, workers) };
}
