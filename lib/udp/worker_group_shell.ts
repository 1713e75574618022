/**
 * The threads of a plane together: what they share, orders to all of them, their end.
 *
 * @module
 */
import { closeUdpSocket } from "#ffi/mod.ts";
import { type FlowBound, shareOf } from "./flow_bound.ts";
import { DIRECTORY_BYTES, RING_BYTES } from "./hand_over.ts";
import {
  descriptorsOfListener,
  type InheritedSource,
  type ListenerInheritance,
  NOTHING_RELEASED,
  type ReleasedWorker,
} from "./inherited.ts";
import type { Report } from "./reports.ts";
import { SHELL_COUNTER_BYTES, SHELL_COUNTER_NAMES, shellCounters } from "./shell_counters.ts";
import { spawnUdpWorker } from "./udp_worker.ts";
import { type UdpWorkerGoneError, WorkerLink } from "./worker_link_shell.ts";
import type {
  ClusterSettings,
  ListenAnswer,
  ListenerSettings,
  OrderAnswer,
  UdpOrder,
  UdpWorkerOptions,
} from "./worker_messages.ts";

/** What each thread is made of, but for what is shared or its own. */
export type WorkerGroupOptions =
  & Omit<
    UdpWorkerOptions,
    "worker" | "maxFlows" | "tableSeed" | "counters" | "orders" | "rings" | "directory"
  >
  & {
    /** Bounds of all together. */
    readonly bound: FlowBound;
    /** The first one's; each has another. */
    readonly tableSeed: number;
  };

/** See the module. */
export class WorkerGroup {
  /** One for each thread. */
  readonly links: readonly WorkerLink[];
  readonly #counters: readonly SharedArrayBuffer[];

  /** Starts the threads. */
  constructor({ bound, ...options }: WorkerGroupOptions) {
    const numbers = Array.from({ length: options.workers }, (_, worker) => worker);
    const rings = numbers.map(() => new SharedArrayBuffer(RING_BYTES));
    const directory = new SharedArrayBuffer(DIRECTORY_BYTES);
    this.#counters = numbers.map(() => new SharedArrayBuffer(SHELL_COUNTER_BYTES));
    this.links = numbers.map((worker) =>
      new WorkerLink(spawnUdpWorker(), {
        ...options,
        worker,
        maxFlows: Math.max(1, shareOf(bound.maxUnsocketed, options.workers)),
        tableSeed: (options.tableSeed + worker) >>> 0,
        counters: this.#counters[worker],
        orders: new SharedArrayBuffer(8),
        rings,
        directory,
      })
    );
  }

  /** Makes them known to each other, once all run. Throws `UdpWorkerGoneError`. */
  async meet(
    onGone: (error: UdpWorkerGoneError) => void,
    onReport: (report: Report) => void,
  ): Promise<void> {
    const wakeFds = await Promise.all(this.links.map((link) => link.ready));
    for (const link of this.links) {
      link.meet(wakeFds);
      link.onGone = onGone;
      link.onReport = onReport;
    }
  }

  /** Has all carry out an order. Throws as `WorkerLink.order`. */
  all(order: UdpOrder): Promise<OrderAnswer[]> {
    return Promise.all(this.links.map((link) => link.order(order)));
  }

  /**
   * Has all open a listener, the first one first: the kernel may choose the port, and the others
   * join it. A new one that could not be opened everywhere is closed again.
   *
   * @param inherited By worker; see `UdpPlane.setListener`.
   */
  async listen(
    settings: ListenerSettings,
    inherited: readonly (ListenerInheritance | undefined)[],
    isNew: boolean,
  ): Promise<ListenAnswer> {
    const parts = shareAmong(inherited, this.links.length);
    const [first, ...others] = this.links.map(
      (link, worker) => async (settings: ListenerSettings) => {
        const part = parts[worker];
        const order = { type: "listen", settings, ...(part && { inherited: part }) } as const;
        return listenOf(await link.order(order, part && descriptorsOfListener(part)));
      },
    );
    const answer = await first(settings).catch((error) => {
      for (const part of parts.slice(1)) {
        part && descriptorsOfListener(part).forEach(closeUdpSocket);
      }
      throw error;
    });
    try {
      const joined = { ...settings, port: answer.port };
      const answers = await Promise.all(others.map((listen) => listen(joined)));
      return {
        ...answer,
        restored: answers.reduce((sum, one) => sum + one.restored, answer.restored),
      };
    } catch (error) {
      if (isNew) await this.all({ type: "unlisten", listener: settings.listener });
      throw error;
    }
  }

  /** Has all set a cluster; see `UdpPlane.setCluster`. */
  async setCluster(
    settings: ClusterSettings,
    inherited: readonly (readonly InheritedSource[] | undefined)[],
  ): Promise<void> {
    for (const part of inherited.slice(this.links.length)) {
      part?.forEach(({ fd }) => closeUdpSocket(fd));
    }
    await Promise.all(this.links.map((link, worker) => {
      const part = inherited[worker] ?? [];
      return link.order({ type: "cluster", settings, inherited: part }, part.map(({ fd }) => fd));
    }));
  }

  /** Counters of the shell, summed. */
  counters(): Readonly<Record<string, number>> {
    const tables = this.#counters.map(shellCounters);
    return Object.fromEntries(
      SHELL_COUNTER_NAMES.map((name, column) => [
        name,
        tables.reduce((sum, table) => sum + table[column], 0),
      ]),
    );
  }

  /** Ends all threads. Never throws. */
  async stop(): Promise<void> {
    await Promise.all(this.links.map((link) => link.stop()));
    this.#closeWakes();
  }

  /** Has all let go of their sockets and end. Never throws; one that is gone leaves nothing. */
  async release(): Promise<ReleasedWorker[]> {
    // What one hands over to another must find it at work.
    if (this.links.length > 1) {
      await Promise.all(this.links.map((link) => link.order({ type: "pause" }).catch(() => {})));
    }
    const released = await Promise.all(this.links.map((link) => link.release()));
    this.#closeWakes();
    return released;
  }

  /** Nobody signals any of them now. */
  #closeWakes(): void {
    for (const link of this.links) link.closeWake();
  }
}

/** What is left where nothing can be. */
export function nothingOf({ links }: WorkerGroup): ReleasedWorker[] {
  return links.map(() => NOTHING_RELEASED);
}

function listenOf(answer: OrderAnswer): ListenAnswer {
  if (answer.type === "listening") return answer.listen;
  throw new TypeError(`Cannot listen: the worker answered ${JSON.stringify(answer.type)}`);
}

/**
 * What there is for as many workers. A predecessor may have had more: the first one gets their flows,
 * and reads what waits in their sockets.
 */
function shareAmong(
  inherited: readonly (ListenerInheritance | undefined)[],
  workers: number,
): readonly (ListenerInheritance | undefined)[] {
  const surplus = inherited.slice(workers).filter((part) => part !== undefined);
  const own = inherited.slice(0, workers);
  const [first] = own;
  if (surplus.length === 0) return own;
  if (first === undefined) {
    surplus.flatMap(descriptorsOfListener).forEach(closeUdpSocket);
    return own;
  }
  const flows = [first, ...surplus].flatMap((part) => part.flows);
  return [{ ...first, flows, surplus }, ...own.slice(1)];
}
