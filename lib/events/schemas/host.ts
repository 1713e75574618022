/**
 * Schemas of the events about celld itself on its host.
 *
 * @module
 */
import type {
  HostRecoveredData,
  HostStartedData,
  HostStoppedData,
  HostWorkerRestartedData,
  LogGapData,
} from "../catalogue.ts";
import { COUNT, ID, objectOf, oneOf, TEXT, TIME } from "./define.ts";

const CELLS = { type: "array", items: ID } as const;

/** {@link HostStartedData} */
export const HOST_STARTED = objectOf<HostStartedData>("celld started.", {
  host: ID,
  version: ID,
  pid: COUNT,
});

/** {@link HostStoppedData} */
export const HOST_STOPPED = objectOf<HostStoppedData>("celld stopped.", {
  host: ID,
  pid: COUNT,
  reason: ID,
});

/** {@link HostWorkerRestartedData} */
export const HOST_WORKER_RESTARTED = objectOf<HostWorkerRestartedData>(
  "A worker thread died and was started again.",
  { host: ID, worker: ID, restarts: COUNT, detail: TEXT },
);

/** {@link LogGapData} */
export const LOG_GAP = objectOf<LogGapData>("Events are missing at this place of the log.", {
  lost: COUNT,
  from: TIME,
  to: TIME,
  cause: oneOf("spool_full", "spool_damaged", "event_too_large"),
});

/** {@link HostRecoveredData} */
export const HOST_RECOVERED = objectOf<HostRecoveredData>(
  "celld removed or adopted what a killed celld had left.",
  { host: ID, adopted: CELLS, removed: CELLS },
);
