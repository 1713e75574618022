/**
 * From the order to the workload's first instruction, and from there to nothing left, beside the
 * tools that come nearest, in turns, in one run.
 *
 *   deno run -A bench/lib/daemon/start_bench.ts [--full]
 *
 * - start: until the program's own clock, read by its first instruction. celld's begins with the
 *   order being appended to the log, durably; a tool's with its process being started.
 * - end: from that clock to the moment when nothing is left. celld's is when the run's promise
 *   resolves: flows drained, counters read, cgroup, interface and namespace gone; a tool's when
 *   its command has returned, though the kernel may still be busy with its namespaces.
 *
 * `cold` is the whole command `celld run`, Deno's own start included. A ratio is start / celld's.
 *
 * @module
 */
import { parseArgs } from "@std/cli";
import type { CellSpec } from "#lib/cell/mod.ts";
import { BenchHost, benchSettings, benchSpec, benchSpecDocument } from "../../support/cells.ts";
import {
  monotonicMs,
  readFirstInstruction,
  writeFirstInstruction,
} from "../../support/first_instruction.ts";
import { type Ground, GROUND_DIR, onGround } from "../../support/ground.ts";
import { figure, printTable, printWords, quantile, ratio } from "../../support/table.ts";
import { LACKS, LACKS_HEADING, makePeers, type Peer } from "../../peers/isolation.ts";

const SIZES = {
  small: { rounds: 12, warmUp: 4, cold: 2 },
  full: { rounds: 200, warmUp: 20, cold: 10 },
};
const WORKLOAD = "/bench/first";

/** What one way of starting came to. */
class Samples {
  readonly name: string;
  readonly startMs: number[] = [];
  readonly endMs: number[] = [];
  #failures = 0;
  #failure = "";

  constructor(name: string) {
    this.name = name;
  }

  add(beganMs: number, output: Uint8Array, endedMs: number): void {
    const firstMs = readFirstInstruction(output);
    this.startMs.push(firstMs - beganMs);
    this.endMs.push(endedMs - firstMs);
  }

  fail(reason: string): void {
    this.#failures += 1;
    this.#failure = reason;
  }

  get failures(): string {
    return this.#failures === 0 ? "" : `${this.#failures} failed: ${this.#failure}`;
  }

  /** What came before is forgotten: caches, compiled code. */
  clear(): void {
    this.startMs.length = 0;
    this.endMs.length = 0;
  }
}

async function main(args: readonly string[]): Promise<void> {
  const { full } = parseArgs(args, { boolean: ["full"] });
  await onGround((ground) => bench(ground, full === true ? SIZES.full : SIZES.small));
}

async function bench(ground: Ground, sizes: typeof SIZES.small): Promise<void> {
  Deno.mkdirSync(`${GROUND_DIR}/workload`);
  const workload = `${GROUND_DIR}/workload/first`;
  writeFirstInstruction(workload);
  const spec = benchSpec([WORKLOAD]);
  const settings = benchSettings(ground);
  const peers = makePeers({ directory: `${GROUND_DIR}/workload`, workload, spec, settings });
  const warm = new Samples("celld, warm host");
  const usable = peers.filter(({ name, missing }) => {
    if (missing.length > 0) console.log(`  without ${name}: needs ${missing.join(", ")}`);
    return missing.length === 0;
  }).map((peer) => ({ peer, samples: new Samples(peer.name) }));
  {
    await using host = await BenchHost.start(ground);
    for (let round = -sizes.warmUp; round < sizes.rounds; round++) {
      if (round === 0) {
        for (const it of [warm, ...usable.map(({ samples }) => samples)]) it.clear();
      }
      await inTurns(round, host, spec, warm, usable);
    }
    await host.flush();
  }
  const cold = await benchCold(ground, sizes.cold);
  print([warm, ...usable.map(({ samples }) => samples), cold], sizes.rounds);
}

/** One of each, in the other direction every second time. */
async function inTurns(
  round: number,
  host: BenchHost,
  spec: CellSpec,
  warm: Samples,
  usable: readonly { peer: Peer; samples: Samples }[],
): Promise<void> {
  // Names of namespaces and interfaces: the kernel may still be removing those of the last one.
  const firstId = (round + 1000) * usable.length;
  const turns = [
    () => runCell(host, spec, warm),
    ...usable.map(({ peer, samples }, at) => () => runPeer(peer, firstId + at, samples)),
  ];
  if (round % 2 !== 0) turns.reverse();
  for (const turn of turns) await turn();
}

async function runCell(host: BenchHost, spec: CellSpec, samples: Samples): Promise<void> {
  const beganMs = monotonicMs();
  const { output } = await host.run(spec);
  samples.add(beganMs, output, monotonicMs());
}

async function runPeer(peer: Peer, id: number, samples: Samples): Promise<void> {
  const script = peer.script(id);
  const beganMs = monotonicMs();
  const { code, stdout, stderr } = await new Deno.Command("/bin/sh", {
    args: ["-c", script],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  const endedMs = monotonicMs();
  if (code === 0) samples.add(beganMs, stdout, endedMs);
  else samples.fail(new TextDecoder().decode(stderr).trim().split("\n")[0] ?? `exit code ${code}`);
}

async function benchCold(ground: Ground, rounds: number): Promise<Samples> {
  const samples = new Samples("celld run, cold");
  const path = `${GROUND_DIR}/spec.json`;
  Deno.writeTextFileSync(path, JSON.stringify(benchSpecDocument([WORKLOAD])));
  const settings = benchSettings(ground);
  const main = new URL("../../../main.ts", import.meta.url).href;
  for (let round = 0; round < rounds; round++) {
    const beganMs = monotonicMs();
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", "-A", "--quiet", "--cached-only", main, "run", path, "--quiet"],
        ...["--runtime-dir", settings.runtimeDir, "--state-dir", settings.stateDir],
        ...["--cgroup-parent", settings.cgroupParent],
      ],
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).output();
    if (code === 0) samples.add(beganMs, stdout, monotonicMs());
    else samples.fail(new TextDecoder().decode(stderr).trim().split("\n")[0] ?? "");
  }
  return samples;
}

function print(all: readonly Samples[], rounds: number): void {
  const base = quantile(all[0]!.startMs, 0.5);
  printTable(
    [
      `${rounds} rounds, in turns; ms`,
      "start p50",
      "start p99",
      "end p50",
      "end p99",
      "start ratio",
    ],
    all.map(({ name, startMs, endMs }) => [
      name,
      figure(quantile(startMs, 0.5)),
      figure(quantile(startMs, 0.99)),
      figure(quantile(endMs, 0.5)),
      figure(quantile(endMs, 0.99)),
      ratio(quantile(startMs, 0.5), base),
    ]),
  );
  for (const { name, failures } of all) if (failures !== "") console.log(`  ${name}: ${failures}`);
  console.log("\n  What each makes:");
  printWords(LACKS_HEADING, LACKS);
}

if (import.meta.main) await main(Deno.args);
