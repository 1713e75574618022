/**
 * A program that runs many cells through one `CellHost`, as a server would, inside whatever
 * network namespace it is started in; `churn_client.ts` starts it and talks to it.
 *
 * Faults are put in front of the ports that a cell is made through (the host worker's client,
 * the flow listener), so that nothing in celld knows of them.
 *
 * @module
 */
import { bindNflogGroup, NetlinkConn, withNetns } from "#ffi/mod.ts";
import { type LifecycleStep, readCellSpec } from "#lib/cell/mod.ts";
import { HostClient } from "#lib/cell/mod_shell.ts";
import { CellHost } from "#lib/daemon/cell_host.ts";
import type { CellRun } from "#lib/daemon/cell_run.ts";
import { logPath, type Settings } from "#lib/daemon/config.ts";
import { type EventLog, openSqliteLog } from "#lib/eventlog/mod.ts";
import { FlowAudit } from "#lib/flow/mod.ts";
import type {
  ChurnAnswer,
  ChurnMessage,
  ChurnOrder,
  ChurnRequest,
  ChurnResult,
} from "./churn_protocol.ts";

const OUTPUT_CHARS_MAX = 64 * 1024;
const FLUSH_MS = 60_000;

const encoder = new TextEncoder();

function say(answer: ChurnAnswer): void {
  const bytes = encoder.encode(`${JSON.stringify(answer)}\n`);
  for (let done = 0; done < bytes.length;) done += Deno.stdout.writeSync(bytes.subarray(done));
}

/** Orders by cell, and by the number that the flow listener knows the cell by. */
const orders = new Map<string, { order: ChurnOrder; run: CellRun }>();

async function throughStep<T>(
  cellId: string | undefined,
  step: LifecycleStep,
  work: () => Promise<T>,
): Promise<T> {
  const entry = cellId === undefined ? undefined : orders.get(cellId);
  if (entry?.order.stopAt === step) entry.run.stop();
  const fault = entry?.order.fault;
  const fails = (when: "before" | "after") => {
    if (fault?.step === step && fault.when === when) throw new Error(`made to fail ${when} it`);
  };
  fails("before");
  const result = await work();
  fails("after");
  return result;
}

function takeGroup({ netnsFd, group }: { netnsFd: number; group: number }): NetlinkConn {
  const conn = withNetns(netnsFd, () => NetlinkConn.open("netfilter"));
  bindNflogGroup(conn, {
    group,
    copyRangeBytes: 128,
    timeoutCentis: 1,
    queueThreshold: 32,
    bufferBytes: 65536,
  });
  return conn;
}

function wrapPorts(): void {
  const { request } = HostClient.prototype;
  HostClient.prototype.request = function (operation, asks) {
    if (operation !== "step") return request.call(this, operation, asks) as never;
    const { cellId, step } = asks as { cellId: string; step: LifecycleStep };
    return throughStep(cellId, step, () => request.call(this, operation, asks)) as never;
  };
  const { watch } = FlowAudit.prototype;
  FlowAudit.prototype.watch = function (order) {
    const entry = [...orders.values()].find(({ run }) => run.index === order.cell);
    return throughStep(entry?.order.cellId, "listener", async () => {
      using _other = entry?.order.takeGroup === true ? takeGroup(order) : undefined;
      return await watch.call(this, order);
    });
  };
}

/** Workers by name, so that one can be broken. */
const workers = new Map<string, Worker>();

function rememberWorkers(): void {
  const Original = globalThis.Worker;
  globalThis.Worker = class extends Original {
    constructor(specifier: string | URL, options?: WorkerOptions) {
      super(specifier, options);
      workers.set(options?.name ?? "", this);
    }
  };
}

class Churn {
  readonly #log: EventLog;
  readonly #host: CellHost;
  readonly #flow: FlowAudit;

  constructor(log: EventLog, host: CellHost, flow: FlowAudit) {
    this.#log = log;
    this.#host = host;
    this.#flow = flow;
  }

  static async start(settings: Settings): Promise<Churn> {
    Deno.mkdirSync(settings.stateDir, { recursive: true, mode: 0o700 });
    const log = await openSqliteLog(logPath(settings.stateDir));
    let flow: FlowAudit | undefined;
    const { start } = FlowAudit;
    FlowAudit.start = async (...args) => flow = await start.apply(FlowAudit, args);
    const host = await CellHost.start({
      settings,
      log,
      source: "/celld/churn",
      clock: {
        nowMs: () => Date.now(),
        monotonicMs: () => performance.now(),
        nextId: () => crypto.randomUUID(),
      },
      onAppended: () => {},
      onWarning: (warning) => say({ warning }),
    });
    await host.recover();
    return new Churn(log, host, flow!);
  }

  async run(order: ChurnOrder): Promise<ChurnResult> {
    let output = "";
    const run = this.#host.prepare({
      spec: readCellSpec(order.spec),
      cellId: order.cellId,
      runId: crypto.randomUUID(),
      secrets: {},
      stdinFd: -1,
      onOutput: (_stream, chunk) => {
        if (output === "") say({ running: order.cellId });
        output = (output + new TextDecoder().decode(chunk)).slice(0, OUTPUT_CHARS_MAX);
        if (order.stopOnOutput === true) run.stop();
      },
    });
    orders.set(order.cellId, { order, run });
    try {
      const { end, exit } = await this.#host.run(run);
      return {
        cellId: order.cellId,
        ...(end.failure ? { failure: end.failure } : {}),
        stopRequested: end.stopRequested,
        ran: end.ran,
        leftovers: end.leftovers.map(({ step, reason }) => `${step}: ${reason}`),
        ...(exit ? { exitCode: exit.exitCode, reason: exit.reason } : {}),
        output,
      };
    } finally {
      orders.delete(order.cellId);
    }
  }

  pause(ms: number): void {
    this.#flow.pause(ms);
  }

  async stop(): Promise<void> {
    const left = await this.#host.flush(FLUSH_MS);
    await this.#host.stop();
    await this.#log.close();
    if (left > 0) throw new Error(`Cannot end well: ${left} events are not durable`);
  }
}

let churn: Churn | undefined;

async function serve(request: ChurnRequest): Promise<ChurnResult | undefined> {
  switch (request.op) {
    case "start":
      churn = await Churn.start(request.settings);
      return undefined;
    case "run":
      return await churn!.run(request.order);
    case "pause":
      churn!.pause(request.ms);
      return undefined;
    case "break":
      // Neither worker knows what to do with it: an uncaught error, as of any bug.
      workers.get(request.worker)!.postMessage(null);
      return undefined;
    case "stop":
      await churn!.stop();
      return undefined;
  }
}

async function answer(message: ChurnMessage): Promise<void> {
  try {
    const result = await serve(message);
    say({ id: message.id, ...(result === undefined ? {} : { result }) });
  } catch (error) {
    say({ id: message.id, error: error instanceof Error ? error.message : String(error) });
  }
}

async function main(): Promise<void> {
  // The runtime makes a socket pair for signals some time after its start, or now: its
  // descriptors are counted.
  Deno.addSignalListener("SIGUSR2", () => {});
  rememberWorkers();
  wrapPorts();
  let rest = "";
  for await (const text of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) void answer(JSON.parse(line) as ChurnMessage);
  }
}

if (import.meta.main) await main();
