/**
 * The spool: order, bounds, and what a crash or a bad disk leaves of it.
 *
 * @module
 */
import { assert, assertEquals, assertGreater, assertRejects, assertThrows } from "@std/assert";
import fc from "fast-check";
import { Prng } from "#lib/base/mod.ts";
import { LogBusyError, LogClosedError, LogDamagedError } from "#lib/eventlog/mod.ts";
import { RING_START_BYTES } from "#lib/eventlog/spool_codec.ts";
import {
  openSpool,
  type Spool,
  SPOOL_BYTES_MIN,
  type SpoolItem,
} from "#lib/eventlog/spool_shell.ts";
import { campaign, campaignSeed, recordCampaign } from "#tests/support/campaign.ts";
import { signalIfRunning } from "#tests/support/subprocess.ts";
import { withFolder } from "./log_fixture.ts";

const CHILD = new URL("./spool_child.ts", import.meta.url).pathname;
const SMALL = { capacityBytes: SPOOL_BYTES_MIN };

function withSpool(work: (spool: Spool, path: string) => Promise<void>): Promise<void> {
  return withFolder(async (folder) => {
    const spool = await openSpool(`${folder}/spool`, SMALL);
    await work(spool, `${folder}/spool`);
    await spool.close();
  });
}

/** An item as text: the body of an event, or how many a gap tells. */
function textOf(item: SpoolItem): string {
  return item.kind === "event" ? item.body : `gap of ${item.gap.lost} by ${item.gap.cause}`;
}

function texts(spool: Spool): string[] {
  return spool.peek(10_000).map(textOf);
}

function bodies(prefix: string, count: number, sizeBytes = 0): string[] {
  return Array.from({ length: count }, (_, index) => `${prefix}${index}`.padEnd(sizeBytes, "."));
}

Deno.test("spool: gives back in order what it took, until it is dropped", () =>
  withSpool(async (spool) => {
    assert(spool.isEmpty);
    assertEquals(await spool.append(["a", "b"]), { kept: 2, lost: 0 });
    await Promise.all([spool.append(["c"]), spool.append(["d", "e"])]);
    assertEquals(texts(spool), ["a", "b", "c", "d", "e"]);
    assertEquals([spool.events, spool.isEmpty], [5, false]);
    const items = spool.peek(3);
    assertEquals(items.map(textOf), ["a", "b", "c"]);
    spool.drop(items[1].index);
    assertEquals([texts(spool), spool.events], [["c", "d", "e"], 3]);
    spool.drop(spool.peek(3).at(-1)!.index);
    assertEquals([texts(spool), spool.isEmpty, spool.usedBytes], [[], true, 0]);
  }));

Deno.test("spool: what it took is there after opening it again, what was dropped is not", () =>
  withSpool(async (spool, path) => {
    await spool.append(["a", "b", "\u{1f600}"]);
    spool.drop(spool.peek(1)[0].index);
    await spool.close();
    const again = await openSpool(path);
    assertEquals([texts(again), again.events, again.id], [["b", "\u{1f600}"], 2, spool.id]);
    await again.append(["d"]);
    assertEquals(texts(again), ["b", "\u{1f600}", "d"]);
    await again.close();
  }));

Deno.test("spool: all its space is taken when it is made, and it never grows", () =>
  withSpool(async (spool, path) => {
    const before = Deno.statSync(path);
    assertEquals(before.size, RING_START_BYTES + SPOOL_BYTES_MIN);
    assert(before.blocks! * 512 >= before.size, "no holes");
    for (let round = 0; round < 20; round++) {
      await spool.append(bodies("e", 30, 100));
      spool.drop(spool.peek(100).at(-1)!.index);
    }
    assertEquals(Deno.statSync(path).size, before.size);
  }));

Deno.test("spool: what does not fit is counted, and told at its place when there is room", () =>
  withSpool(async (spool) => {
    const { kept, lost } = await spool.append(bodies("e", 200, 150));
    assertGreater(kept, 50);
    assertEquals(kept + lost, 200);
    assert(spool.isFull);
    assertEquals(await spool.append(["late"]), { kept: 0, lost: 1 });
    assertEquals(spool.lost, lost + 1);
    spool.drop(spool.peek(kept - 2).at(-1)!.index);
    assertEquals(await spool.append(["next"]), { kept: 1, lost: 0 });
    const [first, second, gap, next] = texts(spool);
    assertEquals([first, second].map((text) => text.replaceAll(".", "")), [
      `e${kept - 2}`,
      `e${kept - 1}`,
    ]);
    assertEquals([gap, next], [`gap of ${lost + 1} by spool_full`, "next"]);
    assertEquals([spool.lost, spool.events], [lost + 1, 3]);
    spool.drop(spool.peek(3).at(-1)!.index);
    assertEquals([spool.lost, texts(spool)], [0, ["next"]]);
  }));

Deno.test("spool: a count of what did not fit survives, and is told once", () =>
  withSpool(async (spool, path) => {
    const { kept, lost } = await spool.append(bodies("e", 200, 150));
    await spool.close();
    const full = await openSpool(path);
    assertEquals([full.lost, full.events, full.isEmpty], [lost, kept, false]);
    full.drop(full.peek(kept).at(-1)!.index);
    assertEquals(texts(full), [`gap of ${lost} by spool_full`]);
    await full.close();
    const again = await openSpool(path);
    assertEquals([texts(again), again.lost], [[`gap of ${lost} by spool_full`], lost]);
    again.drop(again.peek(1)[0].index);
    assert(again.isEmpty);
    await again.close();
  }));

Deno.test("spool: a torn write at any byte is as if it had not been written", () =>
  withSpool(async (spool, path) => {
    await spool.append(["first", "second"]);
    const used = spool.usedBytes;
    await spool.append(["third, which a crash tears"]);
    const end = spool.usedBytes;
    await spool.close();
    const whole = Deno.readFileSync(path);
    for (let cut = used; cut < end; cut++) {
      const torn = whole.slice();
      torn.fill(0, RING_START_BYTES + cut, RING_START_BYTES + end);
      Deno.writeFileSync(path, torn);
      const again = await openSpool(path);
      const isWhole = torn.every((byte, at) => byte === whole[at]);
      assertEquals(
        texts(again),
        ["first", "second", ...(isWhole ? ["third, which a crash tears"] : [])],
        `cut at ${cut}`,
      );
      await again.append(["fourth"]);
      assertEquals(texts(again).at(-1), "fourth");
      await again.close();
    }
  }));

Deno.test("spool: a bad place costs what stood there, told by its number", () =>
  withSpool(async (spool, path) => {
    await spool.append(bodies("e", 6));
    await spool.close();
    const bytes = Deno.readFileSync(path);
    bytes[RING_START_BYTES + 2 * 64 + 40] ^= 0xff;
    bytes[RING_START_BYTES + 3 * 64 + 40] ^= 0xff;
    for (const index of [2, 3]) bytes[RING_START_BYTES + index * 64 + 33] ^= 0xff;
    Deno.writeFileSync(path, bytes);
    const again = await openSpool(path);
    assertEquals(texts(again), ["e0", "e1", "gap of 2 by spool_damaged", "e4", "e5"]);
    assertEquals([again.events, again.lost], [4, 2]);
    again.drop(again.peek(3).at(-1)!.index);
    assertEquals([texts(again), again.lost], [["e4", "e5"], 0]);
    await again.close();
  }));

Deno.test("spool: a file without a head is refused, one that was not finished is made anew", () =>
  withSpool(async (spool, path) => {
    await spool.append(["a"]);
    await spool.close();
    const bytes = Deno.readFileSync(path);
    Deno.writeFileSync(path, bytes.fill(0x20, 0, 1024));
    await assertRejects(() => openSpool(path), LogDamagedError, "no head");
    Deno.writeFileSync(path, new Uint8Array(5000));
    const again = await openSpool(path, SMALL);
    assertEquals(texts(again), []);
    await again.close();
  }));

Deno.test("spool: one at a time, and nothing after closing", () =>
  withSpool(async (spool, path) => {
    await assertRejects(() => openSpool(path), LogBusyError, "another has it");
    await spool.close();
    await assertRejects(() => spool.append(["a"]), LogClosedError);
    assertThrows(() => spool.peek(1), LogClosedError);
    await assertRejects(() => openSpool(path, { capacityBytes: 100 }), RangeError);
  }));

Deno.test("spool: any mixture of taking, dropping and reopening keeps order and counts", async () => {
  const steps = fc.array(
    fc.oneof(
      fc.record({ take: fc.array(fc.nat(3000), { minLength: 1, maxLength: 8 }) }),
      fc.record({ drop: fc.nat(12) }),
      fc.constant({ reopen: true }),
    ),
    { maxLength: campaign(30, 200) },
  );
  await fc.assert(
    fc.asyncProperty(steps, (list) =>
      withFolder(async (folder) => {
        let spool = await openSpool(`${folder}/spool`, SMALL);
        let taken = 0;
        let told = 0;
        const model: string[] = [];
        const drop = (max: number) => {
          const items = spool.peek(max);
          for (const item of items) {
            if (item.kind === "gap") told += item.gap.lost;
            else assertEquals(item.body, model.shift());
          }
          if (items.length > 0) spool.drop(items.at(-1)!.index);
        };
        let kept = 0;
        for (const step of list) {
          if ("take" in step) {
            const events = step.take.map((size) => `${taken++}`.padEnd(size, "x"));
            const outcome = await spool.append(events);
            assertEquals(outcome.kept + outcome.lost, events.length);
            model.push(...events.slice(0, outcome.kept));
            kept += outcome.kept;
          } else if ("drop" in step) {
            drop(step.drop);
          } else {
            await spool.close();
            spool = await openSpool(`${folder}/spool`, SMALL);
          }
          assertEquals([spool.events, spool.lost + told], [model.length, taken - kept]);
        }
        for (let round = 0; round < 3; round++) drop(10_000);
        assert(spool.isEmpty);
        assertEquals([model, told], [[], taken - kept]);
        await spool.close();
      })),
    { numRuns: campaign(15, 300) },
  );
});

Deno.test("spool: kill -9 while spooling loses nothing acknowledged and keeps the order", () =>
  withFolder(async (folder) => {
    const path = `${folder}/spool`;
    const rounds = campaign(4, 100);
    const seed = campaignSeed();
    const random = new Prng(seed);
    let acknowledged = 0;
    for (let round = 0; round < rounds; round++) {
      const kept: string[] = [];
      const stored = new Set<string>();
      for (const line of await runVictim(path, `r${round}-`, random)) {
        const [word, id] = line.split(" ");
        if (word === "kept") kept.push(id);
        else stored.add(id);
      }
      acknowledged += kept.length;
      const spool = await openSpool(path);
      const left = spool.peek(100_000).flatMap((item) =>
        item.kind === "event" ? [JSON.parse(item.body).id as string] : []
      );
      const context = `seed ${seed}, round ${round}`;
      assertEquals(new Set(left).size, left.length, context);
      const numbers = left.map((id) => Number(/e?(\d+)$/.exec(id)![1]));
      assertEquals(numbers, numbers.toSorted((a, b) => a - b), context);
      const there = new Set(left);
      for (const id of kept) assert(there.has(id) || stored.has(id), `${id} is lost, ${context}`);
      const last = spool.peek(100_000).at(-1);
      if (last !== undefined) spool.drop(last.index);
      // A victim that filled the ring has its loss told as soon as there is room to tell it.
      const told = spool.peek(100_000);
      assertEquals(told.filter((item) => item.kind === "event"), [], context);
      if (told.length > 0) spool.drop(told.at(-1)!.index);
      assertEquals(texts(spool), [], context);
      await spool.close();
    }
    assertGreater(acknowledged, rounds);
    recordCampaign("spool: kill -9 while spooling", { rounds, acknowledged, lost: 0, seed });
  }));

async function runVictim(path: string, prefix: string, random: Prng): Promise<string[]> {
  const size = String(1 + random.below(20));
  const dropEvery = String(1 + random.below(3));
  const process = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", "--no-check", CHILD, path, prefix, size, dropEvery],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  let text = "";
  let killing: Promise<boolean> | undefined;
  for await (const chunk of process.stdout.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    killing ??= new Promise<void>((resolve) => setTimeout(resolve, random.below(100)))
      .then(() => signalIfRunning(process, "SIGKILL"));
  }
  await killing;
  await process.status;
  // The last line may be cut short by the kill.
  return text.slice(0, text.lastIndexOf("\n") + 1).split("\n").filter(Boolean);
}
