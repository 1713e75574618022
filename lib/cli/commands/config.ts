/**
 * `celld config show`: the settings in force, and where each came from.
 *
 * @module
 */
import { SETTING_NAMES } from "#lib/daemon/mod.ts";
import type { CliContext } from "../context.ts";
import { EXIT_OK } from "../exit_codes.ts";
import { renderConfig } from "../render_reports.ts";

/** Runs the command and returns the exit code. */
export function configShowCommand(context: CliContext): number {
  const { shown, origins } = context.resolved;
  if (context.isJson) {
    context.writeJson(Object.fromEntries(
      SETTING_NAMES.map((name) => [name, { value: shown[name], ...origins[name] }]),
    ));
  } else {
    context.io.writeOut(renderConfig(context.resolved, context.outOptions));
  }
  return EXIT_OK;
}
