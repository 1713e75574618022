/**
 * The client of the API: requests over TCP or a Unix socket, typed errors, streams that resume.
 *
 * ```ts
 * import { ApiClient, parseEndpoint, ServerUnreachableError } from "#lib/client/mod.ts";
 *
 * const client = new ApiClient(parseEndpoint("http://127.0.0.1:9"), { token: "celld_x" });
 * const failure = await client.version().catch((error) => error);
 * if (!(failure instanceof ServerUnreachableError)) throw new Error("unexpected");
 * client.close();
 * ```
 *
 * @module
 */
export type { BeatOutcome, BeatStatus, DropReason } from "./beat_sequence.ts";
export {
  BeatClient,
  type BeatCounters,
  type BeatOptions,
  connect,
  SOCKET_VARIABLE,
} from "./beat_shell.ts";
export * from "./client_shell.ts";
export * from "./endpoint.ts";
export * from "./errors.ts";
export { AWAY_MS, type FollowOptions, QUEUE_MAX } from "./event_stream_shell.ts";
export { LINE_CHARS_MAX, NdjsonError, parseLines, valuesOf } from "./ndjson.ts";
export * from "./readiness.ts";
export * from "./records.ts";
export { RemoteLog } from "./remote_log_shell.ts";
export { type Discovery, findEndpoint, findToken } from "./token_shell.ts";
export { type Query, REQUEST_MS } from "./transport_shell.ts";
export * from "./udp_client_shell.ts";
