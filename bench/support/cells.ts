/**
 * A warm host for benches: the log on a real disk, both workers running, cells made from a spec
 * and run one after the other or side by side.
 *
 * @module
 */
import { CellEvents, type CellSpec, readCellSpec } from "#lib/cell/mod.ts";
import { CellHost } from "#lib/daemon/cell_host.ts";
import type { CellRun, RunClock } from "#lib/daemon/cell_run.ts";
import { logPath, resolveSettings, type Settings } from "#lib/daemon/config.ts";
import { type EventLog, openSqliteLog } from "#lib/eventlog/mod.ts";
import type { CloudEvent } from "#lib/events/mod.ts";
import { FAR_ADDRESS, type Ground, GROUND_DIR } from "./ground.ts";

const SOURCE = "/celld/bench";
const FLUSH_MS = 30_000;
const CLOCK: RunClock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  nextId: () => crypto.randomUUID(),
};

/** How a cell of a bench ended, and what it wrote. */
export interface BenchCellResult {
  readonly exitCode: number | undefined;
  readonly output: Uint8Array;
}

/** What a bench's cell is given. */
export interface BenchCellOptions {
  /** Takes the output as it comes. */
  readonly onOutput?: (chunk: Uint8Array) => void;
}

/** The spec of a bench's cell: two rules, the network of the ground, the rest as it comes. */
export function benchSpec(argv: readonly string[], env: Record<string, string> = {}): CellSpec {
  return readCellSpec(benchSpecDocument(argv, env));
}

/** The same as a document. */
export function benchSpecDocument(
  argv: readonly string[],
  env: Record<string, string> = {},
): Record<string, unknown> {
  return {
    apiVersion: "cellos.io/v1",
    kind: "ExecutionCell",
    spec: {
      id: "bench",
      authority: {
        egressRules: [
          { host: FAR_ADDRESS, ports: ["1-30000"], protocol: "udp" },
          { host: FAR_ADDRESS, port: 443, protocol: "tcp" },
        ],
      },
      lifetime: { ttlSeconds: 3600 },
      run: {
        argv: [...argv],
        env,
        mounts: [{ source: `${GROUND_DIR}/workload`, target: "/bench" }],
        limits: { memoryMaxBytes: 256 * 1024 * 1024, pidsMax: 64 },
      },
    },
  };
}

/** Where a bench's settings point. */
export function benchSettings(ground: Ground): Settings {
  return resolveSettings({
    flags: {
      runtimeDir: `${GROUND_DIR}/celld`,
      stateDir: ground.stateDir,
      cgroupParent: ground.cgroupParent,
    },
    env: {},
  }).settings;
}

/** See the module. */
export class BenchHost implements AsyncDisposable {
  readonly #log: EventLog;
  readonly #host: CellHost;
  #cells = 0;

  private constructor(log: EventLog, host: CellHost) {
    this.#log = log;
    this.#host = host;
  }

  /** Starts both workers and opens the log. */
  static async start(
    ground: Ground,
    onAppended: (event: CloudEvent) => void = () => {},
  ): Promise<BenchHost> {
    const log = await openSqliteLog(logPath(ground.stateDir));
    const host = await CellHost.start({
      settings: benchSettings(ground),
      log,
      source: SOURCE,
      clock: CLOCK,
      onAppended,
      onWarning: (text) => console.log(`  celld warns: ${text}`),
    });
    return new BenchHost(log, host);
  }

  /** As `celld run` does it: the order is durable before anything is made; then to the end. */
  async run(spec: CellSpec, options: BenchCellOptions = {}): Promise<BenchCellResult> {
    const { running, output } = await this.begin(spec, options);
    const { exit, end } = await running;
    if (exit === undefined || end.leftovers.length > 0) {
      const { failure } = end;
      throw new Error(`Cannot run a cell: ${failure?.step}: ${failure?.reason ?? "leftovers"}`);
    }
    return { exitCode: exit.exitCode, output: join(output) };
  }

  /** Starts a cell; `running` settles when nothing is left of it. */
  async begin(spec: CellSpec, options: BenchCellOptions = {}): Promise<{
    run: CellRun;
    running: ReturnType<CellHost["run"]>;
    output: readonly Uint8Array[];
  }> {
    const cellId = `bench-${++this.#cells}`;
    const runId = CLOCK.nextId();
    const events = new CellEvents({ source: SOURCE, cellId, runId, specId: spec.id });
    const stamp = { id: CLOCK.nextId(), time: new Date(CLOCK.nowMs()).toISOString() };
    await this.#log.append([events.phase(stamp, "pending")]);
    const output: Uint8Array[] = [];
    const run = this.#host.prepare({
      spec,
      cellId,
      runId,
      secrets: {},
      stdinFd: -1,
      onOutput: (_stream, chunk) => {
        output.push(chunk);
        options.onOutput?.(chunk);
      },
    });
    return { run, running: this.#host.run(run), output };
  }

  /** Waits until all facts are durable. */
  async flush(): Promise<void> {
    const left = await this.#host.flush(FLUSH_MS);
    if (left > 0) throw new Error(`Cannot go on: ${left} events are not durable`);
  }

  /** Ends the workers and closes the log. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#host.stop();
    await this.#log.close();
  }
}

function join(chunks: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    joined.set(chunk, at);
    at += chunk.length;
  }
  return joined;
}
