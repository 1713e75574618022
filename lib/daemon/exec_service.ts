/**
 * Commands in running cells: asked for by an event, run by the host worker, told of to who asked,
 * ended with them.
 *
 * ```
 * wish ─▶ `exec.started` durable ─▶ host worker ─▶ parts ─▶ who asked
 *                                       └─▶ `exec.ended`, by the host's sink
 * ```
 *
 * @module
 */
import { ERRNO, signalName } from "#ffi/mod.ts";
import type { CellExit, HostClient } from "#lib/cell/mod_shell.ts";
import { type CloudEvent, EVENT_TYPES, type ExecReason, makeEvent } from "#lib/events/mod.ts";
import { type ExecEnd, type ExecPart, type ExecWish, type Refusal, refuse } from "#lib/http/mod.ts";
import { type Cell, isCellEnded } from "#lib/projection/mod.ts";
import { reasonOf } from "./cell_order.ts";
import type { RunClock } from "./cell_run.ts";

/** Commands at once in one cell. */
export const EXECS_PER_CELL_MAX = 8;
/** How long commands may take to end when the server does, in milliseconds. */
const CLOSE_TIMEOUT_MS = 5000;
const EXIT_SIGNAL_BASE = 128;
const EXIT_NOT_EXECUTABLE = 126;
const EXIT_NOT_FOUND = 127;

/** What the service works with. */
export interface ExecServiceOptions {
  readonly host: HostClient;
  readonly clock: RunClock;
  /** CloudEvents source: `/celld/<host>`. */
  readonly source: string;
  /** Whether this celld holds the cell. */
  holds(cellId: string): boolean;
  /** Makes a wish durable; rejects with the log's error, and then has told of it what there is. */
  commit(event: CloudEvent, withdrawn: () => CloudEvent): Promise<void>;
  /** Takes facts. */
  push(events: readonly CloudEvent[]): void;
}

/** Who asked, and for how long they listen. */
export interface ExecCaller {
  readonly requestedBy: string;
  readonly signal: AbortSignal;
}

/** See the module. */
export class ExecService {
  readonly #options: ExecServiceOptions;
  readonly #running = new Map<string, ExecRun>();

  constructor(options: ExecServiceOptions) {
    this.#options = options;
  }

  /** Commands that run now. */
  get runningCount(): number {
    return this.#running.size;
  }

  /** Runs a command. Resolves once the wish is durable; rejects with the log's error. */
  async start(
    cell: Cell,
    wish: ExecWish,
    caller: ExecCaller,
  ): Promise<AsyncIterable<ExecPart> | Refusal> {
    if (isCellEnded(cell) || cell.phase !== "running") {
      return refuse("not-running", "Cannot run the command: the cell does not run");
    }
    if (!this.#options.holds(cell.id)) {
      return refuse("conflict", "Cannot run the command: another celld runs the cell");
    }
    const inCell = [...this.#running.values()].filter(({ cellId }) => cellId === cell.id).length;
    if (inCell >= EXECS_PER_CELL_MAX) {
      return refuse("too-many-commands", `Cannot run more than ${EXECS_PER_CELL_MAX} in a cell`);
    }
    const run = new ExecRun(this.#options, cell, wish);
    this.#running.set(run.id, run);
    void run.ended.then(() => this.#running.delete(run.id));
    await run.start(caller);
    return run.parts(caller.signal);
  }

  /** Gives a command bytes for its stdin. */
  async write(
    { cellId, execId }: { readonly cellId: string; readonly execId: string },
    bytes: Uint8Array,
    isLast: boolean,
  ): Promise<Refusal | undefined> {
    const run = this.#running.get(execId);
    if (run === undefined || run.cellId !== cellId) {
      return refuse("not-found", `Cannot find command ${JSON.stringify(execId.slice(0, 80))}`);
    }
    if (!run.hasStdin) return refuse("conflict", "Cannot write: its stdin was not asked for");
    await run.write(bytes, isLast);
    return undefined;
  }

  /** Ends all commands, and waits for that. */
  async close(): Promise<void> {
    const runs = [...this.#running.values()];
    for (const run of runs) run.kill("clientGone");
    let timer: ReturnType<typeof setTimeout> | undefined;
    const patience = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, CLOSE_TIMEOUT_MS);
    });
    await Promise.race([Promise.all(runs.map(({ ended }) => ended)), patience]);
    clearTimeout(timer);
  }
}

/** One command's life. */
class ExecRun {
  readonly id: string;
  readonly cellId: string;
  readonly #options: ExecServiceOptions;
  readonly #cell: Cell;
  readonly #wish: ExecWish;
  readonly #parts: ExecPart[] = [];
  readonly #done = Promise.withResolvers<void>();
  #startedMs = 0;
  #killedFor: ExecReason | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #wake = () => {};

  constructor(options: ExecServiceOptions, cell: Cell, wish: ExecWish) {
    this.#options = options;
    this.#cell = cell;
    this.#wish = wish;
    this.id = options.clock.nextId();
    this.cellId = cell.id;
  }

  /** Resolves once it has ended, or was never run. */
  get ended(): Promise<void> {
    return this.#done.promise;
  }

  get hasStdin(): boolean {
    return this.#wish.hasStdin;
  }

  async start({ requestedBy, signal }: ExecCaller): Promise<void> {
    const { host, clock } = this.#options;
    const { argv, workingDirectory, hasStdin, timeoutSeconds } = this.#wish;
    this.#startedMs = clock.monotonicMs();
    try {
      await this.#options.commit(
        this.#event(EVENT_TYPES.execStarted, { argv, requestedBy }),
        () => this.#endEvent({ reason: "failed", detail: "the log did not confirm the request" }),
      );
    } catch (error) {
      this.#done.resolve();
      throw error;
    }
    this.#add({ kind: "started", execId: this.id });
    host.listenExec(this.id, {
      output: (stream, bytes) => this.#add({ kind: "output", stream, bytes }),
      ended: (record) => this.#end(this.#endOf(record)),
    });
    this.#timer = setTimeout(() => this.kill("timeout"), timeoutSeconds * 1000);
    signal.addEventListener("abort", () => this.kill("clientGone"), { once: true });
    const directory = workingDirectory === undefined ? {} : { workingDirectory };
    const order = { cellId: this.cellId, execId: this.id, argv, hasStdin, ...directory };
    host.request("exec", order).then(
      () => {
        // Who left before it ran could not end it then.
        if (signal.aborted) this.kill("clientGone");
      },
      (error) => this.#end({ reason: "failed", detail: reasonOf(error) }),
    );
  }

  /** What it does, to its end or that of who listens. */
  async *parts(signal: AbortSignal): AsyncGenerator<ExecPart, void, void> {
    const { host } = this.#options;
    const onAbort = () => this.#wake();
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      while (!signal.aborted) {
        const part = this.#parts.shift();
        if (part === undefined) {
          await new Promise<void>((resolve) => this.#wake = resolve);
          continue;
        }
        yield part;
        if (part.kind === "ended") return;
        if (part.kind !== "output") continue;
        const { stream, bytes } = part;
        const taken = { cellId: this.cellId, execId: this.id, stream, bytes: bytes.length };
        // A worker that is gone ends the command, which is told.
        host.request("execConsumed", taken).catch(() => undefined);
      }
    } finally {
      signal.removeEventListener("abort", onAbort);
      this.kill("clientGone");
    }
  }

  async write(bytes: Uint8Array, isLast: boolean): Promise<void> {
    const { host } = this.#options;
    await host.request("execInput", { cellId: this.cellId, execId: this.id, bytes, isLast });
  }

  /** Ends it; the first reason counts. Of one that has ended, nothing. */
  kill(reason: ExecReason): void {
    if (this.#timer === undefined) return;
    this.#killedFor ??= reason;
    const key = { cellId: this.cellId, execId: this.id };
    this.#options.host.request("execKill", key).catch(() => undefined);
  }

  #add(part: ExecPart): void {
    this.#parts.push(part);
    this.#wake();
  }

  #end(end: ExecEnd & { readonly reason: ExecReason }): void {
    if (this.#timer === undefined) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#options.host.forgetExec(this.id);
    this.#options.push([this.#endEvent(end)]);
    this.#add({ kind: "ended", end });
    this.#done.resolve();
  }

  #endOf(record: CellExit["record"]): ExecEnd & { readonly reason: ExecReason } {
    if (this.#killedFor !== undefined && record.kind !== "exited") {
      return { reason: this.#killedFor };
    }
    switch (record.kind) {
      case "exited":
        return { reason: "exited", exitCode: record.code };
      case "signaled":
        return {
          reason: "signaled",
          exitCode: EXIT_SIGNAL_BASE + record.signal,
          signal: signalName(record.signal),
        };
      case "execFailed": {
        const { errno } = record;
        const isAbsent = errno === ERRNO.ENOENT || errno === ERRNO.ENOTDIR;
        return {
          reason: "execFailed",
          exitCode: isAbsent ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE,
          detail: isAbsent ? "the program was not found" : "the program could not be executed",
        };
      }
      case "lost":
        return { reason: "lost", detail: "it was killed, or its cell has ended" };
    }
  }

  #endEvent(end: ExecEnd): CloudEvent {
    const durationMs = Math.round(this.#options.clock.monotonicMs() - this.#startedMs);
    return this.#event(EVENT_TYPES.execEnded, { ...end, durationMs });
  }

  #event(type: string, data: Record<string, unknown>): CloudEvent {
    const { clock, source } = this.#options;
    const { id: cellId, specId, runId } = this.#cell;
    return makeEvent({
      id: clock.nextId(),
      source,
      type,
      subject: `cell:${cellId}`,
      time: new Date(clock.nowMs()).toISOString(),
      data: {
        cellId,
        specId,
        ...(runId === undefined ? {} : { runId }),
        execId: this.id,
        ...data,
      },
    });
  }
}
