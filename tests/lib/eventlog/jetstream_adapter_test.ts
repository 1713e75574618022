/**
 * The log in JetStream beside its contract: the stream that it makes or finds, other clients'
 * events, a broker that is away, that is full, that takes less.
 *
 * @module
 */
import { assert, assertEquals, assertGreater, assertRejects } from "@std/assert";
import { jetstreamManager } from "@nats-io/jetstream";
import { headers } from "@nats-io/transport-node";
import {
  CursorExpiredError,
  InvalidEventError,
  LOG_GAP_TYPE,
  LogAwayError,
  LogFullError,
  type LogGapData,
} from "#lib/eventlog/mod.ts";
import { openJetStreamLog } from "#lib/eventlog/mod_shell.ts";
import { wantedStream } from "#lib/eventlog/jetstream_stream.ts";
import { type NatsServer, natsTest, startNats, withClient } from "#tests/support/nats.ts";
import { pause, readAll, until } from "./jetstream_fixture.ts";
import { someEvent, someEvents, withFolder } from "./log_fixture.ts";

/** Makes the stream before the log does, with some members changed. */
function makeStream(server: NatsServer, change: Record<string, unknown>): Promise<void> {
  return withClient(server.url, async (nc) => {
    const manager = await jetstreamManager(nc);
    await manager.streams.add({ ...wantedStream(1), ...change } as never);
  });
}

async function streamConfig(server: NatsServer): Promise<Record<string, unknown>> {
  return await withClient(server.url, async (nc) => {
    const manager = await jetstreamManager(nc);
    return (await manager.streams.info("CELLOS_EVENTS")).config as never;
  });
}

natsTest("jetstream log: makes the stream that it wants, and finds it again", async () => {
  await using server = await startNats();
  const first = await openJetStreamLog(server.url);
  assertEquals(await first.append([someEvent("a")]), [1]);
  await first.close();
  const { subjects, storage, max_age, num_replicas } = await streamConfig(server);
  assertEquals([subjects, storage, max_age, num_replicas], [
    ["cellos.events.>"],
    "file",
    90 * 86_400 * 1e9,
    1,
  ]);
  const second = await openJetStreamLog(server.url);
  assertEquals([second.drift(), await second.lastSeq()], [[], 1]);
  assertEquals(await second.append([someEvent("a"), someEvent("b")]), [1, 2]);
  await second.close();
});

natsTest("jetstream log: leaves a stream that is there as it is, and tells the drift", async () => {
  await using server = await startNats();
  await makeStream(server, { max_age: 3600 * 1e9, max_msgs: 1000 });
  const log = await openJetStreamLog(server.url);
  assertEquals(log.drift(), [
    'max_age: found "3600 s", want "7776000 s"',
    "max_msgs: found 1000, want -1",
  ]);
  assertEquals(await log.append([someEvent("a")]), [1]);
  await log.close();
  assertEquals((await streamConfig(server)).max_age, 3600 * 1e9);
});

natsTest(
  "jetstream log: a message carries the event, its id and a subject of its own",
  async () => {
    await using server = await startNats();
    const log = await openJetStreamLog(server.url);
    const event = someEvent("id-1");
    await withClient(server.url, async (nc) => {
      const seen = nc.subscribe("cellos.events.>", { max: 1 });
      await nc.flush();
      await log.append([event]);
      for await (const message of seen) {
        assertEquals(message.subject, "cellos.events.cell.test.happened");
        assertEquals(message.headers?.get("Nats-Msg-Id"), "id-1");
        assertEquals(message.json(), event);
      }
    });
    await log.close();
  },
);

natsTest(
  "jetstream log: reads what other clients wrote as it is, and skips what is no event",
  async () => {
    await using server = await startNats();
    const unreadable: number[] = [];
    const log = await openJetStreamLog(server.url, { onUnreadable: (seq) => unreadable.push(seq) });
    const started = {
      specversion: "1.0",
      id: "9f1c",
      source: "cellos-supervisor",
      type: "dev.cellos.events.cell.lifecycle.v1.started",
      datacontenttype: "application/json",
      time: "2026-05-16T00:00:00Z",
      data: { cellId: "c", specId: "s" },
    };
    const legacy = {
      specversion: "1.0",
      id: "9f1d",
      source: "/cellos/supervisor/host",
      type: "io.cellos.formation.v1.created",
      subject: null,
      data: { formation_id: "0b5e0fd6-4a5b-4f0f-9d1e-0123456789ab", name: "f" },
    };
    await withClient(server.url, (nc) => {
      nc.publish("cellos.events.cell.c.started", JSON.stringify(started));
      nc.publish("cellos.events.x", "not JSON");
      nc.publish("cellos.events.x", new Uint8Array([0xff, 0xfe, 0]));
      nc.publish("cellos.events.x", '{"specversion":"0.3"}');
      nc.publish("cellos.events.formation.f.created", JSON.stringify(legacy), {
        headers: headers(),
      });
      return nc.flush();
    });
    await until("all are stored", async () => await log.lastSeq() === 5);
    const { subject: _, ...withoutNull } = legacy;
    const wanted = [{ seq: 1, event: started }, { seq: 5, event: withoutNull }];
    assertEquals(await log.read() as unknown, wanted);
    // A page is full of events, however many messages that takes.
    assertEquals((await log.read({ since: 1, limit: 1 })).map(({ seq }) => seq), [5]);
    const followed: number[] = [];
    for await (const { seq } of log.subscribe()) {
      followed.push(seq);
      if (seq === 5) break;
    }
    assertEquals(followed, [1, 5]);
    assertEquals([unreadable, log.counts().unreadable], [[2, 3, 4], 3]);
    await log.close();
  },
);

natsTest(
  "jetstream log: a follower that retention overtakes is told, not led on silently",
  async () => {
    await using server = await startNats();
    const log = await openJetStreamLog(server.url);
    await log.append(someEvents("e", 2500));
    const seen: number[] = [];
    const error = await assertRejects(async () => {
      for await (const { seq } of log.subscribe({ since: 2 })) {
        seen.push(seq);
        // Its page is here already; what comes after that is dropped.
        if (seen.length === 1) await log.dropBefore(2400);
      }
    }, CursorExpiredError);
    assertEquals([seen[0], error.firstSeq], [3, 2400]);
    assertEquals(seen, Array.from({ length: seen.length }, (_, index) => index + 3));
    await log.close();
  },
);

natsTest(
  "jetstream log: without a broker it does not open, unless it may be away",
  () =>
    withFolder(async (folder) => {
      await using server = await startNats();
      await server.kill();
      const options = { openTimeoutMs: 300, appendTimeoutMs: 300, readTimeoutMs: 300 };
      await assertRejects(() => openJetStreamLog(server.url, options), LogAwayError, "refused");
      const log = await openJetStreamLog(server.url, {
        ...options,
        mayBeAway: true,
        spoolPath: `${folder}/spool`,
        spoolBytes: 64 * 1024,
      });
      assertEquals(log.behind().connected, false);
      const refusal = await assertRejects(() => log.append([someEvent("command")]), LogAwayError);
      assertEquals(refusal.isUnconfirmed, false);
      await assertRejects(() => log.read(), LogAwayError);
      assertEquals(await log.record(someEvents("fact", 3)), { stored: 0, spooled: 3, lost: 0 });
      assertEquals([log.behind().spooled, log.behind().connected], [3, false]);
      await server.start();
      await until("the spool is empty", () => log.behind().spooled === 0);
      assertEquals(log.behind(), {
        spooled: 0,
        spooledBytes: 0,
        spoolCapacityBytes: 64 * 1024,
        lost: 0,
        connected: true,
        isRefused: false,
      });
      assertEquals(await log.append([someEvent("later")]), [4]);
      assertEquals((await log.read()).map(({ event }) => event.id), [
        "fact0",
        "fact1",
        "fact2",
        "later",
      ]);
      await log.close();
    }),
);

natsTest(
  "jetstream log: what the spool holds comes before anything later, and survives",
  () =>
    withFolder(async (folder) => {
      await using server = await startNats();
      const options = { spoolPath: `${folder}/spool`, spoolBytes: 64 * 1024, mayBeAway: true };
      const first = await openJetStreamLog(server.url, options);
      await first.append([someEvent("before")]);
      await server.kill();
      await until("the log says that it is away", () => !first.behind().connected);
      await first.record(someEvents("fact", 20));
      await first.close();
      await server.start();
      const second = await openJetStreamLog(server.url, { ...options, mayBeAway: false });
      const [seq] = await second.append([someEvent("after")]);
      assertEquals(seq, 22);
      const ids = (await readAll(second)).map(({ event }) => event.id);
      assertEquals(ids, ["before", ...someEvents("fact", 20).map(({ id }) => id), "after"]);
      await second.close();
    }),
);

natsTest(
  "jetstream log: what did not fit the spool is one event with the count, at its place",
  () =>
    withFolder(async (folder) => {
      await using server = await startNats();
      const log = await openJetStreamLog(server.url, {
        source: "/celld/host-1",
        spoolPath: `${folder}/spool`,
        spoolBytes: 16 * 1024,
      });
      await server.kill();
      await until("the log says that it is away", () => !log.behind().connected);
      const { spooled, lost } = await log.record(someEvents("fact", 100));
      assertGreater(spooled, 10);
      assertEquals(spooled + lost, 100);
      assertEquals([log.behind().spooled, log.behind().lost], [spooled, lost]);
      await server.start();
      await until("the log has caught up", () => log.behind().spooled + log.behind().lost === 0);
      await log.record([someEvent("later")]);
      const entries = await readAll(log);
      assertEquals(entries.length, spooled + 2);
      const gap = entries[spooled].event;
      assertEquals([gap.type, gap.source], [LOG_GAP_TYPE, "/celld/host-1"]);
      const data = gap.data as LogGapData;
      assertEquals([data.lost, data.cause], [lost, "spool_full"]);
      assert(data.from <= data.to);
      assertEquals(entries.at(-1)!.event.id, "later");
      await log.close();
    }),
);

natsTest(
  "jetstream log: events that the stream has forgotten the ids of are not stored twice",
  () =>
    withFolder(async (folder) => {
      await using server = await startNats();
      await makeStream(server, { duplicate_window: 100 * 1e6 });
      const options = { spoolPath: `${folder}/spool`, spoolBytes: 64 * 1024, mayBeAway: true };
      await server.kill();
      const first = await openJetStreamLog(server.url, options);
      await first.record(someEvents("fact", 10));
      await first.close();
      await server.start();
      // As after a crash between storing and dropping: six are in the stream, and in the spool.
      const other = await openJetStreamLog(server.url);
      await other.append(someEvents("fact", 6));
      await other.close();
      await pause(500);
      const second = await openJetStreamLog(server.url, options);
      await until("the spool is empty", () => second.behind().spooled === 0);
      const ids = (await readAll(second)).map(({ event }) => event.id);
      assertEquals(ids, someEvents("fact", 10).map(({ id }) => id));
      await second.close();
    }),
);

natsTest("jetstream log: a full stream refuses, and takes again when there is room", async () => {
  await using server = await startNats();
  await makeStream(server, { max_msgs: 5, discard: "new" });
  const log = await openJetStreamLog(server.url, { appendTimeoutMs: 1000 });
  assertEquals(await log.append(someEvents("e", 5)), [1, 2, 3, 4, 5]);
  await assertRejects(() => log.append([someEvent("f")]), LogFullError, "maximum messages");
  assert(!log.behind().connected);
  await log.dropBefore(3);
  assertEquals(await log.append([someEvent("f")]), [6]);
  assert(log.behind().connected);
  await log.close();
});

natsTest(
  "jetstream log: a broker that takes less refuses large events, and only those",
  () =>
    withFolder(async (folder) => {
      await using server = await startNats({ config: "max_payload: 20000" });
      const log = await openJetStreamLog(server.url, {
        spoolPath: `${folder}/spool`,
        spoolBytes: 128 * 1024,
      });
      await assertRejects(
        () => log.append([someEvent("large", 30_000)]),
        InvalidEventError,
        "want at most 20000 bytes",
      );
      assertEquals(await log.append([someEvent("small", 15_000)]), [1]);
      await log.close();
      // What was spooled while nobody could say: told, and not in the way of the rest.
      await server.kill();
      const away = await openJetStreamLog(server.url, {
        spoolPath: `${folder}/spool`,
        mayBeAway: true,
      });
      await away.record([someEvent("b"), someEvent("large", 30_000), someEvent("c")]);
      await server.start();
      await until("the spool is empty", () => away.behind().spooled === 0);
      const [, b, gap, c] = await readAll(away);
      assertEquals([b.event.id, gap.event.type, c.event.id], ["b", LOG_GAP_TYPE, "c"]);
      assertEquals((gap.event.data as LogGapData).cause, "event_too_large");
      await away.close();
    }),
);

natsTest(
  "jetstream log: a broker that hangs is noticed, and what was asked of it is unconfirmed",
  async () => {
    await using server = await startNats();
    const log = await openJetStreamLog(server.url, { answerTimeoutMs: 200, appendTimeoutMs: 500 });
    await log.append([someEvent("a")]);
    server.signal("SIGSTOP");
    const error = await assertRejects(() => log.append([someEvent("b")]), LogAwayError);
    assertEquals([error.isUnconfirmed, log.behind().connected], [true, false]);
    server.signal("SIGCONT");
    await until("it answers again", () =>
      log.behind().connected || log.append([someEvent("b")])
        .then(() => true, () => false));
    // The same id again is right: it is there once, whenever it came.
    const [seq] = await log.append([someEvent("b")]);
    assertEquals((await log.read({ since: 1 })).map((entry) => [entry.seq, entry.event.id]), [[
      seq,
      "b",
    ]]);
    await log.close();
  },
);

natsTest(
  "jetstream log: an append that the broker did not confirm is not kept for later, also with a spool",
  () =>
    withFolder(async (folder) => {
      await using server = await startNats();
      const log = await openJetStreamLog(server.url, {
        answerTimeoutMs: 200,
        appendTimeoutMs: 500,
        spoolPath: `${folder}/spool`,
        spoolBytes: 64 * 1024,
      });
      await log.append([someEvent("a")]);
      server.signal("SIGSTOP");
      const error = await assertRejects(() => log.append([someEvent("b")]), LogAwayError);
      assertEquals([error.isUnconfirmed, log.behind().spooled], [true, 0]);
      assertEquals((await log.record([someEvent("void")])).spooled, 1);
      server.signal("SIGCONT");
      await until("the log has caught up", () => log.behind().connected);
      await until("the spool is empty", () => log.behind().spooled === 0);
      const ids = (await readAll(log)).map(({ event }) => event.id);
      assertEquals(ids.filter((id) => id !== "b"), ["a", "void"]);
      // Asked for again it is there once, also where the first time has come through.
      await log.append([someEvent("b")]);
      const after = (await readAll(log)).map(({ event }) => event.id);
      assertEquals(after.filter((id) => id === "b").length, 1);
      await log.close();
    }),
);

natsTest("jetstream log: a stream of another name is the log, and the only one", async () => {
  await using server = await startNats();
  const log = await openJetStreamLog(server.url, { stream: "OTHER" });
  assertEquals(await log.append(someEvents("e", 3)), [1, 2, 3]);
  const followed: string[] = [];
  for await (const { event } of log.subscribe()) {
    followed.push(event.id);
    if (followed.length === 3) break;
  }
  assertEquals(followed, ["e0", "e1", "e2"]);
  assertEquals([await log.dropBefore(3), await log.firstSeq(), log.drift()], [2, 3, []]);
  await log.close();
  const streams = await withClient(server.url, async (nc) => {
    const manager = await jetstreamManager(nc);
    return (await manager.streams.names().next()).slice();
  });
  assertEquals(streams, ["OTHER"]);
});
