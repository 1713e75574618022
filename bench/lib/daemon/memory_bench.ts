/**
 * What a running cell costs in memory, threads and descriptors: celld's own growth and what the
 * kernel and the cell's processes take, beside a `bwrap` that does nothing.
 *
 *   deno run -A bench/lib/daemon/memory_bench.ts [--full]
 *
 * Cells sleep. celld's resident memory is read after a garbage collection; the kernel's
 * (slab, per-cpu areas, kernel stacks, page tables) is the machine's, so another program's
 * doings are in it. A ratio is a cell's whole memory / a sleeping bwrap's.
 *
 * @module
 */
import { parseArgs } from "@std/cli";
import { findCommand } from "#tests/support/kernel.ts";
import { BenchHost, benchSpec } from "../../support/cells.ts";
import { type Ground, GROUND_DIR, onGround } from "../../support/ground.ts";
import { figure, printTable, ratio } from "../../support/table.ts";

const CELLS = { small: [10], full: [10, 100] };
const WARM_UP_CELLS = 10;
const SETTLE_MS = 500;
const START_POLL_MS = 20;
const START_TIMEOUT_MS = 60_000;

interface Reading {
  readonly residentKb: number;
  readonly threads: number;
  readonly descriptors: number;
  readonly kernelKb: number;
  readonly childrenKb: number;
  readonly children: number;
}

async function main(args: readonly string[]): Promise<void> {
  const { full } = parseArgs(args, { boolean: ["full"] });
  await onGround((ground) => bench(ground, full === true ? CELLS.full : CELLS.small));
}

async function bench(ground: Ground, sizes: readonly number[]): Promise<void> {
  Deno.mkdirSync(`${GROUND_DIR}/workload`);
  const rows: string[][] = [];
  const totals: number[] = [];
  await using host = await BenchHost.start(ground);
  // What is made once, by the first cells, is not a cell's.
  for (let index = 0; index < WARM_UP_CELLS; index++) await host.run(benchSpec(["/bin/true"]));
  for (const cells of sizes) {
    const before = await settle();
    const begun = [];
    for (let index = 0; index < cells; index++) {
      begun.push(await host.begin(benchSpec(["/bin/sleep", "600"])));
    }
    await waitForChildren(before.children + 2 * cells);
    const after = await settle();
    const per = (pick: (reading: Reading) => number) => (pick(after) - pick(before)) / cells;
    const totalKb = per((it) => it.residentKb + it.kernelKb + it.childrenKb);
    totals.push(totalKb);
    rows.push([
      `a cell, of ${cells}`,
      ...[
        per((it) => it.residentKb),
        per((it) => it.childrenKb),
        per((it) => it.kernelKb),
        totalKb,
        per((it) => it.threads),
        per((it) => it.descriptors),
      ].map((value) => figure(value, 1)),
    ]);
    for (const { run } of begun) run.kill();
    await Promise.all(begun.map(({ running }) => running));
  }
  await host.flush();
  const peer = await measureBwrap(sizes[sizes.length - 1]!);
  if (peer !== undefined) {
    const { childrenKb, kernelKb, count } = peer;
    const totalKb = childrenKb + kernelKb;
    rows.push([
      `a bwrap, of ${count}`,
      "0",
      figure(childrenKb, 1),
      figure(kernelKb, 1),
      figure(totalKb, 1),
      "0",
      "0",
    ]);
    console.log(`  a cell / a bwrap: ${ratio(totals[totals.length - 1]!, totalKb)}`);
  }
  printTable(
    ["KiB", "celld RSS", "processes", "kernel", "together", "threads", "descriptors"],
    rows,
  );
}

async function measureBwrap(
  count: number,
): Promise<{ childrenKb: number; kernelKb: number; count: number } | undefined> {
  if (findCommand("bwrap") === undefined) {
    console.log("  without bwrap: not installed (package bubblewrap)");
    return undefined;
  }
  const before = await settle();
  const children = Array.from({ length: count }, () =>
    new Deno.Command("bwrap", {
      args: ["--unshare-all", "--ro-bind", "/", "/", "--tmpfs", "/tmp", "--", "/bin/sleep", "600"],
      stdin: "null",
    }).spawn());
  await waitForChildren(before.children + 3 * count);
  const after = await settle();
  for (const child of children) child.kill("SIGKILL");
  await Promise.all(children.map(({ status }) => status));
  return {
    childrenKb: (after.childrenKb - before.childrenKb) / count,
    kernelKb: (after.kernelKb - before.kernelKb) / count,
    count,
  };
}

/** Waits until so many processes descend from us. */
async function waitForChildren(wanted: number): Promise<void> {
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (descendants().length < wanted) {
    if (performance.now() > deadline) {
      throw new Error(`Cannot go on: ${descendants().length} processes of ${wanted} have started`);
    }
    await new Promise((resolve) => setTimeout(resolve, START_POLL_MS));
  }
}

async function settle(): Promise<Reading> {
  const { gc } = globalThis as { gc?: () => void };
  gc?.();
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  gc?.();
  const pids = descendants();
  return {
    residentKb: readKb("/proc/self/status", "VmRSS"),
    threads: readKb("/proc/self/status", "Threads"),
    descriptors: [...Deno.readDirSync("/proc/self/fd")].length,
    kernelKb: ["Slab", "Percpu", "KernelStack", "PageTables"]
      .reduce((sum, name) => sum + readKb("/proc/meminfo", name), 0),
    childrenKb: pids.reduce((sum, pid) => sum + readKb(`/proc/${pid}/smaps_rollup`, "Pss"), 0),
    children: pids.length,
  };
}

/** Processes below this one, by their parents. */
function descendants(): number[] {
  const parents = new Map<number, number>();
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const parent = readKb(`/proc/${name}/status`, "PPid");
    parents.set(Number(name), parent);
  }
  const isOurs = (pid: number): boolean => {
    const parent = parents.get(pid);
    return parent !== undefined && (parent === Deno.pid || isOurs(parent));
  };
  return [...parents.keys()].filter(isOurs);
}

/** A number of a file of `name: value` lines; 0 when it, or its process, is not there. */
function readKb(path: string, name: string): number {
  try {
    const match = new RegExp(`^${name}:\\s*(\\d+)`, "m").exec(Deno.readTextFileSync(path));
    return Number(match?.[1] ?? 0);
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) {
      return 0;
    }
    // A process that has just ended answers ESRCH, which has no class of its own.
    if (cause instanceof Error && /os error 3\b/.test(cause.message)) return 0;
    throw cause;
  }
}

if (import.meta.main) await main(Deno.args);
