/**
 * What completion needs to know, read off the program.
 *
 * @module
 */
import type { Command, Option } from "commander";
import type { CompletionCommand, CompletionOption, CompletionWord } from "./completion.ts";

/** Options of commands that read their words themselves. */
const OWN_OPTIONS = new WeakMap<Command, readonly CompletionOption[]>();

/** Says which options a command has that the program's parser does not know. */
export function completeAlso(command: Command, options: readonly CompletionOption[]): void {
  OWN_OPTIONS.set(command, options);
}

/** The program and all its commands, the program first. */
export function completionCommands(program: Command): CompletionCommand[] {
  const globals = program.options.map(optionOf);
  return commandsBelow(program, [], globals);
}

function commandsBelow(
  command: Command,
  path: readonly string[],
  globals: readonly CompletionOption[],
): CompletionCommand[] {
  const own = path.length === 0 ? [] : command.options.map(optionOf);
  const words: CompletionWord[] = [
    ...command.commands.map((it) => ({ word: it.name(), summary: it.summary() })),
    ...(command.registeredArguments[0]?.argChoices ?? []).map((word) => ({ word, summary: "" })),
  ];
  const entry: CompletionCommand = {
    path,
    summary: command.summary(),
    options: [...own, ...OWN_OPTIONS.get(command) ?? [], ...globals],
    words,
    takesFile: command.registeredArguments[0]?.name() === "spec",
  };
  const below = command.commands.flatMap((it) => commandsBelow(it, [...path, it.name()], globals));
  return [entry, ...below];
}

function optionOf(option: Option): CompletionOption {
  return {
    long: option.long ?? "",
    ...(option.short === undefined ? {} : { short: option.short }),
    summary: option.description,
    takesValue: option.required || option.optional,
  };
}
