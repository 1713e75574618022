/**
 * What holds for a formation whatever happens, and after a crash at any moment.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { planAdmitted } from "#lib/formation/admission.ts";
import {
  type CellEnd,
  type FormationInput,
  FormationMachine,
  type FormationOutput,
  type FormationPhase,
  type KnownCell,
  readManifest,
} from "#lib/formation/mod.ts";
import { campaign, recordCampaign } from "#tests/support/campaign.ts";

const UUID = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff";
const ENDS: readonly FormationPhase[] = ["completed", "failed", "cancelled"];

/** A world that does what a machine asks for, and remembers it as a log would. */
class World {
  readonly cells = new Map<string, { -readonly [K in keyof KnownCell]: KnownCell[K] }>();
  readonly phases: FormationPhase[] = [];
  readonly replicas: Record<string, number> = {};
  readonly stops = new Set<string>();
  isCancelRequested = false;
  nowMs = 0;
  machine: FormationMachine;
  readonly #plan: ReturnType<typeof planAdmitted>;

  constructor(plan: ReturnType<typeof planAdmitted>) {
    this.#plan = plan;
    this.machine = new FormationMachine(UUID, plan);
  }

  feed(input: FormationInput): void {
    this.machine.handle(this.nowMs, input);
    for (let out = this.machine.pollOutput(); out; out = this.machine.pollOutput()) this.#do(out);
  }

  /** celld is killed and comes back; what was stopped but had not ended is still there. */
  crash(): void {
    const phase = this.phases[this.phases.length - 1];
    if (phase === undefined) return;
    const { isCancelRequested, replicas } = this;
    const cells = Array.from(this.cells.values());
    this.machine = new FormationMachine(UUID, this.#plan, {
      phase,
      isCancelRequested,
      replicas,
      cells,
    });
    this.stops.clear();
    this.feed({ kind: "resumed" });
  }

  run(cellId: string): void {
    const cell = this.cells.get(cellId)!;
    if (cell.state !== "pending") return;
    cell.state = "running";
    cell.hasRun = true;
    this.feed({ kind: "cellRunning", cellId });
  }

  end(cellId: string, end: CellEnd): void {
    const cell = this.cells.get(cellId)!;
    if (cell.state === "ended") return;
    cell.state = "ended";
    cell.end = end;
    this.feed({ kind: "cellEnded", cellId, ...end });
  }

  live(): string[] {
    return Array.from(this.cells.values()).filter(({ state }) => state !== "ended")
      .map(({ cellId }) => cellId);
  }

  #do(output: FormationOutput): void {
    if (output.kind === "event") {
      const last = this.phases[this.phases.length - 1];
      assert(last !== output.phase, `${output.phase} was told twice in a row`);
      assert(last === undefined || !ENDS.includes(last), `${output.phase} after ${last}`);
      if (ENDS.includes(output.phase)) assertEquals(this.live(), []);
      this.phases.push(output.phase);
    } else if (output.kind === "start") {
      this.#start(output);
    } else {
      assert(!this.stops.has(output.cellId), "a cell is asked once to end");
      assert(this.cells.get(output.cellId)?.state !== "ended", "only what is there is stopped");
      this.stops.add(output.cellId);
    }
  }

  #start({ cellId, member, replica, attempt }: FormationOutput & { kind: "start" }): void {
    assert(!this.cells.has(cellId), `${member}/${replica}#${attempt} is started twice`);
    assert(!this.isCancelRequested, "nothing starts after a wish to cancel");
    const { authorizedBy } = this.#plan.members.find(({ id }) => id === member)!;
    // Who has run before is not asked again whom it is under.
    assert(
      attempt > 0 || authorizedBy === undefined || this.#hasRun(authorizedBy),
      `${member} starts before ${authorizedBy} has run`,
    );
    const inPlace = Array.from(this.cells.values()).filter((cell) =>
      cell.member === member && cell.replica === replica && cell.state !== "ended"
    );
    assertEquals(inPlace, []);
    this.cells.set(cellId, { cellId, member, replica, attempt, state: "pending", hasRun: false });
  }

  /** Of a member that is to have no cells, whether the one above it has. */
  #hasRun(member: string): boolean {
    const cells = Array.from(this.cells.values()).filter((cell) => cell.member === member);
    if (cells.some((cell) => cell.hasRun || cell.end?.outcome === "succeeded")) return true;
    const { authorizedBy } = this.#plan.members.find(({ id }) => id === member)!;
    return this.replicas[member] === 0 &&
      (authorizedBy === undefined || this.#hasRun(authorizedBy));
  }
}

const restart = fc.constantFrom("never", "on-failure", "always", {
  policy: "on-failure",
  maxRestarts: 1,
});
const member = fc.record({ restart, critical: fc.boolean(), above: fc.nat(2) });
const step = fc.oneof(
  { arbitrary: fc.record({ kind: fc.constant("run" as const), which: fc.nat(20) }), weight: 6 },
  {
    arbitrary: fc.record({
      kind: fc.constant("end" as const),
      which: fc.nat(20),
      outcome: fc.constantFrom("succeeded", "failed", "stopped"),
    }),
    weight: 5,
  },
  { arbitrary: fc.constant({ kind: "tick" as const }), weight: 3 },
  { arbitrary: fc.constant({ kind: "crash" as const }), weight: 2 },
  {
    arbitrary: fc.record({ kind: fc.constant("scale" as const), to: fc.nat(3), who: fc.nat(2) }),
    weight: 2,
  },
  { arbitrary: fc.constant({ kind: "cancel" as const }), weight: 1 },
);

function planFor(members: readonly { restart: unknown; critical: boolean; above: number }[]) {
  const ids = ["lead", "a", "b", "c"];
  return planAdmitted(readManifest({
    name: "n",
    coordinator: "lead",
    members: [
      { id: "lead", spec: {} },
      ...members.map(({ restart, critical, above }, index) => ({
        id: ids[index + 1],
        authorizedBy: ids[Math.min(above, index)],
        spec: {},
        restart,
        critical,
      })),
    ],
  }));
}

Deno.test("machine: starts in order and never twice, ends once and last, through any crash", () => {
  let crashes = 0;
  const members = fc.array(member, { maxLength: 3 });
  const property = fc.property(
    members,
    fc.array(step, { maxLength: 60, size: "max" }),
    (members, steps) => {
      const world = new World(planFor(members));
      world.feed({ kind: "admitted" });
      for (const step of steps) {
        if (step.kind === "run" || step.kind === "end") {
          const live = world.live();
          const cellId = live[step.which % Math.max(1, live.length)];
          if (cellId === undefined) continue;
          if (step.kind === "run") world.run(cellId);
          else world.end(cellId, { outcome: step.outcome as CellEnd["outcome"], ranMs: 0 });
        } else if (step.kind === "tick") {
          world.nowMs = Math.max(world.nowMs, world.machine.pollTimeout() ?? 0);
          world.feed({ kind: "tick" });
        } else if (step.kind === "crash") {
          crashes++;
          world.crash();
        } else if (step.kind === "cancel") {
          world.isCancelRequested = true;
          world.feed({ kind: "cancel" });
        } else if (members.length > 0) {
          const who = ["a", "b", "c"][step.who % members.length];
          world.replicas[who] = step.to;
          world.feed({ kind: "scale", member: who, replicas: step.to });
        }
      }
      // Whatever happened: a wish to cancel brings it to its end as soon as its cells let it.
      world.isCancelRequested = true;
      world.feed({ kind: "cancel" });
      for (const cellId of world.live()) world.end(cellId, { outcome: "stopped" });
      assert(ENDS.includes(world.phases[world.phases.length - 1]));
      assertEquals([world.machine.isOver, world.machine.pollTimeout()], [true, undefined]);
    },
  );
  const numRuns = campaign(300, 30_000);
  fc.assert(property, { numRuns });
  recordCampaign("formation machine: any inputs, crashes between", { runs: numRuns, crashes });
});
