/**
 * Tests of what the tests lean on: spies, campaigns, needs, subprocesses.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { assertSpyCall, assertSpyCalls, spy } from "@std/testing";
import { campaign, campaignSeed, IS_LONG_RUN } from "./campaign.ts";
import { findCommand, missingReason } from "./kernel.ts";
import { runProcess } from "./subprocess.ts";

Deno.test("spy() remembers arguments, results and errors in order", () => {
  const spied = spy((n: number) => {
    if (n < 0) throw new RangeError("negative");
    return n * 2;
  });
  assertEquals(spied(2), 4);
  assertThrows(() => spied(-1), RangeError);
  assertSpyCalls(spied, 2);
  assertSpyCall(spied, 0, { args: [2] });
  assertEquals(spied.calls[0].returned, 4);
  assert(spied.calls[1].error instanceof RangeError);
  assertThrows(() => assertSpyCalls(spied, 1));
});

Deno.test("campaign() chooses by the environment that this process was started with", () => {
  assertEquals(campaign("small", "full"), IS_LONG_RUN ? "full" : "small");
  assertEquals(IS_LONG_RUN, Deno.env.get("CELLD_TEST") === "long");
});

Deno.test("campaignSeed() is a whole number of 32 bits", () => {
  const seed = campaignSeed();
  assert(Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32);
});

Deno.test("recordCampaign() appends one line of JSON to the file that the runner names", async () => {
  const folder = new URL(".", import.meta.url).pathname;
  const file = await Deno.makeTempFile();
  const script = `import { recordCampaign } from "${folder}campaign.ts";
    recordCampaign("one", { rounds: 10n, lost: 0 }); recordCampaign("two", { ok: true });`;
  try {
    const outcome = await runProcess([Deno.execPath(), "eval", script], {
      env: { CELLD_TEST_CAMPAIGNS: file },
    });
    assertEquals(outcome.code, 0, outcome.stderr);
    assertEquals((await Deno.readTextFile(file)).split("\n"), [
      '{"name":"one","figures":{"rounds":"10","lost":"0"}}',
      '{"name":"two","figures":{"ok":"true"}}',
      "",
    ]);
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("missingReason() names what is not there, and nothing where a need is met", () => {
  assertEquals(missingReason("path:/proc/self"), undefined);
  assertEquals(missingReason("path:/no/such"), "no /no/such");
  assertEquals(missingReason("command:no-such-program"), "no no-such-program in PATH");
  assertEquals(missingReason("command:sh"), undefined);
  assertEquals(missingReason("root"), Deno.uid() === 0 ? undefined : "not root");
  assertThrows(() => missingReason("cap:CAP_UNHEARD_OF"), RangeError);
});

Deno.test("findCommand() gives the full path", () => {
  assertStringIncludes(findCommand("sh") ?? "", "/sh");
});

Deno.test("runProcess() gives code, signal and both outputs, and feeds standard input", async () => {
  const outcome = await runProcess(["sh", "-c", "cat; echo problem >&2; exit 3"], {
    stdin: "text",
  });
  assertEquals(outcome, { code: 3, signal: null, stdout: "text", stderr: "problem\n" });
  const killed = await runProcess(["sh", "-c", "kill -TERM $$"]);
  assertEquals([killed.code, killed.signal], [143, "SIGTERM"]);
});

Deno.test("runProcess() survives a program that does not read its input", async () => {
  const outcome = await runProcess(["true"], { stdin: "x".repeat(1 << 20) });
  assertEquals(outcome.code, 0);
});

Deno.test("runProcess() kills what does not finish in time and says what it had printed", async () => {
  await assertRejects(
    () => runProcess(["sh", "-c", "echo begun; exec sleep 60"], { timeoutMs: 300 }),
    Error,
    "begun",
  );
});
