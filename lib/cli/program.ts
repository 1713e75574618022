/**
 * The command line: every command, argument and option, with its help and examples.
 *
 * @module
 */
import { Argument, Command, InvalidArgumentError, Option } from "commander";
import {
  CELLD_VERSION,
  SETTING_DEFINITIONS,
  SETTING_NAMES,
  type SettingTexts,
} from "#lib/daemon/mod.ts";
import { addApiCommands } from "./api_program.ts";
import { addAuditCommands } from "./audit_program.ts";
import { addServerOptions, CA_OPTION, keepExitCode, TOKEN_OPTION } from "./command_action.ts";
import { configShowCommand } from "./commands/config.ts";
import { doctorCommand } from "./commands/doctor.ts";
import { eventsCommand } from "./commands/events.ts";
import { flowsCommand } from "./commands/flows.ts";
import { policyShowCommand } from "./commands/policy.ts";
import { runCommand } from "./commands/run.ts";
import { serveCommand } from "./commands/serve.ts";
import { versionCommand } from "./commands/version.ts";
import { COMPLETION_SHELLS, completionScript, type CompletionShell } from "./completion.ts";
import { completionCommands } from "./completion_source.ts";
import type { CliContext } from "./context.ts";
import { EXIT_OK } from "./exit_codes.ts";
import { addLivenessCommands } from "./liveness_program.ts";
import { addLogCommands } from "./log_program.ts";
import { renderExitCodes } from "./render.ts";
import { addUdpCommands } from "./udp_program.ts";

const FLOWS_LIMIT_DEFAULT = 1000;

/** Builds the program; its actions leave their exit code in the context. */
export function buildProgram(context: CliContext): Command {
  const program = new Command("celld");
  program
    .description("Runs workloads in cells that reach only what their spec allows, and records it.")
    .option("--json", "answer in JSON, one value a line; errors too")
    .configureHelp({ showGlobalOptions: true, sortSubcommands: false })
    .version(`celld ${CELLD_VERSION}`, "-V, --version", "print the version, no more")
    .helpOption("-h, --help", "show help")
    .addHelpText("after", TOP_EXAMPLES)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => context.io.writeOut(text),
      writeErr: (text) => context.io.writeErr(text),
      // The error comes to `runCli` as a thrown CommanderError, which prints it in our form.
      outputError: () => {},
    });
  for (const name of SETTING_NAMES) program.addOption(settingOption(name));
  program.option("--config <path>", "settings in YAML (/etc/celld/celld.yaml; CELLD_CONFIG)");
  program.hook("preAction", async () => {
    const flags = program.opts<SettingTexts & { json?: boolean; config?: string }>();
    context.isJson = flags.json === true;
    context.setFlags(flags);
    await context.readConfig(flags.config);
  });
  addRun(program, context);
  addServe(program, context);
  addFlows(program, context);
  addEvents(program, context);
  addPolicy(program, context);
  addApiCommands(program, context);
  addLivenessCommands(program, context);
  addUdpCommands(program, context);
  addDoctor(program, context);
  addLogCommands(program, context);
  addAuditCommands(program, context);
  addConfig(program, context);
  addVersion(program, context);
  addCompletion(program, context);
  addExitCodes(program, context);
  return program;
}

const TOP_EXAMPLES = `
Examples:
  $ celld run cell.yaml                          run a cell, see its decisions live
  $ celld run cell.yaml -- curl -s 10.0.0.1      the same cell, another program
  $ celld flows --deny --since 10m               what was refused in the last ten minutes
  $ celld apply -f formation.yaml                give a formation to the server
  $ celld get cells                              what the server runs
  $ celld doctor                                 what this host can do, and how to fix it

Exit codes: celld exit-codes`;

function settingOption(name: typeof SETTING_NAMES[number]): Option {
  const { flag, placeholder, help, fallback, variable, isRare } = SETTING_DEFINITIONS[name];
  const option = new Option(`${flag} <${placeholder}>`, `${help} (${fallback}; ${variable})`);
  return isRare === true ? option.hideHelp() : option;
}

function specArgument(): Argument {
  return new Argument("<spec>", "a cell spec, YAML or JSON; - reads stdin");
}

function addRun(program: Command, context: CliContext): void {
  program.command("run")
    .summary("run a cell to its end")
    .description(
      "Runs a cell to its end. The workload's stdout and stderr come out as they are; each " +
        "decision about a flow is a line on stderr. The exit code is the workload's own.",
    )
    .addArgument(specArgument())
    .argument("[argv...]", "after --: the program and its arguments, instead of spec.run.argv")
    .option("--events <format>", "jsonl: events as JSON lines on stderr; jsonl:PATH: to a file")
    .option("--name <id>", "the cell's id, instead of spec.id")
    .option("-i, --stdin", "give the workload this process's stdin")
    .option("-q, --quiet", "print only what the workload prints")
    .option("-v, --verbose", "also say what each flow carried when it closes")
    .option("--timeout <time>", "end the workload after this time (30s, 5m); exit code 124")
    .addHelpText(
      "after",
      `
Examples:
  $ celld run cell.yaml
  $ celld run cell.yaml --timeout 30s -- sh -c 'wget -qO- http://10.0.0.1/'
  $ celld run - --events jsonl:events.jsonl < cell.json
  $ tar c . | celld run cell.yaml -i -q -- tar t`,
    )
    .action(keepExitCode(context, (spec, argv, options) => {
      return runCommand(context, spec, argv, options);
    }));
}

function addServe(program: Command, context: CliContext): void {
  program.command("serve")
    .summary("serve the API, and run cells for it")
    .description(
      "Serves the API, and runs the cells that are asked for there. Cells outlive the server: " +
        "the next one takes them over. With --take-over, or on SIGUSR2, the UDP load balancer's " +
        "sockets and flows go over too, and nothing that comes meanwhile is lost.",
    )
    .option("--listen <address>", "where the API listens: host:port", "127.0.0.1:8080")
    .option(
      "--socket <path>",
      "the API's Unix socket, for root (api.sock in the runtime directory)",
    )
    .option("--tls-cert <path>", "serve HTTPS with this certificate (PEM)")
    .option("--tls-key <path>", "its key (PEM)")
    .option("--cors-origin <origin...>", "let pages of this origin use the API")
    .option("--stop-cells", "end the cells with the server")
    .option("--take-over", "take the place of the server that serves here, where one does")
    .option("--udp <path>", "the UDP load balancer's listeners and clusters at the start")
    .addHelpText(
      "after",
      `
Examples:
  $ celld serve
  $ celld serve --listen [::]:8443 --tls-cert cert.pem --tls-key key.pem
  $ celld serve --listen 127.0.0.1:0 --json      the address is in the first line
  $ celld serve --take-over                      in place of the one that serves now
  $ celld serve --log nats://nats-1:4222,nats://nats-2:4222 --log-creds-file /etc/celld/nats.creds

celld config show names every setting of a log in JetStream: --log-…, --spool-….`,
    )
    .action(keepExitCode(context, (options) => serveCommand(context, options)));
}

function addFlows(program: Command, context: CliContext): void {
  const command = program.command("flows")
    .summary("show decisions about flows")
    .description("Shows the decisions of the log, with what each flow carried.")
    .option("--cell <id>", "only of this cell, spec or run")
    .option("--deny", "only what was refused")
    .option("--allow", "only what was allowed")
    .option("--since <place>", "after a sequence (42), a span (10m) or a time")
    .option("-f, --follow", "go on with new ones; begins at the end where --since is not given")
    .option("--counters", "the kernel's counters at the end of runs")
    .addOption(limitOption())
    .addHelpText(
      "after",
      `
Examples:
  $ celld flows --deny --since 10m
  $ celld flows -f --cell build-17
  $ celld flows --json | jq 'select(.decision == "deny") | .dstAddr'
  $ celld flows --counters --cell build-17`,
    )
    .action(keepExitCode(context, (options) => flowsCommand(context, options)));
  addServerOptions(command, "the local log");
}

function limitOption(): Option {
  return new Option("--limit <count>", "show the last so many; 0 shows all")
    .default(FLOWS_LIMIT_DEFAULT)
    .argParser((text) => {
      if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError("Give a count, or 0 for all.");
      return Number(text);
    });
}

function addEvents(program: Command, context: CliContext): void {
  const command = program.command("events")
    .summary("show the event log")
    .description("Shows the log as it is. With --json each line is {seq, event}.")
    .option("-f, --follow", "go on with new ones; begins at the end where --since is not given")
    .option("--since <place>", "after a sequence (42), a span (10m) or a time")
    .option("--type <type...>", "only of these types: lifecycle, started, flow.closed, …")
    .option("--cell <id>", "only about this cell, spec or run")
    .addHelpText(
      "after",
      `
Examples:
  $ celld events -f
  $ celld events --since 1200 --json
  $ celld events --type started destroyed --cell build-17`,
    )
    .action(keepExitCode(context, (options) => eventsCommand(context, options)));
  addServerOptions(command, "the local log");
}

function addPolicy(program: Command, context: CliContext): void {
  const policy = program.command("policy").summary("look at policies")
    .description("Looks at what a spec allows.");
  policy.command("show")
    .summary("print the ruleset of a spec as nft text")
    .description("Prints the ruleset that a spec becomes, as nft text. Changes nothing.")
    .addArgument(specArgument())
    .option("--host", "also what the host's own table gets for the cell")
    .addHelpText(
      "after",
      `
Examples:
  $ celld policy show cell.yaml
  $ celld policy show cell.yaml --host
  $ celld policy show cell.yaml | nft -c -f -      let nft check it`,
    )
    .action(keepExitCode(context, (spec, options) => policyShowCommand(context, spec, options)));
}

function addDoctor(program: Command, context: CliContext): void {
  program.command("doctor")
    .summary("say what this host can do")
    .description(
      "Tries what cells need, in namespaces that it makes and removes, and says what to run " +
        "where something is missing. Exit code 1 when cells cannot run.",
    )
    .action(keepExitCode(context, () => doctorCommand(context)));
}

function addConfig(program: Command, context: CliContext): void {
  const config = program.command("config").summary("look at the settings")
    .description("Looks at the settings: flags win over the environment, that over defaults.");
  config.command("show")
    .summary("print each setting and where it came from")
    .description("Prints each setting and where it came from.")
    .action(keepExitCode(context, () => configShowCommand(context)));
}

function addVersion(program: Command, context: CliContext): void {
  program.command("version")
    .summary("print the version")
    .description("Prints the version of celld and of what it runs on, and the server's if asked.")
    .option("--server [url]", "ask a server too (the one that other commands ask)")
    .option("--token <text>", TOKEN_OPTION)
    .option("--ca-cert <path>", CA_OPTION)
    .action(keepExitCode(context, (options) => versionCommand(context, options)));
}

function addCompletion(program: Command, context: CliContext): void {
  program.command("completion")
    .summary("print a completion script for a shell")
    .description("Prints a completion script for a shell.")
    .addArgument(new Argument("<shell>", "the shell").choices([...COMPLETION_SHELLS]))
    .addHelpText(
      "after",
      `
Examples:
  $ source <(celld completion bash)
  $ celld completion zsh > "\${fpath[1]}/_celld"
  $ celld completion fish > ~/.config/fish/completions/celld.fish`,
    )
    .action(keepExitCode(context, (shell: CompletionShell) => {
      context.io.writeOut(completionScript(shell, completionCommands(program)));
      return EXIT_OK;
    }));
}

function addExitCodes(program: Command, context: CliContext): void {
  program.command("exit-codes")
    .summary("print what the exit codes mean")
    .description("Prints what the exit codes mean.")
    .action(keepExitCode(context, () => {
      context.io.writeOut(renderExitCodes(context.outOptions));
      return EXIT_OK;
    }));
}
