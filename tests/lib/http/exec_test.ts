/**
 * Commands in cells over HTTP: what is taken, what is refused, what is answered, and that who
 * leaves ends the command.
 *
 * @module
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { type ExecPart, refuse } from "#lib/http/mod.ts";
import { as, makeApp } from "./plane.ts";
import { assertProblem } from "./problem_assert.ts";

const JSON_TYPE = { "content-type": "application/json" };
const EXEC_ID = "4f9c1a9e-1111-4222-8333-444455556666";
const PARTS: readonly ExecPart[] = [
  { kind: "started", execId: EXEC_ID },
  { kind: "output", stream: "stdout", bytes: new Uint8Array([0, 255]) },
  { kind: "output", stream: "stderr", bytes: new TextEncoder().encode("bad\n") },
  { kind: "ended", end: { reason: "exited", exitCode: 3 } },
];

function stage(parts: readonly ExecPart[] = PARTS) {
  const { app, plane } = makeApp();
  plane.addCell("a");
  plane.execParts = [...parts];
  const exec = (body: unknown, cell = "a") =>
    app.request(
      `/v1/cells/${cell}/exec`,
      as("run", { method: "POST", body: JSON.stringify(body), headers: JSON_TYPE }),
    );
  const stdin = (body: BodyInit, query = "") =>
    app.request(
      `/v1/cells/a/exec/${EXEC_ID}/stdin${query}`,
      as("run", { method: "POST", body }),
    );
  return { app, plane, exec, stdin };
}

Deno.test("exec: the answer is a JSON value a line, from its start to its end", async () => {
  const { plane, exec } = stage();
  const response = await exec({ argv: ["ls", "-l"], workingDirectory: "/tmp", stdin: true });
  assertEquals(response.status, 200);
  assertEquals(response.headers.get("content-type"), "application/x-ndjson");
  const lines = (await response.text()).trimEnd().split("\n").map((line) => JSON.parse(line));
  assertEquals(lines, [
    { started: { execId: EXEC_ID } },
    { stream: "stdout", data: "AP8=" },
    { stream: "stderr", data: "YmFkCg==" },
    { ended: { reason: "exited", exitCode: 3 } },
  ]);
  const wish = {
    argv: ["ls", "-l"],
    workingDirectory: "/tmp",
    hasStdin: true,
    timeoutSeconds: 86400,
  };
  assertEquals(plane.commands, [`exec a t-run ${JSON.stringify(wish)}`]);
});

Deno.test("exec: a wish that cannot be is refused, and nothing is run", async () => {
  const { plane, exec } = stage();
  const wishes: readonly [body: unknown, says: string][] = [
    [{}, "argv"],
    [{ argv: [] }, "argv"],
    [{ argv: "ls" }, "argv"],
    [{ argv: [""] }, "a program"],
    [{ argv: [1] }, "argv.0"],
    [{ argv: ["a\u0000b"] }, "no NUL"],
    [{ argv: Array(1025).fill("a") }, "argv"],
    [{ argv: ["x".repeat(65_537)] }, "65536"],
    [{ argv: ["a"], workingDirectory: "tmp" }, "an absolute path"],
    [{ argv: ["a"], stdin: 1 }, "stdin"],
    [{ argv: ["a"], timeoutSeconds: 0 }, "timeoutSeconds"],
    [{ argv: ["a"], timeoutSeconds: 90_000 }, "timeoutSeconds"],
    [{ argv: ["a"], user: "root" }, "user"],
  ];
  for (const [body, says] of wishes) {
    const problem = await assertProblem(await exec(body), "bad-request");
    assertStringIncludes(JSON.stringify(problem), says);
  }
  await assertProblem(await exec({ argv: ["a"] }, "nobody"), "not-found");
  plane.refusal = refuse("too-many-commands", "Cannot run more than 8 in a cell");
  const busy = await exec({ argv: ["a"] });
  assert(busy.headers.has("retry-after"));
  await assertProblem(busy, "too-many-commands");
  assertEquals(plane.commands, []);
});

Deno.test("exec: who leaves the answer ends the command", async () => {
  const { plane, exec } = stage();
  const response = await exec({ argv: ["sleep", "9"] });
  const reader = response.body!.getReader();
  await reader.read();
  assertEquals(plane.outputSignal?.aborted, false);
  await reader.cancel();
  assertEquals(plane.outputSignal?.aborted, true);
});

Deno.test("exec: no place for another stream, no command", async () => {
  const { app, plane } = makeApp(undefined, { streamsMax: 0 });
  plane.addCell("a");
  const body = JSON.stringify({ argv: ["a"] });
  const init = as("run", { method: "POST", body, headers: JSON_TYPE });
  await assertProblem(await app.request("/v1/cells/a/exec", init), "too-many-clients");
  assertEquals(plane.commands, []);
});

Deno.test("exec: stdin is taken as bytes, up to 64 KiB, until its end", async () => {
  const { plane, stdin } = stage();
  for (const [body, query] of [["ab", ""], ["", "?end=true"]] as const) {
    const response = await stdin(body, query);
    assertEquals([response.status, await response.text()], [204, ""]);
  }
  assertEquals(plane.commands, [`stdin a ${EXEC_ID} false ab`, `stdin a ${EXEC_ID} true `]);
  await assertProblem(await stdin("x".repeat(65_537)), "payload-too-large");
  await assertProblem(await stdin("x", "?end=maybe"), "bad-filter");
  await assertProblem(await stdin("x", "?last=true"), "bad-filter");
  plane.refusal = refuse("not-found", "Cannot find command");
  await assertProblem(await stdin("x"), "not-found");
  assertEquals(plane.commands.length, 2);
});
