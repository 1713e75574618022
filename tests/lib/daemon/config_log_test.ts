/**
 * Where the log is: by flag, variable and configuration file, told with its origin, and never with a
 * secret.
 *
 * @module
 */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { resolveSettings, SettingError } from "#lib/daemon/config.ts";
import { parseConfigFile } from "#lib/daemon/config_file.ts";
import { withoutCredentials } from "#lib/daemon/config_log.ts";
import { run } from "#tests/lib/cli/fake_io.ts";

const URL_WITH_SECRET = "nats://celld:pa%3Ass@nats-1:4222,tls://nats-2";

Deno.test("log settings: a URL makes the log a stream, with defaults for the rest", () => {
  const { settings, shown, origins } = resolveSettings({
    flags: { log: "nats://nats-1:4222" },
    env: {},
  });
  assertEquals(settings.log, {
    url: "nats://nats-1:4222",
    shownUrl: "nats://nats-1:4222",
    stream: "CELLOS_EVENTS",
    spoolDir: "/var/lib/celld",
    spoolBytes: 64 * 1024 * 1024,
  });
  assertEquals([shown.log, origins.log], ["nats://nats-1:4222", { source: "flag", from: "--log" }]);
});

Deno.test("log settings: flags win over variables, those over the file, that over the default", () => {
  const file = {
    path: "/etc/celld/celld.yaml",
    texts: { log: "nats://file", logStream: "FILE", logUser: "file", spoolDir: "/file" },
  };
  const env = { CELLD_LOG: "nats://env", CELLD_LOG_STREAM: "ENV", CELLD_LOG_USER: "" };
  const { settings, origins } = resolveSettings({ flags: { log: "nats://flag" }, env, file });
  const { url, stream, user, spoolDir, replicas } = settings.log!;
  assertEquals([url, stream, user, spoolDir, replicas], [
    "nats://flag",
    "ENV",
    "file",
    "/file",
    undefined,
  ]);
  assertEquals(origins.logUser, { source: "file", from: "/etc/celld/celld.yaml" });
  assertEquals(origins.logReplicas, { source: "default" });
});

Deno.test("log settings: what is shown of a URL, and what is said of a bad one, has no secret", () => {
  const { settings, shown } = resolveSettings({ flags: {}, env: { CELLD_LOG: URL_WITH_SECRET } });
  assertEquals(settings.log?.url, URL_WITH_SECRET);
  assertEquals([shown.log, settings.log?.shownUrl], [
    "nats://…@nats-1:4222,tls://nats-2",
    "nats://…@nats-1:4222,tls://nats-2",
  ]);
  assertEquals(withoutCredentials("nats://a:b@c@host"), "nats://…@host");
  const error = assertThrows(
    () => resolveSettings({ flags: {}, env: { CELLD_LOG: "nats://u:secret@ho st" } }),
    SettingError,
  );
  assert(!error.message.includes("secret"), error.message);
});

Deno.test("celld.yaml: settings by their names; anything else is refused by name", async () => {
  const path = "/x/celld.yaml";
  assertEquals(await parseConfigFile("log: nats://a\nnflogGroup: 7\n", path), {
    log: "nats://a",
    nflogGroup: "7",
  });
  assertEquals(await parseConfigFile("# nothing\n", path), {});
  for (
    const [text, want] of [
      ["logs: x", '"logs" is no setting'],
      ["log: [nats://a]", "log: want a text"],
      ["- log", "want a mapping"],
      ["log: a\nlog: b", "not YAML in line 2"],
      ["log: nats://u:secret@h: x: [", "not YAML in line 1"],
    ]
  ) {
    const error = await assertRejects(() => parseConfigFile(text, path), SettingError, want);
    assert(error.message.includes(path) && !error.message.includes("secret"), error.message);
  }
});

Deno.test("config show: tells that a value is from the file, and shows no secret", async () => {
  const files = { "/c.yaml": `log: ${URL_WITH_SECRET}\nlogReplicas: 3\n` };
  const args = ["config", "show", "--config", "/c.yaml", "--json"];
  const { code, out } = await run(args, {}, { files });
  assertEquals(code, 0);
  const shown = JSON.parse(out);
  assertEquals(shown.log, {
    value: "nats://…@nats-1:4222,tls://nats-2",
    source: "file",
    from: "/c.yaml",
  });
  assertEquals(shown.logReplicas, { value: "3", source: "file", from: "/c.yaml" });
  const env = { CELLD_CONFIG: "/none.yaml" };
  assertEquals((await run(["config", "show"], {}, { env })).code, 2);
});
