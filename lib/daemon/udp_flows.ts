/**
 * Tells of UDP flows that ended: each as a line of JSON, and one in so many as an event.
 *
 * Events are sampled by time: at most {@link FLOW_EVENTS_PER_SECOND} in a second, each with the
 * number of flows that it stands for, so that a flood of flows is no flood of events and sums are
 * right all the same.
 *
 * @module
 */
import type { UdpFlowClosedData } from "#lib/events/mod.ts";

/** The most events of closed flows in a second. */
export const FLOW_EVENTS_PER_SECOND = 20;

const SECOND_MS = 1000;

/** A closed flow with the names of what it went through. */
export type NamedFlow = Omit<UdpFlowClosedData, "sampledOf">;

/** Where closed flows are told. */
export interface FlowTellerOptions {
  nowMs(): number;
  /** Takes one flow as JSON, without a line end. */
  writeLine(line: string): void;
  /** Takes a sampled flow. */
  tell(data: UdpFlowClosedData): void;
}

/** See the module. */
export class FlowTeller {
  readonly #options: FlowTellerOptions;
  #secondStartMs = -Infinity;
  #toldInSecond = 0;
  /** Flows that ended since the last event. */
  #pending = 0;
  #last: NamedFlow | undefined;

  constructor(options: FlowTellerOptions) {
    this.#options = options;
  }

  /** Takes a flow that ended. */
  closed(flow: NamedFlow): void {
    const nowMs = this.#options.nowMs();
    this.#options.writeLine(
      JSON.stringify({ time: new Date(nowMs).toISOString(), ...flow }),
    );
    this.#pending++;
    this.#last = flow;
    if (nowMs - this.#secondStartMs >= SECOND_MS) {
      this.#secondStartMs = nowMs;
      this.#toldInSecond = 0;
    }
    if (this.#toldInSecond >= FLOW_EVENTS_PER_SECOND) return;
    this.#toldInSecond++;
    this.#tell(flow);
  }

  /** Counts flows that ended and of which nothing else is known. */
  untold(count: number): void {
    this.#pending += count;
  }

  /** Tells what was not told yet. */
  close(): void {
    if (this.#pending > 0 && this.#last !== undefined) this.#tell(this.#last);
  }

  #tell(flow: NamedFlow): void {
    this.#options.tell({ ...flow, sampledOf: this.#pending });
    this.#pending = 0;
  }
}
