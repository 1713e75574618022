/**
 * How many records of each run were heard that told nothing new: the only thing about a run's audit
 * that is on no log, written down now and then so that the next celld does not take them for lost.
 *
 *   <runtime>/repeats.json   {"<run id>":n,…}
 *
 * What was heard since the last writing is counted as missed; never is anything that was missed
 * counted as heard.
 *
 * @module
 */

/** Runs that are remembered; the oldest go first. */
const RUNS_MAX = 10_000;

/** See the module. */
export class HeardRepeats {
  readonly #path: string;
  readonly #counts: Map<string, number>;
  #isChanged = false;

  /** Reads what the celld before wrote; a file that is none of ours is as none. */
  static open(path: string): HeardRepeats {
    let text: string;
    try {
      text = Deno.readTextFileSync(path);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return new HeardRepeats(path, new Map());
      throw error;
    }
    return new HeardRepeats(path, parseRepeats(text));
  }

  private constructor(path: string, counts: Map<string, number>) {
    this.#path = path;
    this.#counts = counts;
  }

  /** What is known of a run. */
  of(runId: string): number {
    return this.#counts.get(runId) ?? 0;
  }

  /** Takes a run's count. */
  note(runId: string, repeats: number): void {
    if (this.of(runId) === repeats) return;
    this.#isChanged = true;
    this.#counts.set(runId, repeats);
    if (this.#counts.size > RUNS_MAX) this.#counts.delete(this.#counts.keys().next().value!);
  }

  /** Forgets a run that has ended. */
  forget(runId: string): void {
    if (this.#counts.delete(runId)) this.#isChanged = true;
  }

  /** Writes what has changed. */
  write(): void {
    if (!this.#isChanged) return;
    const draft = `${this.#path}.new`;
    Deno.writeTextFileSync(draft, JSON.stringify(Object.fromEntries(this.#counts)), {
      mode: 0o600,
    });
    Deno.renameSync(draft, this.#path);
    this.#isChanged = false;
  }
}

/** Reads the file's text; empty where it is none of ours. */
export function parseRepeats(text: string): Map<string, number> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return new Map();
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) return new Map();
  const entries = Object.entries(value);
  return entries.every(([, count]) => Number.isSafeInteger(count) && count >= 0)
    ? new Map(entries)
    : new Map();
}
