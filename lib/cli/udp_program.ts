/**
 * The commands about the UDP load balancer: every argument and option, with help and examples.
 *
 * @module
 */
import { Argument, type Command } from "commander";
import { addServerOptions, countOption, keepExitCode } from "./command_action.ts";
import {
  udpApplyCommand,
  udpDeleteCommand,
  udpDrainCommand,
  udpGetCommand,
  udpTopCommand,
} from "./commands/udp.ts";
import type { CliContext } from "./context.ts";

const LOCAL = "the local server";
const FLOWS_SHOWN_DEFAULT = 1000;

/** Adds `udp`. */
export function addUdpCommands(program: Command, context: CliContext): void {
  const udp = program.command("udp").summary("look after the UDP load balancer")
    .description("Looks after the UDP load balancer of a server.");
  addApply(udp, context);
  addGet(udp, context);
  addDelete(udp, context);
  addDrains(udp, context);
  addTop(udp, context);
}

function addApply(udp: Command, context: CliContext): void {
  const command = udp.command("apply")
    .summary("set listeners and clusters from a document")
    .description("Sets what the document names. Live flows are kept. See docs/protocol/udp.md.")
    .requiredOption("-f, --file <path>", "YAML or JSON; - reads stdin")
    .option("--prune", "remove what the document does not name")
    .option("--dry-run", "say what would change, and change nothing")
    .addHelpText(
      "after",
      `
Examples:
  $ celld udp apply -f udp.yaml --dry-run
  $ celld udp apply -f udp.yaml --prune`,
    )
    .action(keepExitCode(context, (options) => udpApplyCommand(context, options)));
  addServerOptions(command, LOCAL);
}

function addGet(udp: Command, context: CliContext): void {
  const command = udp.command("get")
    .summary("show listeners, clusters or live flows")
    .description("Shows listeners, clusters with their backends, or live flows.")
    .addArgument(new Argument("<what>", "what to show").choices(["listeners", "clusters", "flows"]))
    .argument("[name]", "only this one")
    .option("--listener <name>", "flows of this listener only")
    .option("--cluster <name>", "flows of this cluster only")
    .addOption(countOption("--limit <count>", "at most so many flows").default(FLOWS_SHOWN_DEFAULT))
    .addHelpText(
      "after",
      `
Examples:
  $ celld udp get clusters
  $ celld udp get flows --listener dns --json`,
    )
    .action(keepExitCode(context, (what, name, options) => {
      return udpGetCommand(context, what, name, options);
    }));
  addServerOptions(command, LOCAL);
}

function addDelete(udp: Command, context: CliContext): void {
  const command = udp.command("delete")
    .summary("remove a listener or a cluster")
    .description("Removes a listener, and ends its flows; or a cluster that no listener names.")
    .addArgument(new Argument("<kind>", "what it is").choices(["listener", "cluster"]))
    .argument("<name>", "its name")
    .action(keepExitCode(context, (kind, name, options) => {
      return udpDeleteCommand(context, kind, name, options);
    }));
  addServerOptions(command, LOCAL);
}

function addDrains(udp: Command, context: CliContext): void {
  const drain = udp.command("drain")
    .summary("let a listener or a backend take nothing new")
    .description("Lets a listener or a backend take no new flows; those that live go on.")
    .argument("<place>", "listener/NAME, or backend/CLUSTER/NAME")
    .option("--after <time>", "a listener's flows end then at the latest", "30s")
    .addHelpText(
      "after",
      `
Examples:
  $ celld udp drain listener/dns --after 10s
  $ celld udp drain backend/dns/10.0.0.2:53`,
    )
    .action(keepExitCode(context, (place, options) => {
      return udpDrainCommand(context, place, true, options);
    }));
  addServerOptions(drain, LOCAL);
  const undrain = udp.command("undrain")
    .summary("end a drain")
    .description("Lets a listener or a backend take new flows again.")
    .argument("<place>", "listener/NAME, or backend/CLUSTER/NAME")
    .action(keepExitCode(context, (place, options) => {
      return udpDrainCommand(context, place, false, options);
    }));
  addServerOptions(undrain, LOCAL);
}

function addTop(udp: Command, context: CliContext): void {
  const command = udp.command("top")
    .summary("show rates, live")
    .description("Shows flows and rates of each listener, and the backends, every second.")
    .option("--once", "once, after a second")
    .action(keepExitCode(context, (options) => udpTopCommand(context, options)));
  addServerOptions(command, LOCAL);
}
