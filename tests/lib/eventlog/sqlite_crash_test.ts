/**
 * The SQLite log against kill -9: nothing acknowledged is lost, nothing is there twice, and what
 * a killed process leaves is never mistaken for damage.
 *
 * @module
 */
import { assert, assertEquals, assertGreater } from "@std/assert";
import { Prng } from "#lib/base/mod.ts";
import { openSqliteLog, verifyLog } from "#lib/eventlog/mod.ts";
import { campaign, campaignSeed, recordCampaign } from "#tests/support/campaign.ts";
import { someEvent, withFolder } from "./log_fixture.ts";

const CHILD = new URL("./append_child.ts", import.meta.url).pathname;

interface Victim {
  readonly process: Deno.ChildProcess;
  readonly output: Promise<string>;
  readonly started: Promise<void>;
}

Deno.test("sqlite log: kill -9 while appending loses nothing acknowledged and doubles nothing", () =>
  withFolder(async (folder) => {
    const path = `${folder}/events.db`;
    const rounds = campaign(10, 100);
    const seed = campaignSeed();
    const random = new Prng(seed);
    const acknowledged = new Map<string, number>();
    let unacknowledged = 0;
    for (let round = 0; round < rounds; round++) {
      const victims = Array.from(
        { length: 1 + random.below(2) },
        (_, index) => startVictim(path, `r${round}p${index}e`, random),
      );
      await Promise.all(victims.map(({ started }) => started));
      await new Promise((resolve) => setTimeout(resolve, random.below(60)));
      for (const { process } of victims) process.kill("SIGKILL");
      for (const { process, output } of victims) {
        await process.status;
        for (const [id, seq] of readAcknowledged(await output)) acknowledged.set(id, seq);
      }
      const report = await verifyLog(path);
      assertEquals(report.problems, [], `seed ${seed}, round ${round}`);
      unacknowledged += report.notes.length > 0 ? 1 : 0;
    }
    const seen = await readAll(path);
    for (const [id, seq] of acknowledged) {
      assertEquals(seen.get(id), [seq], `event ${id}, seed ${seed}`);
    }
    for (const [id, seqs] of seen) assertEquals(seqs.length, 1, `event ${id} is there twice`);
    assertGreater(acknowledged.size, rounds);
    recordCampaign("event log: kill -9 while appending", {
      rounds,
      acknowledged: acknowledged.size,
      lost: 0,
      twice: 0,
      roundsWithUnacknowledgedTail: unacknowledged,
      seed,
    });
  }));

Deno.test("sqlite log: the log goes on after a kill, and the tail that nobody heard of stays", () =>
  withFolder(async (folder) => {
    const path = `${folder}/events.db`;
    const victim = startVictim(path, "e", new Prng(1));
    await victim.started;
    victim.process.kill("SIGKILL");
    await victim.process.status;
    await victim.output;
    const log = await openSqliteLog(path);
    const last = await log.lastSeq();
    assertEquals(await log.append([someEvent("after")]), [last + 1]);
    await log.close();
    const report = await verifyLog(path);
    assert(report.isIntact);
    assertEquals([report.lastSeq, report.notes], [last + 1, []]);
  }));

function startVictim(path: string, prefix: string, random: Prng): Victim {
  const size = String(1 + random.below(20));
  // So few frames that a kill often falls into a checkpoint.
  const checkpointFrames = String(5 + random.below(60));
  const process = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", "--no-check", CHILD, path, prefix, size, checkpointFrames],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const first = Promise.withResolvers<void>();
  return { process, output: readOutput(process, first.resolve), started: first.promise };
}

async function readOutput(process: Deno.ChildProcess, onFirst: () => void): Promise<string> {
  let text = "";
  for await (const chunk of process.stdout.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    onFirst();
  }
  onFirst();
  return text;
}

function readAcknowledged(output: string): [id: string, seq: number][] {
  // The last line may be cut short by the kill.
  const lines = output.slice(0, output.lastIndexOf("\n") + 1).split("\n").filter(Boolean);
  return lines.map((line) => {
    const [id, seq] = line.split(" ");
    return [id, Number(seq)];
  });
}

async function readAll(path: string): Promise<Map<string, number[]>> {
  const log = await openSqliteLog(path, { mode: "read" });
  const seen = new Map<string, number[]>();
  for (let since = 0;;) {
    const page = await log.read({ since });
    if (page.length === 0) break;
    for (const { seq, event } of page) seen.set(event.id, [...(seen.get(event.id) ?? []), seq]);
    since = page[page.length - 1].seq;
  }
  await log.close();
  return seen;
}
