/**
 * A server that is killed again and again while it is used.
 *
 * @module
 */
import { assertEquals, assertGreater } from "@std/assert";
import { Prng } from "#lib/base/mod.ts";
import { EVENT_TYPES } from "#lib/events/mod.ts";
import { campaign, campaignSeed, recordCampaign } from "#tests/support/campaign.ts";
import { spec, Stage } from "#tests/support/celld_stage.ts";
import {
  assertHeld,
  PROBE_ARGV,
  PROBE_EGRESS,
  PROBE_WATCH,
  probeTries,
} from "#tests/support/forbidden_probe.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { PollingFollower, SocketFollower } from "#tests/support/serve_followers.ts";
import { ServeLoad } from "#tests/support/serve_load.ts";
import { Served, type ServedEntry } from "#tests/support/served.ts";
import { assertNumbersMeet, runCell, typesOf } from "#tests/support/served_facts.ts";

const NEEDS = [
  "root",
  "cap:CAP_SYS_ADMIN",
  "cap:CAP_NET_ADMIN",
  "cap:CAP_SYS_PTRACE",
  "path:/usr/bin/perl",
] as const;
/** Longest life of a server in the campaign, in milliseconds. */
const LIFE_MS_MAX = 1200;

async function probeOutput(served: Served, cellId: string): Promise<string> {
  return (await served.ask("GET", `/v1/cells/${cellId}/logs`)).text;
}

/** Kills and starts a server under load; some die before they are ready. */
async function killAgainAndAgain(
  served: Served,
  load: ServeLoad,
  rounds: number,
  random: Prng,
): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    await load.runUntil(performance.now() + 50 + random.below(LIFE_MS_MAX));
    await served.end("SIGKILL");
    assertHeld(served.stage.lab);
    served.spawn();
    if (random.below(4) > 0) await served.ready();
  }
  await served.ready();
}

/** Ids are unique, and the log has no hole. */
function assertLogWhole(entries: readonly ServedEntry[]): void {
  assertEquals(new Set(entries.map(({ event }) => event.id)).size, entries.length);
  assertEquals(entries.map(({ seq }) => seq), entries.map((_, index) => index + 1));
}

/** How often a cell was taken over, by the log. */
function adoptions(entries: readonly ServedEntry[], cellId: string): number {
  return entries.filter(({ event }) =>
    event.type === EVENT_TYPES.hostRecovered &&
    (event.data as { adopted: readonly string[] }).adopted.includes(cellId)
  ).length;
}

kernelTest(
  "serve: kill -9 under load loses no command, repeats none, opens nothing, and all follow on",
  NEEDS,
  async () => {
    const rounds = campaign(5, 100);
    const seed = campaignSeed();
    await using stage = await Stage.set({ watch: PROBE_WATCH });
    await using served = new Served(stage);
    const marks = `${stage.base}/marks`;
    Deno.mkdirSync(marks);
    Deno.chmodSync(marks, 0o1777);
    await served.start();
    const probe = await runCell(served, spec("probe", { argv: PROBE_ARGV, egress: PROBE_EGRESS }));
    await served.cellBecomes(probe, { state: "running" });
    const sockets = [new SocketFollower(served, "json"), new SocketFollower(served, "ndjson")];
    const followers = [...sockets, new PollingFollower(served)];
    const following = followers.map((one) => one.run());
    const load = new ServeLoad(served, marks);
    await killAgainAndAgain(served, load, rounds, new Prng(seed));
    await load.settle();
    await load.assertMarks();
    assertEquals((await served.cell(probe)).state, "running", "the probe was adopted each time");
    const { tries, opened } = probeTries(await probeOutput(served, probe));
    assertGreater(opened, 0);
    assertGreater(tries, 100 * rounds);
    await served.ask("POST", `/v1/cells/${probe}/stop`);
    await served.cellBecomes(probe, { state: "destroyed" });
    await assertNumbersMeet(served, probe);
    assertHeld(stage.lab);

    const entries = await served.events();
    const lastSeq = entries.at(-1)!.seq;
    assertLogWhole(entries);
    for (const follower of followers) await follower.reaches(lastSeq);
    for (const follower of followers) follower.end();
    await Promise.all(following);
    for (const follower of followers) follower.assertExact(await served.events(), lastSeq);
    const started = typesOf(entries, probe).filter((type) => type === EVENT_TYPES.cellStarted);
    assertEquals(started.length, 1);
    const adopted = adoptions(entries, probe);
    assertGreater(adopted, 0);
    recordCampaign("serve: kill -9 under load", {
      rounds,
      seed,
      ...load.figures,
      adopted,
      events: entries.length,
      "resumed sockets": sockets.map(({ connections }) => connections).join("+"),
      tries,
      "got out": 0,
    });
  },
);
