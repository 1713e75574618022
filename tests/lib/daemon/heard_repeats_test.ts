/**
 * What is noted of records that told nothing new.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { HeardRepeats, parseRepeats } from "#lib/daemon/heard_repeats.ts";

async function withPath(use: (path: string) => void): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    use(`${folder}/repeats.json`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("repeats: what was noted is there after a restart, but for runs that have ended", async () => {
  await withPath((path) => {
    const first = HeardRepeats.open(path);
    first.note("a", 3);
    first.note("b", 4);
    first.note("a", 5);
    first.write();
    first.note("a", 9);
    // Killed before it was written.
    const second = HeardRepeats.open(path);
    assertEquals([second.of("a"), second.of("b"), second.of("c")], [5, 4, 0]);
    second.forget("b");
    second.write();
    assertEquals([...parseRepeats(Deno.readTextFileSync(path))], [["a", 5]]);
  });
});

Deno.test("repeats: nothing is written where nothing has changed", async () => {
  await withPath((path) => {
    const heard = HeardRepeats.open(path);
    heard.note("a", 0);
    heard.forget("b");
    heard.write();
    assertEquals([...Deno.readDirSync(path.slice(0, path.lastIndexOf("/")))], []);
  });
});

Deno.test("repeats: a file that is none of ours is as none", async () => {
  await withPath((path) => {
    for (const text of ["", "{", "null", "[1]", '{"a":-1}', '{"a":"1"}', '{"a":1.5}']) {
      assertEquals(parseRepeats(text).size, 0, text);
      Deno.writeTextFileSync(path, text);
      assertEquals(HeardRepeats.open(path).of("a"), 0);
    }
  });
});

Deno.test("repeats: so many runs are remembered, the oldest go first", async () => {
  await withPath((path) => {
    const heard = HeardRepeats.open(path);
    for (let run = 0; run < 10_005; run++) heard.note(`run-${run}`, 1);
    assertEquals([heard.of("run-4"), heard.of("run-5"), heard.of("run-10004")], [0, 1, 1]);
  });
});
