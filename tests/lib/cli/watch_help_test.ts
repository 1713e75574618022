/**
 * The help of `celld watch`, and its page: every flag that is read is told, as it is.
 *
 * @module
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { runCli } from "#lib/cli/mod.ts";
import { watchFlagRows, watchHelp } from "#lib/cli/watch_help.ts";
import { BOUNDS, SWITCHES, TEXTS } from "#lib/cli/watch_settings.ts";
import { composePorts, type Settings, type WatchOptions } from "#lib/daemon/mod.ts";
import { readText } from "../../../.ci/files.ts";
import { fakeIo } from "./fake_io.ts";

const ALL = [...Object.keys(BOUNDS), ...Object.keys(TEXTS), ...Object.keys(SWITCHES)];

Deno.test("watch help: has a row for every flag that is read, and for no other", () => {
  const told = watchFlagRows().map(({ flag }) => flag);
  assertEquals([...told].sort(), [...ALL].sort());
  for (const { flag, placeholder } of watchFlagRows()) {
    assertEquals(placeholder === undefined, Object.hasOwn(SWITCHES, flag), flag);
    assertStringIncludes(watchHelp(), `  ${flag}`);
  }
  assertStringIncludes(watchHelp(), "[default 256, 1..131072]");
});

Deno.test("watch help: the page's table says default and bounds as they are", () => {
  const page = readText("docs/liveness.md").split("\n").filter((line) => line.startsWith("| `--"))
    .map((line) => line.split("|").slice(1, -1).map((cell) => cell.trim().replaceAll("`", "")));
  const wanted = watchFlagRows().map(({ flag, placeholder, text, fallback = "–", range = "" }) => [
    placeholder === undefined ? flag : `${flag} ${placeholder}`,
    fallback,
    range,
    text,
  ]);
  assertEquals(page, wanted);
});

Deno.test("watch: completion knows its flags", async () => {
  for (const shell of ["bash", "zsh", "fish"]) {
    const io = fakeIo();
    assertEquals(await runCli(["completion", shell], { io, connect: composePorts }), 0);
    for (const flag of ALL) assert(io.out().includes(flag.slice(2)), `${shell}: ${flag}`);
  }
});

Deno.test("watch: its words are its own, and a signal ends it", async () => {
  const io = fakeIo({ env: { NOTIFY_SOCKET: "/n" } });
  let heard: WatchOptions | undefined;
  const watch = (options: WatchOptions) => {
    heard = options;
    options.onMetricsAt("127.0.0.1:9100");
    options.onWarning("something");
    io.raise("SIGTERM");
    return Promise.resolve();
  };
  const words = ["--socket", "/v.sock", "--threshold-ms", "50", "--recovery-exec", "kill -9 {pid}"];
  const connect = (settings: Settings) => ({ ...composePorts(settings), watch });
  assertEquals(await runCli(["watch", ...words], { io, connect }), 0);
  assertEquals([heard?.settings.recoveryExec, heard?.env.NOTIFY_SOCKET], ["kill -9 {pid}", "/n"]);
  assertEquals(heard?.signal.aborted, true);
  assertEquals([io.out(), io.err()], ["127.0.0.1:9100\n", "celld: something\n"]);
  assertEquals(io.listenerCount(), 0);
});

Deno.test("watch: flags that cannot be used end it with 2, its help on stderr", async () => {
  const io = fakeIo();
  assertEquals(await runCli(["watch", "--socket", "/v.sock"], { io, connect: composePorts }), 2);
  assertEquals(io.out(), "");
  assertEquals(io.err(), `celld: Cannot use --threshold-ms: it must be given\n\n${watchHelp()}`);
  assertEquals(await runCli(["watch", "-h"], { io, connect: composePorts }), 0);
  assertEquals(io.out(), watchHelp());
});
