/**
 * The API over HTTP and WebSocket: routes, access, problems, and the server that listens.
 *
 * What it serves comes from a {@link ControlPlane}, which `lib/daemon` gives; the protocol is
 * written down in `docs/protocol/http.md`.
 *
 * @module
 */
export type { Peer } from "./access.ts";
export * from "./agent_ports.ts";
export * from "./app.ts";
export { BATCH_MAX, BUFFERED_BYTES_MAX, CLIENTS_MAX, CLOSE, STALL_MS } from "./event_hub.ts";
export * from "./exec_port.ts";
export { recordCache } from "./pages.ts";
export * from "./ports.ts";
export * from "./problem.ts";
export * from "./serve.ts";
export * from "./udp_port.ts";
export * from "./waiting_app.ts";
