/**
 * The runner with its worker: facts in, events and orders out; alerts; trusted files.
 *
 * @module
 */
import { assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import type { TimedRecoveryEvent } from "#lib/recovery/envelope.ts";
import type { RecoveryPolicy } from "#lib/recovery/ladder.ts";
import { RecoveryGoneError, RecoveryRunner } from "#lib/recovery/mod_shell.ts";
import type { RecoverySettings } from "#lib/recovery/settings.ts";
import {
  readKeyFile,
  readTrustedText,
  UntrustedFileError,
} from "#lib/recovery/trusted_file_shell.ts";
import { Webhooks } from "#lib/recovery/webhook_shell.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { eventually, ghost, once, shell } from "./support.ts";

function settingsOf(
  policy: RecoveryPolicy,
  over: Partial<RecoverySettings> = {},
): RecoverySettings {
  return { rules: [{ policy }], environment: { PATH: "/usr/bin:/bin" }, ...over };
}

kernelTest(
  "recovery runner: stalls, restarts, alerts and success over the worker",
  ["root"],
  async () => {
    const events: TimedRecoveryEvent[] = [];
    const restarted: string[] = [];
    const alerts: unknown[] = [];
    const server = Deno.serve(
      { port: 0, hostname: "127.0.0.1", onListen: () => {} },
      async (request) => {
        alerts.push(await request.json());
        return new Response("ok");
      },
    );
    const url = `http://127.0.0.1:${server.addr.port}/alert`;
    const action = shell("echo done");
    const policy: RecoveryPolicy = {
      debounceMs: 0,
      backoff: { firstMs: 10, factor: 1, maxMs: 10, jitter: 0 },
      rungs: [{ action }, { action: { kind: "restart_cell" } }, {
        action: { kind: "webhook", url },
      }],
    };
    const runner = await RecoveryRunner.start({
      settings: settingsOf(policy),
      onEvents: (told) => events.push(...told),
      onRestartCell: (cell) => restarted.push(cell),
      onTrouble: (text) => alerts.push(text),
    });
    try {
      const agent = ghost(7, { name: "web", cell: "c1" });
      runner.stall(agent);
      await eventually(() => events.some(({ event }) => event.type === "gaveUp"));
      await eventually(() => alerts.length > 0);
      assertEquals(restarted, ["c1"]);
      const [{ generation, lastNs, ...rest }] = alerts as [Record<string, unknown>];
      assertEquals([generation, lastNs, rest["pid"], rest["attempt"]], ["0", "1", 7, 3]);
      runner.resumed(agent);
      await eventually(() => events.some(({ event }) => event.type === "succeeded"));
      runner.exited(agent);
      const { counters } = await runner.samples();
      assertEquals(counters.find((it) => it.label?.[1] === "spawned")?.value, 1);
    } finally {
      await runner.stop();
      await server.shutdown();
    }
    assertEquals((await runner.samples()).counters, []);
  },
);

kernelTest(
  "recovery runner: an audit that cannot be opened is told at the start",
  ["root"],
  async () => {
    const options = {
      settings: settingsOf(once(shell("true")), { audit: { path: "/proc/no/such/audit" } }),
      onEvents: () => {},
      onRestartCell: () => {},
      onTrouble: () => {},
    };
    await assertRejects(() => RecoveryRunner.start(options), RecoveryGoneError, "audit");
  },
);

Deno.test("webhooks: what is not taken is told after three tries", async () => {
  let tries = 0;
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, () => {
    tries++;
    return new Response("no", { status: 503 });
  });
  const told: string[] = [];
  const webhooks = new Webhooks((text) => told.push(text));
  const url = `http://127.0.0.1:${server.addr.port}/`;
  webhooks.send({ kind: "webhook", url, facts: ghost(9), attempt: 1 });
  await eventually(() => told.length > 0);
  assertEquals([tries, told], [3, ["The alert about agent 9 was not taken: status 503"]]);
  await webhooks.stop();
  await server.shutdown();
});

Deno.test("trusted files: regular, ours, closed to others, no link; keys are long enough", () => {
  const directory = Deno.makeTempDirSync();
  const path = `${directory}/command`;
  const reasonOf = (file: string) =>
    assertThrows(() => readTrustedText(file), UntrustedFileError).message;
  try {
    Deno.writeTextFileSync(path, " /bin/true {pid}\n", { mode: 0o600 });
    assertEquals(readTrustedText(path), "/bin/true {pid}");
    Deno.symlinkSync(path, `${directory}/link`);
    assertMatch(reasonOf(`${directory}/link`), /must not be a symbolic link/);
    assertMatch(reasonOf(directory), /not a regular file/);
    assertMatch(reasonOf(`${directory}/none`), /ENOENT/);
    for (const mode of [0o640, 0o604, 0o611]) {
      Deno.chmodSync(path, mode);
      assertMatch(reasonOf(path), /its mode is/);
    }
    Deno.chmodSync(path, 0o600);
    assertEquals(readKeyFile(path).length, 17);
    Deno.writeTextFileSync(path, "short");
    assertThrows(() => readKeyFile(path), UntrustedFileError, "too short");
    if (Deno.uid() === 0) {
      Deno.chownSync(path, 65534, 65534);
      assertMatch(reasonOf(path), /belongs to user 65534/);
    }
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
});
