/**
 * The metrics of a stand-alone observer over HTTP/1.0, by the reference's rules: any GET of whoever has the
 * token, each address so often, a fresh answer once a second and the last one in between.
 *
 * It is not on the thread that hears beats, so a slow reader costs nobody else anything.
 *
 * @module
 */
import { timingSafeEqual } from "node:crypto";
import { SecondsHistogram } from "#lib/liveness/mod.ts";
import type { MetricLines } from "./liveness_metrics.ts";
import { IpBuckets } from "./watch_ip_buckets.ts";
import type { SocketAddress } from "./watch_settings.ts";

/** How long a request may take to come, and an answer to be taken, in milliseconds. */
const PEER_PATIENCE_MS = 1000;
/** Bytes of a request. */
const REQUEST_BYTES_MAX = 4096;
/** Connections at once; more are closed. */
const CONNECTIONS_MAX = 64;
/** A body serves for so long, in milliseconds. */
const FRESH_MS = 1000;

/** What is served, and to whom. */
export interface MetricsServerOptions {
  readonly address: SocketAddress;
  /** 32 bytes. */
  readonly token: Uint8Array;
  readonly ratePerSecond: number;
  /** 0: as often as they like. */
  readonly burst: number;
  /** Answers that take longer are counted, in milliseconds. */
  readonly budgetMs: number;
  /** All metrics but the server's own. */
  render(): Promise<MetricLines>;
  onError(error: unknown): void;
}

/** See the module. */
export class MetricsServer {
  readonly #options: MetricsServerOptions;
  readonly #listener: Deno.TcpListener;
  readonly #buckets: IpBuckets;
  readonly #serving = new Set<Promise<void>>();
  /** How long answers took. */
  readonly times: SecondsHistogram = new SecondsHistogram();
  #body = "";
  #bodyMs = -Infinity;
  #skipped = 0;
  #authFailures = 0;
  #overBudget = 0;
  #drained = 0;
  #limited = 0;
  #loop: Promise<void>;

  /** Listens. Throws what the system says. */
  constructor(options: MetricsServerOptions) {
    this.#options = options;
    this.#buckets = new IpBuckets(options);
    this.#listener = Deno.listen({ ...options.address, transport: "tcp" });
    this.#loop = this.#accept();
  }

  /** Where it listens: `127.0.0.1:9100`. */
  get address(): string {
    const { hostname, port } = this.#listener.addr;
    return hostname.includes(":") ? `[${hostname}]:${port}` : `${hostname}:${port}`;
  }

  /** Adds the server's own counters. */
  addTo(lines: MetricLines): void {
    lines.add("counter", "varta_scrape_skipped_total", this.#skipped);
    lines.add("counter", "varta_scrape_budget_exhausted_total", 0);
    lines.add("counter", "varta_observer_scrape_budget_exceeded_total", this.#overBudget);
    lines.add("counter", "varta_prom_auth_failures_total", this.#authFailures);
    const dropped = "varta_prom_connections_dropped_total";
    lines.add("counter", dropped, this.#drained, 'reason="drain"');
    lines.add("counter", dropped, this.#limited, 'reason="rate_limit"');
    lines.add("counter", dropped, this.#buckets.evicted, 'reason="ip_table_full"');
    lines.add("counter", "varta_prom_ip_state_probe_exhausted_total", 0);
    const table = {};
    this.times.addTo(table, "varta_observer_serve_pending_seconds");
    lines.table(table);
  }

  /** Stops listening; those that are served are waited for. */
  async close(): Promise<void> {
    this.#listener.close();
    await this.#loop;
    await Promise.all(this.#serving);
  }

  async #accept(): Promise<void> {
    for (;;) {
      let connection: Deno.TcpConn;
      try {
        connection = await this.#listener.accept();
      } catch (error) {
        if (error instanceof Deno.errors.BadResource || error instanceof Deno.errors.Interrupted) {
          return;
        }
        // As without a descriptor left: whoever connects tries again.
        this.#options.onError(error);
        await new Promise((resolve) => setTimeout(resolve, 100));
        continue;
      }
      this.#take(connection);
    }
  }

  #take(connection: Deno.TcpConn): void {
    const mayServe = this.#buckets.take(connection.remoteAddr.hostname, performance.now());
    if (!mayServe) this.#limited += 1;
    else if (this.#serving.size >= CONNECTIONS_MAX) this.#drained += 1;
    else {
      const serving = this.#serve(connection).catch(() => {})
        .finally(() => this.#serving.delete(serving));
      this.#serving.add(serving);
      return;
    }
    connection.close();
  }

  async #serve(connection: Deno.TcpConn): Promise<void> {
    using _ = connection;
    const timer = setTimeout(() => closeQuietly(connection), PEER_PATIENCE_MS);
    try {
      const request = await readRequest(connection);
      const startMs = performance.now();
      const answer = request === undefined ? undefined : await this.#answer(request);
      if (answer !== undefined) await writeAll(connection, new TextEncoder().encode(answer));
      const tookMs = performance.now() - startMs;
      this.times.observe(tookMs * 1e6);
      if (tookMs > this.#options.budgetMs) this.#overBudget += 1;
    } finally {
      clearTimeout(timer);
    }
  }

  async #answer(request: string): Promise<string> {
    if (!request.startsWith("GET ")) return answerOf("405 Method Not Allowed", ["Allow: GET"]);
    if (!this.#isAllowed(request)) {
      this.#authFailures += 1;
      return answerOf("401 Unauthorized", ['WWW-Authenticate: Bearer realm="varta"']);
    }
    if (performance.now() - this.#bodyMs < FRESH_MS) this.#skipped += 1;
    else {
      try {
        const lines = await this.#options.render();
        this.addTo(lines);
        this.#body = lines.text();
        this.#bodyMs = performance.now();
      } catch (error) {
        this.#options.onError(error);
        return answerOf("503 Service Unavailable", []);
      }
    }
    return answerOf("200 OK", ["Content-Type: text/plain; version=0.0.4"], this.#body);
  }

  #isAllowed(request: string): boolean {
    for (const line of request.split("\r\n").slice(1)) {
      const found = /^authorization:[ \t]*bearer[ \t]+([0-9a-f]{64})[ \t]*$/i.exec(line);
      if (found === null) continue;
      const given = Uint8Array.from(found[1]!.match(/../g)!, (byte) => parseInt(byte, 16));
      return timingSafeEqual(given, this.#options.token);
    }
    return false;
  }
}

function answerOf(status: string, headers: readonly string[], body = ""): string {
  const length = new TextEncoder().encode(body).length;
  const all = [`HTTP/1.0 ${status}`, ...headers, `Content-Length: ${length}`, "Connection: close"];
  return `${all.join("\r\n")}\r\n\r\n${body}`;
}

/** The head of a request; undefined where there is none. */
async function readRequest(connection: Deno.TcpConn): Promise<string | undefined> {
  const buffer = new Uint8Array(REQUEST_BYTES_MAX);
  let length = 0;
  for (;;) {
    const count = await connection.read(buffer.subarray(length));
    if (count === null) return undefined;
    length += count;
    const text = new TextDecoder().decode(buffer.subarray(0, length));
    if (text.includes("\r\n\r\n")) return text;
    if (length === buffer.length) return undefined;
  }
}

async function writeAll(connection: Deno.TcpConn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at));
}

function closeQuietly(connection: Deno.TcpConn): void {
  try {
    connection.close();
  } catch (error) {
    if (!(error instanceof Deno.errors.BadResource)) throw error;
  }
}
