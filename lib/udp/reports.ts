/**
 * What a worker has to tell its owner, gathered until it is told: flows that ended, traffic and
 * ICMP of each backend. Bounded: what is too much is counted. Pure.
 *
 * @module
 */
import { type FlowRecord, NO_BACKEND } from "./contract.ts";
import { COUNTER, type CounterRows } from "./counters.ts";
import type { BackendTraffic, ClosedFlow } from "./worker_messages.ts";

/** Ended flows of one report; more are only counted. */
export const FLOWS_A_REPORT_MAX = 4096;
/** ICMP messages of one backend in one report; more say nothing new. */
const ICMP_A_REPORT_MAX = 16;

/** A report. */
export interface Report {
  readonly closed: readonly ClosedFlow[];
  readonly untold: number;
  readonly traffic: readonly BackendTraffic[];
}

/** See the module. */
export class Reports {
  readonly #tellsFlows: boolean;
  #closed: ClosedFlow[] = [];
  #untold = 0;
  readonly #icmp = new Map<number, string[]>();
  readonly #seen = new Map<number, { sent: number; received: number }>();

  /** @param tellsFlows Whether ended flows are told at all. */
  constructor(tellsFlows: boolean) {
    this.#tellsFlows = tellsFlows;
  }

  /** Whether a record of a flow that ends is of use. */
  get wantsFlows(): boolean {
    return this.#tellsFlows && this.#closed.length < FLOWS_A_REPORT_MAX;
  }

  /** A flow ended. */
  addFlow(record: FlowRecord | undefined, reason: string): void {
    if (record !== undefined) this.#closed.push({ ...record, reason });
    else if (this.#tellsFlows) this.#untold += 1;
  }

  /** An ICMP message about a backend came. */
  addIcmp(backend: number, code: string): void {
    if (backend === NO_BACKEND) return;
    const codes = this.#icmp.get(backend) ?? [];
    if (codes.length < ICMP_A_REPORT_MAX) codes.push(code);
    this.#icmp.set(backend, codes);
  }

  /** A backend's number is another one's from now on. */
  forget(backend: number): void {
    this.#seen.delete(backend);
    this.#icmp.delete(backend);
  }

  /** All that is new; `undefined` where nothing is. */
  take(backends: Iterable<number>, counters: CounterRows): Report | undefined {
    const traffic: BackendTraffic[] = [];
    for (const backend of backends) {
      const sent = counters.get(backend, COUNTER.datagramsIn);
      const received = counters.get(backend, COUNTER.datagramsOut);
      const before = this.#seen.get(backend) ?? { sent: 0, received: 0 };
      const icmp = this.#icmp.get(backend) ?? [];
      if (sent === before.sent && received === before.received && icmp.length === 0) continue;
      this.#seen.set(backend, { sent, received });
      traffic.push({
        backend,
        sent: sent - before.sent,
        received: received - before.received,
        icmp,
      });
    }
    this.#icmp.clear();
    if (traffic.length === 0 && this.#closed.length === 0 && this.#untold === 0) return undefined;
    const report = { closed: this.#closed, untold: this.#untold, traffic };
    this.#closed = [];
    this.#untold = 0;
    return report;
  }
}
