/**
 * The log of a server: SQLite is never behind; a broker's is watched, and what changes is told.
 *
 * @module
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { RunError } from "#lib/daemon/cell_order.ts";
import { resolveSettings, type SettingTexts } from "#lib/daemon/config.ts";
import { isUnconfirmed, ServeLog } from "#lib/daemon/serve_log.ts";
import { EVENT_TYPES, type LogGapData } from "#lib/events/mod.ts";
import { LogAwayError } from "#lib/eventlog/mod.ts";
import { deleteStream, natsTest, startNats } from "#tests/support/nats.ts";
import { someEvent, someEvents, withFolder } from "../eventlog/log_fixture.ts";

function open(folder: string, flags: SettingTexts, warnings: string[] = []): Promise<ServeLog> {
  const { settings } = resolveSettings({
    flags: { stateDir: folder, spoolBytes: String(64 * 1024), ...flags },
    env: {},
  });
  return ServeLog.open(settings, "/celld/test", (text) => warnings.push(text));
}

async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 30_000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`Cannot go on without: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

Deno.test("isUnconfirmed(): only of a broker that was given the events", () => {
  assert(isUnconfirmed(new LogAwayError("append", "x", true)));
  assert(!isUnconfirmed(new LogAwayError("append", "x")));
  assert(!isUnconfirmed(new Error("x")));
});

Deno.test("ServeLog: SQLite takes facts as commands, and is ready and never behind", () =>
  withFolder(async (folder) => {
    const log = await open(folder, {});
    assertEquals([log.isReady, log.failure, log.standing, log.spooled], [
      true,
      undefined,
      undefined,
      0,
    ]);
    assertEquals(await log.facts.append(someEvents("fact", 2)), [1, 2]);
    await log.ready(new AbortController().signal);
    await log.close();
  }));

natsTest(
  "ServeLog: away and back are told, facts go to the disk, and drift is named",
  () =>
    withFolder(async (folder) => {
      await using server = await startNats();
      const warnings: string[] = [];
      const log = await open(folder, { log: server.url, logReplicas: "1" }, warnings);
      const signal = AbortSignal.timeout(30_000);
      await log.ready(signal);
      assertEquals(await log.log.append([someEvent("a")]), [1]);
      log.watch(() => 0);
      await until("the stream's end is known", () => log.standing?.lagEvents === 1);
      await server.kill();
      await until("it is away", () => log.failure !== undefined);
      assert(/^the broker is away \(.+\)$/.test(log.failure!.message));
      assertEquals(await log.facts.append(someEvents("fact", 3)), [0, 0, 0]);
      const { connected, spooledEvents, spoolCapacityBytes } = log.standing!;
      assertEquals([connected, spooledEvents, spoolCapacityBytes, log.spooled], [
        false,
        3,
        65_536,
        3,
      ]);
      assert(log.standing!.spooledBytes > 0 && !log.isReady);
      await until("that is told", () => warnings.some((text) => text.includes("log is away")));
      await server.start();
      await log.ready(AbortSignal.timeout(30_000));
      await until("that is told too", () => warnings.some((text) => text.includes("log is back")));
      assertEquals((await log.log.read()).map(({ event }) => event.id), [
        "a",
        "fact0",
        "fact1",
        "fact2",
      ]);
      await log.close();
      const other: string[] = [];
      const again = await open(folder, { log: server.url, logReplicas: "3" }, other);
      await until("the drift is told", () => other.some((text) => text.includes("num_replicas")));
      assertEquals(again.standing!.drift.length, 1);
      await again.close();
    }),
);

natsTest(
  "ServeLog: facts that find no room are counted, and told at their place",
  () =>
    withFolder(async (folder) => {
      await using server = await startNats();
      const log = await open(folder, { log: server.url });
      await log.ready(AbortSignal.timeout(30_000));
      await server.kill();
      await until("it is away", () => log.failure !== undefined);
      await log.facts.append(someEvents("fact", 1000));
      const { spooledEvents, lostEvents, spooledBytes, spoolCapacityBytes } = log.standing!;
      assertEquals(spooledEvents + lostEvents, 1000);
      assert(lostEvents > 0 && spooledEvents > 10 && spooledBytes <= spoolCapacityBytes);
      await server.start();
      await log.ready(AbortSignal.timeout(30_000));
      assertEquals(log.standing!.lostEvents, 0);
      await log.facts.append([someEvent("later")]);
      const events = (await log.log.read()).map(({ event }) => event);
      assertEquals(events.length, spooledEvents + 2);
      const gap = events[spooledEvents]!;
      const { lost, cause } = gap.data as LogGapData;
      assertEquals([gap.type, gap.source, lost, cause], [
        EVENT_TYPES.logGap,
        "/celld/test",
        lostEvents,
        "spool_full",
      ]);
      await log.close();
    }),
);

natsTest(
  "ServeLog: a stream that was set back refuses commands until a new start",
  () =>
    withFolder(async (folder) => {
      await using server = await startNats();
      const warnings: string[] = [];
      const log = await open(folder, { log: server.url }, warnings);
      await log.ready(AbortSignal.timeout(30_000));
      await log.log.append(someEvents("a", 5));
      log.watch(() => 5);
      await until("the end is known", () => log.standing?.lagEvents === 0);
      assertEquals(log.failure, undefined);
      await log.close();
      await deleteStream(server.url);
      const next = await open(folder, { log: server.url }, warnings);
      await next.ready(AbortSignal.timeout(30_000));
      next.watch(() => 5);
      await until("it is believed", () => next.failure !== undefined);
      assert(/the stream ends before what the state has/.test(next.failure!.message));
      assertEquals(warnings.filter((text) => text.includes("The stream ends at 0")).length, 1);
      await next.close();
    }),
);

natsTest(
  "ServeLog: refused credentials and a file that is missing end the opening",
  () =>
    withFolder(async (folder) => {
      await using server = await startNats({ config: 'authorization { token: "t0ken" }' });
      const missing = { log: server.url, logTokenFile: `${folder}/none` };
      await assertRejects(() => open(folder, missing), RunError, "Cannot read");
      Deno.writeTextFileSync(`${folder}/token`, "other\n");
      const log = await open(folder, { log: server.url, logTokenFile: `${folder}/token` });
      const error = await assertRejects(() => log.ready(AbortSignal.timeout(30_000)), RunError);
      assert(/authorization/i.test(error.message), error.message);
      await log.close();
    }),
);
