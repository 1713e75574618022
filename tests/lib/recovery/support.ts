/**
 * Machines, facts and clocks for the tests of recovery.
 *
 * @module
 */
import { Prng } from "#lib/base/mod.ts";
import type { OriginClass, ProcessProbe, RecoveryNow, StallFacts } from "#lib/recovery/facts.ts";
import type { RecoveryAction, RecoveryPolicy } from "#lib/recovery/ladder.ts";
import type { RecoveryOutput } from "#lib/recovery/outputs.ts";
import { onePolicy } from "#lib/recovery/policies.ts";
import { Recovery } from "#lib/recovery/recovery.ts";
import type { RecoveryOptions } from "#lib/recovery/recovery_options.ts";

/** Start time of every process of these tests, unless told. */
export const GENERATION = 7n;

/** A stall that the kernel vouches for. */
export function stallOf(pid: number, over: Partial<StallFacts> = {}): StallFacts {
  return {
    pid,
    generation: GENERATION,
    namespaceInode: 1n,
    observerNamespaceInode: 1n,
    origin: "kernel_attested" satisfies OriginClass,
    lastNs: 1n,
    ...over,
  };
}

/** A moment. */
export function at(ms: number): RecoveryNow {
  return { ms, wallMs: 1_700_000_000_000 + ms };
}

/** A command without a shell. */
export function commandOf(...argv: [string, ...string[]]): RecoveryAction {
  const [program, ...args] = argv;
  return { kind: "command", command: { program, args }, source: "inline" };
}

/** A policy of one command, without a debounce. */
export function trueOnce(over: Partial<RecoveryPolicy> = {}): RecoveryPolicy {
  return onePolicy(commandOf("true"), { debounceMs: 0, ...over });
}

/** A machine whose processes all live, with its outputs sorted by kind. */
export class Bench {
  readonly machine: Recovery;
  readonly probes = new Map<number, ProcessProbe>();
  readonly outputs: RecoveryOutput[] = [];
  #nextPid = 1000;
  readonly running: number[] = [];

  constructor(policy: RecoveryPolicy, over: Partial<RecoveryOptions> = {}) {
    this.machine = new Recovery({
      debounceMs: policy.debounceMs,
      prng: new Prng(1),
      policyOf: () => policy,
      probe: (pid) => this.probes.get(pid) ?? { kind: "live", generation: GENERATION },
      ...over,
    });
  }

  /** Drains the outputs; commands that are ordered start at once. */
  drain(ms: number): RecoveryOutput[] {
    const drained: RecoveryOutput[] = [];
    for (let it = this.machine.pollOutput(); it !== undefined; it = this.machine.pollOutput()) {
      drained.push(it);
      if (it.kind !== "spawn") continue;
      this.running.push(it.child);
      this.machine.spawned(it.child, this.#nextPid++, at(ms));
    }
    this.outputs.push(...drained);
    return drained;
  }

  /** Tells a stall and drains. */
  stall(facts: StallFacts, ms = 0): RecoveryOutput[] {
    this.machine.onStall(facts, at(ms));
    return this.drain(ms);
  }

  /** Lets time pass and drains. */
  tick(ms: number): RecoveryOutput[] {
    this.machine.onTick(at(ms));
    return this.drain(ms);
  }

  /** Ends the oldest command that runs. */
  end(ms: number, exitCode = 0): RecoveryOutput[] {
    const child = this.running.shift()!;
    const output = { stdout: "", stderr: "", stdoutLength: 0, stderrLength: 0, isTruncated: false };
    this.machine.childEnded(child, { exitCode, output }, at(ms));
    return this.drain(ms);
  }
}

/** Kinds of events and orders, in their order: `spawn`, `event:spawned`, `audit:intent`. */
export function kindsOf(outputs: readonly RecoveryOutput[]): string[] {
  return outputs.map((it) => {
    if (it.kind === "event") return `event:${it.event.type}`;
    return it.kind === "audit" ? `audit:${it.row.kind}` : it.kind;
  });
}

/** Reasons of the refusals that the audit tells. */
export function refusalsOf(outputs: readonly RecoveryOutput[]): string[] {
  return outputs.flatMap((it) =>
    it.kind === "audit" && it.row.kind === "refused" ? [it.row.reason] : []
  );
}
