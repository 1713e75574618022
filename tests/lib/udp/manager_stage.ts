/**
 * A manager with a sink that writes down what it is told, for tests.
 *
 * The notes read like the trace of a machine: counters that moved come before the call that
 * follows them, `ArmTimer` after a call that changed when the manager wants to be woken.
 *
 * @module
 */
import {
  type CloseReason,
  COUNTER,
  COUNTER_NAMES,
  DROP_NAMES,
  type DropReason,
  type FlowId,
  type FlowRecord,
  makeTuple,
  ROUTE_DEFAULTS,
  type RouteConfig,
  SELECT_LATER,
  UdpManager,
  type UdpManagerOptions,
  type UdpSink,
} from "#lib/udp/mod.ts";

/** What the sink was told. */
export type Note =
  | { readonly say: "count"; readonly counter: string }
  | {
    readonly say: "select";
    readonly flow: FlowId;
    readonly cluster: number;
    readonly affinity: number;
    readonly preferred: number;
    readonly avoid: number;
  }
  | { readonly say: "open"; readonly flow: FlowId; readonly backend: number }
  | {
    readonly say: "toBackend";
    readonly flow: FlowId;
    readonly text: string;
    readonly withHeader: boolean;
  }
  | { readonly say: "toClient"; readonly flow: FlowId; readonly text: string }
  | {
    readonly say: "close";
    readonly flow: FlowId;
    readonly reason: CloseReason;
    readonly record: FlowRecord;
  }
  | { readonly say: "drop"; readonly reason: string }
  | { readonly say: "arm"; readonly at: number };

/** Where everything is, in tests of one listener. */
export const LISTENER = 0;
export const CLUSTER = 3;
export const BACKEND = 7;
export const LOCAL = { address: "192.0.2.53", port: 53 };

/** Counters that the original calls metrics, by our column. */
const TRACED: readonly number[] = [
  COUNTER.flowsCreated,
  COUNTER.flowsClosed,
  COUNTER.flowsShed,
  COUNTER.datagramsIn,
  COUNTER.datagramsOut,
];

/** What a stage may be given. */
export interface StageOptions extends Partial<Omit<UdpManagerOptions, "sink">> {
  readonly route?: Partial<RouteConfig> | null;
  readonly maxDatagramBytes?: number;
  /** The answer to `selectBackend`. */
  readonly select?: (flow: FlowId, affinity: number, preferred: number, avoid: number) => number;
}

/** A manager and its notes. */
export class Stage implements UdpSink {
  readonly manager: UdpManager;
  now = 0;
  select: NonNullable<StageOptions["select"]>;
  #notes: Note[] = [];
  readonly #traced = new Float64Array(COUNTER_NAMES.length);
  #armed: number | undefined;
  readonly #decoder = new TextDecoder();
  readonly #encoder = new TextEncoder();

  constructor(options: StageOptions = {}) {
    this.select = options.select ?? (() => SELECT_LATER);
    this.manager = new UdpManager({
      maxFlows: 64,
      tableSeed: 1,
      hashKey: { low: 1, high: 2 },
      checkInvariants: true,
      ...options,
      sink: this,
    });
    const route = options.route === null ? null : routeOf(options.route);
    this.listen(route, options.maxDatagramBytes ?? 65_535);
  }

  listen(route: RouteConfig | null, maxDatagramBytes = 65_535): void {
    this.manager.config(
      { type: "listener", listener: LISTENER, route, maxDatagramBytes },
      this.now,
    );
  }

  /** A datagram of the client 10.0.0.`host`. */
  client(host: number, port: number, text: string, now = this.now, local = LOCAL): void {
    const words = makeTuple({ address: `10.0.0.${host}`, port }, local);
    const bytes = this.#encoder.encode(`..${text}..`);
    this.manager.onClientDatagram(LISTENER, words, 0, bytes, 2, bytes.length - 4, now);
    this.#noteTimer();
  }

  backend(flow: FlowId, text: string, now = this.now): void {
    const bytes = this.#encoder.encode(`..${text}..`);
    this.manager.onUpstreamDatagram(flow, bytes, 2, bytes.length - 4, now);
    this.#noteTimer();
  }

  resolve(flow: FlowId, backend: number | null = BACKEND, now = this.now): void {
    this.manager.onBackendResolved(flow, backend, now);
    this.#noteTimer();
  }

  timeout(now: number): void {
    this.manager.handleTimeout(now);
    this.#noteTimer();
  }

  /** A flow of 10.0.0.`host` that has a backend; its notes are gone. */
  establish(host: number, port = 1000, now = this.now): FlowId {
    this.client(host, port, "q", now);
    const flow = this.selected();
    this.resolve(flow, BACKEND, now);
    this.take();
    return flow;
  }

  /** The flow that last asked for a backend; the notes are gone. */
  selected(): FlowId {
    const note = this.take().findLast((one) => one.say === "select");
    if (note?.say !== "select") throw new Error("no flow asked for a backend");
    return note.flow;
  }

  /** Takes the notes. */
  take(): Note[] {
    const notes = this.#notes;
    this.#notes = [];
    return notes;
  }

  /** Takes the notes as words, in the order in which they came. */
  trace(): string[] {
    return this.take().map((note) => note.say === "count" ? note.counter : note.say);
  }

  selectBackend(
    flow: FlowId,
    cluster: number,
    affinity: number,
    preferred: number,
    avoid: number,
  ): number {
    this.#note({ say: "select", flow, cluster, affinity, preferred, avoid });
    return this.select(flow, affinity, preferred, avoid);
  }

  openUpstream(flow: FlowId, backend: number): void {
    this.#note({ say: "open", flow, backend });
  }

  sendToBackend(
    flow: FlowId,
    bytes: Uint8Array,
    offset: number,
    length: number,
    withHeader: boolean,
  ): void {
    const text = this.#decoder.decode(bytes.subarray(offset, offset + length));
    this.#note({ say: "toBackend", flow, text, withHeader });
  }

  sendToClient(flow: FlowId, bytes: Uint8Array, offset: number, length: number): void {
    const text = this.#decoder.decode(bytes.subarray(offset, offset + length));
    this.#note({ say: "toClient", flow, text });
  }

  closeFlow(flow: FlowId, reason: CloseReason): void {
    const record = this.manager.live.record(flow, this.now);
    if (record === undefined) throw new Error("a closing flow has no record");
    this.#note({ say: "close", flow, reason, record });
  }

  drop(reason: DropReason): void {
    this.#note({ say: "drop", reason: DROP_NAMES[reason] });
  }

  #note(note: Note): void {
    this.#noteCounters();
    this.#notes.push(note);
  }

  #noteCounters(): void {
    for (const column of TRACED) {
      const count = this.manager.listenerCounters.total(column);
      while (this.#traced[column] < count) {
        this.#traced[column] += 1;
        this.#notes.push({ say: "count", counter: COUNTER_NAMES[column] });
      }
    }
  }

  #noteTimer(): void {
    this.#noteCounters();
    const at = this.manager.pollTimeout();
    if (at === this.#armed) return;
    this.#armed = at;
    if (at !== undefined) this.#notes.push({ say: "arm", at });
  }
}

/** A route to {@link CLUSTER} with what is not the default. */
export function routeOf(parts: Partial<RouteConfig> = {}): RouteConfig {
  return { cluster: CLUSTER, ...ROUTE_DEFAULTS, ...parts };
}
