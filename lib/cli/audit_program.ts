/**
 * The commands about the recovery audit: every argument and option, with help and examples.
 *
 * @module
 */
import type { Command } from "commander";
import { keepExitCode } from "./command_action.ts";
import { auditVerifyCommand } from "./commands/audit.ts";
import type { CliContext } from "./context.ts";

/** Adds `audit`. */
export function addAuditCommands(program: Command, context: CliContext): void {
  const audit = program.command("audit").summary("look after the recovery audit")
    .description("Looks after the recovery audit.");
  audit.command("verify")
    .summary("check that the audit is what was written")
    .description(
      "Checks every row against its chain, over files that are given oldest first. Names the first " +
        "row that does not fit, numbers that were lost, and an end that a crash tore. Exit code 1 " +
        "when anything is wrong. Keep the last hash elsewhere: no chain tells that its newest rows " +
        "were cut off.",
    )
    .argument("<file...>", "audit files, the oldest first; - reads stdin")
    .option("--key-file <path>", "the key of a keyed chain: the bytes of this file")
    .option("--rotated", "also the rotated files beside each: .5 to .1")
    .addHelpText(
      "after",
      `
Examples:
  $ celld audit verify --rotated /var/log/celld/recovery.tsv
  $ celld audit verify audit.tsv.1 audit.tsv --json | jq .problems`,
    )
    .action(keepExitCode(context, (paths, options) => auditVerifyCommand(context, paths, options)));
}
