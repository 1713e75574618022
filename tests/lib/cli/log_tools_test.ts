import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { runCli } from "#lib/cli/mod.ts";
import { composePorts } from "#lib/daemon/mod.ts";
import { openSqliteLog } from "#lib/eventlog/mod.ts";
import type { CloudEvent } from "#lib/events/mod.ts";
import { destroyedEvent, startedEvent } from "#tests/lib/http/plane.ts";
import { fakeIo, type FakeIoOptions } from "./fake_io.ts";

/** Runs a command with the real ports on a state directory. */
async function command(
  stateDir: string,
  args: string,
  options: FakeIoOptions = {},
): Promise<{ code: number; out: string; err: string }> {
  const io = fakeIo(options);
  const words = [...args.split(" "), "--state-dir", stateDir, "--runtime-dir", `${stateDir}/run`];
  const code = await runCli(words, { io, connect: composePorts });
  return { code, out: io.out(), err: io.err() };
}

async function withState(use: (stateDir: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await use(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function fill(stateDir: string, events: readonly CloudEvent[]): Promise<void> {
  const log = await openSqliteLog(`${stateDir}/events.db`);
  await log.append(events);
  await log.close();
}

Deno.test("token create prints the text once, list never does, revoke ends it", async () => {
  await withState(async (stateDir) => {
    const made = await command(stateDir, "token create ci --scope run --ttl 30d");
    assertEquals(made.code, 0);
    assertMatch(made.out, /^celld_[\w-]{43}\n$/);
    assertMatch(made.err, /^celld: token "ci" may run, until .*; its text is shown only now\n$/);
    const listed = await command(stateDir, "token list");
    assertMatch(listed.out, /\nci +run +\d{4}-/);
    assert(!listed.out.includes(made.out.trim()));
    assertEquals((await command(stateDir, "token create ci")).code, 2);
    assertEquals((await command(stateDir, "token create x --ttl 5")).code, 2);
    assertEquals((await command(stateDir, "token revoke ci")).out, "token/ci revoked\n");
    assertEquals((await command(stateDir, "token revoke ci")).code, 1);
    assertEquals((await command(stateDir, "token list --json")).out, "");
  });
});

Deno.test("what one log exports another imports, in order and each once", async () => {
  await withState(async (from) => {
    await withState(async (to) => {
      await fill(from, ["a", "b", "c", "d"].map((id) => startedEvent(id)));
      const all = (await command(from, "log export")).out;
      const part = (await command(from, "log export --since 1 --until 3")).out;
      assertEquals(part.trimEnd().split("\n").map((line) => JSON.parse(line).seq), [2, 3]);
      const files = { "part.jsonl": part };
      assertEquals(
        (await command(to, "log import part.jsonl", { files })).out,
        "2 entries added, 0 were there; the last one is 2\n",
      );
      const rest = await command(to, "log import - --json", { stdin: all });
      assertEquals(JSON.parse(rest.out), { addedCount: 2, knownCount: 2, lastSeq: 4 });
      const bare = JSON.stringify(startedEvent("e"));
      const last = await command(to, "log import -", { stdin: `${bare}\n` });
      assertEquals(last.out, "1 entries added, 0 were there; the last one is 5\n");
      assertEquals((await command(to, "log verify")).code, 0);
    });
  });
});

Deno.test("an import that cannot be read says where it is wrong, as wrong use", async () => {
  await withState(async (stateDir) => {
    for (const stdin of ["{\n", '{"specversion":"1.0"}\n', "7\n"]) {
      const { code, err } = await command(stateDir, "log import -", { stdin });
      assertEquals(code, 2, stdin);
      assertMatch(err, /^celld: Cannot import "-": /);
    }
    assertEquals((await command(stateDir, "log import nowhere")).code, 2);
  });
});

Deno.test("a backup is the same log, sound, made while another writes", async () => {
  await withState(async (stateDir) => {
    const log = await openSqliteLog(`${stateDir}/events.db`);
    await log.append(["a", "b", "c"].map((id) => startedEvent(id)));
    const copy = `${stateDir}/copy/events.db`;
    const appending = log.append(["d", "e"].map((id) => startedEvent(id)));
    const made = await command(stateDir, `log backup ${copy}`);
    await appending;
    await log.close();
    assertEquals(made.code, 0, made.err);
    assertStringIncludes(made.out, "all as they were written");
    assertEquals((await command(`${stateDir}/copy`, "log verify")).code, 0);
    const [before, after] = await Promise.all(
      [stateDir, `${stateDir}/copy`].map((folder) => command(folder, "log export --until 3")),
    );
    assertEquals(after.out, before.out);
    const again = await command(stateDir, `log backup ${copy}`);
    assertEquals(again.code, 2);
    assertStringIncludes(again.err, "is there already");
    const none = await command(`${stateDir}/none`, `log backup ${copy}2`);
    assertEquals(none.code, 125);
  });
});

Deno.test("a backup of a damaged log is made, and called damaged", async () => {
  await withState(async (stateDir) => {
    await fill(stateDir, ["a", "b"].map((id) => startedEvent(id)));
    using file = Deno.openSync(`${stateDir}/events.db`, { write: true });
    file.seekSync(-3, Deno.SeekMode.End);
    file.writeSync(new Uint8Array([1, 2, 3]));
    const { code, out } = await command(stateDir, `log backup ${stateDir}/copy.db`);
    assertEquals(code, 1);
    assertStringIncludes(out, "DAMAGED");
  });
});

Deno.test("replay shows the state as it was after an entry, and at a time", async () => {
  await withState(async (stateDir) => {
    const late = { ...destroyedEvent("a"), time: "2026-05-17T00:00:00Z" };
    await fill(stateDir, [startedEvent("a"), startedEvent("b"), late]);
    const stateOf = async (args: string) => {
      const { cells, cursor } = JSON.parse((await command(stateDir, `replay --json${args}`)).out);
      const states = (cells as { id: string; state: string }[]).map((one) => one.state);
      return [cursor, ...states];
    };
    assertEquals(await stateOf(""), [3, "destroyed", "running"]);
    assertEquals(await stateOf(" --until 1"), [1, "running"]);
    assertEquals(await stateOf(" --until 2026-05-16T12:00:00Z"), [2, "running", "running"]);
    const text = await command(stateDir, "replay --until 2");
    assertMatch(text.out, /^after entry 2\n\nformations: 0\n\ncells: 2\nID +STATE/);
    assertStringIncludes(text.out, "flows: 0 allowed, 0 denied, 0 lost\n");
    assertEquals((await command(stateDir, "replay --until never")).code, 2);
    assertEquals((await command(`${stateDir}/none`, "replay")).code, 125);
  });
});

Deno.test("without a server the local commands say how to start one", async () => {
  await withState(async (stateDir) => {
    const { code, err } = await command(stateDir, "get cells --server http://127.0.0.1:4");
    assertEquals(code, 4);
    assertStringIncludes(err, "celld serve");
  });
});
