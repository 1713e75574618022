/**
 * `celld policy show`: the ruleset that a spec becomes, as nft text. Nothing is sent to the
 * kernel, and no privilege is needed.
 *
 * @module
 */
import type { CliContext } from "../context.ts";
import { EXIT_OK } from "../exit_codes.ts";
import { readSpecText } from "../spec_text.ts";

/** Runs the command and returns the exit code. */
export async function policyShowCommand(
  context: CliContext,
  specPath: string,
  options: { readonly host?: boolean },
): Promise<number> {
  const text = await readSpecText(context.io, specPath);
  const spec = await context.ports.parseSpec(text, {});
  const view = await context.ports.showPolicy(spec, { host: options.host === true });
  if (context.isJson) {
    context.writeJson(view);
    return EXIT_OK;
  }
  context.io.writeOut(`# cell ${view.cellId}, policy ${view.policyDigest}\n${view.cellText}`);
  if (view.hostText !== undefined) {
    context.io.writeOut(`\n# on the host, for this cell\n${view.hostText}`);
  }
  return EXIT_OK;
}
