/**
 * What the lab's servers say they saw, and the lines in which they say it.
 *
 * `server.ts` writes one JSON line for a fact, `lab.ts` reads them: a connection has a line when
 * it opens and one with its bytes when it closes (same `id`), a datagram has one line.
 *
 * Pure: no I/O, and a line that is not ours is `undefined`, not an error.
 *
 * @module
 */

/** One end of a connection. */
export interface Endpoint {
  /** Without zone and brackets. */
  readonly address: string;
  /** 1 to 65535. */
  readonly port: number;
}

/** What answers on a port. */
export type ServiceName = "http" | "tcp-echo" | "udp-echo";

/** One connection or one datagram, as its server saw it. */
export interface ServerObservation {
  /** Unique within one server process. */
  readonly id: number;
  /** `tcp`: a connection; `udp`: one datagram. */
  readonly protocol: "tcp" | "udp";
  /** Which server saw it. */
  readonly service: ServiceName;
  /** Whom it came from, after any masquerading. */
  readonly peer: Endpoint;
  /** Whom it was for. */
  readonly local: Endpoint;
  /** Payload bytes from the peer; of a connection that is still open, zero. */
  readonly bytesReceived: number;
  /** Payload bytes to the peer; of a connection that is still open, zero. */
  readonly bytesSent: number;
  /** Whether the connection is still open; never of a datagram. */
  readonly open: boolean;
  /** Of an HTTP request: its first line without the version, `GET /big?bytes=10`. */
  readonly request?: string;
}

/** A line of the server's standard output. */
export type ServerLine =
  | { readonly kind: "ready" }
  /** The answer to a `flush` line: all that was seen before it has been written. */
  | { readonly kind: "flushed" }
  | { readonly kind: "seen"; readonly observation: ServerObservation };

/** What a server process is told to serve; its only argument, as JSON. */
export interface ServerConfig {
  /** Each on every address given. */
  readonly services: readonly {
    readonly service: ServiceName;
    readonly port: number;
    readonly addresses: readonly string[];
  }[];
}

/** Writes a line, its newline included. */
export function formatServerLine(line: ServerLine): string {
  return JSON.stringify(line) + "\n";
}

/** Reads a line of a server; `undefined` when it is not one of ours. */
export function parseServerLine(text: string): ServerLine | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (_notJson) {
    return undefined; // A runtime's own message on the same stream: not a fact of ours.
  }
  if (typeof value !== "object" || value === null || !("kind" in value)) return undefined;
  if (value.kind === "ready" || value.kind === "flushed") return { kind: value.kind };
  if (value.kind !== "seen" || !("observation" in value)) return undefined;
  return { kind: "seen", observation: value.observation as ServerObservation };
}
