/**
 * The original's own command line drives a real server, which runs real cells: every command, its
 * outputs, its exit codes.
 *
 * @module
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { Stage } from "#tests/support/celld_stage.ts";
import { cellctl, type CellctlOptions, type CellctlResult } from "#tests/support/cellctl.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { Served } from "#tests/support/served.ts";

const NEEDS = ["root", "cap:CAP_SYS_ADMIN", "cap:CAP_NET_ADMIN", "cap:CAP_SYS_PTRACE"] as const;
const WAIT_MS = 60_000;

/** A formation whose cells run a script. */
function formation(name: string, script: string): string {
  const member = (id: string) =>
    `  - id: ${id}
    ${id === "lead" ? "" : "authorizedBy: lead\n    "}spec: { run: { argv: [sh, -c, ${
      JSON.stringify(script)
    }] } }
`;
  return `name: ${name}\ncoordinator: lead\nmembers:\n${member("lead")}${member("worker")}`;
}

const STAYS = "while :; do sleep 60 & wait $!; done";
const FILES = {
  "stays.yaml": formation("stays", STAYS),
  "changed.yaml": formation("stays", "exit 1"),
  "ends.yaml": formation("ends", "exit 0"),
  "fails.yaml": formation("fails", "exit 3"),
  "broken.yaml": "name: [",
  "empty.yaml": "a: 1",
};

/** A server's TCP port, brought out of its network namespace as a Unix socket: tokens count. */
class Relay implements AsyncDisposable {
  readonly client: Deno.HttpClient;
  readonly #child: Deno.ChildProcess;

  constructor(stage: Stage, port: string) {
    const path = `${stage.base}/relay.sock`;
    const script = `${stage.base}/relay.ts`;
    Deno.writeTextFileSync(
      script,
      `for await (const near of Deno.listen({ transport: "unix", path: "${path}" })) {
         const far = await Deno.connect({ port: ${port}, hostname: "127.0.0.1" });
         near.readable.pipeTo(far.writable).catch(() => {});
         far.readable.pipeTo(near.writable).catch(() => {});
       }`,
    );
    this.#child = stage.lab.spawnInHost(Deno.execPath(), {
      args: ["run", "-A", "--quiet", "--no-check", "--no-config", script],
      env: { DENO_NO_UPDATE_CHECK: "1" },
      stdin: "null",
      stdout: "null",
      stderr: "null",
    });
    this.client = Deno.createHttpClient({ proxy: { transport: "unix", path } });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.client.close();
    this.#child.kill("SIGKILL");
    await this.#child.status;
  }
}

async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + WAIT_MS;
  while (!await isSo()) {
    if (performance.now() > deadline) throw new Error(`Cannot go on: not ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

kernelTest(
  "cellctl drives a real server: every command, its outputs, its exit codes",
  NEEDS,
  async () => {
    await using stage = await Stage.set();
    await using served = new Served(stage);
    await served.start();
    const { url } = JSON.parse(
      served.printed.split("\n").find((line) => line.includes('"ready"'))!,
    );
    await using relay = new Relay(stage, new URL(url).port);
    const token = Deno.readTextFileSync(`${stage.settings.stateDir}/token`).trim();
    const run = (args: string, options: Partial<CellctlOptions> = {}): Promise<CellctlResult> =>
      cellctl(args.split(" "), {
        ...{ server: url, token, files: FILES, pollMs: 50, client: relay.client },
        ...options,
      });
    const codeOf = async (args: string, options: Partial<CellctlOptions> = {}) =>
      (await run(args, options)).code;
    await until("relayed", async () => (await run("version")).out.includes("server:"));
    assertMatch((await run("version")).out, /^client: cellctl 0\.5\.6\nserver: cellos-server \d/);

    assertEquals(await codeOf("apply -f broken.yaml"), 3);
    assertEquals(await codeOf("apply -f empty.yaml"), 3);
    assertEquals(await codeOf("apply -f nowhere.yaml"), 1);
    assertEquals((await run("diff -f stays.yaml")).out, "formation/stays would be created\n");
    assertEquals(await run("apply -f stays.yaml"), {
      code: 0,
      out: "formation/stays created (state=PENDING)\n",
      err: "",
    });
    assertEquals(await codeOf("apply -f stays.yaml"), 2, "the name is taken");
    assertEquals((await run("diff -f stays.yaml")).out, "formation/stays unchanged\n");
    assertEquals((await run("diff -f changed.yaml")).out, "formation/stays would change\n");

    await until("running", async () => {
      return (await run("get formations")).out.includes("stays RUNNING");
    });
    const [listed] = JSON.parse((await run("get formations -o json")).out);
    assertEquals([listed.name, listed.state], ["stays", "RUNNING"]);
    assertEquals((await run("get formations -o name")).out, "formation/stays\n");
    assertStringIncludes((await run("get formations -o wide")).out, `stays RUNNING ${listed.id}`);
    const cellsOf = async () => JSON.parse((await run("get cells --formation stays -o json")).out);
    await until("running as a whole", async () => {
      const states = (await cellsOf()).map(({ state }: { state: string }) => state);
      return states.join() === "running,running";
    });
    const cells = await cellsOf();
    assertEquals((await run("get cells --formation nobody -o name")).out, "");
    for (const name of ["stays", listed.id]) {
      const { code, out } = await run(`describe formation ${name}`);
      assertEquals(code, 0);
      assertStringIncludes(out, `ID: ${listed.id}\nState: RUNNING\n`);
      assertMatch(out, /Cells:\n(?: {2}\S+ running\n){2}/);
    }
    const cellId: string = cells[0].id;
    assertEquals((await run(`describe cell ${cellId}`)).out, `ID: ${cellId}\nState: running\n`);
    for (const args of ["describe formation nobody", "describe cell nobody", "logs nobody"]) {
      const { code, err } = await run(args);
      assertEquals(code, 2, args);
      assertMatch(err, /^error: 404 Not found: /, args);
    }

    const linesOf = (out: string) => out.split("\n").filter((line) => line !== "");
    const logs = linesOf((await run(`logs ${cellId}`)).out);
    assert(logs.some((line) => line.includes("lifecycle.v1.started")));
    assertEquals(linesOf((await run(`logs ${cellId} --tail 1`)).out), logs.slice(-1));
    const all = linesOf((await run("events")).out);
    assert(all.length > logs.length);
    const filtered = linesOf((await run("events --formation stays --limit 1000")).out);
    assert(filtered.length > 0 && filtered.length < all.length);
    assertEquals(linesOf((await run("events --since 1 --limit 2")).out), all.slice(1, 3));

    const following = new AbortController();
    const seen: string[] = [];
    const events = run("events -f --since 0", {
      signal: following.signal,
      onLine: (line) => {
        seen.push(line);
        if (line.includes("formation.v1.cancelled")) following.abort();
      },
    });
    const tail = run(`logs ${cellId} -f`);
    await until("followed", () => Promise.resolve(seen.length >= all.length));
    assertEquals((await run("delete formation stays")).out, "formation/stays deleted\n");
    const followed = await tail;
    assertEquals(followed.code, 0);
    assertStringIncludes(linesOf(followed.out).at(-1)!, "lifecycle.v1.destroyed");
    assertEquals((await events).code, 0);
    assertEquals(seen.slice(0, all.length), all, "each once, in order, from the start");

    assertEquals(await codeOf("apply -f ends.yaml"), 0);
    assertEquals(await run("rollout status ends"), {
      code: 0,
      out: "formation/ends completed\n",
      err: "",
    });
    assertEquals(await codeOf("apply -f fails.yaml"), 0);
    const failed = await run("rollout status fails");
    assertEquals([failed.code, failed.out], [2, "formation/fails failed\n"]);
    assertEquals(await codeOf("apply -f stays.yaml"), 0, "the name is free again");
    const late = await run("rollout status stays --timeout 0.2");
    assertEquals([late.code, late.err], [2, "error: timed out waiting for formation/stays\n"]);
    assertEquals(await codeOf(`delete formation ${listed.id}`), 0, "over: nothing to do");
    assertEquals(await codeOf("delete formation nobody"), 2);

    const commands = [
      ...["get formations", "get cells", "describe formation ends", "delete formation ends"],
      ...[`logs ${cellId}`, "events", "events -f", "rollout status ends", "diff -f ends.yaml"],
    ];
    for (const args of commands) {
      const wrong = await run(args, { token: "wrong" });
      assertEquals(wrong.code, 2, args);
      assertMatch(wrong.err, /401/, args);
    }
    assertEquals(await served.end("SIGTERM"), 0);
    for (const args of commands) assertEquals(await codeOf(args), 2, args);
    const away = await run("version");
    assertEquals([away.code, away.out], [0, "client: cellctl 0.5.6\n"]);
  },
);
