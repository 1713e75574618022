/**
 * What a beat costs the tracker, by the number of agents, beside the memory accesses that no table
 * of that size can do without: one read where the pid's hash points, one read and write of the
 * agent's line.
 *
 *   deno run -A bench/lib/liveness/tracker_bench.ts [--full]
 *
 * All agents beat in turn, each round in another random order: the worst for the caches. Then the
 * same with a drain after every 64 beats, as the observer does it. Processor time, best of the rounds.
 *
 * @module
 */
import process from "node:process";
import { parseArgs } from "@std/cli";
import { fmix32, Prng } from "#lib/base/mod.ts";
import { ORIGIN } from "#lib/liveness/origin.ts";
import { Tracker } from "#lib/liveness/tracker.ts";
import type { BeatInput } from "#lib/liveness/tracker_rules.ts";
import { figure, printTable, ratio } from "../../support/table.ts";

const THRESHOLD_NS = 5e9;
const BATCH = 64;
const NEVER = 2 ** 30;
/** Between two beats, as if all agents beat twice a second. */
const BEAT_GAP_NS = 4_000;

interface Outcome {
  readonly agents: number;
  readonly recordNs: number;
  readonly batchNs: number;
  readonly bareNs: number;
  readonly bytes: number;
}

function beat(): BeatInput {
  return {
    pid: 0,
    status: 0,
    nonceHi: 0,
    nonceLo: 0,
    timestampHi: 0,
    timestampLo: 0,
    payload: 0,
    origin: ORIGIN.kernelAttested,
    namespaceInode: 4_026_531_836,
    generation: 77,
  };
}

/** Nanoseconds of processor time for each of `count` steps: the best of the rounds. */
function best(rounds: number, count: number, run: (round: number) => void): number {
  let found = Infinity;
  for (let round = 0; round < rounds; round++) {
    const started = process.cpuUsage();
    run(round);
    const { user, system } = process.cpuUsage(started);
    found = Math.min(found, (user + system) * 1e3 / count);
  }
  return found;
}

function measure(agents: number, beats: number, rounds: number): Outcome {
  const random = new Prng(agents);
  const pids = Uint32Array.from({ length: agents }, (_, index) => 1_000 + index * 7);
  const orders = Array.from({ length: 4 }, () => Uint32Array.from(random.shuffle([...pids])));
  const turns = Math.max(1, Math.round(beats / agents));
  const before = Deno.memoryUsage();
  const tracker = new Tracker({ capacity: agents, thresholdNs: THRESHOLD_NS });
  const after = Deno.memoryUsage();
  const one = beat();
  let [time, nonce] = [0, 0];
  const takeTurns = (drainEach: number) => {
    let now = time;
    let untilDrain = drainEach;
    for (let turn = 0; turn < turns; turn++) {
      one.nonceLo = ++nonce;
      const order = orders[turn & 3];
      for (let index = 0; index < order.length; index++) {
        one.pid = order[index];
        tracker.record(one, now += BEAT_GAP_NS);
        if (--untilDrain > 0) continue;
        untilDrain = drainEach;
        tracker.drainStalled(now, failAtStall);
        tracker.nextDeadlineNs();
      }
    }
    time = now;
  };
  const recordNs = best(rounds, turns * agents, () => takeTurns(NEVER));
  const batchNs = best(rounds, turns * agents, () => takeTurns(BATCH));
  const refused = tracker.counters.outOfOrder + tracker.counters.capacityExceeded;
  if (tracker.size !== agents || refused > 0) throw new Error(`${refused} beats were refused`);
  const bareNs = measureBare(agents, turns, rounds, orders);
  return { agents, recordNs, batchNs, bareNs, bytes: (after.external - before.external) / agents };
}

function failAtStall(): void {
  throw new Error("Cannot go on: an agent that beats was told as stalled");
}

/** The accesses alone, over tables of the tracker's sizes. */
function measureBare(
  agents: number,
  turns: number,
  rounds: number,
  orders: readonly Uint32Array[],
): number {
  const places = 2 ** Math.ceil(Math.log2(agents * 2));
  const index = new Uint32Array(places * 2);
  const lines = new Float64Array(agents * 8);
  orders[0].forEach((pid, slot) => index[(fmix32(pid) & places - 1) * 2] = slot);
  let now = 0;
  return best(rounds, turns * agents, () => {
    for (let turn = 0; turn < turns; turn++) {
      const order = orders[turn & 3];
      for (let at = 0; at < order.length; at++) {
        const slot = index[(fmix32(order[at]) & places - 1) * 2];
        lines[slot * 8] += ++now;
      }
    }
  });
}

function main(): void {
  const { full } = parseArgs(Deno.args, { boolean: ["full"] });
  const sizes = full === true ? [256, 4_096, 131_072] : [256, 4_096];
  const [beats, rounds] = full === true ? [65_536, 100] : [65_536, 20];
  // Once unmeasured: the compiler's time is not a beat's.
  measure(256, 65_536, 10);
  const outcomes = sizes.map((agents) => measure(agents, beats, rounds));
  printTable(
    ["agents", "record", "with drains", "bare accesses", "ratio", "bytes an agent"],
    outcomes.map((outcome) => [
      String(outcome.agents),
      `${figure(outcome.recordNs)} ns`,
      `${figure(outcome.batchNs)} ns`,
      `${figure(outcome.bareNs)} ns`,
      ratio(outcome.recordNs, outcome.bareNs),
      figure(outcome.bytes),
    ]),
  );
}

if (import.meta.main) main();
