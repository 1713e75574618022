/**
 * `celld doctor`: what this host can do, and what to run where it cannot.
 *
 * @module
 */
import { type DoctorReport, worstStatus } from "#lib/daemon/mod.ts";
import type { CliContext } from "../context.ts";
import { EXIT_FINDING, EXIT_OK } from "../exit_codes.ts";
import { renderDoctor } from "../render_reports.ts";

/** Runs the command; the exit code is 1 when a check fails, 0 with warnings. */
export async function doctorCommand(context: CliContext): Promise<number> {
  const report: DoctorReport = await context.ports.doctor();
  const worst = worstStatus(report);
  if (context.isJson) context.writeJson({ status: worst, ...report });
  else context.io.writeOut(renderDoctor(report, context.outOptions));
  return worst === "fail" ? EXIT_FINDING : EXIT_OK;
}
