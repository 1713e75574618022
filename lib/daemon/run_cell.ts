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
import { CellEvents, type CellSpec } from "#lib/cell/mod.ts";
import { HostClient } from "#lib/cell/host.ts";
import { type CloudEvent, EVENT_TYPES, makeEvent } from "#lib/events/mod.ts";
import { type EventLog, openSqliteLog } from "#lib/eventlog/mod.ts";
import { FlowAudit } from "#lib/flow/mod.ts";
import { signalName } from "#ffi/mod.ts";
import { CellRun, type CellRunResult, type RunClock } from "./cell_run.ts";
import { logPath, type Settings } from "./config.ts";
import { EventSink } from "./event_sink.ts";
import type { RunCellOptions, RunCellResult } from "./ports.ts";

/** How long the last facts may take to become durable, in milliseconds. */
const FLUSH_TIMEOUT_MS = 30_000;
/** The most of a secret file that is read, in bytes. */
const SECRET_BYTES_MAX = 64 * 1024;
const CELL_ID_BYTES_MAX = 63;

/** The cell could not be run; `exitCode` is what `celld run` exits with. */
export class RunError extends Error {
  override name = "RunError";
  readonly exitCode: number = 125;
}

const SYSTEM_CLOCK: RunClock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  nextId: () => crypto.randomUUID(),
};

/** Runs a cell to its end. Throws {@link RunError} when it could not be made. */
export async function runCell(options: RunCellOptions): Promise<RunCellResult> {
  if (options.spec.run === undefined) {
    throw new RunError("Cannot run the cell: its spec has no spec.run, and no command was given");
  }
  const secrets = readSecrets(options.spec);
  const log = await openLog(options.settings);
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
  const { spec, settings } = options;
  const clock = SYSTEM_CLOCK;
  const source = `/celld/${Deno.hostname()}`;
  const cellId = makeCellId(spec.id, clock.nextId());
  const runId = clock.nextId();
  const stopping = new AbortController();
  const sink = makeSink(options, log, { source, cellId, runId }, stopping);
  const events = new CellEvents({ source, cellId, runId, specId: spec.id });
  await admit(options, log, events, clock);

  const { host, flow } = await startWorkers(settings);
  try {
    const removed = await host.request("recover", null);
    if (removed.length > 0) sink.push([recoveredEvent(source, removed, clock)]);
    const run = new CellRun({
      spec,
      cellId,
      runId,
      settings,
      source,
      secrets,
      stdinFd: options.stdinMode === "inherit" ? 0 : -1,
      host,
      flow,
      clock,
      push: (facts) => sink.push(facts),
      onOutput: (stream, chunk) => options.onOutput(stream, chunk),
    });
    flow.onBatch = (batch) => run.handleFlows(batch);
    flow.onGone = () => stopping.abort();
    const stop = () => run.stop();
    const wantsStop = AbortSignal.any([options.signal, stopping.signal]);
    wantsStop.addEventListener("abort", stop, { once: true });
    const running = run.run();
    if (wantsStop.aborted) stop();
    const result = await running;
    wantsStop.removeEventListener("abort", stop);
    await flushOrThrow(sink);
    return toResult(result, cellId, runId);
  } finally {
    await flow.stop();
    await host.stop();
  }
}

async function openLog(settings: Settings): Promise<EventLog> {
  const path = logPath(settings.stateDir);
  try {
    Deno.mkdirSync(settings.stateDir, { recursive: true, mode: 0o700 });
    return await openSqliteLog(path);
  } catch (cause) {
    throw new RunError(`Cannot open the event log ${JSON.stringify(path)}: ${reasonOf(cause)}`, {
      cause,
    });
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

async function startWorkers(settings: Settings): Promise<{ host: HostClient; flow: FlowAudit }> {
  const [host, flow] = await Promise.allSettled([
    HostClient.start({
      runtimeDir: settings.runtimeDir,
      stateDir: settings.stateDir,
      cgroupParent: settings.cgroupParent,
      nflogGroup: settings.nflogGroup,
      pools: { ipv4: settings.ipv4Pool, ipv6: settings.ipv6Pool },
    }),
    FlowAudit.start(),
  ]);
  if (host.status === "fulfilled" && flow.status === "fulfilled") {
    return { host: host.value, flow: flow.value };
  }
  if (host.status === "fulfilled") await host.value.stop();
  if (flow.status === "fulfilled") await flow.value.stop();
  const failed = [host, flow].find((it) => it.status === "rejected") as PromiseRejectedResult;
  throw new RunError(`Cannot use this host: ${reasonOf(failed.reason)} (see celld doctor)`, {
    cause: failed.reason,
  });
}

function makeSink(
  options: RunCellOptions,
  log: EventLog,
  ids: { source: string; cellId: string; runId: string },
  stopping: AbortController,
): EventSink {
  return new EventSink({
    log,
    onAppended: (event, seq) => options.onEvent(event, seq),
    onUnavailable: (error) => options.onWarning?.(`The event log refuses: ${error.message}`),
    onOverflow: () => stopping.abort(),
    makeGapEvent: (lost) => {
      const time = new Date().toISOString();
      const { source, cellId, runId } = ids;
      return makeEvent({
        id: crypto.randomUUID(),
        source,
        type: EVENT_TYPES.flowGap,
        subject: `cell:${cellId}`,
        time,
        data: {
          cellId,
          runId,
          lost,
          sequenceLost: 0,
          socketDrops: 0,
          from: time,
          to: time,
          cause: "log-unavailable",
        },
      });
    },
  });
}

async function flushOrThrow(sink: EventSink): Promise<void> {
  const left = await sink.flush(FLUSH_TIMEOUT_MS);
  if (left === 0) return;
  throw new RunError(
    `Cannot keep the record: ${left} events are not durable after ${FLUSH_TIMEOUT_MS / 1000} s`,
  );
}

function recoveredEvent(source: string, removed: readonly string[], clock: RunClock): CloudEvent {
  return makeEvent({
    id: clock.nextId(),
    source,
    type: EVENT_TYPES.hostRecovered,
    time: new Date(clock.nowMs()).toISOString(),
    data: { host: Deno.hostname(), adopted: [], removed: [...removed] },
  });
}

function toResult({ end, exit }: CellRunResult, cellId: string, runId: string): RunCellResult {
  if (end.leftovers.length > 0) {
    const left = end.leftovers.map(({ step, reason }) => `${step}: ${reason}`).join("; ");
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

/** `<spec id>-<8 hex>`: many runs of one spec are many cells. */
function makeCellId(specId: string, uuid: string): string {
  const suffix = `-${uuid.slice(0, 8)}`;
  return specId.slice(0, CELL_ID_BYTES_MAX - suffix.length).replace(/-+$/, "") + suffix;
}

/** Reads the secrets that a spec names; a missing one is an error before anything is made. */
function readSecrets(spec: CellSpec): Record<string, string> {
  const values: Record<string, string> = {};
  for (const { name, fromEnv, fromFile } of spec.run?.secrets ?? []) {
    values[name] = fromEnv !== undefined
      ? readSecretVariable(name, fromEnv)
      : readSecretFile(name, fromFile ?? "");
  }
  return values;
}

function readSecretVariable(name: string, variable: string): string {
  const value = Deno.env.get(variable);
  if (value !== undefined) return value;
  throw new RunError(`Cannot read secret ${JSON.stringify(name)}: ${variable} is not set`);
}

function readSecretFile(name: string, path: string): string {
  try {
    const { size } = Deno.statSync(path);
    if (size > SECRET_BYTES_MAX) throw new RangeError(`it has ${size} bytes, more than 65536`);
    return Deno.readTextFileSync(path);
  } catch (cause) {
    throw new RunError(`Cannot read secret ${JSON.stringify(name)}: ${reasonOf(cause)}`, { cause });
  }
}

function reasonOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
