/**
 * The door to processes: namespaces, launch, init, limits, signals.
 *
 * @module
 */
export * from "./mount_steps.ts";
export * from "./namespaces.ts";
