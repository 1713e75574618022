/**
 * The demo: a cell tries allowed and forbidden destinations of a small internet, each decision
 * appears beside what the program says, and the end is a summary that was checked.
 *
 *   deno task demo
 *
 * Needs root for the namespaces, and nothing else that a fresh Debian lacks. Sends no packet
 * outside this machine (`lab.ts`). celld is run as a user runs it (`celld_run.ts`), the cell is
 * `examples/demo.yaml`, and what is checked is in `summary.ts`. The exit code is 0 only when
 * every check holds; 1 when one does not; 125 when the demo could not run; 130 when it was
 * interrupted.
 *
 * @module
 */
import {
  choosePaint,
  type ClosedView,
  type CountersView,
  type DecisionView,
  type GapView,
  type Paint,
  readClosed,
  readCounters,
  readDecision,
  readGap,
} from "#lib/cli/mod.ts";
import type { CloudEvent } from "#lib/events/mod.ts";
import { type Inventory, settleInventory, takeInventory } from "./inventory.ts";
import { type Attempt, destinationKey, parseAttempt } from "./attempt.ts";
import { runCelld, runPaths } from "./celld_run.ts";
import { LAB, Lab, type WatchedDestination } from "./lab.ts";
import { type LogFacts, readLogFacts } from "./log_facts.ts";
import { checkRun, formatChecks, formatTraffic, type RunFacts } from "./summary.ts";
import { sweepCgroup } from "./sweep.ts";
import { LiveTable } from "./table.ts";

const EXIT_FAILED = 1;
const EXIT_CANNOT = 125;
const EXIT_INTERRUPTED = 130;

/** Collects what a run says, and shows it while it comes. */
class Recorder {
  readonly attempts: Attempt[] = [];
  readonly decisions: DecisionView[] = [];
  readonly closed: ClosedView[] = [];
  readonly counters: CountersView[] = [];
  readonly gaps: GapView[] = [];
  readonly #table: LiveTable;

  constructor(paint: Paint) {
    const isTerminal = Deno.stdout.isTerminal();
    this.#table = new LiveTable({
      paint,
      ...(isTerminal ? { widthMax: Deno.consoleSize().columns } : {}),
    });
    print(this.#table.heading());
  }

  takeLine(line: string): void {
    const attempt = parseAttempt(line);
    if (attempt !== undefined) this.attempts.push(attempt);
    this.#table.addOutput(line, performance.now());
    this.show();
  }

  takeEvent(event: CloudEvent): void {
    const decision = readDecision(event);
    if (decision !== undefined) {
      this.decisions.push(decision);
      this.#table.addDecision(decision, performance.now());
    }
    pushIfThere(this.closed, readClosed(event));
    pushIfThere(this.counters, readCounters(event));
    pushIfThere(this.gaps, readGap(event));
    this.show();
  }

  show(atEnd = false): void {
    print(this.#table.drain(performance.now(), atEnd));
  }
}

function pushIfThere<T>(items: T[], item: T | undefined): void {
  if (item !== undefined) items.push(item);
}

function print(text: string): void {
  const bytes = new TextEncoder().encode(text);
  for (let done = 0; done < bytes.length;) done += Deno.stdout.writeSync(bytes.subarray(done));
}

/** The destinations that the example's script tries, so that the far side can watch for them. */
function destinationsOf(spec: string): WatchedDestination[] {
  const byKey = new Map<string, WatchedDestination>();
  for (const match of spec.matchAll(/^\s*try (tcp|udp|icmp) ([0-9a-f.:]+)(?: (\d+))?/gm)) {
    const destination = {
      protocol: match[1] as WatchedDestination["protocol"],
      address: match[2],
      ...(match[3] === undefined ? {} : { port: Number(match[3]) }),
    };
    byKey.set(destinationKey(destination), destination);
  }
  return [...byKey.values()];
}

/** Fetches what celld imports while there is still a network: the lab has none. */
async function cacheDependencies(): Promise<void> {
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["cache", "--quiet", new URL("../main.ts", import.meta.url).href],
    env: { DENO_NO_UPDATE_CHECK: "1" },
  }).output();
  if (success) return;
  throw new Error(`Cannot fetch what celld imports: ${new TextDecoder().decode(stderr)}`);
}

interface Surroundings {
  readonly lab: Lab;
  readonly directory: string;
  readonly cgroupParent: string;
  readonly specPath: string;
  readonly paint: Paint;
}

async function runAndCheck(surroundings: Surroundings): Promise<number> {
  const { lab, directory, cgroupParent, specPath, paint } = surroundings;
  const paths = runPaths(directory);
  const list = (): Inventory =>
    takeInventory({
      netns: lab.hostNetns,
      runtimeDir: `${paths.runtimeDir}/cells`,
      parts: ["links", "tables", "cgroups", "files"],
    });
  const before = list();
  const recorder = new Recorder(paint);
  const result = await runCelld({
    lab,
    specPath,
    directory,
    cgroupParent,
    onLine: (line) => recorder.takeLine(line),
    onEvent: (event) => recorder.takeEvent(event),
    onTick: () => recorder.show(),
  });
  recorder.show(true);
  if (result.isInterrupted) {
    print("\nInterrupted: the cell was stopped, nothing was checked.\n");
    return EXIT_INTERRUPTED;
  }
  if (recorder.attempts.length === 0) {
    throw new Error(`celld run ended with ${result.exitCode}\n${result.stderr.trimEnd()}`);
  }
  await lab.settle();
  const leftovers = await settleInventory(before, list);
  const facts: RunFacts = {
    ...recorder,
    ...await logFactsOf(paths.stateDir),
    observations: lab.seen(),
    arrivals: lab.arrivals(),
    uplinkAddresses: [LAB.hostIpv4, LAB.hostIpv6],
    exitCode: result.exitCode,
    ...(result.signal === undefined ? {} : { signal: result.signal }),
    leftovers: leftovers.filter((line) => !isOtherCgroup(line, cgroupParent)),
  };
  return report(facts, result.stderr, paint);
}

/** Another celld of this machine may come and go meanwhile; its cgroups are not ours. */
function isOtherCgroup(line: string, cgroupParent: string): boolean {
  return line.startsWith("cgroups:") && !line.includes(cgroupParent);
}

/** A log that is not there or cannot be read is a failed check, not the end of the demo. */
async function logFactsOf(stateDir: string): Promise<LogFacts> {
  try {
    return await readLogFacts(stateDir);
  } catch (error) {
    return { loggedDecisions: [], logFault: String(error) };
  }
}

function report(facts: RunFacts, stderr: string, paint: Paint): number {
  const checks = checkRun(facts);
  const isGood = checks.every((check) => check.ok);
  print(`\n${paint("strong", "WHAT PASSED")}\n${formatTraffic(facts)}`);
  print(`\n${paint("strong", "CHECKED")} against the program, the servers, the kernels, the log\n`);
  print(formatChecks(checks, paint));
  if (!isGood && stderr.trim() !== "") print(`\ncelld said:\n${stderr.trimEnd()}\n`);
  const failed = checks.filter((check) => !check.ok).length;
  print(
    isGood
      ? `\n${paint("good", `All ${checks.length} checks hold.`)}\n`
      : `\n${paint("bad", `${failed} of ${checks.length} checks FAILED.`)}\n`,
  );
  return isGood ? 0 : EXIT_FAILED;
}

async function main(): Promise<number> {
  if (Deno.uid() !== 0) {
    console.error("Cannot run the demo: it makes network namespaces, which needs root");
    return EXIT_CANNOT;
  }
  const paint = choosePaint({ isTerminal: Deno.stdout.isTerminal(), env: Deno.env.toObject() });
  const specPath = new URL("../examples/demo.yaml", import.meta.url).pathname;
  const directory = Deno.makeTempDirSync({ prefix: "celld-demo-" });
  const cgroupParent = `celld-demo-${Deno.pid}`;
  // The workload's own user passes through to its cell's files.
  Deno.chmodSync(directory, 0o711);
  try {
    await cacheDependencies();
    await using lab = await Lab.start({ watch: destinationsOf(Deno.readTextFileSync(specPath)) });
    print(
      `A machine and an internet, made of namespaces: nothing here leaves this computer.\n` +
        `celld run examples/demo.yaml, its egress rules against what it tries:\n\n`,
    );
    return await runAndCheck({ lab, directory, cgroupParent, specPath, paint });
  } finally {
    await sweepCgroup(cgroupParent);
    Deno.removeSync(directory, { recursive: true });
  }
}

/** What went wrong and what that was about, as one line. */
function explain(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause === undefined ? error.message : `${error.message}: ${explain(error.cause)}`;
}

if (import.meta.main) {
  try {
    Deno.exitCode = await main();
  } catch (error) {
    console.error(`Cannot run the demo: ${explain(error)}`);
    Deno.exitCode = EXIT_CANNOT;
  }
}
