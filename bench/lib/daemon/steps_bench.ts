/**
 * Where a cell's time goes: each request to the host worker and to the flow worker, as the main
 * thread waits for it, and the sum of it all.
 *
 *   deno run -A bench/lib/daemon/steps_bench.ts [--full]
 *
 * One cell at a time on a host without others, so the host's shared table and its forwarding are
 * made and unmade each time.
 *
 * @module
 */
import { parseArgs } from "@std/cli";
import { HostClient } from "#lib/cell/mod_shell.ts";
import { FlowAudit } from "#lib/flow/mod.ts";
import { BenchHost, benchSpec } from "../../support/cells.ts";
import {
  monotonicMs,
  readFirstInstruction,
  writeFirstInstruction,
} from "../../support/first_instruction.ts";
import { type Ground, GROUND_DIR, onGround } from "../../support/ground.ts";
import { figure, printTable, quantile } from "../../support/table.ts";

const ROUNDS = { small: 15, full: 200 };
const WARM_UP_ROUNDS = 5;

/** Samples in milliseconds by what was waited for, in the order of their first time. */
const samples = new Map<string, number[]>();

function note(name: string, ms: number): void {
  const list = samples.get(name);
  if (list === undefined) samples.set(name, [ms]);
  else list.push(ms);
}

async function timed<T>(name: string, work: () => Promise<T>): Promise<T> {
  const beganMs = performance.now();
  try {
    return await work();
  } finally {
    note(name, performance.now() - beganMs);
  }
}

/** Puts a clock in front of the two ports that a cell is made through. */
function watchPorts(): void {
  const { request } = HostClient.prototype;
  HostClient.prototype.request = function (operation, asks) {
    const step = (asks as { step?: string } | null)?.step;
    const name = step === undefined ? operation : `${operation} ${step}`;
    return timed(name, () => request.call(this, operation, asks)) as never;
  };
  const { watch, unwatch } = FlowAudit.prototype;
  FlowAudit.prototype.watch = function (order) {
    return timed("step listener", () => watch.call(this, order));
  };
  FlowAudit.prototype.unwatch = function (cell) {
    return timed("undo listener", () => unwatch.call(this, cell));
  };
}

async function bench(ground: Ground, rounds: number): Promise<void> {
  Deno.mkdirSync(`${GROUND_DIR}/workload`);
  writeFirstInstruction(`${GROUND_DIR}/workload/first`);
  watchPorts();
  await using host = await BenchHost.start(ground);
  const spec = benchSpec(["/bench/first"]);
  for (let round = -WARM_UP_ROUNDS; round < rounds; round++) {
    if (round === 0) samples.clear();
    const beganMs = monotonicMs();
    const { output } = await host.run(spec);
    const endedMs = monotonicMs();
    const firstMs = readFirstInstruction(output);
    note("START to first instruction", firstMs - beganMs);
    note("END until nothing is left", endedMs - firstMs);
  }
  await host.flush();
  printTable(
    [`${rounds} cells, ms`, "p50", "p99"],
    [...samples].map(([name, list]) => [
      name,
      figure(quantile(list, 0.5)),
      figure(quantile(list, 0.99)),
    ]),
  );
}

async function main(args: readonly string[]): Promise<void> {
  const { full } = parseArgs(args, { boolean: ["full"] });
  await onGround((ground) => bench(ground, full === true ? ROUNDS.full : ROUNDS.small));
}

if (import.meta.main) await main(Deno.args);
