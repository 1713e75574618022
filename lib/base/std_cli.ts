/**
 * The part of `@std/cli` that this project uses, over Node's own argument parser: no download,
 * and the same names, so that the published package can take its place.
 *
 * @module
 */
import { parseArgs as parseNodeArgs } from "node:util";

/** Which flags a program takes. */
export interface ParseOptions {
  /** Flags without a value. They start as `false`. */
  readonly boolean?: readonly string[];
  /** Flags with a value. */
  readonly string?: readonly string[];
  /** Flags with a value that may be repeated; their value is an array. */
  readonly collect?: readonly string[];
  /** Short names: `{ n: "count" }`. */
  readonly alias?: Readonly<Record<string, string>>;
  /** Values of flags that are not given. */
  readonly default?: Readonly<Record<string, string | boolean>>;
}

/** What was given: the flags by name, and the rest under `_`. */
export interface Args {
  /** Arguments that are not flags. */
  readonly _: readonly string[];
  /** Flags by their long name. */
  readonly [flag: string]: string | boolean | readonly string[] | undefined;
}

/** Parses arguments. Throws `TypeError` on a flag that was not declared or lacks its value. */
export function parseArgs(args: readonly string[], options: ParseOptions = {}): Args {
  const short = new Map(Object.entries(options.alias ?? {}).map(([from, to]) => [to, from]));
  const declared: Record<string, { type: "boolean" | "string"; multiple?: true; short?: string }> =
    {};
  const declare = (name: string, type: "boolean" | "string", multiple: boolean): void => {
    const letter = short.get(name);
    declared[name] = {
      type,
      ...(multiple ? { multiple } : {}),
      ...(letter === undefined ? {} : { short: letter }),
    };
  };
  for (const name of options.boolean ?? []) declare(name, "boolean", false);
  for (const name of options.string ?? []) declare(name, "string", false);
  for (const name of options.collect ?? []) declare(name, "string", true);
  const parsed = parseNodeArgs({ args: [...args], options: declared, allowPositionals: true });
  const flags: Record<string, string | boolean | string[]> = {};
  for (const name of options.boolean ?? []) flags[name] = false;
  for (const name of options.collect ?? []) flags[name] = [];
  return { ...flags, ...options.default, ...parsed.values, _: parsed.positionals } as Args;
}
