/**
 * What the definitions of commands share: keeping the exit code, options that several have.
 *
 * @module
 */
import { type Command, InvalidArgumentError, Option } from "commander";
import type { CliContext } from "./context.ts";

/** An action that keeps its exit code; the command line gives its own arguments first. */
export function keepExitCode<A extends unknown[]>(
  context: CliContext,
  action: (...args: A) => number | Promise<number>,
): (...args: A) => Promise<void> {
  return async (...args) => {
    context.exitCode = await action(...args);
  };
}

/** What `--token` is for. */
export const TOKEN_OPTION = "the API's token (the local first one; CELLD_TOKEN)";
/** What `--ca-cert` is for. */
export const CA_OPTION = "whom to trust besides the usual, PEM (CELLD_CA_CERT)";

/** Adds the options that say which server is asked, and as whom. */
export function addServerOptions(command: Command, fallback: string): Command {
  return command
    .option("--server <url>", `http://…, https://… or unix:/… (${fallback}; CELLD_SERVER)`)
    .option("--token <text>", TOKEN_OPTION)
    .option("--ca-cert <path>", CA_OPTION);
}

/** An option that is a count from 0. */
export function countOption(flags: string, description: string): Option {
  return new Option(flags, description).argParser((text) => {
    if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError("Give a count.");
    return Number(text);
  });
}
