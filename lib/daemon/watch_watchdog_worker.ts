/**
 * The self-watchdog: a thread that ends the process by SIGABRT when the observer's rounds stand still,
 * and that tells systemd while they do not.
 *
 * It starts itself: the module is loaded a second time as a worker named `celld-watchdog`. It sleeps in
 * the kernel, on shared memory, and needs nothing of the thread that it watches.
 *
 * @module
 */
import { call, SIGNALS } from "#ffi/mod.ts";
import { notifySystemd } from "./watch_notify.ts";

/** The name that makes a loaded copy of the program the watchdog. */
export const WATCHDOG_WORKER_NAME = "celld-watchdog";
/** Places in the shared memory: rounds so far, modulo 2^32; not 0 when it is to end. */
export const WATCHDOG_CELL = { rounds: 0, stop: 1 } as const;
const SLEEP_MS_MIN = 25;
const SLEEP_MS_MAX = 500;

/** What the watchdog is told. */
export interface WatchdogOrder {
  /** See {@link WATCHDOG_CELL}. */
  readonly state: Int32Array<SharedArrayBuffer>;
  /** Time without a round that is too long, in milliseconds; absent: it only tells systemd. */
  readonly deadlineMs?: number;
  /** Where systemd listens. */
  readonly notifySocket?: string;
  /** Between two words to systemd, in milliseconds; absent: none. */
  readonly tellEveryMs?: number;
}

/** What a look at the rounds leads to. */
export interface WatchdogStep {
  /** The rounds stand still. */
  readonly isOverdue: boolean;
  /** Systemd is to be told. */
  readonly isTelling: boolean;
}

/** Judges by rounds and time; computes only. */
export class WatchdogJudge {
  readonly #options: Pick<WatchdogOrder, "deadlineMs" | "tellEveryMs">;
  #rounds = 0;
  #changedMs = 0;
  #toldRounds = 0;
  #toldMs = -Infinity;
  #lookedMs: number | undefined;

  constructor(options: Pick<WatchdogOrder, "deadlineMs" | "tellEveryMs">) {
    this.#options = options;
  }

  /** How long to sleep between two looks, in milliseconds. */
  get sleepMs(): number {
    const { tellEveryMs = Infinity } = this.#options;
    return Math.min(SLEEP_MS_MAX, Math.max(SLEEP_MS_MIN, tellEveryMs / 2));
  }

  /** Looks. Before the first round nothing is overdue, and nothing told. */
  look(rounds: number, nowMs: number): WatchdogStep {
    const { deadlineMs = Infinity, tellEveryMs = Infinity } = this.#options;
    const sleptMs = nowMs - (this.#lookedMs ?? nowMs);
    this.#lookedMs = nowMs;
    // One that was stopped itself, as by SIGSTOP, cannot say that the others were not.
    const wasStopped = sleptMs > this.sleepMs + deadlineMs / 2;
    if (rounds !== this.#rounds || wasStopped) this.#changedMs = nowMs;
    this.#rounds = rounds;
    const isOverdue = rounds !== 0 && nowMs - this.#changedMs > deadlineMs;
    const isTelling = !isOverdue && rounds !== this.#toldRounds &&
      nowMs - this.#toldMs >= tellEveryMs;
    if (isTelling) [this.#toldRounds, this.#toldMs] = [rounds, nowMs];
    return { isOverdue, isTelling };
  }
}

/** Starts the thread; it waits for its order. */
export function spawnWatchdogWorker(): Worker {
  return new Worker(import.meta.url, { type: "module", name: WATCHDOG_WORKER_NAME });
}

function guard({ state, notifySocket, ...options }: WatchdogOrder): void {
  const judge = new WatchdogJudge(options);
  while (Atomics.wait(state, WATCHDOG_CELL.stop, 0, judge.sleepMs) === "timed-out") {
    const rounds = Atomics.load(state, WATCHDOG_CELL.rounds);
    const { isOverdue, isTelling } = judge.look(rounds, performance.now());
    if (isOverdue) call("kill", Deno.pid, SIGNALS.SIGABRT);
    if (isTelling) notifySystemd(notifySocket, "WATCHDOG=1\n");
  }
}

interface WorkerPort {
  onmessage: ((event: MessageEvent<WatchdogOrder>) => void) | null;
  postMessage(message: "loaded" | "stopped"): void;
  close(): void;
  readonly name: string;
}

const port = globalThis as unknown as WorkerPort;
if (port.name === WATCHDOG_WORKER_NAME && "WorkerGlobalScope" in globalThis) {
  port.onmessage = ({ data }) => {
    guard(data);
    port.postMessage("stopped");
    port.close();
  };
  port.postMessage("loaded");
}
