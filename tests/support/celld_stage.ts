/**
 * A stage for whole runs of celld: a lab, directories of its own, a cgroup of its own, and an
 * inventory that is taken before and compared after.
 *
 *   await using stage = await Stage.set();
 *   const run = await stage.run(spec("id", { … }));
 *   await stage.assertNothingLeft();
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { readFileIn, SyscallError } from "#ffi/mod.ts";
import { type CloudEvent, EventError, parseEventText } from "#lib/events/mod.ts";
import type { Settings } from "#lib/daemon/config.ts";
import { sweepCgroup } from "../../demo/sweep.ts";
import { type Inventory, settleInventory, takeInventory } from "./inventory.ts";
import { LAB, Lab, type LabOptions } from "./lab.ts";
import { REPOSITORY_ROOT } from "./subprocess.ts";

/** How long a run may take. */
const RUN_TIMEOUT_MS = 60_000;
/** How long the kernel may take to let go of what nobody uses any more. */
const SETTLE_MS = 15_000;
/** What is kept of an output, about. */
const TEXT_CHARS_MAX = 1024 * 1024;

/** What a spec is made of, besides its id. */
export interface SpecParts {
  readonly argv: readonly string[];
  readonly egress?: readonly Record<string, unknown>[];
  readonly authority?: Record<string, unknown>;
  readonly run?: Record<string, unknown>;
  readonly lifetime?: Record<string, unknown>;
}

/** A spec document. */
export function spec(id: string, parts: SpecParts): Record<string, unknown> {
  return {
    apiVersion: "cellos.io/v1",
    kind: "ExecutionCell",
    spec: {
      id,
      authority: { egressRules: parts.egress ?? [], ...parts.authority },
      ...(parts.lifetime === undefined ? {} : { lifetime: parts.lifetime }),
      run: { argv: parts.argv, ...parts.run },
    },
  };
}

/** How a run is started. */
export interface StageRunOptions {
  /** More arguments for `celld`. */
  readonly args?: readonly string[];
  readonly env?: Record<string, string>;
  /** Words before the program: `setpriv …`, `unshare -m …`. */
  readonly wrapper?: readonly string[];
  /** `open`: celld is given {@link StageRun.input}. @default {an empty input} */
  readonly stdin?: "open";
  readonly runtimeDir?: string;
  readonly stateDir?: string;
}

/** How a run ended. */
export interface StageOutcome {
  readonly code: number;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stdoutBytes: number;
  readonly stderr: string;
  readonly events: readonly CloudEvent[];
}

/** A run that goes on. */
export interface StageRun {
  readonly child: Deno.ChildProcess;
  /** Settles with its end. */
  readonly ended: Promise<StageOutcome>;
  /** The events so far. */
  events(): CloudEvent[];
  /** The output so far. */
  stdout(): string;
  /** What it said on stderr so far. */
  stderr(): string;
  /** Where it was asked for. */
  readonly input: WritableStreamDefaultWriter<Uint8Array> | undefined;
}

/** See the module. */
export class Stage implements AsyncDisposable {
  readonly lab: Lab;
  readonly base: string;
  readonly settings: Settings;
  #before: Inventory | undefined;
  #pids: readonly number[] = [];
  #runs = 0;

  private constructor(lab: Lab, base: string) {
    this.lab = lab;
    this.base = base;
    this.settings = {
      runtimeDir: `${base}/run`,
      stateDir: `${base}/state`,
      nflogGroup: 100,
      flowBackend: "nflog",
      ipv4Pool: "10.213.0.0/16",
      ipv6Pool: "fdce:11d0::/112",
      cgroupParent: `celld-test-${Deno.pid}-${base.slice(-6).toLowerCase()}`,
    };
  }

  /** Starts a lab and makes the directories. */
  static async set(options: LabOptions = {}): Promise<Stage> {
    const base = Deno.makeTempDirSync({ prefix: "celld-stage-" });
    // The workload's own user passes through to its cell's files.
    Deno.chmodSync(base, 0o711);
    return new Stage(await Lab.start(options), base);
  }

  /** Takes the inventory that {@link Stage.assertNothingLeft} compares with. */
  remember(pids: readonly number[] = []): void {
    this.#pids = pids;
    this.#before = this.#take();
  }

  /** Fails with what came and what went since {@link Stage.remember}. */
  async assertNothingLeft(what = "left behind"): Promise<void> {
    assertEquals(await this.differences(), [], what);
  }

  /** What came and what went since {@link Stage.remember}. */
  async differences(timeoutMs = SETTLE_MS): Promise<string[]> {
    return await settleInventory(this.#before!, () => this.#take(), timeoutMs);
  }

  /** The cgroups of the cells whose spec has this id, in every hierarchy. */
  cgroupsOf(specId: string): string[] {
    const { cgroupParent } = this.settings;
    return takeInventory({ parts: ["cgroups"] }).cgroups
      .filter((path) => path.includes(`/${cgroupParent}/${specId}-`));
  }

  /** Starts `celld run` with a spec. */
  start(document: unknown, options: StageRunOptions = {}): StageRun {
    this.#runs += 1;
    const specPath = `${this.base}/spec-${this.#runs}.json`;
    const eventsPath = `${this.base}/events-${this.#runs}.jsonl`;
    const text = typeof document === "string" ? document : JSON.stringify(document);
    Deno.writeTextFileSync(specPath, text);
    const [command, ...args] = [
      ...(options.wrapper ?? []),
      Deno.execPath(),
      ...["run", "-A", "--quiet", "--no-check", `${REPOSITORY_ROOT}/main.ts`],
      ...["run", specPath, "--events", `jsonl:${eventsPath}`],
      ...["--runtime-dir", options.runtimeDir ?? this.settings.runtimeDir],
      ...["--state-dir", options.stateDir ?? this.settings.stateDir],
      ...["--cgroup-parent", this.settings.cgroupParent],
      ...(options.args ?? []),
    ];
    const child = this.lab.spawnInHost(command!, {
      args,
      env: { DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1", ...options.env },
      stdin: options.stdin === "open" ? "piped" : "null",
      stdout: "piped",
      stderr: "piped",
    });
    const [stdout, stderr] = [new Printed(child.stdout), new Printed(child.stderr)];
    const events = () => readEvents(eventsPath);
    return {
      child,
      ended: outcomeOf(child, stdout, stderr, events),
      events,
      stdout: () => stdout.text,
      stderr: () => stderr.text,
      input: options.stdin === "open" ? child.stdin.getWriter() : undefined,
    };
  }

  /** As {@link Stage.start}, to its end. */
  async run(document: unknown, options: StageRunOptions = {}): Promise<StageOutcome> {
    return await this.start(document, options).ended;
  }

  /** Runs another command of celld. */
  async celld(args: readonly string[]): Promise<{ code: number; stdout: string }> {
    const argv = ["run", "-A", "--quiet", "--no-check", `${REPOSITORY_ROOT}/main.ts`, ...args];
    const child = this.lab.spawnInHost(Deno.execPath(), {
      args: argv,
      env: { NO_COLOR: "1" },
      stdin: "null",
      stdout: "piped",
      stderr: "inherit",
    });
    const { code, stdout } = await child.output();
    return { code, stdout: new TextDecoder().decode(stdout) };
  }

  /** Removes what a failed test left, and the rest. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.lab.stop();
    await sweepCgroup(this.settings.cgroupParent);
    Deno.removeSync(this.base, { recursive: true });
  }

  /** What celld switches on the host, as lines. */
  #forwarding(): string[] {
    const names = [
      "ipv4/conf/all/forwarding",
      `ipv4/conf/${LAB.uplink}/forwarding`,
      "ipv6/conf/all/forwarding",
      `ipv6/conf/${LAB.uplink}/forwarding`,
      `ipv6/conf/${LAB.uplink}/force_forwarding`,
    ];
    return this.lab.inHost(() =>
      names.flatMap((name) => {
        try {
          return [`${name} = ${readFileIn(`/proc/sys/net/${name}`).trim()}`];
        } catch (error) {
          if (error instanceof SyscallError && error.code === "ENOENT") return [];
          throw error;
        }
      })
    );
  }

  #take(): Inventory {
    const { runtimeDir, stateDir, cgroupParent } = this.settings;
    const netns = this.lab.hostNetns;
    const inventory = takeInventory({ runtimeDir, stateDir, netns, pids: this.#pids });
    // What another test beside this one has under a name of its own is not ours.
    const cgroups = inventory.cgroups.filter((path) =>
      path.includes(cgroupParent) || !/\/celld-[a-z-]+-\d+/.test(path)
    );
    return { ...inventory, cgroups, files: [...inventory.files, ...this.#forwarding()] };
  }
}

/** The data of the events of a type, in order. */
export function dataOf<T>(events: readonly CloudEvent[], type: string): T[] {
  return events.filter((event) => event.type === type).map((event) => event.data as T);
}

/** Words that run a program with the state directory on a disk of its own, which goes with it. */
export function onSmallDisk(size: string, script: string): string[] {
  const mount = `mount -t tmpfs -o size=${size} none "$STATE" && `;
  return ["unshare", "-m", "sh", "-c", mount + script, "sh"];
}

/** Takes all room of a disk with a file. */
export function fillDisk(path: string): void {
  using file = Deno.openSync(path, { write: true, create: true });
  const block = new Uint8Array(4096);
  try {
    for (;;) file.writeSync(block);
  } catch (error) {
    if (!(error instanceof Error && /os error 28\b/.test(error.message))) throw error;
  }
}

/** Waits until a condition holds. Throws after 20 s. */
export async function until(
  condition: () => boolean,
  what: string | (() => string),
): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!condition()) {
    if (performance.now() > deadline) {
      throw new Error(`Cannot go on without ${typeof what === "string" ? what : what()}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** What a program prints, as it comes. */
class Printed {
  readonly #decoder = new TextDecoder();
  readonly ended: Promise<void>;
  text = "";
  sizeBytes = 0;

  constructor(stream: ReadableStream<Uint8Array>) {
    this.ended = this.#read(stream);
  }

  async #read(stream: ReadableStream<Uint8Array>): Promise<void> {
    for await (const chunk of stream) {
      this.sizeBytes += chunk.length;
      // What is compared is short; what is long is counted.
      if (this.text.length < TEXT_CHARS_MAX) {
        this.text += this.#decoder.decode(chunk, { stream: true });
      }
    }
  }
}

async function outcomeOf(
  child: Deno.ChildProcess,
  stdout: Printed,
  stderr: Printed,
  events: () => CloudEvent[],
): Promise<StageOutcome> {
  const timer = setTimeout(() => child.kill("SIGKILL"), RUN_TIMEOUT_MS);
  try {
    const [status] = await Promise.all([child.status, stdout.ended, stderr.ended]);
    return {
      code: status.code,
      signal: status.signal,
      stdout: stdout.text,
      stdoutBytes: stdout.sizeBytes,
      stderr: stderr.text,
      events: events(),
    };
  } finally {
    clearTimeout(timer);
  }
}

function readEvents(path: string): CloudEvent[] {
  let text: string;
  try {
    text = Deno.readTextFileSync(path);
  } catch (error) {
    // A run that was refused before it had events.
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
  const complete = text.slice(0, text.lastIndexOf("\n") + 1).trimEnd();
  if (complete === "") return [];
  return complete.split("\n").map((line) => {
    const event = parseEventText(line);
    if (event instanceof EventError) throw event;
    return event;
  });
}
