/**
 * `celld run`: one cell in this process, without a server.
 *
 * Opens the log, admits the cell (its first event is durable before anything is made), starts
 * the two workers, runs the cell, and leaves nothing open. Policy and audit fail closed: no
 * log, no cell; no listener, no cell; and a log that stays away until the queue of facts is
 * full stops the cell.
 *
 * @module
 */
import { CellEvents } from "#lib/cell/mod.ts";
import type { EventLog } from "#lib/eventlog/mod.ts";
import { signalName } from "#ffi/mod.ts";
import { CellHost } from "./cell_host.ts";
import type { CellRunResult, RunClock } from "./cell_run.ts";
import { makeCellId, readSecrets, reasonOf, RunError, SYSTEM_CLOCK } from "./cell_order.ts";
import { openEventLog } from "./log_store.ts";
import type { RunCellOptions, RunCellResult } from "./ports.ts";

/** How long the last facts may take to become durable, in milliseconds. */
const FLUSH_TIMEOUT_MS = 30_000;

/** Runs a cell to its end. Throws {@link RunError} when it could not be made. */
export async function runCell(options: RunCellOptions): Promise<RunCellResult> {
  if (options.spec.run === undefined) {
    throw new RunError("Cannot run the cell: its spec has no spec.run, and no command was given");
  }
  const secrets = readSecrets(options.spec);
  const log = await openEventLog(options.settings);
  try {
    return await runWithLog(options, log, secrets);
  } finally {
    await log.close();
  }
}

async function runWithLog(
  options: RunCellOptions,
  log: EventLog,
  secrets: Readonly<Record<string, string>>,
): Promise<RunCellResult> {
  const { spec } = options;
  const clock = SYSTEM_CLOCK;
  const source = `/celld/${Deno.hostname()}`;
  const cellId = makeCellId(spec.id, clock.nextId());
  const runId = clock.nextId();
  const events = new CellEvents({ source, cellId, runId, specId: spec.id });
  await admit(options, log, events, clock);

  const host = await startHost(options, log, source).catch(async (error: Error) => {
    await refuse(options, log, events, error);
    throw error;
  });
  try {
    const run = host.prepare({
      spec,
      cellId,
      runId,
      secrets,
      stdinFd: options.stdinMode === "inherit" ? 0 : -1,
      onOutput: (stream, chunk) => options.onOutput(stream, chunk),
    });
    const stop = () => run.stop();
    const kill = () => run.kill();
    options.signal.addEventListener("abort", stop, { once: true });
    options.killSignal?.addEventListener("abort", kill, { once: true });
    const running = host.run(run);
    if (options.signal.aborted) stop();
    const result = await running;
    options.signal.removeEventListener("abort", stop);
    options.killSignal?.removeEventListener("abort", kill);
    await flushOrThrow(host);
    return toResult(result, cellId, runId);
  } finally {
    await host.stop();
  }
}

/** The command becomes an event before anything acts on it. */
async function admit(
  options: RunCellOptions,
  log: EventLog,
  events: CellEvents,
  clock: RunClock,
): Promise<void> {
  const stamp = { id: clock.nextId(), time: new Date(clock.nowMs()).toISOString() };
  const event = events.phase(stamp, "pending");
  try {
    const [seq] = await log.append([event]);
    options.onEvent(event, seq);
  } catch (cause) {
    throw new RunError(`Cannot admit the cell: the event log refuses: ${reasonOf(cause)}`, {
      cause,
    });
  }
}

/** Tells the end of a cell that was admitted and could not be begun. */
async function refuse(
  options: RunCellOptions,
  log: EventLog,
  events: CellEvents,
  error: Error,
): Promise<void> {
  const stamp = { id: SYSTEM_CLOCK.nextId(), time: new Date(SYSTEM_CLOCK.nowMs()).toISOString() };
  const event = events.refused(stamp, "host", error.message);
  try {
    const [seq] = await log.append([event]);
    options.onEvent(event, seq);
  } catch (cause) {
    // The error itself is told by the exit; that the log does not have it is told here.
    options.onWarning?.(`The event log refuses: ${reasonOf(cause)}`);
  }
}

/** Starts the host and removes what killed ones left. */
async function startHost(
  options: RunCellOptions,
  log: EventLog,
  source: string,
): Promise<CellHost> {
  let host: CellHost | undefined;
  try {
    host = await CellHost.start({
      settings: options.settings,
      log,
      source,
      clock: SYSTEM_CLOCK,
      onAppended: (event, seq) => options.onEvent(event, seq),
      onWarning: (text) => options.onWarning?.(text),
    });
    await host.recover();
    return host;
  } catch (cause) {
    await host?.stop();
    throw new RunError(`Cannot use this host: ${reasonOf(cause)} (see celld doctor)`, { cause });
  }
}

async function flushOrThrow(host: CellHost): Promise<void> {
  const left = await host.flush(FLUSH_TIMEOUT_MS);
  if (left === 0) return;
  throw new RunError(
    `Cannot keep the record: ${left} events are not durable after ${FLUSH_TIMEOUT_MS / 1000} s`,
  );
}

function toResult({ end, exit }: CellRunResult, cellId: string, runId: string): RunCellResult {
  if (end.leftovers.length > 0) {
    const left = end.leftovers.map(({ step, reason }) => `${step}: ${reason}`).join("; ");
    if (end.leftovers.every(({ step }) => step === "listener")) {
      throw new RunError(`Cannot record the cell's flows to their end (${left})`);
    }
    throw new RunError(`Cannot remove all of the cell (${left}); the next start tries again`);
  }
  if (end.failure) {
    throw new RunError(`Cannot start the cell at ${end.failure.step}: ${end.failure.reason}`);
  }
  if (exit === undefined) {
    return { exitCode: 125, reason: end.timedOut ? "timeout" : "stopped", cellId, runId };
  }
  return {
    exitCode: exit.exitCode,
    reason: exit.reason,
    ...(exit.signal === undefined ? {} : { signal: signalName(exit.signal) }),
    cellId,
    runId,
  };
}
