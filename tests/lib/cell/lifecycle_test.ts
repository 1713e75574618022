import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import {
  KILL_TIMEOUT_MS,
  Lifecycle,
  LIFECYCLE_STEPS,
  type LifecycleEnd,
  type LifecycleInput,
  type LifecycleOptions,
  lifecycleOptions,
  type LifecycleOutput,
  type LifecycleStep,
} from "#lib/cell/lifecycle.ts";
import { readCellSpec } from "#lib/cell/spec.ts";
import { campaign } from "#tests/support/campaign.ts";

/** A machine with its inputs and what came out, as short words. */
class Driver {
  readonly machine: Lifecycle;
  nowMs = 1000;
  end: LifecycleEnd | undefined;

  constructor(options: Partial<LifecycleOptions> = {}) {
    this.machine = new Lifecycle({ graceMs: 5000, ...options });
  }

  at(nowMs: number): this {
    this.nowMs = nowMs;
    return this;
  }

  give(input: LifecycleInput): readonly string[] {
    this.machine.handle(this.nowMs, input);
    const words: string[] = [];
    for (let output = this.machine.pollOutput(); output; output = this.machine.pollOutput()) {
      words.push(wordOf(output));
      if (output.kind === "destroyed") this.end = output.end;
    }
    return words;
  }

  /** Answers steps until `last` has been asked for. */
  upTo(last: LifecycleStep): readonly string[] {
    let words = this.give({ kind: "start" });
    for (const step of LIFECYCLE_STEPS) {
      if (step === last) break;
      words = this.give({ kind: "stepDone", step });
    }
    return words;
  }

  run(): this {
    this.upTo("launch");
    this.give({ kind: "stepDone", step: "launch" });
    return this;
  }

  /** Answers each undo, and the words that came. */
  undoAll(first: readonly string[]): readonly string[] {
    const all = [...first];
    for (let words = first; this.end === undefined;) {
      const step = words.find((word) => word.startsWith("undo "))?.slice(5) as LifecycleStep;
      assert(step !== undefined, `nothing to undo in ${words}`);
      words = this.give({ kind: "undoDone", step });
      all.push(...words);
    }
    return all;
  }
}

function wordOf(output: LifecycleOutput): string {
  switch (output.kind) {
    case "phase":
      return `→ ${output.phase}`;
    case "do":
    case "undo":
    case "skipped":
      return `${output.kind} ${output.step}`;
    default:
      return output.kind;
  }
}

const undosFrom = (step: LifecycleStep) =>
  LIFECYCLE_STEPS.slice(0, LIFECYCLE_STEPS.indexOf(step) + 1).toReversed().map((it) =>
    `undo ${it}`
  );

Deno.test("lifecycle: a cell is made step by step, runs, exits, and is undone in reverse", () => {
  const driver = new Driver();
  assertEquals(driver.give({ kind: "start" }), ["→ preparing", "do lease"]);
  assertEquals(driver.give({ kind: "stepDone", step: "lease" }), ["do netns"]);
  const fresh = new Driver();
  assertEquals(fresh.upTo("launch"), ["do launch"]);
  assertEquals(fresh.give({ kind: "stepDone", step: "launch" }), ["→ running"]);
  assertEquals(fresh.undoAll(fresh.give({ kind: "exited" })), [
    "→ stopping",
    ...undosFrom("launch"),
    "→ destroyed",
    "destroyed",
  ]);
  assertEquals(fresh.end, {
    timedOut: false,
    stopRequested: false,
    killed: false,
    ran: true,
    leftovers: [],
  });
});

for (const step of LIFECYCLE_STEPS) {
  Deno.test(`lifecycle: when ${step} fails, it and all before it are undone`, () => {
    const driver = new Driver();
    driver.upTo(step);
    const words = driver.undoAll(driver.give({ kind: "stepFailed", step, reason: "no" }));
    assertEquals(words, ["→ stopping", ...undosFrom(step), "→ destroyed", "destroyed"]);
    assertEquals(driver.end?.failure, { step, reason: "no" });
    assertEquals(driver.end?.ran, false);
  });
}

Deno.test("lifecycle: an optional listener that fails is passed over, a required one is not", () => {
  const failed = { kind: "stepFailed", step: "listener", reason: "taken" } as const;
  const optional = new Driver({ listenerOptional: true });
  optional.upTo("listener");
  assertEquals(optional.give(failed), ["skipped listener", "do ruleset"]);
  const required = new Driver();
  required.upTo("listener");
  assertEquals(required.give(failed), ["→ stopping", "undo listener"]);
});

Deno.test("lifecycle: a stop before the start leaves nothing to undo", () => {
  const driver = new Driver();
  assertEquals(driver.give({ kind: "stopRequested" }), ["→ stopping", "→ destroyed", "destroyed"]);
});

Deno.test("lifecycle: a stop while a step is under way waits for it, then undoes", () => {
  const driver = new Driver();
  driver.upTo("network");
  assertEquals(driver.give({ kind: "stopRequested" }), ["→ stopping"]);
  assertEquals(driver.give({ kind: "stepDone", step: "network" }), ["undo network"]);
});

Deno.test("lifecycle: a stop while the workload is launched ends it after the launch", () => {
  const driver = new Driver();
  driver.upTo("launch");
  driver.give({ kind: "stopRequested" });
  assertEquals(driver.give({ kind: "stepDone", step: "launch" }), ["terminate"]);
  assertEquals(driver.give({ kind: "exited" }), ["undo launch"]);
});

Deno.test("lifecycle: a stop asks first and kills when the grace is over", () => {
  const driver = new Driver().at(0).run().at(10_000);
  assertEquals(driver.give({ kind: "stopRequested" }), ["→ stopping", "terminate"]);
  assertEquals(driver.machine.pollTimeout(), 15_000);
  assertEquals(driver.at(14_999).give({ kind: "tick" }), []);
  assertEquals(driver.at(15_000).give({ kind: "tick" }), ["kill"]);
  assertEquals(driver.give({ kind: "exited" }), ["undo launch"]);
  driver.undoAll(["undo launch"]);
  assertEquals([driver.end?.killed, driver.end?.stopRequested], [true, true]);
});

Deno.test("lifecycle: without grace a stop kills at once", () => {
  const driver = new Driver({ graceMs: 0 }).run();
  assertEquals(driver.give({ kind: "stopRequested" }), ["→ stopping", "kill"]);
});

Deno.test("lifecycle: a kill does not wait for the grace", () => {
  const driver = new Driver().run();
  assertEquals(driver.give({ kind: "stopRequested" }), ["→ stopping", "terminate"]);
  assertEquals(driver.give({ kind: "killRequested" }), ["kill"]);
  assertEquals(driver.give({ kind: "killRequested" }), []);
});

Deno.test("lifecycle: a cell that a kill does not end is torn down after a while", () => {
  const driver = new Driver({ graceMs: 0 }).at(0).run();
  driver.give({ kind: "stopRequested" });
  assertEquals(driver.machine.pollTimeout(), KILL_TIMEOUT_MS);
  assertEquals(driver.at(KILL_TIMEOUT_MS).give({ kind: "tick" }), ["undo launch"]);
  const failed = { kind: "undoFailed", step: "launch", reason: "still there" } as const;
  driver.undoAll(driver.give(failed));
  assertEquals(driver.end?.leftovers, [{ step: "launch", reason: "still there" }]);
});

Deno.test("lifecycle: the timeout counts from the start of the workload", () => {
  const driver = new Driver({ timeoutMs: 3000 }).at(0);
  driver.upTo("launch");
  assertEquals(driver.machine.pollTimeout(), undefined);
  driver.at(2000).give({ kind: "stepDone", step: "launch" });
  assertEquals(driver.machine.pollTimeout(), 5000);
  assertEquals(driver.at(5000).give({ kind: "tick" }), ["→ stopping", "terminate"]);
  driver.undoAll(driver.give({ kind: "exited" }));
  assertEquals([driver.end?.timedOut, driver.end?.timeoutSource], [true, "timeout"]);
});

Deno.test("lifecycle: the lifetime counts from the first input, and may end a preparation", () => {
  const driver = new Driver({ ttlMs: 1000 }).at(0);
  driver.upTo("netns");
  assertEquals(driver.machine.pollTimeout(), 1000);
  assertEquals(driver.at(1000).give({ kind: "tick" }), ["→ stopping"]);
  driver.undoAll(driver.give({ kind: "stepDone", step: "netns" }));
  assertEquals([driver.end?.timeoutSource, driver.end?.ran], ["ttl", false]);
});

Deno.test("lifecycle: a late input checks the time too", () => {
  const driver = new Driver({ ttlMs: 1000 }).at(0);
  driver.upTo("netns");
  assertEquals(driver.at(9999).give({ kind: "stepDone", step: "netns" }), [
    "do network",
    "→ stopping",
  ]);
});

Deno.test("lifecycle: a stop after time was up is not why the cell ended", () => {
  const driver = new Driver({ timeoutMs: 10 }).at(0).run();
  driver.at(10).give({ kind: "tick" });
  driver.give({ kind: "stopRequested" });
  driver.undoAll(driver.give({ kind: "exited" }));
  assertEquals([driver.end?.timedOut, driver.end?.stopRequested], [true, false]);
});

Deno.test("lifecycle: a program that ends before its start was told has run all the same", () => {
  const driver = new Driver();
  driver.upTo("launch");
  assertEquals(driver.give({ kind: "exited" }), []);
  assertEquals(driver.give({ kind: "stepDone", step: "launch" }), [
    "→ running",
    "→ stopping",
    "undo launch",
  ]);
});

Deno.test("lifecycle: an undo that fails is told and does not keep the others back", () => {
  const driver = new Driver();
  driver.upTo("network");
  driver.give({ kind: "stepFailed", step: "network", reason: "no" });
  const words = driver.give({ kind: "undoFailed", step: "network", reason: "busy" });
  assertEquals(words, ["undo netns"]);
  driver.undoAll(words);
  assertEquals(driver.end?.leftovers, [{ step: "network", reason: "busy" }]);
});

Deno.test("lifecycleOptions() takes the bounds from the spec", () => {
  const spec = readCellSpec({
    apiVersion: "cellos.io/v1",
    kind: "ExecutionCell",
    spec: {
      id: "a",
      authority: { audit: { flow: "best-effort" } },
      lifetime: { ttlSeconds: 60 },
      run: { argv: ["a"], limits: { timeoutSeconds: 5, gracefulShutdownSeconds: 2 } },
    },
  });
  assertEquals(lifecycleOptions(spec), {
    timeoutMs: 5000,
    ttlMs: 60_000,
    graceMs: 2000,
    listenerOptional: true,
  });
});

Deno.test("lifecycle: whatever comes in whatever order, begun steps are undone, once, in reverse", () => {
  const step = fc.constantFrom(...LIFECYCLE_STEPS);
  const input = fc.oneof<fc.Arbitrary<LifecycleInput>[]>(
    fc.constantFrom(
      { kind: "start" },
      { kind: "stopRequested" },
      { kind: "killRequested" },
      { kind: "exited" },
      { kind: "tick" },
    ),
    fc.record({ kind: fc.constantFrom("stepDone" as const, "undoDone" as const), step }),
    fc.record({
      kind: fc.constantFrom("stepFailed" as const, "undoFailed" as const),
      step,
      reason: fc.constant("x"),
    }),
    // What a shell would answer, so that runs get far.
    fc.constant({ kind: "tick" as const }),
  );
  const script = fc.array(
    fc.record({ input, honest: fc.boolean(), laterMs: fc.nat(4000) }),
    { maxLength: 60 },
  );
  fc.assert(
    fc.property(script, fc.boolean(), (steps, listenerOptional) => {
      const driver = new Driver({
        timeoutMs: 9000,
        ttlMs: 20_000,
        graceMs: 3000,
        listenerOptional,
      });
      const words = [...driver.give({ kind: "start" })];
      const answer = (): LifecycleInput => {
        const [kind, name] = (words.findLast((it) => /^(un)?do /.test(it)) ?? "tick").split(" ");
        const step = name as LifecycleStep;
        if (kind === "do") return { kind: "stepDone", step };
        return kind === "undo" ? { kind: "undoDone", step } : { kind: "tick" };
      };
      for (const { input, honest, laterMs } of steps) {
        driver.nowMs += laterMs;
        words.push(...driver.give(honest ? answer() : input));
      }
      // Then a shell that does its work: the end must come.
      for (let round = 0; round < 40 && driver.end === undefined; round++) {
        driver.nowMs += KILL_TIMEOUT_MS;
        words.push(...driver.give(answer()), ...driver.give({ kind: "exited" }));
      }
      assert(driver.end !== undefined, words.join(", "));
      const begun = words.filter((it) => it.startsWith("do ")).map((it) => it.slice(3));
      const undone = words.filter((it) => it.startsWith("undo ")).map((it) => it.slice(5));
      assertEquals(undone, begun.toReversed());
      assertEquals(begun, LIFECYCLE_STEPS.slice(0, begun.length));
      assertEquals(words.filter((it) => it === "kill").length <= 1, true);
      assertEquals(words.at(-1), "destroyed");
    }),
    { numRuns: campaign(300, 20_000) },
  );
});

Deno.test("an adopted cell runs, and everything of it is undone when it ends", () => {
  const driver = new Driver();
  const adopted = { kind: "adopted", bornAtMs: 100, startedAtMs: 200 } as const;
  assertEquals(driver.give(adopted), ["→ running"]);
  assertEquals(driver.give({ kind: "start" }), []);
  const words = driver.undoAll(driver.give({ kind: "exited" }));
  const undone = words.filter((word) => word.startsWith("undo ")).map((word) => word.slice(5));
  assertEquals(undone, [...LIFECYCLE_STEPS].reverse());
  assertEquals([driver.end?.ran, driver.end?.leftovers], [true, []]);
});

Deno.test("an adopted cell's bounds count from its own birth and start", () => {
  const driver = new Driver({ timeoutMs: 5000, ttlMs: 10_000 });
  driver.give({ kind: "adopted", bornAtMs: -4000, startedAtMs: -3000 });
  assertEquals(driver.machine.pollTimeout(), 2000);
  assertEquals(driver.at(2000).give({ kind: "tick" }), ["→ stopping", "terminate"]);

  const late = new Driver({ ttlMs: 10 });
  assertEquals(late.give({ kind: "adopted", bornAtMs: 0, startedAtMs: 0 }), [
    "→ running",
    "→ stopping",
    "terminate",
  ]);
});
