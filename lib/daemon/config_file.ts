/**
 * The configuration file, `celld.yaml`: settings by their names, one a line.
 *
 * ```yaml
 * log: nats://nats-1:4222,nats://nats-2:4222
 * logCredsFile: /etc/celld/celld.creds
 * ```
 *
 * It is wholly read or refused: a name that is none, or a value that is no scalar, is an error with
 * the file's path. Pure.
 *
 * @module
 */
import { SETTING_NAMES, SettingError, type SettingName, type SettingTexts } from "./config.ts";

/** Where the file is looked for where nobody says it. */
export const CONFIG_PATH_DEFAULT = "/etc/celld/celld.yaml";
/** The variable that names another one. */
export const CONFIG_VARIABLE = "CELLD_CONFIG";

/** Reads the text of a configuration file. Rejects with {@link SettingError}. */
export async function parseConfigFile(text: string, path: string): Promise<SettingTexts> {
  // Most commands run without a file: the parser's time to load is theirs.
  const { parseDocument } = await import("yaml");
  const refuse = (why: string) => new SettingError(`Cannot use ${JSON.stringify(path)}: ${why}`);
  const document = parseDocument(text, { uniqueKeys: true });
  // The parser quotes the line that it does not understand, which may hold a secret.
  if (document.errors.length > 0) {
    const [{ code, linePos }] = document.errors;
    throw refuse(`not YAML in line ${linePos?.[0].line ?? "?"} (${code})`);
  }
  const value: unknown = document.toJS({ maxAliasCount: 0 });
  if (value === null || value === undefined) return {};
  if (typeof value !== "object" || Array.isArray(value)) {
    throw refuse("want a mapping of settings, such as log: sqlite");
  }
  const texts: Partial<Record<SettingName, string>> = {};
  for (const [name, setting] of Object.entries(value)) {
    if (!isSettingName(name)) {
      throw refuse(`${JSON.stringify(name)} is no setting; see celld config show`);
    }
    if (typeof setting !== "string" && typeof setting !== "number") {
      throw refuse(`${name}: want a text or a number`);
    }
    texts[name] = String(setting);
  }
  return texts;
}

function isSettingName(name: string): name is SettingName {
  return (SETTING_NAMES as readonly string[]).includes(name);
}
