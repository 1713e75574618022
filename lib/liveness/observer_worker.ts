/**
 * The observer worker: one thread that hears all beats.
 *
 *   host's socket, cells' sockets, UDP ─▶ batches ─▶ {@link Observer} ─▶ transitions ─▶ owner
 *   pidfds of the agents ────────────────▶ ended ────────┘
 *
 * It starts itself: the module is loaded a second time as a worker named `celld-observer`. One epoll; it
 * sleeps until a datagram, an exit, an order, or the exact time of the next stall. Before a stall is told
 * all sockets are emptied, so that nobody is called silent whose beat was waiting.
 *
 * @module
 */
import {
  Epoll,
  ERRNO,
  getRlimit,
  hasProcessEnded,
  monotonicNanoseconds,
  ReceiveBatch,
  RLIMIT,
  SyscallError,
  UnixBindError,
} from "#ffi/mod.ts";
import { EventOutbox } from "./event_outbox_worker.ts";
import type { Datagram, Listener } from "./listener.ts";
import { kernelClock } from "./kernel_clock_shell.ts";
import { LoopTimes } from "./loop_times.ts";
import { NOTIFY_BYTES_MAX } from "./notify.ts";
import { Observer } from "./observer.ts";
import { ObserverClock } from "./observer_clock.ts";
import {
  type CellSocketOrder,
  type LivenessOptions,
  OBSERVER_WORKER_NAME,
  type ObserverAnswer,
  type ObserverMessage,
  type ObserverOrder,
  type SocketFacts,
} from "./observer_messages.ts";
import { STALLS_PER_TICK } from "./observer_options.ts";
import { SocketTable } from "./observer_sockets_worker.ts";
import { ORIGIN } from "./origin.ts";
import { readPidMax, readProcessFacts } from "./process_facts_shell.ts";
import { PID_TAG, ProcessWatch } from "./process_watch_worker.ts";
import { addressKey } from "./rate_limit.ts";
import { DEFAULT_TRACKER_CAPACITY } from "./tracker.ts";

/** Datagrams of one system call. */
const BATCH_SLOTS = 64;
/** Datagrams taken from one socket before the others get their turn. */
const DRAIN_BUDGET = 4096;
/** How often pid_max is read again. */
const PID_MAX_INTERVAL_NS = 60e9;
/** A round that takes longer is counted, unless told otherwise. */
const ITERATION_BUDGET_MS = 250;
/** The longest sleep of the epoll, which counts in 31 bits of milliseconds. */
const SLEEP_MS_MAX = 60_000;
/** The same where time passes that the epoll does not count. */
const SUSPENDED_MS_MAX = 1000;
/**
 * The least time between two rounds while beats drip in: a wake-up costs as much as tens of beats. It
 * delays no deadline, and a beat after a pause not at all.
 */
const ROUND_MS = 5;
/** How soon an owner that is behind is looked at again. */
const OWNER_WAIT_MS = 20;
/** Descriptors that are left to the rest of the program. */
const DESCRIPTORS_RESERVED = 512;

/** Starts the worker's thread. */
export function spawnObserverWorker(): Worker {
  return new Worker(import.meta.url, { type: "module", name: OBSERVER_WORKER_NAME });
}

/** Where a worker's messages come from and go to. */
interface WorkerPort {
  onmessage: ((event: MessageEvent<ObserverOrder>) => void) | null;
  postMessage(message: ObserverMessage, transfer?: Transferable[]): void;
  close(): void;
  readonly name: string;
}

class ObserverWorker {
  readonly #port: WorkerPort;
  readonly #epoll: Epoll;
  readonly #observer: Observer;
  readonly #watch: ProcessWatch;
  readonly #outbox: EventOutbox;
  readonly #batch = new ReceiveBatch({ slots: BATCH_SLOTS, payloadBytes: NOTIFY_BYTES_MAX + 1 });
  readonly #sockets: SocketTable;
  readonly #datagram: Datagram;
  readonly #options: LivenessOptions;
  readonly #nsInode = readProcessFacts("self").nsInode ?? 0;
  readonly #pidfdsMax: number;
  readonly #times: LoopTimes;
  readonly #clock: ObserverClock;
  /** Watched processes whose end is known and not told yet. */
  readonly #ended = new Set<number>();
  #pidMaxDueNs = PID_MAX_INTERVAL_NS;
  /** Orders that came while the loop was waiting. */
  readonly #orders: ObserverOrder[] = [];
  #isStopping = false;
  /** When the last round ended. */
  #roundNs = 0;
  /** A socket had more than one round takes. */
  #isBusy = false;

  constructor(
    port: WorkerPort,
    options: LivenessOptions,
    handled: Int32Array<SharedArrayBuffer>,
  ) {
    this.#port = port;
    this.#options = options;
    this.#clock = new ObserverClock(kernelClock(options.clock));
    this.#times = new LoopTimes((options.iterationBudgetMs ?? ITERATION_BUDGET_MS) * 1e6);
    this.#pidfdsMax = options.pidfdsMax ?? defaultPidfds(options);
    this.#outbox = new EventOutbox((message, list) => port.postMessage(message, list), handled);
    const processes = {
      identify: (pid: number) => this.#watch.identify(pid),
      generationOf: (pid: number) => this.#watch.generationOf(pid),
      forget: (pid: number) => this.#watch.forget(pid),
    };
    const core = { ...options, nsInode: this.#nsInode, pidMax: readPidMax() };
    this.#observer = new Observer(core, processes, (event) => this.#outbox.push(event));
    if (options.tellsBeats === true) {
      this.#observer.onBeat = (beat, nowNs) => this.#outbox.pushBeat(beat, nowNs);
    }
    this.#epoll = new Epoll();
    this.#sockets = new SocketTable(this.#epoll);
    this.#watch = new ProcessWatch(this.#epoll, this.#observer.counters, this.#pidfdsMax);
    this.#datagram = emptyDatagram(this.#batch.bytes);
  }

  /** Binds the sockets, and starts the loop. Throws where a socket cannot be bound. */
  start(): void {
    const { socket, udp } = this.#options;
    const facts = {
      ...(socket === undefined ? {} : { socket: this.#sockets.openHost(socket) }),
      ...(udp === undefined ? {} : { udpPort: this.#sockets.openUdp(this.#options, udp) }),
      startedAtMs: Date.now() - this.#nowNs() / 1e6,
      startedAtMonotonicNs: Number(monotonicNanoseconds()) - this.#nowNs(),
      nsInode: this.#nsInode,
      pidfdsMax: this.#pidfdsMax,
    };
    this.#port.onmessage = ({ data }) => {
      // Carried out by the loop: while it waits, the epoll is not to be touched.
      this.#orders.push(data);
      this.#epoll.wake();
    };
    this.#port.postMessage({ kind: "ready", facts });
    void this.#run();
  }

  /** Closes everything. */
  close(): void {
    this.#sockets.closeAll();
    this.#watch.close();
    this.#batch.closeDescriptors();
    this.#epoll.close();
  }

  async #run(): Promise<void> {
    while (!this.#isStopping) {
      const sleepMs = this.#sleepMs();
      this.#clock.sleeping(sleepMs);
      const ready = await this.#epoll.waitAsync(sleepMs);
      if (ready.length > 0) await this.#gather();
      this.#isBusy = false;
      const startNs = this.#nowNs();
      for (const { tag } of ready) {
        if (tag >= PID_TAG) this.#ended.add(tag - PID_TAG);
        else this.#drain(tag);
      }
      const polledNs = this.#nowNs();
      this.#tick();
      const tickedNs = this.#nowNs();
      for (const order of this.#orders.splice(0)) this.#handleOrder(order);
      this.#outbox.flush();
      this.#roundNs = this.#nowNs();
      this.#times.stage("poll", polledNs - startNs);
      this.#times.stage("drain_pending", tickedNs - polledNs);
      this.#times.stage("maintenance", this.#roundNs - tickedNs);
      this.#times.iteration(this.#roundNs - startNs);
    }
    this.close();
    this.#outbox.flush(true);
    this.#port.postMessage({ kind: "stopped" });
    this.#port.close();
  }

  /** Lets more beats come before a round, unless the last one is long ago, was full, or a stall is due. */
  async #gather(): Promise<void> {
    if (this.#isBusy) return;
    const dueNs = this.#observer.nextDeadlineNs() ?? Infinity;
    const untilNs = Math.min(this.#roundNs + ROUND_MS * 1e6, dueNs);
    const waitMs = Math.floor((untilNs - this.#nowNs()) / 1e6);
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
  }

  #tick(): void {
    this.#tellEnded();
    const dueNs = this.#observer.nextDeadlineNs();
    if (dueNs !== undefined && dueNs <= this.#nowNs() && !this.#outbox.isBehind) {
      // A beat that waits in a socket is no silence; an exit that waits is no hang.
      for (const tag of this.#sockets.tags()) this.#drain(tag);
      this.#lookForEnded();
      this.#tellEnded();
      this.#observer.tick(this.#nowNs(), Math.min(STALLS_PER_TICK, this.#outbox.room));
    }
    if (this.#nowNs() >= this.#pidMaxDueNs) {
      this.#pidMaxDueNs = this.#nowNs() + PID_MAX_INTERVAL_NS;
      this.#observer.pidMax = readPidMax();
    }
  }

  #sleepMs(): number {
    const dueNs = Math.min(this.#observer.nextDeadlineNs() ?? Infinity, this.#pidMaxDueNs);
    const sleepMs = Math.ceil((dueNs - this.#nowNs()) / 1e6);
    const least = this.#outbox.isBehind ? OWNER_WAIT_MS : 0;
    const most = this.#options.clock === "boottime" ? SUSPENDED_MS_MAX : SLEEP_MS_MAX;
    return Math.min(most, Math.max(least, sleepMs));
  }

  /** Empties a socket, within the budget. A socket that broke is closed and told; the others go on. */
  #drain(tag: number): void {
    const socket = this.#sockets.get(tag);
    if (socket === undefined) return;
    let taken = 0;
    while (taken < DRAIN_BUDGET) {
      const count = this.#batch.receive(socket.fd);
      if (count === -ERRNO.EAGAIN!) break;
      if (count === -ERRNO.EINTR! || count === -ERRNO.ECONNREFUSED!) continue;
      if (count < 0) return this.#tellBroken(tag, new SyscallError("receive beats", -count));
      // Before the batch is judged: a pid in it may have passed on to another process.
      if (socket.listener.kind !== "udp") this.#lookForEnded();
      this.#handleBatch(socket.listener, count);
      taken += count;
      if (count < BATCH_SLOTS) break;
    }
    if (taken >= DRAIN_BUDGET) this.#isBusy = true;
    this.#observer.counters.rightsClosed = this.#batch.rightsClosed;
  }

  #handleBatch(listener: Listener, count: number): void {
    const datagram = this.#datagram;
    const batch = this.#batch;
    datagram.listener = listener;
    datagram.nowNs = this.#nowNs();
    for (let at = 0; at < count; at++) {
      datagram.offset = batch.payloadAt(at);
      datagram.length = batch.lengthAt(at);
      datagram.isTruncated = batch.isTruncatedAt(at);
      datagram.isControlTruncated = batch.isControlTruncatedAt(at);
      if (listener.kind === "udp") {
        datagram.address = listener.receiver === undefined ? 0 : addressKey(batch.nameAt(at));
      } else {
        const pid = batch.pids[at]!;
        datagram.pid = pid;
        datagram.uid = batch.uids[at]!;
        if (this.#ended.has(pid) && isAlive(batch.pidfdAt(at))) this.#tellOneEnded(pid);
        this.#watch.lend(batch, at);
      }
      this.#observer.handle(datagram);
    }
    this.#watch.lend(undefined, 0);
    batch.closeDescriptors();
  }

  #lookForEnded(): void {
    for (const { tag } of this.#epoll.wait(0)) if (tag >= PID_TAG) this.#ended.add(tag - PID_TAG);
  }

  #tellEnded(): void {
    for (const pid of this.#ended) this.#tellOneEnded(pid);
  }

  #tellOneEnded(pid: number): void {
    this.#ended.delete(pid);
    this.#observer.processEnded(pid, this.#nowNs());
  }

  #handleOrder(order: ObserverOrder): void {
    switch (order.kind) {
      case "start":
        return;
      case "addCell":
        return this.#answer(order.id, () => ({ socket: this.#addCell(order.order) }));
      case "removeCell":
        return this.#answer(order.id, () => this.#removeCell(order.cellId));
      case "agents":
        return this.#answer(order.id, () => ({ agents: this.#observer.rows(this.#nowNs()) }));
      case "counters":
        return this.#answer(order.id, () => ({
          counters: {
            ...this.#observer.counterTable(),
            ...this.#times.table(),
            ...this.#clock.table(),
          },
        }));
      case "stop":
        this.#isStopping = true;
    }
  }

  #answer(id: number, work: () => ObserverAnswer): void {
    try {
      const answer = work();
      // Events go first: whoever hears the answer has heard of all before it.
      this.#outbox.flush();
      this.#port.postMessage({ kind: "done", id, answer });
    } catch (error) {
      this.#port.postMessage({ kind: "failed", id, ...failureOf(error) });
    }
  }

  #addCell(order: CellSocketOrder): SocketFacts {
    const facts = this.#sockets.openCell(order);
    const { cellId, expected, thresholdNs } = order;
    if (thresholdNs !== undefined) this.#observer.setCellThreshold(cellId, thresholdNs);
    if (expected !== undefined) {
      const withinNs = expected.withinNs + this.#nowNs();
      this.#observer.expectations.add({ ...expected, withinNs });
    }
    return facts;
  }

  #removeCell(cellId: string): ObserverAnswer {
    const tag = this.#sockets.tagOfCell(cellId);
    if (tag === undefined) return {};
    this.#drain(tag);
    this.#sockets.close(tag);
    this.#lookForEnded();
    this.#tellEnded();
    this.#observer.removeCell(cellId, this.#nowNs());
    return {};
  }

  #tellBroken(tag: number, error: Error): void {
    const listener = this.#sockets.get(tag)?.listener;
    const cellId = listener?.kind === "cell" ? listener.cell : undefined;
    this.#sockets.close(tag);
    const cell = cellId === undefined ? {} : { cellId };
    this.#port.postMessage({ kind: "broken", message: error.message, ...cell });
  }

  #nowNs(): number {
    return this.#clock.nowNs();
  }
}

/** One for each agent, as far as the limit of descriptors has room for them. */
function defaultPidfds(options: LivenessOptions): number {
  const { soft } = getRlimit(RLIMIT.NOFILE);
  const room = Number(soft) - DESCRIPTORS_RESERVED;
  return Math.max(0, Math.min(2 * (options.capacity ?? DEFAULT_TRACKER_CAPACITY), room));
}

function emptyDatagram(bytes: Uint8Array): Datagram {
  return {
    listener: { kind: "udp", origin: ORIGIN.networkUnverified },
    bytes,
    offset: 0,
    length: 0,
    isTruncated: false,
    isControlTruncated: false,
    pid: 0,
    uid: -1,
    address: 0,
    nowNs: 0,
  };
}

function isAlive(pidfd: number): boolean {
  return pidfd >= 0 && !hasProcessEnded(pidfd);
}

function failureOf(error: unknown): { code: string; message: string } {
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof SyscallError) return { code: error.code, message };
  if (error instanceof UnixBindError) return { code: error.reason, message };
  return { code: error instanceof Error ? error.name : "Error", message };
}

const port = globalThis as unknown as WorkerPort;
if (port.name === OBSERVER_WORKER_NAME && "WorkerGlobalScope" in globalThis) {
  port.onmessage = ({ data }) => {
    if (data.kind !== "start") return;
    let worker: ObserverWorker | undefined;
    try {
      worker = new ObserverWorker(port, data.options, data.handled);
      worker.start();
    } catch (error) {
      worker?.close();
      port.postMessage({ kind: "refused", ...failureOf(error) });
      port.close();
    }
  };
  port.postMessage({ kind: "loaded" });
}
