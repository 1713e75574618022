/**
 * The log in JetStream against kill -9 of its broker: nothing acknowledged is lost, nothing is
 * there twice, followers resume exactly, and the log says how far it is behind.
 *
 * @module
 */
import { assert, assertEquals, assertGreater } from "@std/assert";
import { Prng } from "#lib/base/mod.ts";
import { openJetStreamLog } from "#lib/eventlog/mod_shell.ts";
import { campaign, campaignSeed, recordCampaign } from "#tests/support/campaign.ts";
import { isStreamWhole, natsTest, startNats, startNatsCluster } from "#tests/support/nats.ts";
import { Follower, judge, pause, until, Writer } from "./jetstream_fixture.ts";
import { withFolder } from "./log_fixture.ts";

natsTest(
  "jetstream log: its server killed under load loses and doubles nothing",
  () =>
    withFolder(async (folder) => {
      const rounds = campaign(3, 20);
      const seed = campaignSeed();
      const random = new Prng(seed);
      await using server = await startNats();
      const log = await openJetStreamLog(server.url, {
        spoolPath: `${folder}/spool`,
        spoolBytes: 8 * 1024 * 1024,
        appendTimeoutMs: 60_000,
      });
      const writers = [
        new Writer(log, "one-", 1, "append"),
        new Writer(log, "many-", 20, "append"),
        new Writer(log, "fact-", 5, "record"),
      ];
      const followers = [new Follower(log), new Follower(log, 100)];
      let spooledMost = 0;
      for (let round = 0; round < rounds; round++) {
        await pause(100 + random.below(300));
        await server.kill();
        await until("the log says that it is away", () => !log.behind().connected);
        await until("facts wait on the disk", () => log.behind().spooled > 0);
        await pause(random.below(300));
        const { spooled, lost, lastError } = log.behind();
        spooledMost = Math.max(spooledMost, spooled);
        assertEquals(lost, 0);
        assert(lastError !== undefined);
        await server.start();
        await until("the log has caught up", () => log.behind().connected);
      }
      await Promise.all(writers.map((writer) => writer.stop()));
      await until("the spool is empty", () => log.behind().spooled === 0);
      const stored = await judge(log, writers, followers, `seed ${seed}`);
      await log.close();
      assertGreater(followers[1].resumed, 1);
      assertEquals(stored.length, writers.reduce((sum, { ids }) => sum + ids.length, 0));
      recordCampaign("jetstream log: server killed under load", {
        rounds,
        acknowledged: stored.length,
        lost: 0,
        twice: 0,
        spooledMost,
        resumed: followers[1].resumed,
        seed,
      });
    }),
);

natsTest(
  "jetstream log: each of three nodes killed in turn loses and doubles nothing",
  () =>
    withFolder(async (folder) => {
      const rounds = campaign(1, 21);
      const seed = campaignSeed();
      const random = new Prng(seed);
      await using cluster = await startNatsCluster(3);
      const log = await openJetStreamLog(cluster.url, {
        spoolPath: `${folder}/spool`,
        spoolBytes: 8 * 1024 * 1024,
        appendTimeoutMs: 120_000,
        readTimeoutMs: 60_000,
      });
      assertEquals(log.drift(), []);
      const writers = [
        new Writer(log, "one-", 1, "append"),
        new Writer(log, "many-", 20, "append"),
        new Writer(log, "fact-", 5, "record"),
      ];
      const followers = [new Follower(log), new Follower(log, 500)];
      let longestMs = 0;
      for (let round = 0; round < rounds; round++) {
        await pause(100 + random.below(300));
        const node = cluster.nodes[(seed + round) % cluster.nodes.length];
        await node.kill();
        const killedMs = performance.now();
        // Two of three nodes go on: appends are acknowledged while the third is away.
        const before = writers.map(({ ids }) => ids.length);
        await until(
          () => `the log goes on with two nodes, ${JSON.stringify(log.behind())}, seed ${seed}`,
          () => writers.every(({ ids }, index) => ids.length > before[index] + 20),
          60_000,
        );
        longestMs = Math.max(longestMs, performance.now() - killedMs);
        await node.start();
        await until("facts are in the stream", () => log.behind().spooled === 0, 60_000);
        await until("all three copies are there", () => isStreamWhole(cluster.url, 3), 60_000);
      }
      await Promise.all(writers.map((writer) => writer.stop()));
      await until("the spool is empty", () => log.behind().spooled === 0, 60_000);
      const stored = await judge(log, writers, followers, `seed ${seed}`);
      await log.close();
      recordCampaign("jetstream log: each of three nodes killed in turn", {
        rounds,
        acknowledged: stored.length,
        lost: 0,
        twice: 0,
        longestMs: Math.round(longestMs),
        seed,
      });
    }),
);
