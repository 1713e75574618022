/**
 * The flags of `celld watch`: those of the reference's stand-alone observer, with its defaults,
 * its bounds and its refusals, so that a unit file or a script changes one word and goes on.
 *
 * Long flags, each value a word of its own (`--flag value`), an unknown flag is an error, the last
 * value wins; `--recovery-env` adds up. Pure: a list of words in, settings or an error out.
 *
 * @module
 */
import { didYouMean } from "#lib/base/mod.ts";
import {
  BOUNDS,
  checkTogether,
  REMOVED_FLAGS,
  SWITCHES,
  TEXTS,
  WatchFlagError,
  type WatchSettings,
} from "./watch_settings.ts";

/** The words as settings. Throws a {@link WatchFlagError}. */
export function parseWatchFlags(words: readonly string[]): WatchSettings {
  const given = new Map<string, string>();
  const environment: string[] = [];
  for (let at = 0; at < words.length; at++) {
    const flag = words[at];
    const removed = REMOVED_FLAGS[flag];
    if (removed !== undefined) throw new WatchFlagError("RemovedFlag", flag, removed);
    if (Object.hasOwn(SWITCHES, flag)) {
      given.set(flag, "true");
      continue;
    }
    if (!Object.hasOwn(BOUNDS, flag) && !Object.hasOwn(TEXTS, flag)) throw unknownFlag(flag);
    const value = words[++at];
    if (value === undefined) throw new WatchFlagError("MissingValue", flag, "a value must follow");
    if (flag === "--recovery-env") environment.push(checkVariable(value));
    else given.set(flag, value);
  }
  return checkTogether(readSettings(given, environment), given);
}

function unknownFlag(flag: string): WatchFlagError {
  const known = [...Object.keys(BOUNDS), ...Object.keys(TEXTS), ...Object.keys(SWITCHES)];
  const name = flag.split("=")[0];
  if (name !== flag && known.includes(name)) {
    return new WatchFlagError("UnknownFlag", flag, `write ${name} and its value as two words`);
  }
  const near = didYouMean(name, known);
  return new WatchFlagError(
    "UnknownFlag",
    flag,
    near === undefined ? "there is no such flag" : `there is no such flag; ${near} is one`,
  );
}

function checkVariable(text: string): string {
  if (!/^[^=\0]+=[^\0]*$/.test(text)) {
    throw new WatchFlagError("BadValue", "--recovery-env", `${JSON.stringify(text)} is no K=V`);
  }
  return text;
}

function readSettings(given: ReadonlyMap<string, string>, environment: string[]): WatchSettings {
  const settings: Record<string, unknown> = { recoveryEnv: environment };
  for (const [flag, bound] of Object.entries(BOUNDS)) {
    const text = given.get(flag);
    const value = text === undefined ? bound.fallback : readInteger(flag, text);
    if (value !== undefined) settings[bound.name] = value;
  }
  for (const [flag, { name, fallback, read }] of Object.entries(TEXTS)) {
    const text = given.get(flag) ?? fallback;
    if (text !== undefined) settings[name] = read === undefined ? text : read(flag, text);
  }
  for (const [flag, name] of Object.entries(SWITCHES)) settings[name] = given.has(flag);
  // Every name of the tables is a member of the type: `watch_flags_test.ts` holds them together.
  return settings as unknown as WatchSettings;
}

function readInteger(flag: string, text: string): number {
  const { least, most } = BOUNDS[flag];
  const value = Number(text);
  if (!/^\d{1,16}$/.test(text) || !Number.isSafeInteger(value)) {
    throw new WatchFlagError("BadInteger", flag, `${JSON.stringify(text)} is no whole number`);
  }
  if (value < least) throw new WatchFlagError("TooLow", flag, `${value} is below ${least}`);
  if (value > most) throw new WatchFlagError("TooLarge", flag, `${value} is above ${most}`);
  return value;
}
