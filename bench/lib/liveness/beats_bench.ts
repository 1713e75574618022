/**
 * Beats from socket to tracker, in a running observer; beside a C program that only receives them.
 *
 * - beats a second with credentials and a pidfd each, on one core: sixteen processes send as fast as they
 *   are let. The C program does `recvmmsg`, closes the pidfds, computes the checksum, and nothing else.
 * - processor time with many agents that beat twice a second.
 * - how long after its threshold a stall is told: in the observer, and at its owner.
 *
 * `--full` for the sizes of a report. Needs root, perl, and a compiler for the comparison.
 *
 * @module
 */
import type { AgentEvent } from "#lib/liveness/agent_events.ts";
import { LivenessObserver, type LivenessOptions } from "#lib/liveness/mod_shell.ts";
import { Beaters } from "#tests/kernel/liveness/support.ts";
import { findCommand } from "#tests/support/kernel.ts";
import { processCpuMs } from "../../peers/ulogd.ts";
import { count, figure, printTable, quantile, ratio } from "../../support/table.ts";

const IS_FULL = Deno.args.includes("--full");
const BEATS = IS_FULL ? 3_200_000 : 320_000;
const SENDERS = 16;
const AGENTS = IS_FULL ? 1000 : 200;
const WATCH_SECONDS = IS_FULL ? 20 : 4;
const STALLS = IS_FULL ? 200 : 20;
const ROUNDS = 3;

const folder = Deno.makeTempDirSync({ prefix: "celld-beats-" });
const program = `${folder}/beats`;

function compile(): boolean {
  const compiler = findCommand("cc");
  const source = new URL("../../peers/beats.c", import.meta.url).pathname;
  return compiler !== undefined &&
    new Deno.Command(compiler, { args: ["-O2", "-o", program, source] }).outputSync().success;
}

async function flood(path: string): Promise<void> {
  const args = ["flood", path, String(BEATS), String(SENDERS)];
  const { success } = await new Deno.Command(program, { args }).output();
  if (!success) throw new Error("the flood failed");
}

function observe(name: string, options: Partial<LivenessOptions>): Promise<LivenessObserver> {
  return LivenessObserver.start({
    thresholdNs: 60e9,
    capacity: 4096,
    beatsPerSecondMax: 0,
    globalLimits: { ratePerSecond: 0, burst: 0 },
    ...options,
    socket: { path: `${folder}/${name}.sock` },
  });
}

const beatsOf = async (observer: LivenessObserver) =>
  (await observer.counters()).varta_observer_beats_total!;

/** Beats a second, and nanoseconds of processor time a beat. */
async function measureObserver(): Promise<[number, number]> {
  await using stack = new AsyncDisposableStack();
  const observer = await observe("ours", {});
  stack.defer(() => observer.stop());
  const cpuMs = processCpuMs(Deno.pid);
  const startMs = performance.now();
  await flood(`${folder}/ours.sock`);
  let taken = await beatsOf(observer);
  while (taken < BEATS) taken = await beatsOf(observer);
  const seconds = (performance.now() - startMs) / 1000;
  return [taken / seconds, (processCpuMs(Deno.pid) - cpuMs) * 1e6 / taken];
}

async function measureSink(): Promise<[number, number]> {
  const path = `${folder}/sink.sock`;
  const args = ["sink", path, String(BEATS)];
  const child = new Deno.Command(program, { args, stdout: "piped" }).spawn();
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  await reader.read();
  await flood(path);
  const { value } = await reader.read();
  reader.releaseLock();
  await child.status;
  Deno.removeSync(path);
  const [taken, bad, seconds, cpuSeconds] = value!.trim().split(" ").map(Number);
  if (bad !== 0) throw new Error(`the sink found ${bad} bad beats`);
  return [taken! / seconds!, cpuSeconds! * 1e9 / taken!];
}

async function throughput(): Promise<void> {
  if (!compile()) {
    console.log("no C compiler: beats a second are not measured");
    return;
  }
  const best = async (measure: () => Promise<[number, number]>) => {
    let top: [number, number] = [0, NaN];
    for (let round = 0; round < ROUNDS; round++) {
      const found = await measure();
      if (found[0] > top[0]) top = found;
    }
    return top;
  };
  const sink = await best(measureSink);
  const ours = await best(measureObserver);
  printTable(["socket to tracker, one core", "beats/s", "of the C program's", "CPU ns/beat"], [
    ["C: recvmmsg, credentials, pidfd, CRC", count(sink[0]), "", figure(sink[1], 0)],
    ["observer", count(ours[0]), ratio(ours[0], sink[0]), figure(ours[1], 0)],
  ]);
}

async function processorTime(): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const observer = await observe("many", { capacity: 2048 });
  stack.defer(() => observer.stop());
  stack.use(
    await Beaters.start({ path: `${folder}/many.sock`, count: AGENTS, periodMs: 500 }),
  );
  while ((await observer.agents()).length < AGENTS) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const [cpuMs, beats] = [processCpuMs(Deno.pid), await beatsOf(observer)];
  await new Promise((resolve) => setTimeout(resolve, WATCH_SECONDS * 1000));
  const usedMs = processCpuMs(Deno.pid) - cpuMs;
  const taken = await beatsOf(observer) - beats;
  printTable(["many agents", "beats/s", "CPU %", "CPU us/beat"], [
    [
      `${AGENTS} agents, 2 Hz`,
      count(taken / WATCH_SECONDS),
      figure(usedMs / WATCH_SECONDS / 10, 2),
      figure(usedMs * 1000 / taken, 1),
    ],
  ]);
}

/** Stops one agent after the other; milliseconds past the threshold, in the observer and at its owner. */
async function stallDelay(): Promise<void> {
  const thresholdNs = 100e6;
  await using stack = new AsyncDisposableStack();
  const observer = await observe("stall", { thresholdNs });
  stack.defer(() => observer.stop());
  const told = new Map<number, (event: AgentEvent & { kind: "stalled" }) => void>();
  const seen: number[] = [];
  observer.onEvents = (events) => {
    for (const event of events) {
      if (event.kind === "stalled") told.get(event.agent.hostPid)?.(event);
      if (event.kind === "seen") seen.push(event.agent.hostPid);
    }
  };
  const path = `${folder}/stall.sock`;
  const beaters = stack.use(await Beaters.start({ path, count: 10, periodMs: 20 }));
  while (seen.length < 10) await new Promise((resolve) => setTimeout(resolve, 20));
  const inObserver: number[] = [];
  const atOwner: number[] = [];
  for (let index = 0; index < STALLS; index++) {
    const pid = beaters.pids[index % 10]!;
    await new Promise<void>((resolve) => {
      told.set(pid, ({ atNs, agent }) => {
        // A beater that the machine itself kept waiting was told before it was stopped.
        inObserver.push((atNs - agent.lastNs - thresholdNs) / 1e6);
        const dueMs = observer.wallMs(agent.lastNs + thresholdNs);
        atOwner.push(performance.timeOrigin + performance.now() - dueMs);
        resolve();
      });
      Deno.kill(pid, "SIGSTOP");
    });
    told.delete(pid);
    Deno.kill(pid, "SIGCONT");
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
  const row = (name: string, samples: number[]) => [
    name,
    figure(quantile(samples, 0.5), 2),
    figure(quantile(samples, 0.99), 2),
    figure(Math.max(...samples), 2),
  ];
  printTable(["a stall, past its threshold of 100 ms", "p50 ms", "p99 ms", "max ms"], [
    row(`in the observer (${STALLS} stalls)`, inObserver),
    row("at its owner", atOwner),
  ]);
}

try {
  await throughput();
  await processorTime();
  await stallDelay();
} finally {
  Deno.removeSync(folder, { recursive: true });
}
