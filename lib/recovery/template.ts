/**
 * The command of a recovery, and the pid put into it.
 *
 * `{pid}` is replaced in arguments only, each time that it stands there, never in the program's own
 * name; no shell is involved, so that nothing in an argument has a meaning.
 *
 * @module
 */
import { encodeUtf8 } from "#lib/base/mod.ts";

/** Arguments of a command, at most. */
export const ARGUMENTS_MAX = 256;

/** A program and its arguments. */
export interface RecoveryCommand {
  /** An absolute path, or a name that is looked for in `PATH`. */
  readonly program: string;
  /** May hold `{pid}`. */
  readonly args: readonly string[];
}

/** A command cannot be used. */
export class RecoveryCommandError extends Error {
  /** The class's name. */
  override name = "RecoveryCommandError";

  /** Says why. */
  constructor(reason: string) {
    super(`Cannot use a recovery command: ${reason}`);
  }
}

/** Splits a text at white space, as the reference does: no quotes, no escapes. */
export function parseCommandText(text: string): RecoveryCommand {
  return makeCommand(text.trim().split(/\s+/).filter((word) => word !== ""));
}

/** Takes a list, the program first. Throws {@link RecoveryCommandError}. */
export function makeCommand(argv: readonly string[]): RecoveryCommand {
  const [program, ...args] = argv;
  if (program === undefined || program === "") throw new RecoveryCommandError("it is empty");
  if (argv.length > ARGUMENTS_MAX) {
    throw new RecoveryCommandError(`it has ${argv.length} words; want at most ${ARGUMENTS_MAX}`);
  }
  if (argv.some((word) => word.includes("\0"))) throw new RecoveryCommandError("it holds a NUL");
  return { program, args };
}

/** The arguments for a pid, the program first. */
export function substitutePid(command: RecoveryCommand, pid: number): string[] {
  return [command.program, ...command.args.map((arg) => arg.replaceAll("{pid}", `${pid}`))];
}

/** Bytes of the words and the spaces between them, as the audit's `template_len` counts. */
export function templateLength(argv: readonly string[]): number {
  return argv.reduce((sum, word) => sum + encodeUtf8(word).length, 0) + argv.length - 1;
}
