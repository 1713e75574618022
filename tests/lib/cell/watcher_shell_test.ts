/**
 * The host worker's one wait, over files and pipes of the test's own.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { createPipe } from "#ffi/mod.ts";
import { Watcher } from "#lib/cell/watcher_shell.ts";

/** Lets the watcher's thread wake up, at most 2 s. */
async function until(condition: () => boolean): Promise<void> {
  for (let waited = 0; !condition() && waited < 2000; waited += 2) {
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

Deno.test("watcher: who watches a file is told of writes to it alone, until it stops", async () => {
  const directory = Deno.makeTempDirSync();
  const paths = ["a", "b"].map((name) => `${directory}/${name}`);
  const append = (path: string) => Deno.writeTextFileSync(path, "x", { append: true });
  paths.forEach(append);
  const watcher = new Watcher();
  const running = watcher.run();
  const told: string[] = [];
  const [first] = paths.map((path) => watcher.watchFile(path, () => told.push(path.slice(-1))));
  append(paths[0]!);
  await until(() => told.length > 0);
  assertEquals([...new Set(told)], ["a"]);
  watcher.unwatchFile(first!);
  watcher.unwatchFile(first!);
  told.length = 0;
  append(paths[0]!);
  append(paths[1]!);
  await until(() => told.length > 0);
  assertEquals([...new Set(told)], ["b"]);
  watcher.stop();
  await running;
  Deno.removeSync(directory, { recursive: true });
});

Deno.test("watcher: a descriptor's handler is called while it is readable, until it is unwatched", async () => {
  const watcher = new Watcher();
  const running = watcher.run();
  const pipe = createPipe();
  let calls = 0;
  const tag = watcher.watch(pipe.read, () => {
    calls += 1;
    watcher.unwatch(tag);
  });
  pipe.write.close();
  await until(() => calls > 0);
  watcher.unwatch(tag);
  assertEquals(calls, 1);
  watcher.stop();
  await running;
  pipe.read.close();
});

Deno.test("watcher: stopped by what it tells, it tells no more, not even what came with it", async () => {
  const watcher = new Watcher();
  const pipes = [createPipe(), createPipe()];
  const told: number[] = [];
  pipes.forEach(({ read, write }, index) => {
    write.close();
    watcher.watch(read, () => {
      told.push(index);
      watcher.stop();
    });
  });
  await watcher.run();
  assertEquals(told.length, 1);
  pipes.forEach(({ read }) => read.close());
});
