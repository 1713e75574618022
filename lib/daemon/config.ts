/**
 * The settings of a celld process: flags win over the environment, that over the configuration
 * file, that over the defaults, and each value knows where it came from.
 *
 * Pure: environment and file are passed in. A bad value is a {@link SettingError} that names the flag
 * or variable; only the variables of the flow audit fall back silently, as the tools that share
 * them do (the origin then carries a note).
 *
 * @module
 */
import { type IpFamily, parseCidr } from "#lib/base/mod.ts";
import type { FlowBackend } from "#lib/flow/mod.ts";
import {
  LOG_SETTING_DEFINITIONS,
  type LogSettingName,
  type LogSettings,
  readLogSettings,
  SETTING_NONE,
  withoutCredentials,
} from "./config_log.ts";

/** The settings, ready to use. */
export interface Settings {
  /** Locks, leases and the files of running cells; on a file system that a reboot empties. */
  readonly runtimeDir: string;
  /** The event log; survives reboots. */
  readonly stateDir: string;
  /** The nfnetlink_log group of the flow listener, 0 to 65535; each cell has its own namespace. */
  readonly nflogGroup: number;
  /** Who tells of accepted flows: the packet log, or a program in the kernel where it can. */
  readonly flowBackend: FlowBackend;
  /** The prefix that cells get their IPv4 address pairs from, as a CIDR. */
  readonly ipv4Pool: string;
  /** The prefix that cells get their IPv6 address pairs from, as a CIDR. */
  readonly ipv6Pool: string;
  /** The cgroup that cells' cgroups are made in, relative to each hierarchy's root. */
  readonly cgroupParent: string;
  /** The socket that agents of the host beat to; absent: `beat.sock` in the runtime directory. */
  readonly beatSocket?: string;
  /** A file that says more of liveness; see `liveness_config.ts`. */
  readonly livenessFile?: string;
  /** A log in JetStream; absent: SQLite in the state directory. */
  readonly log?: LogSettings;
}

/** The name of a setting. */
export type SettingName = Exclude<keyof Settings, "log"> | LogSettingName;

/** Where a value came from. */
export interface SettingOrigin {
  /** Which layer gave it. */
  readonly source: "flag" | "environment" | "file" | "default";
  /** The flag, the variable or the file's path; absent for a default. */
  readonly from?: string;
  /** What was set and not used, and why. */
  readonly note?: string;
}

/** Settings with the origin of each. */
export interface ResolvedSettings {
  /** The values. */
  readonly settings: Settings;
  /** The values as they may be shown: without secrets. */
  readonly shown: Readonly<Record<SettingName, string | number>>;
  /** Where each came from. */
  readonly origins: Readonly<Record<SettingName, SettingOrigin>>;
}

/** A flag or a variable has a value that cannot be used. */
export class SettingError extends Error {
  /** For logs. */
  override name = "SettingError";
  /** Wrong use of the command line: see `lib/cli/exit_codes.ts`. */
  readonly exitCode = 2;
}

/** How one setting is named, read and explained. */
export interface SettingDefinition {
  /** The flag that sets it. */
  readonly flag: string;
  /** The environment variable that sets it. */
  readonly variable: string;
  /** The default, as text. */
  readonly fallback: string;
  /** What stands for the value in the help. */
  readonly placeholder: string;
  /** One phrase for the help. */
  readonly help: string;
  /** What is wanted, for the error; `undefined` when the text is good. */
  readonly refuse: (text: string) => string | undefined;
  /** A bad variable is ignored rather than refused. */
  readonly lenientVariable?: boolean;
  /** An older name of the variable, which wins over it where it is set. */
  readonly olderVariable?: string;
  /** A URL that may hold credentials, which are never shown. */
  readonly isSecretUrl?: boolean;
  /** Not in the help of every command. */
  readonly isRare?: boolean;
}

/** The host's beat socket is where it always is. */
const BEAT_SOCKET_AUTO = "auto";
/** Agents of the host have no socket. */
export const BEAT_SOCKET_OFF = "off";

/** The bound of a path that goes into socket and mount calls. */
const PATH_LENGTH_MAX = 200;

/** All settings. The defaults are documented in `docs/operations.md` through `celld config show`. */
export const SETTING_DEFINITIONS: Readonly<Record<SettingName, SettingDefinition>> = {
  runtimeDir: {
    flag: "--runtime-dir",
    variable: "CELLD_RUNTIME_DIR",
    fallback: "/run/celld",
    placeholder: "path",
    help: "locks, leases and files of running cells",
    refuse: refusePath,
  },
  stateDir: {
    flag: "--state-dir",
    variable: "CELLD_STATE_DIR",
    fallback: "/var/lib/celld",
    placeholder: "path",
    help: "the event log",
    refuse: refusePath,
  },
  nflogGroup: {
    flag: "--nflog-group",
    variable: "CELLOS_FIRECRACKER_PER_FLOW_NFLOG_GROUP",
    fallback: "100",
    placeholder: "number",
    help: "netlink log group of the flow listener",
    refuse: (text) =>
      /^\d{1,5}$/.test(text) && Number(text) <= 0xffff ? undefined : "a number from 0 to 65535",
    lenientVariable: true,
  },
  flowBackend: {
    flag: "--flow-backend",
    variable: "CELLOS_PER_FLOW_BACKEND",
    olderVariable: "CELLOS_FIRECRACKER_PER_FLOW_BACKEND",
    fallback: "nflog",
    placeholder: "name",
    help: "who tells of accepted flows: nflog, or ebpf where the kernel allows it",
    refuse: (text) => text === "nflog" || text === "ebpf" ? undefined : "nflog or ebpf",
    lenientVariable: true,
  },
  ipv4Pool: {
    flag: "--ipv4-pool",
    variable: "CELLD_IPV4_POOL",
    fallback: "10.213.0.0/16",
    placeholder: "cidr",
    help: "where cells get IPv4 addresses",
    refuse: (text) => refusePool(text, 4),
  },
  ipv6Pool: {
    flag: "--ipv6-pool",
    variable: "CELLD_IPV6_POOL",
    fallback: "fdce:11d0::/112",
    placeholder: "cidr",
    help: "where cells get IPv6 addresses",
    refuse: (text) => refusePool(text, 6),
  },
  cgroupParent: {
    flag: "--cgroup-parent",
    variable: "CELLD_CGROUP_PARENT",
    fallback: "celld",
    placeholder: "name",
    help: "the cgroup that cells' cgroups are made in",
    refuse: (text) =>
      /^[a-zA-Z0-9_][a-zA-Z0-9_.-]*(\/[a-zA-Z0-9_][a-zA-Z0-9_.-]*)*$/.test(text)
        ? undefined
        : "a relative cgroup path",
  },
  beatSocket: {
    flag: "--beat-socket",
    variable: "CELLD_BEAT_SOCKET",
    fallback: BEAT_SOCKET_AUTO,
    placeholder: "path",
    help: "where the host's agents beat: auto (beat.sock in the runtime directory), off, or a path",
    refuse: (text) =>
      text === BEAT_SOCKET_AUTO || text === BEAT_SOCKET_OFF ? undefined : refusePath(text),
  },
  livenessFile: {
    flag: "--liveness-file",
    variable: "CELLD_LIVENESS_FILE",
    fallback: SETTING_NONE,
    placeholder: "path",
    help: "thresholds, expected agents and recovery, in YAML",
    refuse: (text) => text === SETTING_NONE ? undefined : refusePath(text),
    isRare: true,
  },
  ...LOG_SETTING_DEFINITIONS,
};

/** The names of all settings, in the order in which they are shown. */
export const SETTING_NAMES = Object.keys(SETTING_DEFINITIONS) as readonly SettingName[];

function refusePath(text: string): string | undefined {
  if (!text.startsWith("/") || text.includes("\0")) return "an absolute path";
  if (text.split("/").includes("..")) return 'a path without ".."';
  return text.length <= PATH_LENGTH_MAX ? undefined : `at most ${PATH_LENGTH_MAX} characters`;
}

function refusePool(text: string, family: IpFamily): string | undefined {
  const wanted = `an IPv${family} prefix such as ${family === 4 ? "10.213.0.0/16" : "fd00::/112"}`;
  return text.includes("/") && parseCidr(text)?.family === family ? undefined : wanted;
}

/** Texts by setting: what the flags said. */
export type SettingTexts = Partial<Readonly<Record<SettingName, string>>>;

/** Resolves all settings. Throws {@link SettingError} on the first value that cannot be used. */
export function resolveSettings(
  options: {
    readonly flags: SettingTexts;
    readonly env: Readonly<Record<string, string | undefined>>;
    /** What the configuration file says, and where it is. */
    readonly file?: { readonly path: string; readonly texts: SettingTexts };
  },
): ResolvedSettings {
  const { flags, env, file } = options;
  const texts: Partial<Record<SettingName, string>> = {};
  const origins: Partial<Record<SettingName, SettingOrigin>> = {};
  for (const name of SETTING_NAMES) {
    const definition = SETTING_DEFINITIONS[name];
    const text = file?.texts[name];
    const named = text === undefined ? undefined : { text, name, path: file!.path };
    const resolved = resolveOne(definition, flags[name], env, named);
    texts[name] = resolved.text;
    origins[name] = resolved.origin;
  }
  const settings = settingsOf(texts as Record<SettingName, string>);
  return {
    settings,
    shown: shownTexts(texts as Record<SettingName, string>, settings),
    origins: origins as Record<SettingName, SettingOrigin>,
  };
}

function settingsOf(texts: Readonly<Record<SettingName, string>>): Settings {
  const { runtimeDir, stateDir, ipv4Pool, ipv6Pool, cgroupParent } = texts;
  const { beatSocket, livenessFile } = texts;
  const log = readLogSettings(texts, stateDir);
  return {
    runtimeDir,
    stateDir,
    nflogGroup: Number(texts.nflogGroup),
    flowBackend: texts.flowBackend === "ebpf" ? "ebpf" : "nflog",
    ipv4Pool,
    ipv6Pool,
    cgroupParent,
    ...(beatSocket === BEAT_SOCKET_AUTO ? {} : { beatSocket }),
    ...(livenessFile === SETTING_NONE ? {} : { livenessFile }),
    ...(log === undefined ? {} : { log }),
  };
}

function shownTexts(
  texts: Readonly<Record<SettingName, string>>,
  { nflogGroup, log }: Settings,
): Record<SettingName, string | number> {
  return {
    ...texts,
    nflogGroup,
    log: log?.shownUrl ?? texts.log,
    spoolBytes: Number(texts.spoolBytes),
  };
}

function resolveOne(
  definition: SettingDefinition,
  flag: string | undefined,
  env: Readonly<Record<string, string | undefined>>,
  file: { text: string; name: string; path: string } | undefined,
): { text: string; origin: SettingOrigin } {
  const { olderVariable } = definition;
  const isOlder = olderVariable !== undefined && env[olderVariable] !== undefined;
  const variable = isOlder ? olderVariable : definition.variable;
  if (flag !== undefined) {
    return { text: accept(definition, definition.flag, flag), origin: fromFlag(definition) };
  }
  // A variable that is set and empty is one that somebody cleared.
  const value = env[variable];
  if (value === undefined || value === "") return fromFile(definition, file);
  if (definition.lenientVariable === true && definition.refuse(value) !== undefined) {
    const note = `${variable}=${JSON.stringify(value)} is not ${definition.refuse(value)}`;
    const { text, origin } = fromFile(definition, file);
    return { text, origin: { ...origin, note } };
  }
  return {
    text: accept(definition, variable, value),
    origin: { source: "environment", from: variable },
  };
}

function fromFile(
  definition: SettingDefinition,
  file: { text: string; name: string; path: string } | undefined,
): { text: string; origin: SettingOrigin } {
  if (file === undefined) return { text: definition.fallback, origin: { source: "default" } };
  const text = accept(definition, `${file.name} in ${file.path}`, file.text);
  return { text, origin: { source: "file", from: file.path } };
}

function fromFlag(definition: SettingDefinition): SettingOrigin {
  return { source: "flag", from: definition.flag };
}

function accept(definition: SettingDefinition, from: string, text: string): string {
  const wanted = definition.refuse(text);
  if (wanted === undefined) return text;
  const shown = definition.isSecretUrl === true ? withoutCredentials(text) : text;
  throw new SettingError(`Cannot use ${from} ${JSON.stringify(shown)}: want ${wanted}`);
}

/** The event log's file under a state directory. */
export function logPath(stateDir: string): string {
  return `${stateDir}/events.db`;
}

/** The API's Unix socket under a runtime directory. */
export function apiSocketPath(runtimeDir: string): string {
  return `${runtimeDir}/api.sock`;
}
