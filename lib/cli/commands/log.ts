/**
 * `celld log verify`: is the log what was written?
 *
 * @module
 */
import type { CliContext } from "../context.ts";
import { EXIT_FINDING, EXIT_OK } from "../exit_codes.ts";
import { renderLogReport } from "../render_reports.ts";

/** Runs the command; the exit code is 1 when anything in the log is not as it was written. */
export async function logVerifyCommand(context: CliContext): Promise<number> {
  const report = await context.ports.verifyLog();
  if (context.isJson) context.writeJson(report);
  else context.io.writeOut(renderLogReport(report, context.outOptions));
  return report.isSound ? EXIT_OK : EXIT_FINDING;
}
