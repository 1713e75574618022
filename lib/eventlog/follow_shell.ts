/**
 * Follows a log: pages of old entries first, then new ones as they come, by one and the same
 * loop, so that there is no hand-over to get wrong.
 *
 * A {@link Bell} wakes followers when this process appends. Entries of other processes are found
 * by looking again after a short time; an adapter that has no other processes asks for none.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import type { LogEntry } from "./log.ts";

/** Wakes everyone who waits for something to happen. */
export class Bell {
  #waiting = new Set<() => void>();
  #silenced = false;

  /** Wakes everyone who waits now. */
  ring(): void {
    const woken = this.#waiting;
    this.#waiting = new Set();
    for (const wake of woken) wake();
  }

  /** Wakes everyone, and lets nobody wait any more. */
  silence(): void {
    this.#silenced = true;
    this.ring();
  }

  /** Whether it was silenced. */
  get isSilenced(): boolean {
    return this.#silenced;
  }

  /** Resolves at the next ring, when the signal is aborted, or after `timeoutMs` where given. */
  wait(signal: AbortSignal | undefined, timeoutMs: number | undefined): Promise<void> {
    if (this.#silenced || signal?.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      let timer: ReturnType<typeof setTimeout> | undefined;
      const wake = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", wake);
        this.#waiting.delete(wake);
        resolve();
      };
      if (timeoutMs !== undefined) timer = setTimeout(wake, timeoutMs);
      signal?.addEventListener("abort", wake, { once: true });
      this.#waiting.add(wake);
    });
  }
}

/** What {@link follow} needs of an adapter. */
export interface Source {
  /** A page of entries after `since`; empty where there are none yet. May throw. */
  readonly readPage: (since: number) => readonly LogEntry[];
  /** Rings after each append, silenced when the log is closed. */
  readonly bell: Bell;
  /** Look again after this time even if the bell did not ring; absent: never. */
  readonly pollMs?: number;
}

/** Every entry after `since`, and then each new one, until the signal or the end of the log. */
export async function* follow(
  source: Source,
  since: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<LogEntry, void, void> {
  let cursor = since;
  const isOver = () => source.bell.isSilenced || signal?.aborted === true;
  while (!isOver()) {
    // Nothing suspends between this read and the wait below, so no ring can fall in between.
    const page = source.readPage(cursor);
    if (page.length === 0) {
      await source.bell.wait(signal, source.pollMs);
      continue;
    }
    for (const entry of page) {
      if (isOver()) return;
      yield entry;
      cursor = entry.seq;
    }
    // A long replay must leave the event loop room for everything else.
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
}
