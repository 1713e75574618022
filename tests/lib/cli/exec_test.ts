/**
 * `celld exec` and `celld version --server` against a server in memory.
 *
 * @module
 */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { ApiClient, findEndpoint, findToken } from "#lib/client/mod.ts";
import type { ExecEnd, ExecPart } from "#lib/http/mod.ts";
import { type ServedPlane, withServedPlane } from "#tests/support/served_plane.ts";
import { type FakeIoOptions, run } from "./fake_io.ts";

function ask(served: ServedPlane, args: string, options: FakeIoOptions = {}) {
  const openApi = (given: { server?: string | undefined; token?: string | undefined }) => {
    const discovery = { ...given, socketPath: served.socketPath, tokenPath: "/nowhere/token" };
    const endpoint = findEndpoint(discovery);
    return Promise.resolve(new ApiClient(endpoint, { token: findToken(endpoint, discovery) }));
  };
  const version = () => ({ celld: "1.2.3", deno: "2.0.0", v8: "1", arch: "x86_64" });
  return run(args.split(" "), { openApi, version }, options);
}

function partsOf(end: ExecEnd): ExecPart[] {
  const bytes = (text: string) => new TextEncoder().encode(text);
  return [
    { kind: "started", execId: "e-1" },
    { kind: "output", stream: "stdout", bytes: bytes("out\n") },
    { kind: "output", stream: "stderr", bytes: bytes("err\n") },
    { kind: "ended", end },
  ];
}

Deno.test("exec: streams stay apart, and the exit code is the command's", async () => {
  await withServedPlane(async (served) => {
    served.plane.addCell("c-1");
    const cases: readonly [end: ExecEnd, code: number, says: RegExp][] = [
      [{ reason: "exited", exitCode: 0 }, 0, /^err\n$/],
      [{ reason: "exited", exitCode: 42 }, 42, /^err\n$/],
      [{ reason: "signaled", exitCode: 137, signal: "SIGKILL" }, 137, /^err\n$/],
      [{ reason: "execFailed", exitCode: 127 }, 127, /^err\n$/],
      [{ reason: "timeout" }, 124, /how the command ended: timeout\n$/],
      [{ reason: "failed", detail: "no room" }, 125, /how the command ended: no room\n$/],
      [{ reason: "lost" }, 125, /how the command ended: lost\n$/],
    ];
    for (const [end, code, says] of cases) {
      served.plane.execParts = partsOf(end);
      const result = await ask(served, "exec c-1 -- ls -l");
      assertEquals([result.code, result.out], [code, "out\n"], end.reason);
      assertMatch(result.err, says);
    }
    served.plane.execParts = partsOf({ reason: "exited", exitCode: 0 }).slice(0, 2);
    const cut = await ask(served, "exec c-1 ls");
    assertEquals(cut.code, 125);
    assertStringIncludes(cut.err, "the server left");
  });
});

Deno.test("exec: what is asked for is what the command line says", async () => {
  await withServedPlane(async (served) => {
    served.plane.addCell("c-1");
    served.plane.execParts = partsOf({ reason: "exited", exitCode: 0 });
    await ask(served, "exec --workdir /tmp --timeout 5s c-1 -- sh -c --json");
    assertEquals(served.plane.commands, [
      `exec c-1 root ${
        JSON.stringify({
          argv: ["sh", "-c", "--json"],
          workingDirectory: "/tmp",
          hasStdin: false,
          timeoutSeconds: 5,
        })
      }`,
    ]);
    const json = await ask(served, "exec c-1 --json -- ls");
    const lines = json.out.trimEnd().split("\n").map((line) => JSON.parse(line));
    assertEquals(lines[1], { stream: "stdout", data: "b3V0Cg==" });
    assertEquals(lines.at(-1), { ended: { reason: "exited", exitCode: 0 } });
    assertEquals((await ask(served, "exec nobody ls")).code, 3);
    for (const wrong of ["exec c-1", "exec -t c-1 ls", "exec --timeout soon c-1 ls"]) {
      assertEquals((await ask(served, wrong)).code, 2, wrong);
    }
    assertEquals((await ask(served, "exec c-1 ls --server http://127.0.0.1:4")).code, 4);
  });
});

Deno.test("version --server tells both; without a server it is 4", async () => {
  await withServedPlane(async (served) => {
    const own = "celld 1.2.3 (deno 2.0.0, v8 1, linux x86_64)\n";
    assertEquals((await ask(served, "version")).out, own);
    const both = await ask(served, "version --server");
    assertEquals(both.out, `${own}server 9.9.9 (unix:${served.socketPath})\n`);
    const json = JSON.parse((await ask(served, "version --server --json")).out);
    assertEquals([json.celld, json.server.version], ["1.2.3", "9.9.9"]);
    assertEquals((await ask(served, "version --server http://127.0.0.1:4")).code, 4);
  });
});
