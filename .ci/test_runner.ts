/**
 * Runs everything that must pass and ends with one line: `N passed, N failed`.
 *
 *   deno task test [--no-checks] [folder or file …]
 *   deno task test:long
 *
 * First the checks (format, lint, types; each counts as one), then the pure tests
 * side by side, then those that touch the kernel, one folder after the other, each in a process of
 * its own: a process that dies or hangs is one failure and hides no other folder.
 *
 * `, N skipped` is appended where tests were skipped; each of them names its reason. As root it
 * counts as a failure when every kernel test was skipped. Exit code 0 only where nothing failed.
 *
 * @module
 */

import { parseArgs } from "@std/cli";
import { TextLineStream } from "./lines.ts";
import { runChecks } from "./checks.ts";
import { ensurePackages, TEST_PACKAGES } from "./debian_packages.ts";
import { listFiles, readText, REPOSITORY } from "./files.ts";
import { formatCampaigns, parseCampaigns } from "./campaigns.ts";
import { addTotals, groupTests, parseSummary, type TestGroup, type Totals } from "./test_plan.ts";

const IS_LONG = Deno.env.get("CELLD_TEST") === "long";

/** A group that takes longer hangs: it is killed and counted as failed. */
const GROUP_TIMEOUT_MS = (IS_LONG ? 180 : 5) * 60_000;

interface GroupOutcome extends Totals {
  readonly skippedNames: readonly string[];
}

async function runGroup(group: TestGroup, campaignFile: string): Promise<GroupOutcome> {
  console.log(`\n== ${group.name} (${group.files.length} files)`);
  const args = ["test", "-A", "--no-check", "--sanitize-ops", "--sanitize-resources"];
  if (group.parallel) args.push("--parallel");
  const child = new Deno.Command(Deno.execPath(), {
    args: [...args, ...group.files],
    cwd: REPOSITORY,
    env: { NO_COLOR: "1", CELLD_TEST_CAMPAIGNS: campaignFile },
    stdin: "null",
    stdout: "piped",
  }).spawn();
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    child.kill("SIGKILL");
  }, GROUP_TIMEOUT_MS);
  const lines = await printLines(child.stdout);
  const status = await child.status;
  clearTimeout(timer);
  const totals = judge(group, parseSummary(lines), status, timedOut);
  return { ...totals, skippedNames: lines.filter((line) => line.endsWith(" ... ignored")) };
}

/** A group's totals; what ended without a good summary, or badly in spite of it, is a failure. */
function judge(
  group: TestGroup,
  summary: Totals | undefined,
  status: Deno.CommandStatus,
  timedOut: boolean,
): Totals {
  if (summary === undefined || timedOut) {
    const how = timedOut ? `hung for ${GROUP_TIMEOUT_MS / 60_000} minutes` : endOf(status);
    console.log(`FAILED: ${group.name} ${how} and gave no summary`);
    return addTotals(summary ?? { passed: 0, failed: 0, skipped: 0 }, { failed: 1 });
  }
  if (!status.success && summary.failed === 0) {
    console.log(`FAILED: ${group.name} ${endOf(status)}, though no test failed`);
    return addTotals(summary, { failed: 1 });
  }
  const ranNothing = group.kernel && summary.passed === 0 && summary.skipped > 0;
  if (ranNothing && Deno.uid() === 0) {
    console.log(`FAILED: ${group.name} skipped every test, though this is root`);
    return addTotals(summary, { failed: 1 });
  }
  return summary;
}

function endOf(status: Deno.CommandStatus): string {
  return status.signal === null ? `ended with ${status.code}` : `was ended by ${status.signal}`;
}

function hasKernelTests(path: string): boolean {
  return readText(path).includes("\nkernelTest(");
}

async function printLines(stream: ReadableStream<Uint8Array>): Promise<string[]> {
  const lines: string[] = [];
  for await (const line of stream.pipeThrough(new TextLineStream())) {
    console.log(line);
    lines.push(line);
  }
  return lines;
}

async function main(args: readonly string[]): Promise<number> {
  const { _: paths, "no-checks": withoutChecks } = parseArgs(args, { boolean: ["no-checks"] });
  const withChecks = paths.length === 0 && !withoutChecks;
  await ensurePackages(TEST_PACKAGES);
  let totals: Totals = { passed: 0, failed: 0, skipped: 0 };
  if (withChecks) totals = addTotals(totals, await runChecks());
  const files = listFiles(
    paths.length === 0 ? ["tests"] : paths.map((path) => path.replace(/\/$/, "")),
  );
  const campaignFile = await Deno.makeTempFile({ prefix: "celld-campaigns-" });
  const skipped: string[] = [];
  try {
    for (const group of groupTests(files, hasKernelTests)) {
      const outcome = await runGroup(group, campaignFile);
      totals = addTotals(totals, outcome);
      skipped.push(...outcome.skippedNames);
    }
    const campaigns = parseCampaigns(await Deno.readTextFile(campaignFile));
    if (campaigns.length > 0) {
      console.log(
        `\nCampaigns (${IS_LONG ? "full" : "small"} counts):\n${formatCampaigns(campaigns)}`,
      );
    }
  } finally {
    await Deno.remove(campaignFile);
  }
  if (skipped.length > 0) {
    console.log(`\nSkipped:\n${skipped.map((line) => `  ${line}`).join("\n")}`);
  }
  const tail = totals.skipped > 0 ? `, ${totals.skipped} skipped` : "";
  console.log(`\n${totals.passed} passed, ${totals.failed} failed${tail}`);
  return totals.failed === 0 && totals.passed > 0 ? 0 : 1;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
