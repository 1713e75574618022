/**
 * The second door of this folder, to what touches the host: the worker's client, the runtime
 * directory, forwarding. Importing it loads the system call stub; what is pure is behind
 * `mod.ts`, which loads nothing.
 *
 * @module
 */
export { type CellEndFacts, type EndedCell, readEndedCell } from "./adopt_shell.ts";
export * from "./forwarding_shell.ts";
export * from "./host_client_shell.ts";
export * from "./host_protocol.ts";
export { HOST_WORKER_NAME } from "./host_worker.ts";
export * from "./paths.ts";
export * from "./runtime_shell.ts";
