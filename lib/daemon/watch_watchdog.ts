/**
 * The owner's side of the self-watchdog: says that a round is done, and ends the thread.
 *
 * @module
 */
import { spawnWatchdogWorker, WATCHDOG_CELL, type WatchdogOrder } from "./watch_watchdog_worker.ts";
import { WatchError } from "./watch_support.ts";

/** The deadline under systemd's watchdog, where the flag says none. */
const SYSTEMD_SECONDS = 4;

/** What is guarded, as flags and environment say; undefined: nothing is. */
export function watchdogOrder(
  selfWatchdogSecs: number | undefined,
  env: Readonly<Record<string, string | undefined>>,
): Omit<WatchdogOrder, "state"> | undefined {
  const { NOTIFY_SOCKET: notifySocket = "", WATCHDOG_USEC = "" } = env;
  const everyUs = /^\d{1,15}$/.test(WATCHDOG_USEC) ? Number(WATCHDOG_USEC) : 0;
  const isSupervised = notifySocket !== "" && everyUs > 0;
  const seconds = selfWatchdogSecs ?? (isSupervised ? SYSTEMD_SECONDS : undefined);
  if (seconds === undefined) return undefined;
  const telling = isSupervised ? { notifySocket, tellEveryMs: everyUs / 2000 } : {};
  return { deadlineMs: seconds * 1000, ...telling };
}

/** See the module. */
export class SelfWatchdog {
  readonly #state = new Int32Array(new SharedArrayBuffer(8));
  readonly #worker: Worker;
  readonly #stopped = Promise.withResolvers<void>();

  private constructor(worker: Worker) {
    this.#worker = worker;
  }

  /** Starts the thread. Throws {@link WatchError} where it fails; `onGone` tells that it did later. */
  static async start(
    order: Omit<WatchdogOrder, "state">,
    onGone: (reason: string) => void,
  ): Promise<SelfWatchdog> {
    const watchdog = new SelfWatchdog(spawnWatchdogWorker());
    const loaded = Promise.withResolvers<void>();
    const worker = watchdog.#worker;
    worker.onerror = (event) => {
      event.preventDefault();
      loaded.reject(new WatchError(`Cannot guard the observer: ${event.message}`));
      watchdog.#stopped.resolve();
      onGone(event.message);
    };
    worker.onmessage = ({ data }) => {
      if (data === "loaded") loaded.resolve();
      else watchdog.#stopped.resolve();
    };
    await loaded.promise;
    worker.postMessage({ ...order, state: watchdog.#state });
    return watchdog;
  }

  /** A round is done. */
  stamp(): void {
    // 0 is "no round yet".
    if (Atomics.add(this.#state, WATCHDOG_CELL.rounds, 1) === -1) this.stamp();
  }

  /** Ends the thread. */
  async stop(): Promise<void> {
    Atomics.store(this.#state, WATCHDOG_CELL.stop, 1);
    Atomics.notify(this.#state, WATCHDOG_CELL.stop);
    await this.#stopped.promise;
    this.#worker.terminate();
  }
}
