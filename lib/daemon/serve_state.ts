/**
 * The state of a server: the projection of the log, kept up with it, and a snapshot beside it so
 * that a restart costs the state and not the history.
 *
 *   log ──replay, follow──▶ Projection ──▶ whoever waits for a place, whoever wants the changes
 *                               └──▶ `<state>/projection.json`, with its digest
 *
 * Nothing is written into the projection but what the log has: what a command did is seen when it
 * comes back from there.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { CursorExpiredError, type EventLog, type LogEntry } from "#lib/eventlog/mod.ts";
import { Projection, type ProjectionChange, SnapshotError } from "#lib/projection/mod.ts";

/** A snapshot is written after so many events, at least. */
const SNAPSHOT_EVENTS_MIN = 20_000;
const REPLAY_PAGE = 1000;
/** Pause before a log that refused is followed again, in milliseconds. */
const RETRY_MS = 500;
/** How long a command waits for the state to have it, in milliseconds. */
const APPLIED_PATIENCE_MS = 10_000;

/** What a state is opened with. */
export interface ServeStateOptions {
  /** Not owned. */
  readonly log: EventLog;
  /** The snapshot's file. */
  readonly snapshotPath: string;
  /** Called with each entry once it is applied, from the first live one on. */
  onEntry(entry: LogEntry, change: ProjectionChange | undefined): void;
  onWarning(text: string): void;
}

interface Waiter {
  readonly seq: number;
  resolve(): void;
}

/** See the module. */
export class ServeState {
  readonly projection: Projection;
  readonly #options: ServeStateOptions;
  readonly #ending = new AbortController();
  #waiters: Waiter[] = [];
  #sinceSnapshot = 0;
  #lastId = "";
  #following: Promise<void> = Promise.resolve();
  #refusal: string | undefined;

  /** Replays what there is. Rejects where the log cannot be read. */
  static async open(options: ServeStateOptions): Promise<ServeState> {
    const kept = await restore(options);
    const state = new ServeState(options, kept?.projection ?? new Projection());
    state.#lastId = kept?.lastId ?? "";
    await state.#replay();
    return state;
  }

  private constructor(options: ServeStateOptions, projection: Projection) {
    this.#options = options;
    this.projection = projection;
  }

  /** Why the log cannot be followed; `undefined` while it can. */
  get refusal(): string | undefined {
    return this.#refusal;
  }

  /** Begins to follow the log. */
  follow(): void {
    this.#following = this.#follow();
  }

  /**
   * Resolves when an entry, which is in the log, is in the projection too; after some seconds also
   * where it is not: a broker may have gone away between storing and telling.
   */
  applied(seq: number): Promise<void> {
    if (this.projection.cursor >= seq || this.#ending.signal.aborted) return Promise.resolve();
    return new Promise((settle) => {
      const resolve = () => {
        clearTimeout(timer);
        settle();
      };
      const waiter = { seq, resolve };
      const timer = setTimeout(() => {
        this.#waiters = this.#waiters.filter((one) => one !== waiter);
        settle();
      }, APPLIED_PATIENCE_MS);
      this.#waiters.push(waiter);
    });
  }

  /** Ends following, and writes a snapshot. */
  async close(): Promise<void> {
    this.#ending.abort();
    await this.#following;
    for (const { resolve } of this.#waiters) resolve();
    this.#waiters = [];
    this.#writeSnapshot();
  }

  async #replay(): Promise<void> {
    const { log, onWarning } = this.#options;
    for (;;) {
      let page: LogEntry[];
      try {
        page = await log.read({ since: this.projection.cursor, limit: REPLAY_PAGE });
      } catch (error) {
        if (!(error instanceof CursorExpiredError) || this.projection.cursor === 0) throw error;
        onWarning(`The state's snapshot is older than the log: ${error.message}`);
        page = await log.read({ since: error.firstSeq - 1, limit: REPLAY_PAGE });
      }
      for (const entry of page) this.projection.apply(entry);
      this.#lastId = page.at(-1)?.event.id ?? this.#lastId;
      this.#sinceSnapshot += page.length;
      if (page.length < REPLAY_PAGE) return;
    }
  }

  async #follow(): Promise<void> {
    const { log, onWarning } = this.#options;
    const { signal } = this.#ending;
    let expired = 0;
    while (!signal.aborted) {
      try {
        const since = Math.max(this.projection.cursor, expired);
        for await (const entry of log.subscribe({ since, signal })) {
          this.#refusal = undefined;
          this.#take(entry);
        }
        if (!signal.aborted) throw new Error("the log has ended");
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof CursorExpiredError && error.firstSeq - 1 > expired) {
          // What is gone cannot be waited for: it is told, and the rest is taken.
          onWarning(`The state misses entries that the log has dropped: ${error.message}`);
          expired = error.firstSeq - 1;
          continue;
        }
        const reason = error instanceof Error ? error.message : String(error);
        if (this.#refusal !== reason) onWarning(`Cannot follow the log: ${reason}`);
        this.#refusal = reason;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }

  #take(entry: LogEntry): void {
    const change = this.projection.apply(entry);
    this.#lastId = entry.event.id;
    if (this.#waiters.length > 0) {
      const due = this.#waiters.filter(({ seq }) => seq <= entry.seq);
      if (due.length > 0) {
        this.#waiters = this.#waiters.filter(({ seq }) => seq > entry.seq);
        for (const { resolve } of due) resolve();
      }
    }
    this.#options.onEntry(entry, change);
    this.#sinceSnapshot += 1;
    // In step with the state's own size, so that snapshots stay a small part of the work.
    const { cells, flows } = this.projection.sizes;
    if (this.#sinceSnapshot >= Math.max(SNAPSHOT_EVENTS_MIN, 2 * (cells + flows))) {
      this.#writeSnapshot();
    }
  }

  #writeSnapshot(): void {
    const { snapshotPath, onWarning } = this.#options;
    this.#sinceSnapshot = 0;
    const lastId = this.#lastId;
    const text = JSON.stringify({ lastId, snapshot: this.projection.snapshot() });
    try {
      const draft = `${snapshotPath}.new`;
      Deno.writeTextFileSync(draft, `${digestOf(text)}\n${text}`, { mode: 0o600 });
      Deno.renameSync(draft, snapshotPath);
    } catch (error) {
      // Without it a restart takes longer, and that is all.
      onWarning(`Cannot write the state's snapshot: ${(error as Error).message}`);
    }
  }
}

interface KeptState {
  readonly projection: Projection;
  /** Id of the last entry that is in it. */
  readonly lastId: string;
}

/** The snapshot's projection, where there is a sound one of this log. */
async function restore(options: ServeStateOptions): Promise<KeptState | undefined> {
  const { log, snapshotPath, onWarning } = options;
  let text: string;
  try {
    text = Deno.readTextFileSync(snapshotPath);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
  const at = text.indexOf("\n");
  const body = text.slice(at + 1);
  try {
    if (text.slice(0, at) !== digestOf(body)) throw new SnapshotError("its digest differs");
    const { lastId, snapshot } = JSON.parse(body) as { lastId: string; snapshot: unknown };
    const projection = Projection.restore(snapshot);
    if (await isIn(log, projection.cursor, lastId)) return { projection, lastId };
    onWarning("The state's snapshot is of another log, or of a part that is gone: replaying");
  } catch (error) {
    if (!(error instanceof SnapshotError)) throw error;
    onWarning(`The state's snapshot cannot be used, replaying the log: ${error.message}`);
  }
  return undefined;
}

async function isIn(log: EventLog, seq: number, id: string): Promise<boolean> {
  if (seq === 0) return true;
  // An older end of the log is known by what stands there now.
  if (await log.firstSeq() > seq) return await log.lastSeq() >= seq;
  const [entry] = await log.read({ since: seq - 1, limit: 1 });
  return entry?.seq === seq && entry.event.id === id;
}

function digestOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
