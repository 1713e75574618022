/**
 * Opens the event log that the settings name: SQLite on this host, or a JetStream stream.
 *
 * @module
 */
import { type EventLog, openSqliteLog } from "#lib/eventlog/mod.ts";
import type {
  JetStreamCredentials,
  JetStreamEventLog,
  JetStreamLogOptions,
} from "#lib/eventlog/mod_shell.ts";
import { reasonOf, RunError } from "./cell_order.ts";
import { logPath, type Settings } from "./config.ts";
import type { LogSettings } from "./config_log.ts";

/** The largest file with a secret. */
const SECRET_BYTES_MAX = 16 * 1024;

/** What the settings call the log, for messages; without credentials. */
export function logName(settings: Settings): string {
  return settings.log?.shownUrl ?? logPath(settings.stateDir);
}

/** The log for one who appends and reads while the broker is there. Rejects with `RunError`. */
export async function openEventLog(settings: Settings): Promise<EventLog> {
  try {
    if (settings.log !== undefined) return await openBrokerLog(settings.log, {});
    makeStateDir(settings.stateDir);
    return await openSqliteLog(logPath(settings.stateDir));
  } catch (cause) {
    throw cannotOpen(settings, cause);
  }
}

/** The log for one who only reads. Rejects as the adapters do. */
export async function openLogReader(settings: Settings): Promise<EventLog> {
  if (settings.log !== undefined) return await openBrokerLog(settings.log, {});
  return await openSqliteLog(logPath(settings.stateDir), { mode: "read" });
}

/** The log in JetStream. Rejects with `RunError` where a file of ours cannot be read. */
export async function openBrokerLog(
  settings: LogSettings,
  options: JetStreamLogOptions,
): Promise<JetStreamEventLog> {
  const { openJetStreamLog } = await import("#lib/eventlog/mod_shell.ts");
  // Once here, so that a file that is not there is told at once; then for each connection.
  credentialsOf(settings);
  return await openJetStreamLog(settings.url, {
    ...options,
    stream: settings.stream,
    ...(settings.replicas === undefined ? {} : { replicas: settings.replicas }),
    credentials: () => credentialsOf(settings),
  });
}

/** The error of a log that cannot be opened. */
export function cannotOpen(settings: Settings, cause: unknown): RunError {
  const name = JSON.stringify(logName(settings));
  return new RunError(`Cannot open the event log ${name}: ${reasonOf(cause)}`, { cause });
}

function makeStateDir(stateDir: string): void {
  Deno.mkdirSync(stateDir, { recursive: true, mode: 0o700 });
}

/** Who we are to the broker, by what the files hold now. */
function credentialsOf(settings: LogSettings): JetStreamCredentials {
  const { user, passwordFile, tokenFile, nkeyFile, credsFile, caFile, certFile, keyFile } =
    settings;
  if (credsFile !== undefined) readSecret(credsFile);
  const isTls = [caFile, certFile, keyFile].some((path) => path !== undefined);
  return {
    ...(user === undefined ? {} : { user }),
    ...(passwordFile === undefined ? {} : { password: readSecret(passwordFile) }),
    ...(tokenFile === undefined ? {} : { token: readSecret(tokenFile) }),
    ...(nkeyFile === undefined ? {} : { nkeySeed: readSecret(nkeyFile) }),
    ...(credsFile === undefined ? {} : { credsFile }),
    ...(isTls
      ? {
        tls: {
          ...(caFile === undefined ? {} : { caFile }),
          ...(certFile === undefined ? {} : { certFile }),
          ...(keyFile === undefined ? {} : { keyFile }),
        },
      }
      : {}),
  };
}

/** A secret without the line's end that editors leave. */
function readSecret(path: string): string {
  try {
    const { size } = Deno.statSync(path);
    if (size > SECRET_BYTES_MAX) throw new RangeError(`it has ${size} bytes`);
    return Deno.readTextFileSync(path).replace(/\r?\n$/, "");
  } catch (cause) {
    throw new RunError(`Cannot read ${JSON.stringify(path)}: ${reasonOf(cause)}`, { cause });
  }
}
