import { assert, assertEquals } from "@std/assert";
import { ServeState } from "#lib/daemon/serve_state.ts";
import { type CloudEvent, EVENT_TYPES, makeEvent } from "#lib/events/mod.ts";
import { type EventLog, MemoryEventLog } from "#lib/eventlog/mod.ts";

let nextId = 0;

function started(cellId: string): CloudEvent {
  return makeEvent({
    id: `event-${nextId++}`,
    source: "/celld/test",
    type: EVENT_TYPES.cellStarted,
    time: "2026-05-16T00:00:00Z",
    data: { cellId, specId: "demo", runId: "r" },
  });
}

interface Opened {
  readonly state: ServeState;
  readonly warnings: string[];
  readonly entries: number[];
}

async function open(log: EventLog, snapshotPath: string): Promise<Opened> {
  const [warnings, entries]: [string[], number[]] = [[], []];
  const state = await ServeState.open({
    log,
    snapshotPath,
    onEntry: ({ seq }) => entries.push(seq),
    onWarning: (text) => warnings.push(text),
  });
  return { state, warnings, entries };
}

async function withPath(use: (path: string) => Promise<void>): Promise<void> {
  const directory = Deno.makeTempDirSync({ prefix: "celld-state-" });
  try {
    await use(`${directory}/projection.json`);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

Deno.test("state: it replays, then follows, and tells when a place is in it", async () => {
  await withPath(async (path) => {
    const log = new MemoryEventLog();
    await log.append([started("a")]);
    const { state, entries } = await open(log, path);
    assertEquals(state.projection.cell("a")?.state, "running");
    state.follow();
    const [seq] = await log.append([started("b")]);
    await state.applied(seq);
    assertEquals([state.projection.cell("b")?.state, entries], ["running", [2]]);
    await state.close();
    await log.close();
  });
});

Deno.test("state: a snapshot and the tail are what all entries are", async () => {
  await withPath(async (path) => {
    const log = new MemoryEventLog();
    await log.append([started("a")]);
    await (await open(log, path)).state.close();
    await log.append([started("b")]);
    const { state, warnings } = await open(log, path);
    assertEquals(state.projection.cells().map(({ id }) => id), ["a", "b"]);
    assertEquals([state.projection.cursor, warnings], [2, []]);
    await state.close();
    await log.close();
  });
});

Deno.test("state: a snapshot that is damaged, or of another log, is told and not used", async () => {
  await withPath(async (path) => {
    const log = new MemoryEventLog();
    await log.append([started("a")]);
    await (await open(log, path)).state.close();
    const text = Deno.readTextFileSync(path);

    Deno.writeTextFileSync(path, text.replace('"a"', '"x"'));
    const damaged = await open(log, path);
    assertEquals(damaged.state.projection.cells().map(({ id }) => id), ["a"]);
    assert(damaged.warnings[0]?.includes("digest"));

    Deno.writeTextFileSync(path, text);
    const other = new MemoryEventLog();
    await other.append([started("c")]);
    const opened = await open(other, path);
    assertEquals(opened.state.projection.cells().map(({ id }) => id), ["c"]);
    assert(opened.warnings[0]?.includes("another log"));
    await Promise.all([damaged.state.close(), opened.state.close()]);
    await Promise.all([log.close(), other.close()]);
  });
});

Deno.test("state: entries that the log drops before they are read are told, and the rest is taken", async () => {
  await withPath(async (path) => {
    const log = new MemoryEventLog();
    await log.append([started("a"), started("b")]);
    const { state, warnings } = await open(log, path);
    await log.append([started("c"), started("d"), started("e")]);
    await log.dropBefore(5);
    state.follow();
    await state.applied(5);
    assertEquals(state.projection.cursor, 5);
    assertEquals(["c", "d", "e"].map((id) => state.projection.cell(id)?.state), [
      undefined,
      undefined,
      "running",
    ]);
    assertEquals(warnings, [
      "The state misses entries that the log has dropped: Cannot read after 2: the log now " +
      "starts at 5",
    ]);
    assertEquals(state.refusal, undefined);
    await state.close();
    await log.close();
  });
});
