/**
 * The door to the event log in JetStream, apart from the other one: its client costs time to load,
 * which a command that does not need it should not pay.
 *
 * @module
 */
export * from "./jetstream_adapter.ts";
export type { JetStreamCredentials, LinkOptions } from "./jetstream_link_adapter.ts";
