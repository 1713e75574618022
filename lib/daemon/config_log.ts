/**
 * The settings that say where the event log is: SQLite on this host, or a JetStream stream.
 *
 * Secrets are never values of a flag: they stand in files, or in the URL where that comes from the
 * environment or the configuration file. What is shown of a URL has no credentials in it. Pure.
 *
 * @module
 */
import type { SettingDefinition } from "./config.ts";

/** A log in JetStream. */
export interface LogSettings {
  /** `nats://host:port` or `tls://host:port`, several separated by commas; may hold credentials. */
  readonly url: string;
  /** The same without credentials. */
  readonly shownUrl: string;
  /** The stream's name. */
  readonly stream: string;
  /** Copies of a stream that is made; absent: 3 in a cluster, else 1. */
  readonly replicas?: number;
  /** The user, whose password is in `passwordFile`. */
  readonly user?: string;
  /** File with the password. */
  readonly passwordFile?: string;
  /** File with a token. */
  readonly tokenFile?: string;
  /** File with the seed of an nkey. */
  readonly nkeyFile?: string;
  /** File with a user's JWT and seed. */
  readonly credsFile?: string;
  /** Authorities to trust, PEM. */
  readonly caFile?: string;
  /** Our certificate, PEM. */
  readonly certFile?: string;
  /** Its key, PEM. */
  readonly keyFile?: string;
  /** Directory of the spool. */
  readonly spoolDir: string;
  /** Bytes of a new spool. */
  readonly spoolBytes: number;
}

/** The log on this host. */
export const LOG_SQLITE = "sqlite";
/** What stands for a setting that is not given. */
export const SETTING_NONE = "none";
/** What stands for the state directory. */
const SPOOL_IN_STATE = "state-dir";
/** The size of replicas when the broker decides. */
const REPLICAS_AUTO = "auto";
const SPOOL_BYTES_MIN = 64 * 1024;
const SPOOL_BYTES_MAX = 64 * 1024 ** 3;
/** A ring consists of pieces of this size. */
const SPOOL_ALIGN = 4096;

const SERVER =
  /^(?:nats|tls):\/\/(?:[^@/,\s]*@)?(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?\/?$/;

/** The name of one of these settings. */
export type LogSettingName =
  | "log"
  | "logStream"
  | "logReplicas"
  | "logUser"
  | "logPasswordFile"
  | "logTokenFile"
  | "logNkeyFile"
  | "logCredsFile"
  | "logCaFile"
  | "logCertFile"
  | "logKeyFile"
  | "spoolDir"
  | "spoolBytes";

/** The definitions, in the order in which they are shown. */
export const LOG_SETTING_DEFINITIONS: Readonly<Record<LogSettingName, SettingDefinition>> = {
  log: {
    flag: "--log",
    variable: "CELLD_LOG",
    fallback: LOG_SQLITE,
    placeholder: "url",
    help: "the event log: sqlite, or nats://host:4222 (tls://…), several by comma",
    refuse: (text) =>
      text === LOG_SQLITE || text.split(",").every((part) => SERVER.test(part.trim()))
        ? undefined
        : "sqlite, or nats://host:port or tls://host:port, several separated by commas",
    isSecretUrl: true,
  },
  logStream: {
    flag: "--log-stream",
    variable: "CELLD_LOG_STREAM",
    fallback: "CELLOS_EVENTS",
    placeholder: "name",
    help: "the stream in JetStream",
    refuse: (text) => /^[A-Za-z0-9_-]{1,64}$/.test(text) ? undefined : "letters, digits, - and _",
    isRare: true,
  },
  logReplicas: {
    flag: "--log-replicas",
    variable: "CELLD_LOG_REPLICAS",
    fallback: REPLICAS_AUTO,
    placeholder: "count",
    help: "copies of a stream that celld makes: auto (3 in a cluster), or 1 to 5",
    refuse: (text) => text === REPLICAS_AUTO || /^[1-5]$/.test(text) ? undefined : "auto or 1 to 5",
    isRare: true,
  },
  logUser: {
    flag: "--log-user",
    variable: "CELLD_LOG_USER",
    fallback: SETTING_NONE,
    placeholder: "name",
    help: "the user at the broker, with --log-password-file",
    refuse: (text) => text !== "" && text.length <= 200 ? undefined : "a name",
    isRare: true,
  },
  logPasswordFile: fileSetting("password", "file with the user's password"),
  logTokenFile: fileSetting("token", "file with a token for the broker"),
  logNkeyFile: fileSetting("nkey", "file with the seed of an nkey"),
  logCredsFile: fileSetting("creds", "file with a user's JWT and seed, as nsc writes it"),
  logCaFile: fileSetting("ca", "authorities of the broker's certificate (PEM)"),
  logCertFile: fileSetting("cert", "our certificate for the broker (PEM)"),
  logKeyFile: fileSetting("key", "its key (PEM)"),
  spoolDir: {
    flag: "--spool-dir",
    variable: "CELLD_SPOOL_DIR",
    fallback: SPOOL_IN_STATE,
    placeholder: "path",
    help: "where facts wait while the broker is away",
    refuse: (text) => text === SPOOL_IN_STATE ? undefined : refuseFile(text),
    isRare: true,
  },
  spoolBytes: {
    flag: "--spool-bytes",
    variable: "CELLD_SPOOL_BYTES",
    fallback: String(64 * 1024 * 1024),
    placeholder: "count",
    help: "size of a new spool in bytes, a multiple of 4096",
    refuse: refuseSpoolBytes,
    isRare: true,
  },
};

function fileSetting(name: string, help: string): SettingDefinition {
  return {
    flag: `--log-${name}-file`,
    variable: `CELLD_LOG_${name.toUpperCase()}_FILE`,
    fallback: SETTING_NONE,
    placeholder: "path",
    help,
    refuse: (text) => text === SETTING_NONE ? undefined : refuseFile(text),
    isRare: true,
  };
}

function refuseFile(text: string): string | undefined {
  return text.startsWith("/") && !text.includes("\0") && text.length <= 4000
    ? undefined
    : "an absolute path";
}

function refuseSpoolBytes(text: string): string | undefined {
  const bytes = Number(text);
  const isSize = /^\d{1,12}$/.test(text) && bytes % SPOOL_ALIGN === 0 &&
    bytes >= SPOOL_BYTES_MIN && bytes <= SPOOL_BYTES_MAX;
  return isSize
    ? undefined
    : `a multiple of ${SPOOL_ALIGN} from ${SPOOL_BYTES_MIN} to ${SPOOL_BYTES_MAX}`;
}

/** The settings of the log; `undefined` where it is SQLite on this host. */
export function readLogSettings(
  texts: Readonly<Record<LogSettingName, string>>,
  stateDir: string,
): LogSettings | undefined {
  if (texts.log === LOG_SQLITE) return undefined;
  const given = (name: string, text: string) => text === SETTING_NONE ? {} : { [name]: text };
  return {
    url: texts.log,
    shownUrl: withoutCredentials(texts.log),
    stream: texts.logStream,
    ...(texts.logReplicas === REPLICAS_AUTO ? {} : { replicas: Number(texts.logReplicas) }),
    ...given("user", texts.logUser),
    ...given("passwordFile", texts.logPasswordFile),
    ...given("tokenFile", texts.logTokenFile),
    ...given("nkeyFile", texts.logNkeyFile),
    ...given("credsFile", texts.logCredsFile),
    ...given("caFile", texts.logCaFile),
    ...given("certFile", texts.logCertFile),
    ...given("keyFile", texts.logKeyFile),
    spoolDir: texts.spoolDir === SPOOL_IN_STATE ? stateDir : texts.spoolDir,
    spoolBytes: Number(texts.spoolBytes),
  };
}

/** The text of a URL without its credentials. */
export function withoutCredentials(url: string): string {
  // Up to the last `@` of each server: what was meant as a password may hold anything.
  return url.split(",").map((part) => part.replace(/\/\/.*@/, "//…@")).join(",");
}
