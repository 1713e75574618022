/**
 * Completion scripts for bash, zsh and fish, written from the commands themselves, so that
 * they know every command and option that there is. They call nothing when they run.
 *
 * @module
 */

/** A command as completion sees it. */
export interface CompletionCommand {
  /** Words after `celld`, such as `["policy", "show"]`; none for `celld` itself. */
  readonly path: readonly string[];
  readonly summary: string;
  readonly options: readonly CompletionOption[];
  /** Words that may follow: sub-commands, or choices of the first argument. */
  readonly words: readonly CompletionWord[];
  /** Whether its argument is a file. */
  readonly takesFile: boolean;
}

/** An option as completion sees it. */
export interface CompletionOption {
  readonly long: string;
  readonly short?: string;
  readonly summary: string;
  readonly takesValue: boolean;
}

/** A word with what it means. */
export interface CompletionWord {
  readonly word: string;
  readonly summary: string;
}

/** A shell that there is a script for. */
export type CompletionShell = "bash" | "zsh" | "fish";

/** The shells, as the command line names them. */
export const COMPLETION_SHELLS: readonly CompletionShell[] = ["bash", "zsh", "fish"];

/** The script of a shell. */
export function completionScript(
  shell: CompletionShell,
  commands: readonly CompletionCommand[],
): string {
  switch (shell) {
    case "bash":
      return bashScript(commands);
    case "zsh":
      return zshScript(commands);
    case "fish":
      return fishScript(commands);
  }
}

function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

function flagsOf(command: CompletionCommand): string[] {
  return command.options.flatMap(({ long, short }) => short === undefined ? [long] : [short, long]);
}

/** Words of the line that say which command it is; what follows `--` is the workload's. */
function pathLoop(index: string, words: string, paths: string): string[] {
  return [
    `  local path="" word i`,
    `  for ((i = ${index}; i < ${words}; i++)); do`,
    `    word="${paths}"`,
    `    [[ "$word" == "--" ]] && return`,
    `    [[ "$word" == -* ]] && continue`,
    `    case "$path $word" in`,
  ];
}

function pathCases(commands: readonly CompletionCommand[]): string[] {
  return commands.filter(({ path }) => path.length > 0).map(({ path }) => {
    const words = path.join(" ");
    const before = path.slice(0, -1).map((word) => ` ${word}`).join("");
    return `      ${quote(`${before} ${path[path.length - 1]}`)}) path=${quote(` ${words}`)} ;;`;
  });
}

function bashScript(commands: readonly CompletionCommand[]): string {
  const cases = commands.map((command) => {
    const key = command.path.map((word) => ` ${word}`).join("");
    const words = [...command.words.map(({ word }) => word), ...flagsOf(command)].join(" ");
    return `    ${quote(key)}) words=${quote(words)}; files=${command.takesFile ? "1" : ""} ;;`;
  });
  return [
    "# bash completion of celld; use: source <(celld completion bash)",
    "_celld() {",
    '  local current="${COMP_WORDS[COMP_CWORD]}" words="" files=""',
    ...pathLoop("1", "COMP_CWORD", "${COMP_WORDS[i]}"),
    ...pathCases(commands),
    "    esac",
    "  done",
    '  case "$path" in',
    ...cases,
    "  esac",
    '  COMPREPLY=($(compgen -W "$words" -- "$current"))',
    '  [[ -n "$files" && "$current" != -* ]] && COMPREPLY+=($(compgen -f -- "$current"))',
    "}",
    "complete -o default -F _celld celld",
    "",
  ].join("\n");
}

function zshScript(commands: readonly CompletionCommand[]): string {
  const describe = (word: string, summary: string) =>
    quote(`${word.replaceAll(":", "\\:")}:${summary.replaceAll(":", "\\:")}`);
  const cases = commands.map((command) => {
    const key = command.path.map((word) => ` ${word}`).join("");
    const entries = [
      ...command.words.map(({ word, summary }) => describe(word, summary)),
      ...command.options.map(({ long, summary }) => describe(long, summary)),
    ];
    return `    ${quote(key)}) entries=(${entries.join(" ")}); files=${
      command.takesFile ? "1" : ""
    } ;;`;
  });
  return [
    "#compdef celld",
    '# zsh completion of celld; use: celld completion zsh > "${fpath[1]}/_celld"',
    "_celld() {",
    "  local -a entries",
    '  local files=""',
    ...pathLoop("2", "CURRENT", "${words[i]}"),
    ...pathCases(commands),
    "    esac",
    "  done",
    '  case "$path" in',
    ...cases,
    "  esac",
    "  _describe celld entries",
    '  [[ -n "$files" ]] && _files',
    "}",
    'if [[ "$funcstack[1]" == "_celld" ]]; then _celld "$@"; else compdef _celld celld; fi',
    "",
  ].join("\n");
}

function fishScript(commands: readonly CompletionCommand[]): string {
  const lines = commands.flatMap((command) => {
    const condition = fishCondition(command, commands);
    const base = `complete -c celld -n ${quote(condition)}`;
    return [
      ...command.words.map(({ word, summary }) =>
        `${base} -f -a ${quote(word)} -d ${quote(summary)}`
      ),
      ...command.options.map(({ long, short, summary, takesValue }) => {
        const letter = short === undefined ? "" : ` -s ${short.slice(1)}`;
        return `${base}${letter} -l ${long.slice(2)}${takesValue ? " -r" : ""} -d ${
          quote(summary)
        }`;
      }),
      ...(command.takesFile ? [`${base} -F`] : []),
    ];
  });
  return [
    "# fish completion of celld; use: celld completion fish > ~/.config/fish/completions/celld.fish",
    "complete -c celld -f",
    ...lines,
    "",
  ].join("\n");
}

function fishCondition(
  command: CompletionCommand,
  commands: readonly CompletionCommand[],
): string {
  const seen = command.path.map((word) => `__fish_seen_subcommand_from ${word}`);
  const depth = command.path.length;
  const next = commands
    .filter(({ path }) =>
      path.length === depth + 1 && command.path.every((word, index) => word === path[index])
    )
    .map(({ path }) => path[depth]);
  if (depth === 0) return "__fish_use_subcommand";
  const notYet = next.length === 0 ? [] : [`not __fish_seen_subcommand_from ${next.join(" ")}`];
  return [...seen, ...notYet].join("; and ");
}
