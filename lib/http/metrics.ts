/**
 * What the API counts about itself, for `/metrics`. Names begin with `celld_http_` and `celld_ws_`.
 *
 * A route is labelled by its pattern, never by its path, so the number of series is bounded.
 *
 * @module
 */
import { Counter, Gauge, Histogram, Registry } from "prom-client";

/** Upper bounds of the durations, in seconds. */
const DURATION_BUCKETS = [0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5];

/** Gauges that are read when somebody asks. */
export interface MetricSources {
  clientCount(): number;
  streamCount(): number;
}

/** See the module. */
export class HttpMetrics {
  readonly #registry = new Registry();
  readonly #requests = new Counter({
    name: "celld_http_requests_total",
    help: "Requests by route, method and status",
    labelNames: ["route", "method", "status"],
    registers: [this.#registry],
  });
  readonly #durations = new Histogram({
    name: "celld_http_request_duration_seconds",
    help: "Time to the head of the answer, by route",
    labelNames: ["route"],
    buckets: DURATION_BUCKETS,
    registers: [this.#registry],
  });
  readonly #frames = new Counter({
    name: "celld_ws_frames_total",
    help: "Frames handed to WebSocket clients",
    registers: [this.#registry],
  });
  readonly #closes = new Counter({
    name: "celld_ws_closes_total",
    help: "WebSocket clients that celld closed, by code",
    labelNames: ["code"],
    registers: [this.#registry],
  });
  readonly #children = new Map<string, ReturnType<Counter["labels"]>>();
  readonly #timers = new Map<string, ReturnType<Histogram["labels"]>>();

  constructor(sources: MetricSources) {
    const registers = [this.#registry];
    new Gauge({
      name: "celld_ws_clients",
      help: "WebSocket clients",
      registers,
      collect() {
        this.set(sources.clientCount());
      },
    });
    new Gauge({
      name: "celld_http_streams",
      help: "Answers that stay open",
      registers,
      collect() {
        this.set(sources.streamCount());
      },
    });
  }

  /** Counts an answered request. */
  countRequest(route: string, method: string, status: number, seconds: number): void {
    // Looking up labels costs more than counting: the children are kept, their number is bounded.
    const key = `${method} ${status} ${route}`;
    let child = this.#children.get(key);
    if (child === undefined) {
      child = this.#requests.labels(route, method, String(status));
      this.#children.set(key, child);
    }
    child.inc();
    let timer = this.#timers.get(route);
    if (timer === undefined) {
      timer = this.#durations.labels(route);
      this.#timers.set(route, timer);
    }
    timer.observe(seconds);
  }

  /** Counts frames of WebSocket clients. */
  countFrames(count: number): void {
    this.#frames.inc(count);
  }

  /** Counts a WebSocket client that was closed. */
  countClose(code: number): void {
    this.#closes.labels(String(code)).inc();
  }

  /** Everything, in the text format of Prometheus. */
  text(): Promise<string> {
    return this.#registry.metrics();
  }
}
