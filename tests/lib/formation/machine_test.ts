/**
 * The life of a formation: what starts and stops when, and what is told.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { planAdmitted } from "#lib/formation/admission.ts";
import {
  type CellOutcome,
  FormationMachine,
  type FormationOutput,
  type KnownCell,
  type KnownFormation,
  readManifest,
  RESTART_STABLE_MS,
} from "#lib/formation/mod.ts";

const UUID = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff";
const SPEC = { run: { argv: ["true"] } };
const LEAD = { id: "lead", spec: SPEC };
const WORKER = { id: "worker", authorizedBy: "lead", spec: SPEC };

function planOf(members: readonly object[]) {
  return planAdmitted(readManifest({ name: "n", coordinator: "lead", members }));
}

/** Drives a machine and writes what comes out as short words. */
class Driver {
  readonly machine: FormationMachine;
  readonly #names = new Map<string, string>();
  readonly #ids = new Map<string, string>();
  nowMs = 0;

  constructor(members: readonly object[], known?: KnownFormation) {
    this.machine = new FormationMachine(UUID, planOf(members), known);
    for (const { cellId, member, replica, attempt } of known?.cells ?? []) {
      this.#name(cellId, member, replica, attempt);
    }
  }

  admitted(): string[] {
    return this.#drain({ kind: "admitted" });
  }

  resumed(): string[] {
    return this.#drain({ kind: "resumed" });
  }

  running(name: string): string[] {
    return this.#drain({ kind: "cellRunning", cellId: this.#ids.get(name)! });
  }

  ended(name: string, outcome: CellOutcome, reason?: string): string[] {
    const cellId = this.#ids.get(name)!;
    return this.#drain({ kind: "cellEnded", cellId, outcome, ...(reason ? { reason } : {}) });
  }

  cancel(): string[] {
    return this.#drain({ kind: "cancel" });
  }

  scale(member: string, replicas: number): string[] {
    return this.#drain({ kind: "scale", member, replicas });
  }

  told(phase: "failed" | "cancelled" | "running"): string[] {
    return this.#drain({ kind: "told", phase });
  }

  /** Waits until the machine's timer is due; answers how long that was, and what came out. */
  tick(): [waitedMs: number, outputs: string[]] {
    const waitedMs = this.machine.pollTimeout()! - this.nowMs;
    this.nowMs += waitedMs;
    return [waitedMs, this.#drain({ kind: "tick" })];
  }

  #drain(input: Parameters<FormationMachine["handle"]>[1]): string[] {
    this.machine.handle(this.nowMs, input);
    const words: string[] = [];
    for (let out = this.machine.pollOutput(); out; out = this.machine.pollOutput()) {
      words.push(this.#word(out));
    }
    return words;
  }

  #word(output: FormationOutput): string {
    if (output.kind === "event") {
      return output.reason === undefined ? output.phase : `${output.phase} (${output.reason})`;
    }
    if (output.kind === "stop") return `stop ${this.#names.get(output.cellId)}`;
    const { cellId, member, replica, attempt } = output;
    return `start ${this.#name(cellId, member, replica, attempt)}`;
  }

  #name(cellId: string, member: string, replica: number, attempt: number): string {
    const name = `${member}/${replica}${attempt === 0 ? "" : `#${attempt}`}`;
    this.#names.set(cellId, name);
    this.#ids.set(name, cellId);
    return name;
  }
}

function known(
  phase: KnownFormation["phase"],
  cells: readonly Partial<KnownCell>[],
  more: Partial<KnownFormation> = {},
): KnownFormation {
  const complete = cells.map((cell, index): KnownCell => ({
    cellId: `cell-${index}`,
    member: "lead",
    replica: 0,
    attempt: 0,
    state: "running",
    hasRun: true,
    ...cell,
  }));
  return { phase, isCancelRequested: false, replicas: {}, cells: complete, ...more };
}

Deno.test("machine: nobody starts before its authoriser has run; then all run, then all is done", () => {
  const driver = new Driver([
    LEAD,
    WORKER,
    { id: "deep", authorizedBy: "worker", spec: SPEC },
  ]);
  assertEquals(driver.admitted(), ["created", "launching", "start lead/0"]);
  assertEquals(driver.running("lead/0"), ["start worker/0"]);
  assertEquals(driver.running("worker/0"), ["start deep/0"]);
  assertEquals(driver.running("deep/0"), ["running"]);
  assertEquals(driver.ended("lead/0", "succeeded"), []);
  assertEquals(driver.ended("worker/0", "succeeded"), []);
  assertEquals(driver.ended("deep/0", "succeeded"), ["completed"]);
  assertEquals([driver.machine.phase, driver.machine.isOver], ["completed", true]);
});

Deno.test("machine: an authoriser that was done before it was seen to run counts as run", () => {
  const driver = new Driver([LEAD, WORKER]);
  driver.admitted();
  assertEquals(driver.ended("lead/0", "succeeded"), ["start worker/0"]);
});

Deno.test("machine: an event is put before the starts that it tells of", () => {
  const driver = new Driver([LEAD]);
  driver.machine.handle(0, { kind: "admitted" });
  const [created, launching, start] = [1, 2, 3].map(() => driver.machine.pollOutput()!);
  assertEquals([created.kind, launching.kind, start.kind], ["event", "event", "start"]);
  const cellId = start.kind === "start" ? start.cellId : "";
  for (const event of [created, launching]) {
    assertEquals(event.kind === "event" && event.cellIds, [cellId]);
  }
});

Deno.test("machine: a worker's failure degrades; the formation fails when all have ended", () => {
  const driver = new Driver([LEAD, WORKER]);
  driver.admitted();
  driver.running("lead/0");
  driver.running("worker/0");
  assertEquals(driver.ended("worker/0", "failed", "oom"), ["degraded (worker/0 is down: oom)"]);
  assertEquals(driver.ended("lead/0", "succeeded"), ["failed (worker/0 is down: oom)"]);
});

Deno.test("machine: the coordinator's failure stops the others, then the formation has failed", () => {
  const driver = new Driver([LEAD, WORKER, { ...WORKER, id: "b" }]);
  driver.admitted();
  driver.running("lead/0");
  driver.running("worker/0");
  assertEquals(driver.ended("lead/0", "failed", "exited with 1"), [
    "degraded (lead/0 is down: exited with 1)",
    "stop b/0",
    "stop worker/0",
  ]);
  assertEquals(driver.ended("b/0", "failed"), []);
  const reason = "lead/0 is down: exited with 1";
  assertEquals(driver.ended("worker/0", "stopped"), [`failed (${reason})`]);
});

Deno.test("machine: critical can be said of any member, and taken from the coordinator", () => {
  const members = [{ ...LEAD, critical: false }, { ...WORKER, critical: true }];
  const driver = new Driver(members);
  driver.admitted();
  driver.running("lead/0");
  driver.running("worker/0");
  assertEquals(driver.ended("worker/0", "failed"), [
    "degraded (worker/0 is down)",
    "stop lead/0",
  ]);
  const other = new Driver(members);
  other.admitted();
  other.running("lead/0");
  other.running("worker/0");
  assertEquals(other.ended("lead/0", "failed"), ["degraded (lead/0 is down)"]);
});

Deno.test("machine: who waits for one that ended unrun never starts, nor who waits for that", () => {
  const driver = new Driver([
    { ...LEAD, critical: false },
    WORKER,
    { id: "deep", authorizedBy: "worker", spec: SPEC },
  ]);
  driver.admitted();
  assertEquals(driver.ended("lead/0", "failed", "not found"), [
    "failed (lead/0 is down: not found)",
  ]);
});

Deno.test("machine: on-failure starts again with growing waits, until its limit", () => {
  const restart = { policy: "on-failure", maxRestarts: 3, backoffSeconds: 1, maxBackoffSeconds: 3 };
  const driver = new Driver([LEAD, { ...WORKER, restart }]);
  driver.admitted();
  driver.running("lead/0");
  driver.running("worker/0");
  assertEquals(driver.ended("worker/0", "failed"), ["degraded (worker/0 is down)"]);
  assertEquals(driver.tick(), [1000, ["start worker/0#1"]]);
  assertEquals(driver.running("worker/0#1"), ["running"]);
  assertEquals(driver.ended("worker/0#1", "failed"), ["degraded (worker/0 is down)"]);
  assertEquals(driver.tick(), [2000, ["start worker/0#2"]]);
  assertEquals(driver.ended("worker/0#2", "failed"), []);
  assertEquals(driver.tick(), [3000, ["start worker/0#3"]]);
  assertEquals(driver.ended("worker/0#3", "failed"), []);
  assertEquals(driver.machine.pollTimeout(), undefined);
  assertEquals(driver.ended("lead/0", "succeeded"), ["failed (worker/0 is down)"]);
});

Deno.test("machine: on-failure lets success be", () => {
  const driver = new Driver([{ ...LEAD, restart: "on-failure" }]);
  driver.admitted();
  driver.running("lead/0");
  assertEquals(driver.ended("lead/0", "succeeded"), ["completed"]);
});

Deno.test("machine: a long run ends the row of restarts", () => {
  const driver = new Driver([{ ...LEAD, restart: "always" }]);
  driver.admitted();
  driver.running("lead/0");
  driver.ended("lead/0", "succeeded");
  driver.tick();
  driver.running("lead/0#1");
  driver.ended("lead/0#1", "failed");
  assertEquals(driver.tick()[0], 2000);
  driver.running("lead/0#2");
  driver.nowMs += RESTART_STABLE_MS;
  driver.ended("lead/0#2", "failed");
  assertEquals(driver.tick()[0], 1000);
});

Deno.test("machine: a cell that somebody stops stays down, whatever its policy", () => {
  const driver = new Driver([LEAD, { ...WORKER, restart: "always" }]);
  driver.admitted();
  driver.running("lead/0");
  driver.running("worker/0");
  assertEquals(driver.ended("worker/0", "stopped"), []);
  assertEquals(driver.ended("lead/0", "succeeded"), ["completed"]);
});

Deno.test("machine: cancel stops from the last rank up, and is told when the last has ended", () => {
  const driver = new Driver([LEAD, WORKER, { ...WORKER, id: "b", restart: "always" }]);
  driver.admitted();
  driver.running("lead/0");
  driver.running("worker/0");
  driver.ended("b/0", "failed");
  assertEquals(driver.cancel(), ["stop worker/0", "stop lead/0"]);
  assertEquals(driver.cancel(), []);
  assertEquals(driver.machine.pollTimeout(), undefined);
  assertEquals(driver.ended("lead/0", "failed"), []);
  assertEquals(driver.scale("worker", 5), []);
  assertEquals(driver.ended("worker/0", "stopped"), ["cancelled"]);
  assertEquals(driver.cancel(), []);
});

Deno.test("machine: cancel before anything runs, and of a formation without cells of ours", () => {
  const driver = new Driver([{ id: "lead" }, { id: "worker", authorizedBy: "lead" }]);
  assertEquals(driver.admitted(), ["created"]);
  assertEquals(driver.cancel(), ["cancelled"]);
});

Deno.test("machine: members without a cell keep nobody waiting", () => {
  const driver = new Driver([{ id: "lead" }, WORKER]);
  assertEquals(driver.admitted(), ["created", "launching", "start worker/0"]);
  assertEquals(driver.running("worker/0"), ["running"]);
});

Deno.test("machine: scale starts more, stops the highest first, and gives no id twice", () => {
  const driver = new Driver([LEAD, WORKER]);
  driver.admitted();
  driver.running("lead/0");
  driver.running("worker/0");
  assertEquals(driver.scale("worker", 3), ["start worker/1", "start worker/2"]);
  driver.running("worker/1");
  assertEquals(driver.running("worker/2"), []);
  assertEquals(driver.scale("worker", 1), ["stop worker/2", "stop worker/1"]);
  assertEquals(driver.scale("worker", 2), []);
  assertEquals(driver.ended("worker/1", "stopped"), ["start worker/1#1"]);
  assertEquals(driver.ended("worker/2", "failed"), []);
  assertEquals(driver.scale("worker", 0), ["stop worker/1#1", "stop worker/0"]);
  driver.ended("worker/0", "stopped");
  driver.ended("worker/1#1", "stopped");
  assertEquals(driver.ended("lead/0", "succeeded"), ["completed"]);
});

Deno.test("machine: what was scaled away and still ends keeps the end from being told", () => {
  const driver = new Driver([LEAD, WORKER]);
  driver.admitted();
  driver.running("lead/0");
  driver.running("worker/0");
  assertEquals(driver.scale("worker", 0), ["stop worker/0"]);
  assertEquals(driver.ended("lead/0", "succeeded"), []);
  assertEquals(driver.ended("worker/0", "failed"), ["completed"]);
});

Deno.test("machine: a member scaled to nothing keeps nobody waiting, and can come back", () => {
  const driver = new Driver([
    LEAD,
    { ...WORKER, replicas: 0 },
    { id: "deep", authorizedBy: "worker", spec: SPEC },
  ]);
  assertEquals(driver.admitted(), ["created", "launching", "start lead/0"]);
  assertEquals(driver.running("lead/0"), ["start deep/0"]);
  assertEquals(driver.running("deep/0"), ["running"]);
  assertEquals(driver.scale("worker", 1), ["start worker/0"]);
});

Deno.test("machine: an end told by somebody else stops the cells and is not told again", () => {
  const driver = new Driver([LEAD, WORKER]);
  driver.admitted();
  driver.running("lead/0");
  assertEquals(driver.told("running"), []);
  assertEquals(driver.told("failed"), ["stop worker/0", "stop lead/0"]);
  driver.ended("lead/0", "stopped");
  assertEquals(driver.machine.isOver, false);
  assertEquals(driver.ended("worker/0", "stopped"), []);
  assertEquals([driver.machine.phase, driver.machine.isOver], ["failed", true]);
});

Deno.test("machine: late and repeated inputs change nothing", () => {
  const driver = new Driver([{ ...LEAD, restart: "always" }]);
  assertEquals(driver.running("lead/0"), []);
  driver.admitted();
  assertEquals(driver.admitted(), []);
  driver.running("lead/0");
  assertEquals(driver.running("lead/0"), []);
  driver.ended("lead/0", "failed");
  assertEquals(driver.ended("lead/0", "failed"), []);
  driver.tick();
  assertEquals(driver.running("lead/0"), []);
  assertEquals(driver.ended("lead/0", "failed"), []);
  assertEquals(driver.scale("nobody", 3), []);
});

Deno.test("resume: what was asked for and not done is asked for again, under the same id", () => {
  const first = new Driver([LEAD, WORKER]);
  first.machine.handle(0, { kind: "admitted" });
  const second = new Driver([LEAD, WORKER], known("launching", []));
  const again = new Driver([LEAD, WORKER], known("created", []));
  second.machine.handle(0, { kind: "resumed" });
  const starts = (driver: Driver) => {
    const found: FormationOutput[] = [];
    for (let out = driver.machine.pollOutput(); out; out = driver.machine.pollOutput()) {
      if (out.kind === "start") found.push(out);
    }
    return found;
  };
  assertEquals(starts(second), starts(first));
  assertEquals(again.resumed(), ["launching", "start lead/0"]);
});

Deno.test("resume: running cells are taken up, missing ones started, nothing told twice", () => {
  const driver = new Driver([LEAD, WORKER], known("running", [{}]));
  assertEquals(driver.resumed(), ["start worker/0"]);
  const whole = new Driver([LEAD, WORKER], known("running", [{}, { member: "worker" }]));
  assertEquals(whole.resumed(), []);
  assertEquals(whole.ended("lead/0", "succeeded"), []);
  assertEquals(whole.ended("worker/0", "succeeded"), ["completed"]);
});

Deno.test("resume: a cell that ended meanwhile is restarted by its policy, its row counted on", () => {
  const restart = { policy: "on-failure", maxRestarts: 3 };
  const ended = (attempt: number, ranMs = 0): Partial<KnownCell> => ({
    attempt,
    state: "ended",
    end: { outcome: "failed", ranMs },
  });
  const two = new Driver([{ ...LEAD, restart }], known("degraded", [ended(0), ended(1)]));
  assertEquals(two.resumed(), []);
  assertEquals(two.tick(), [2000, ["start lead/0#2"]]);
  const four = [0, 1, 2, 3].map((attempt) => ended(attempt));
  const limit = new Driver([{ ...LEAD, restart }], known("degraded", four));
  assertEquals(limit.resumed(), ["failed (lead/0 is down)"]);
  const stable = four.map((cell, attempt) => attempt === 2 ? ended(2, RESTART_STABLE_MS) : cell);
  const fresh = new Driver([{ ...LEAD, restart }], known("degraded", stable));
  fresh.resumed();
  assertEquals(fresh.tick(), [2000, ["start lead/0#4"]]);
});

Deno.test("resume: a wait for a restart that had begun goes on, and does not begin again", () => {
  const restart = { policy: "on-failure", backoffSeconds: 60 };
  const ended = (agoMs: number): Partial<KnownCell> => ({
    state: "ended",
    end: { outcome: "failed", ranMs: 0, agoMs },
  });
  const halfway = new Driver([{ ...LEAD, restart }], known("degraded", [ended(45_000)]));
  assertEquals(halfway.resumed(), []);
  assertEquals(halfway.tick(), [15_000, ["start lead/0#1"]]);
  const due = new Driver([{ ...LEAD, restart }], known("degraded", [ended(3_600_000)]));
  assertEquals(due.resumed(), ["start lead/0#1"]);
});

Deno.test("resume: a wish to cancel is carried out", () => {
  const wish = { isCancelRequested: true };
  const driver = new Driver([LEAD], known("running", [{}], wish));
  assertEquals(driver.resumed(), ["stop lead/0"]);
  assertEquals(driver.ended("lead/0", "stopped"), ["cancelled"]);
  assertEquals(new Driver([LEAD], known("created", [], wish)).resumed(), ["cancelled"]);
});

Deno.test("resume: of an ended formation only its running cells are stopped", () => {
  const driver = new Driver([LEAD, WORKER], known("cancelled", [{}]));
  assertEquals(driver.resumed(), ["stop lead/0"]);
  assertEquals(driver.ended("lead/0", "stopped"), []);
  assertEquals(driver.machine.isOver, true);
});

Deno.test("resume: a changed number of replicas holds, and cells past it are stopped", () => {
  const cells = [{}, { member: "worker" }, { member: "worker", replica: 1 }];
  const down = new Driver([LEAD, WORKER], known("running", cells, { replicas: { worker: 1 } }));
  assertEquals(down.resumed(), ["stop worker/1"]);
  const up = new Driver([LEAD, WORKER], known("running", cells, { replicas: { worker: 3 } }));
  assertEquals(up.resumed(), ["start worker/2"]);
  const unknown = new Driver([LEAD], known("running", [{}, { member: "ghost" }]));
  assertEquals(unknown.resumed(), []);
});
