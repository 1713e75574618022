/**
 * The lab for tests: a machine and an internet in namespaces; see `demo/lab.ts`, which the
 * demo shares.
 *
 * @module
 */
export {
  type Arrival,
  LAB,
  Lab,
  type LabOptions,
  type WatchedDestination,
} from "../../demo/lab.ts";
export type { Endpoint, ServerObservation, ServiceName } from "../../demo/observation.ts";
