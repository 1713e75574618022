/**
 * The processes behind the beats: what `/proc` says of each, true as long as its pidfd is held.
 *
 * Facts are read once a process, not once a beat: the pidfd that came with the datagram names the very
 * sender, and as long as it is held and not readable, the pid is that process's. Where it turns
 * readable, the process has ended, and the observer is told at once. Without a pidfd (too many are held)
 * facts are read for each beat, as of whoever has the pid.
 *
 * @module
 */
import {
  type Epoll,
  type Fd,
  hasProcessEnded,
  openPidfd,
  type ReceiveBatch,
  SyscallError,
} from "#ffi/mod.ts";
import type { ProcessPort, SenderFacts } from "./listener.ts";
import type { ObserverCounters } from "./observer_counters.ts";
import { readGeneration, readProcessFacts } from "./process_facts_shell.ts";

/** Tags of pidfds in the epoll: the pid on top of this. */
export const PID_TAG = 2 ** 32;

interface Watched {
  readonly pidfd: Fd;
  readonly facts: SenderFacts;
}

const NOTHING: SenderFacts = { nsInode: 0, generation: 0, innermostPid: 0 };

/** Processes that are watched, by pid. */
export class ProcessWatch implements ProcessPort {
  readonly #epoll: Epoll;
  readonly #counters: ObserverCounters;
  readonly #max: number;
  readonly #watched = new Map<number, Watched>();
  #batch: ReceiveBatch | undefined;
  #at = 0;

  /** Holds at most `max` pidfds. */
  constructor(epoll: Epoll, counters: ObserverCounters, max: number) {
    this.#epoll = epoll;
    this.#counters = counters;
    this.#max = max;
  }

  /** Lends the datagram that is being handled: its sender's pidfd may be taken. */
  lend(batch: ReceiveBatch | undefined, at: number): void {
    this.#batch = batch;
    this.#at = at;
  }

  /** Whether a pid is watched. */
  has(pid: number): boolean {
    return this.#watched.has(pid);
  }

  /** See {@link ProcessPort}. */
  identify(pid: number): SenderFacts {
    const watched = this.#watched.get(pid);
    if (watched !== undefined) return watched.facts;
    const pidfd = this.#takePidfd(pid);
    if (pidfd === undefined) return readFacts(pid);
    const facts = readFacts(pid);
    // Still alive after the reading: so they were read of this process.
    const isTrue = !hasProcessEnded(pidfd);
    if (this.#watched.size >= this.#max) {
      this.#counters.pidfdsRefused += 1;
      pidfd.close();
      return isTrue ? facts : NOTHING;
    }
    const known = isTrue ? facts : NOTHING;
    this.#epoll.add(pidfd, PID_TAG + pid);
    this.#watched.set(pid, { pidfd, facts: known });
    return known;
  }

  /** See {@link ProcessPort}. */
  generationOf(pid: number): number {
    const watched = this.#watched.get(pid);
    // One that has ended, and was not yet told, is not another process: its end comes as such.
    if (watched !== undefined) return watched.facts.generation;
    return readGeneration(pid) ?? 0;
  }

  /** See {@link ProcessPort}. */
  forget(pid: number): void {
    const watched = this.#watched.get(pid);
    if (watched === undefined) return;
    this.#watched.delete(pid);
    this.#epoll.remove(watched.pidfd);
    watched.pidfd.close();
  }

  /** Closes everything. */
  close(): void {
    for (const pid of [...this.#watched.keys()]) this.forget(pid);
  }

  #takePidfd(pid: number): Fd | undefined {
    if (this.#batch !== undefined && this.#batch.pids[this.#at] === pid) {
      const taken = this.#batch.takePidfd(this.#at);
      if (taken !== undefined) return taken;
    }
    try {
      return openPidfd(pid);
    } catch (error) {
      // Gone, or no descriptors left: then nothing is held of it.
      if (error instanceof SyscallError) return undefined;
      throw error;
    }
  }
}

function readFacts(pid: number): SenderFacts {
  const { nsInode, generation, innermostPid, name, cgroup } = readProcessFacts(pid);
  return {
    nsInode: nsInode ?? 0,
    generation: generation ?? 0,
    innermostPid: innermostPid ?? 0,
    ...(name === undefined ? {} : { name }),
    ...(cgroup === undefined ? {} : { cgroup }),
  };
}
