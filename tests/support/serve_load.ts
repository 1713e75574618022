/**
 * What people do with a server that keeps being killed: they ask for cells and formations and stop
 * them, and read lists. What was acknowledged is remembered, to be compared with what became of it.
 *
 * Each cell writes a line into a file of its own, so that one that ran twice has two.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { spec, until } from "./celld_stage.ts";
import type { Served, ServedAnswer } from "./served.ts";
import { historyOf } from "./served_facts.ts";

const WAIT = "while :; do sleep 60 & wait $!; done";
/** One of so many cells goes on until it is stopped; the others end by themselves. */
const LONG_EVERY = 3;
/** One of so many wishes is a formation of one cell. */
const FORMATION_EVERY = 6;
/** What an answer may be while a server starts or ends. */
const ANSWERS = new Set([200, 503]);

/** See the module. */
export class ServeLoad {
  /** Cells that were acknowledged, and their marks. */
  readonly #cells = new Map<string, string>();
  /** Formations that were acknowledged, and the marks of their cells. */
  readonly #formations = new Map<string, string>();
  readonly #stopped = new Set<string>();
  readonly #served: Served;
  readonly #marks: string;
  #asked = 0;
  #reads = 0;

  /** `marks` is a directory that cells may write to. */
  constructor(served: Served, marks: string) {
    this.#served = served;
    this.#marks = marks;
  }

  /** What was done so far. */
  get figures(): Record<"asked" | "acknowledged" | "formations" | "stopped" | "reads", number> {
    return {
      asked: this.#asked,
      acknowledged: this.#cells.size,
      formations: this.#formations.size,
      stopped: this.#stopped.size,
      reads: this.#reads,
    };
  }

  /** Works until a moment; what hangs in a server that was killed is left. */
  async runUntil(deadline: number): Promise<void> {
    const isOver = () => performance.now() >= deadline;
    await Promise.race([
      Promise.all([this.#askUntil(isOver), this.#readUntil(isOver)]),
      new Promise((resolve) => setTimeout(resolve, deadline - performance.now())),
    ]);
  }

  /** Ends everything, what was not acknowledged too. */
  async settle(): Promise<void> {
    const { formations } = (await this.#served.ask("GET", "/v1/formations"))
      .json<{ formations: { id: string }[] }>();
    await Promise.all(formations.map(({ id }) => this.#settleFormation(id)));
    const { cells } = (await this.#served.ask("GET", "/v1/cells"))
      .json<{ cells: { id: string; spec_id: string; state: string }[] }>();
    const jobs = cells.filter(({ spec_id }) => spec_id === "job");
    const left = jobs.filter(({ state }) => state !== "destroyed");
    await Promise.all(left.map(async ({ id }) => {
      const mark = this.#cells.get(id);
      if (mark !== undefined) await until(() => this.#hasMark(mark), `${mark} of ${id}`);
      await this.#served.ask("POST", `/v1/cells/${id}/stop`);
    }));
    const ids = new Set([...jobs.map(({ id }) => id), ...this.#cells.keys()]);
    for (const id of ids) await this.#served.cellBecomes(id, { state: "destroyed" });
  }

  /** Every acknowledged cell ran once, and none that was not acknowledged ran twice. */
  async assertMarks(): Promise<void> {
    const counts = new Map<string, number>();
    for (const { name } of Deno.readDirSync(this.#marks)) {
      const lines = Deno.readTextFileSync(`${this.#marks}/${name}`).trimEnd().split("\n").length;
      counts.set(name, lines);
    }
    const wanted = [...this.#cells, ...this.#formations];
    const wrong = wanted.filter(([, mark]) => counts.get(mark) !== 1);
    const entries = wrong.length === 0 ? [] : await this.#served.events();
    assertEquals(wrong.map(([id, mark]) => [mark, counts.get(mark), historyOf(entries, id)]), []);
    assertEquals([...counts].filter(([, count]) => count !== 1), [], "ran twice");
    assert(this.#cells.size > 0 && this.#formations.size > 0, "nothing was acknowledged");
  }

  async #settleFormation(id: string): Promise<void> {
    const mark = this.#formations.get(id);
    if (mark !== undefined) await until(() => this.#hasMark(mark), `${mark} of formation ${id}`);
    await this.#served.ask("DELETE", `/v1/formations/${id}`);
    const deadline = performance.now() + 20_000;
    for (;;) {
      const formation = (await this.#served.ask("GET", `/v1/formations/${id}`)).json();
      if (formation.phase === "cancelled") return;
      assert(performance.now() < deadline, JSON.stringify(formation));
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async #askUntil(isOver: () => boolean): Promise<void> {
    while (!isOver()) {
      const mark = `mark-${this.#asked++}`;
      if (this.#asked % FORMATION_EVERY === 0) await this.#askFormation(mark);
      else await this.#askCell(mark);
      await new Promise((resolve) => setTimeout(resolve, 50));
      await this.#stopLong(isOver);
    }
  }

  async #askCell(mark: string): Promise<void> {
    const last = isLong(mark) ? WAIT : "sleep 0.3";
    const answer = await this.#served.tryAsk("POST", "/v1/cells", this.#document(mark, last));
    if (answer?.status !== 202) return;
    this.#cells.set(answer.json<{ cellId: string }>().cellId, mark);
  }

  async #askFormation(mark: string): Promise<void> {
    const { spec: member } = this.#document(mark, WAIT) as { spec: Record<string, unknown> };
    const { id: _, ...cell } = member;
    const answer = await this.#served.tryAsk("POST", "/v1/formations", {
      name: `formation-${mark}`,
      coordinator: "lead",
      members: [{ id: "lead", spec: cell }],
    });
    if (answer?.status !== 201) return;
    this.#formations.set(answer.json<{ id: string }>().id, mark);
  }

  #document(mark: string, last: string): Record<string, unknown> {
    return spec("job", {
      argv: ["sh", "-c", `echo x >> /marks/${mark}; ${last}`],
      run: { mounts: [{ source: this.#marks, target: "/marks", readOnly: false }] },
    });
  }

  /** Long ones, until the stop is acknowledged. */
  async #stopLong(isOver: () => boolean): Promise<void> {
    for (const [cellId, mark] of this.#cells) {
      if (!isLong(mark) || this.#stopped.has(cellId)) continue;
      if (isOver()) return;
      // One that never ran leaves no mark.
      if ((await this.#served.tryAsk("GET", `/v1/cells/${cellId}`))?.json().state !== "running") {
        continue;
      }
      if (!this.#hasMark(mark)) continue;
      const answer = await this.#served.tryAsk("POST", `/v1/cells/${cellId}/stop`);
      if (answer?.status === 202) this.#stopped.add(cellId);
    }
  }

  async #readUntil(isOver: () => boolean): Promise<void> {
    while (!isOver()) {
      for (const path of ["/v1/cells", "/v1/formations", "/v1/flows?limit=100"]) {
        const answer = await this.#served.tryAsk("GET", path);
        if (answer !== undefined) this.#assertWhole(answer);
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** An answer is whole or there is none. */
  #assertWhole(answer: ServedAnswer): void {
    this.#reads += 1;
    assert(ANSWERS.has(answer.status), `${answer.status} ${answer.text}`);
    assert(typeof answer.json() === "object");
  }

  #hasMark(mark: string): boolean {
    try {
      return Deno.statSync(`${this.#marks}/${mark}`).isFile;
    } catch {
      // Not there yet.
      return false;
    }
  }
}

function isLong(mark: string): boolean {
  return Number(mark.slice("mark-".length)) % LONG_EVERY === 0;
}
