/**
 * The commands about the log itself: every argument and option, with help and examples.
 *
 * @module
 */
import type { Command } from "commander";
import { addServerOptions, keepExitCode } from "./command_action.ts";
import {
  logBackupCommand,
  logExportCommand,
  logImportCommand,
  logVerifyCommand,
} from "./commands/log.ts";
import { logStatusCommand } from "./commands/log_status.ts";
import { replayCommand } from "./commands/replay.ts";
import type { CliContext } from "./context.ts";

const LOCAL = "the local log";
const UNTIL = "up to a sequence (42), a span ago (10m) or a time";

/** Adds `log` and `replay`. */
export function addLogCommands(program: Command, context: CliContext): void {
  const log = program.command("log").summary("look after the event log")
    .description("Looks after the event log.");
  log.command("verify")
    .summary("check that the log is what was written")
    .description("Checks every entry's hash against its chain. Exit code 1 when anything differs.")
    .action(keepExitCode(context, () => logVerifyCommand(context)));
  addStatus(log, context);
  addExport(log, context);
  addImport(log, context);
  addBackup(log, context);
  addReplay(program, context);
}

function addStatus(log: Command, context: CliContext): void {
  const command = log.command("status")
    .summary("say how far a server's log is behind")
    .description(
      "Says whether the server takes commands, how many facts wait for its log, and how the log " +
        "stands to its broker where it has one. Exit code 1 where anything is behind.",
    )
    .addHelpText(
      "after",
      `
Examples:
  $ celld log status
  $ celld log status --json | jq .log.spooledEvents`,
    )
    .action(keepExitCode(context, (options) => logStatusCommand(context, options)));
  addServerOptions(command, "the local server");
}

function addExport(log: Command, context: CliContext): void {
  const command = log.command("export")
    .summary("write entries to stdout")
    .description("Writes entries to stdout, one {seq, event} a line.")
    .option("--since <place>", "after a sequence (42), a span (10m) or a time")
    .option("--until <place>", UNTIL)
    .addHelpText(
      "after",
      `
Examples:
  $ celld log export > events.jsonl
  $ celld log export --since 1200 --until 1300`,
    )
    .action(keepExitCode(context, (options) => logExportCommand(context, options)));
  addServerOptions(command, LOCAL);
}

function addImport(log: Command, context: CliContext): void {
  log.command("import")
    .summary("append events from a file")
    .description(
      "Appends events in their order: {seq, event} as `log export` writes them, or bare " +
        "CloudEvents, one a line. An event that the log has, known by its id, is left out, so an " +
        "import that was cut short is run again.",
    )
    .argument("<file>", "JSON lines; - reads stdin")
    .addHelpText(
      "after",
      `
Examples:
  $ celld log import events.jsonl
  $ celld log export --server https://other:8080 | celld log import -`,
    )
    .action(keepExitCode(context, (path) => logImportCommand(context, path)));
}

function addBackup(log: Command, context: CliContext): void {
  log.command("backup")
    .summary("copy the log while it is in use")
    .description(
      "Copies the log, byte by byte and as it is at one moment, and verifies the copy. Who " +
        "appends meanwhile waits. Exit code 1 where the copy is not sound.",
    )
    .argument("<path>", "the copy's database; files with its name and an ending come beside it")
    .addHelpText(
      "after",
      `
Examples:
  $ celld log backup /backup/today/events.db
  $ celld events --state-dir /backup/today          look into the copy`,
    )
    .action(keepExitCode(context, (path) => logBackupCommand(context, path)));
}

function addReplay(program: Command, context: CliContext): void {
  const command = program.command("replay")
    .summary("show the state as it was")
    .description(
      "Makes the state of the log's entries, by the rules of the server, and shows it: " +
        "formations, cells, flows, hosts. Changes nothing.",
    )
    .option("--until <place>", UNTIL)
    .addHelpText(
      "after",
      `
Examples:
  $ celld replay --until 1200
  $ celld replay --until 2026-05-16T00:00:00Z --json | jq .cells`,
    )
    .action(keepExitCode(context, (options) => replayCommand(context, options)));
  addServerOptions(command, LOCAL);
}
