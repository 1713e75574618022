/**
 * The commands that ask a server: every argument and option, with help and examples.
 *
 * @module
 */
import { Argument, type Command, Option } from "commander";
import { addServerOptions, countOption, keepExitCode } from "./command_action.ts";
import { applyCommand } from "./commands/apply.ts";
import { deleteCommand } from "./commands/delete.ts";
import { describeCommand, SINGLE_KINDS } from "./commands/describe.ts";
import { diffCommand } from "./commands/diff.ts";
import { execCommand } from "./commands/exec.ts";
import { getCommand, OUTPUT_FORMS } from "./commands/get.ts";
import { logsCommand } from "./commands/logs.ts";
import { rolloutStatusCommand } from "./commands/rollout.ts";
import { scaleCommand } from "./commands/scale.ts";
import {
  TOKEN_SCOPES,
  tokenCreateCommand,
  tokenListCommand,
  tokenRevokeCommand,
} from "./commands/token.ts";
import { topCommand } from "./commands/top.ts";
import type { CliContext } from "./context.ts";
import { LIST_KINDS } from "./render_api.ts";

const TOP_LIMIT_DEFAULT = 20;
const LOCAL = "the local one";

/** Adds the commands that ask a server. */
export function addApiCommands(program: Command, context: CliContext): void {
  addApply(program, context);
  addGet(program, context);
  addDescribe(program, context);
  addDelete(program, context);
  addExec(program, context);
  addLogs(program, context);
  addRollout(program, context);
  addDiff(program, context);
  addScale(program, context);
  addTop(program, context);
  addToken(program, context);
}

function nameArgument(): Argument {
  return new Argument("<formation>", "name or id of a formation");
}

function addApply(program: Command, context: CliContext): void {
  const command = program.command("apply")
    .summary("give a formation or a cell to the server")
    .description(
      "Gives a formation, or the specification of a cell, to the server, which starts it and has " +
        "it durably when the command returns.",
    )
    .requiredOption("-f, --file <path>", "the document, YAML or JSON; - reads stdin")
    .addHelpText(
      "after",
      `
Examples:
  $ celld apply -f formation.yaml
  $ celld apply -f cell.yaml
  $ celld apply -f formation.yaml && celld rollout status build-1`,
    )
    .action(keepExitCode(context, (options) => applyCommand(context, options)));
  addServerOptions(command, LOCAL);
}

function addGet(program: Command, context: CliContext): void {
  const command = program.command("get")
    .summary("list formations, cells, rules, hosts")
    .description("Lists what the server has.")
    .addArgument(new Argument("<kind>", "what to list").choices(LIST_KINDS))
    .option("--formation <name>", "only cells of this formation, name or id")
    .option("--state <state>", "only in this state: running, destroyed; SUCCEEDED, FAILED, …")
    .addOption(countOption("--limit <count>", "at most so many (all)"))
    .addOption(
      new Option("-o, --output <form>", "how they are shown").choices(OUTPUT_FORMS)
        .default("table"),
    )
    .addHelpText(
      "after",
      `
Examples:
  $ celld get formations
  $ celld get cells --formation build-1 -o wide
  $ celld get cells --state running -o name
  $ celld get cells --json | jq .id`,
    )
    .action(keepExitCode(context, (kind, options) => getCommand(context, kind, options)));
  addServerOptions(command, LOCAL);
}

function addDescribe(program: Command, context: CliContext): void {
  const command = program.command("describe")
    .summary("show one formation or cell in full")
    .description("Shows everything that the server says of one formation or cell.")
    .addArgument(new Argument("<kind>", "what it is").choices(SINGLE_KINDS))
    .argument("<name>", "name or id")
    .addHelpText(
      "after",
      `
Examples:
  $ celld describe formation build-1
  $ celld describe cell build-1-worker-0a1b2c3d`,
    )
    .action(keepExitCode(context, (kind, name, options) => {
      return describeCommand(context, kind, name, options);
    }));
  addServerOptions(command, LOCAL);
}

function addDelete(program: Command, context: CliContext): void {
  const command = program.command("delete")
    .summary("cancel a formation, or stop a cell")
    .description("Cancels a formation and stops its cells, or stops one cell. The log stays.")
    .addArgument(new Argument("<kind>", "what it is").choices(SINGLE_KINDS))
    .argument("<name>", "name or id")
    .option("--force", "of a cell: kill it at once")
    .addHelpText(
      "after",
      `
Examples:
  $ celld delete formation build-1
  $ celld delete cell build-1-worker-0a1b2c3d --force`,
    )
    .action(keepExitCode(context, (kind, name, options) => {
      return deleteCommand(context, kind, name, options);
    }));
  addServerOptions(command, LOCAL);
}

function addExec(program: Command, context: CliContext): void {
  const command = program.command("exec")
    .summary("run a command in a running cell")
    .description(
      "Runs a command in a running cell, as its user, under its policy and limits, without any " +
        "privilege. The exit code is the command's own; leaving it kills it.",
    )
    .argument("<cell>", "id of a cell")
    .argument("<argv...>", "the command, after --")
    .option("-i, --stdin", "give it our stdin")
    .option("-t, --tty", "refused: there is no terminal for it")
    .option("--workdir <path>", "where it starts (where the workload did)")
    .option("--timeout <time>", "kill it after so long (24h)")
    .addHelpText(
      "after",
      `
Examples:
  $ celld exec fetch-0a1b2c3d -- ps -ef
  $ celld exec -i fetch-0a1b2c3d -- sh < script.sh`,
    )
    .action(keepExitCode(context, (cell, argv, options) => {
      return execCommand(context, cell, argv, options);
    }));
  addServerOptions(command, LOCAL);
}

function addLogs(program: Command, context: CliContext): void {
  const command = program.command("logs")
    .summary("print what a cell wrote")
    .description(
      "Prints what a cell wrote: its stdout to stdout, its stderr to stderr. With --events, what " +
        "the log says about it, an event a line.",
    )
    .argument("<cell>", "id of a cell")
    .option("-f, --follow", "go on with what comes, until the cell ends")
    .addOption(countOption("--tail <count>", "only the last so many lines, or events"))
    .addOption(
      new Option("--stream <name>", "only this stream (both)").choices(["stdout", "stderr"]),
    )
    .option("--events", "events about the cell instead of its output")
    .addHelpText(
      "after",
      `
Examples:
  $ celld logs fetch-0a1b2c3d
  $ celld logs fetch-0a1b2c3d -f --tail 20
  $ celld logs fetch-0a1b2c3d --events | jq .type`,
    )
    .action(keepExitCode(context, (cell, options) => logsCommand(context, cell, options)));
  addServerOptions(command, LOCAL);
}

function addRollout(program: Command, context: CliContext): void {
  const rollout = program.command("rollout").summary("follow a formation to its end")
    .description("Follows a formation to its end.");
  const command = rollout.command("status")
    .summary("wait for a formation's end")
    .description(
      "Waits until a formation has ended. Exit code 0 where it succeeded, 1 where it failed or " +
        "was cancelled, 124 where --timeout was over first.",
    )
    .addArgument(nameArgument())
    .option("--timeout <time>", "wait no longer (30s, 5m)")
    .addHelpText(
      "after",
      `
Examples:
  $ celld rollout status build-1 --timeout 10m`,
    )
    .action(keepExitCode(context, (name, options) => {
      return rolloutStatusCommand(context, name, options);
    }));
  addServerOptions(command, LOCAL);
}

function addDiff(program: Command, context: CliContext): void {
  const command = program.command("diff")
    .summary("compare a formation's file with the server's")
    .description(
      "Says how a file differs from the formation of its name that the server has. Exit code 0 " +
        "where it does not, 1 where it does or where the server has none.",
    )
    .requiredOption("-f, --file <path>", "the document, YAML or JSON; - reads stdin")
    .addHelpText(
      "after",
      `
Examples:
  $ celld diff -f formation.yaml`,
    )
    .action(keepExitCode(context, (options) => diffCommand(context, options)));
  addServerOptions(command, LOCAL);
}

function addScale(program: Command, context: CliContext): void {
  const command = program.command("scale")
    .summary("change how many cells a member has")
    .description("Changes how many cells a member of a formation has.")
    .addArgument(nameArgument())
    .argument("<member=count>", "which member, and how many")
    .addHelpText(
      "after",
      `
Examples:
  $ celld scale build-1 worker=3`,
    )
    .action(keepExitCode(context, (name, wish, options) => {
      return scaleCommand(context, name, wish, options);
    }));
  addServerOptions(command, LOCAL);
}

function addTop(program: Command, context: CliContext): void {
  const command = program.command("top")
    .summary("show which cells move the most")
    .description("Shows the cells that run, those that moved the most bytes first.")
    .option("--formation <name>", "only of this formation, name or id")
    .option("-w, --watch", "show it again every two seconds")
    .addOption(countOption("--limit <count>", "so many; 0 shows all").default(TOP_LIMIT_DEFAULT))
    .addHelpText(
      "after",
      `
Examples:
  $ celld top
  $ celld top --watch --formation build-1`,
    )
    .action(keepExitCode(context, (options) => topCommand(context, options)));
  addServerOptions(command, LOCAL);
}

function addToken(program: Command, context: CliContext): void {
  const token = program.command("token").summary("make, list and revoke tokens of the API")
    .description(
      "Looks after the API's tokens in --state-dir. A running server takes changes by itself.",
    );
  token.command("create")
    .summary("make a token")
    .description("Makes a token and prints its text, which is kept nowhere.")
    .argument("<name>", "a name of its own")
    .addOption(
      new Option("--scope <scope>", "what it may do").choices(TOKEN_SCOPES).default("read"),
    )
    .option("--ttl <time>", "how long it lasts (12h, 30d); until it is revoked otherwise")
    .addHelpText(
      "after",
      `
Examples:
  $ celld token create ci --scope run --ttl 30d
  $ CELLD_TOKEN=$(celld token create once --ttl 1h) celld get cells --server https://host:8080`,
    )
    .action(keepExitCode(context, (name, options) => tokenCreateCommand(context, name, options)));
  token.command("list")
    .summary("list tokens")
    .description("Lists tokens, without their texts.")
    .action(keepExitCode(context, () => tokenListCommand(context)));
  token.command("revoke")
    .summary("end a token")
    .description("Ends a token. Exit code 1 where there is none of the name.")
    .argument("<name>", "its name")
    .action(keepExitCode(context, (name) => tokenRevokeCommand(context, name)));
}
