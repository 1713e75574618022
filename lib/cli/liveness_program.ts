/**
 * The commands about liveness: every argument and option, with help and examples.
 *
 * @module
 */
import { type Command, Option } from "commander";
import { addServerOptions, keepExitCode } from "./command_action.ts";
import { agentsCommand } from "./commands/agents.ts";
import { beatCommand } from "./commands/beat.ts";
import { watchCommand } from "./commands/watch.ts";
import { completeAlso } from "./completion_source.ts";
import type { CliContext } from "./context.ts";
import { watchFlagRows } from "./watch_help.ts";

const STATUSES = ["ok", "degraded", "critical", "stall"];

/** Adds `agents`, `beat` and `watch`. */
export function addLivenessCommands(program: Command, context: CliContext): void {
  addAgents(program, context);
  addBeat(program, context);
  addWatch(program, context);
}

function addAgents(program: Command, context: CliContext): void {
  const command = program.command("agents")
    .summary("show who is alive")
    .description("Shows the processes that beat to this host: when each was last heard, and how.")
    .option("--cell <id>", "only of this cell")
    .addOption(new Option("--status <status>", "only with this status").choices(STATUSES))
    .option("-w, --watch", "show them again every second")
    .addHelpText(
      "after",
      `
Examples:
  $ celld agents
  $ celld agents --watch --status stall
  $ celld agents --json | jq 'select(.last_beat_age_ms > 1000)'`,
    )
    .action(keepExitCode(context, (options) => agentsCommand(context, options)));
  addServerOptions(command, "the local server");
}

function addBeat(program: Command, context: CliContext): void {
  program.command("beat")
    .summary("beat while a program lives, for one that cannot")
    .description(
      "Runs a program and says to an observer that it is alive, until it ends. Its exit code is " +
        "the program's own. Signals are passed on. A program that fails has a last, critical " +
        "word said for it.",
    )
    .argument("<argv...>", "after --: the program and its arguments")
    .option("--every <time>", "between two beats (250ms, 1s)", "1s")
    .option("--socket <path>", "the observer's socket (VARTA_SOCKET)")
    .option("-q, --quiet", "do not say when beats do not arrive")
    .addHelpText(
      "after",
      `
Examples:
  $ celld beat --every 1s -- ./nightly.sh
  $ celld beat --socket /run/celld/beat.sock -- python3 worker.py`,
    )
    .action(keepExitCode(context, (argv, options) => beatCommand(context, argv, options)));
}

function addWatch(program: Command, context: CliContext): void {
  const command = program.command("watch")
    .summary("observe agents without a server")
    .description("A stand-alone observer; its flags and their help are its own.")
    .argument("[flags...]", "see celld watch --help")
    .helpOption(false)
    .allowUnknownOption()
    .action(keepExitCode(context, (words) => watchCommand(context, words)));
  completeAlso(
    command,
    watchFlagRows().map(({ flag, placeholder, text }) => ({
      long: flag,
      summary: text,
      takesValue: placeholder !== undefined,
    })),
  );
}
