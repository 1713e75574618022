/**
 * `celld serve`: the server, until a signal ends it.
 *
 * A line on stderr says where it listens once it takes commands; with `--json` the lines are JSON
 * on stdout. SIGINT and SIGTERM end it gracefully: requests finish, followers are told, cells go
 * on. SIGHUP does the same. SIGUSR2 is an upgrade: it starts again in its own place, or makes room
 * for the `celld serve --take-over` that sent it.
 *
 * @module
 */
import { apiSocketPath, type ServeOptions } from "#lib/daemon/mod.ts";
import type { CliContext } from "../context.ts";
import { EXIT_OK, UsageError } from "../exit_codes.ts";

/** What the command line gave. */
export interface ServeFlags {
  /** `host:port`. */
  readonly listen: string;
  readonly socket?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly corsOrigin?: readonly string[];
  readonly stopCells?: boolean;
  readonly takeOver?: boolean;
  /** Path of the UDP load balancer's document. */
  readonly udp?: string;
}

/** Runs the command and returns the exit code. */
export async function serveCommand(context: CliContext, flags: ServeFlags): Promise<number> {
  const { io, settings, isJson } = context;
  const listen = parseListen(flags.listen);
  const tls = await readTls(context, flags);
  const say = (fields: Readonly<Record<string, unknown>>, line: string) => {
    if (isJson) context.writeJson(fields);
    else io.writeErr(`celld: ${line}\n`);
  };
  const stopping = new AbortController();
  const stopListening = io.onSignal((signal) => {
    if (!stopping.signal.aborted) say({ stopping: signal }, `${signal}: stopping`);
    stopping.abort();
  });
  const upgrading = new AbortController();
  const stopUpgrading = io.onSignal(() => upgrading.abort(), ["SIGUSR2"]);
  try {
    await context.ports.serve({
      settings,
      listen,
      socketPath: flags.socket ?? apiSocketPath(settings.runtimeDir),
      ...(tls === undefined ? {} : { tls }),
      ...(flags.corsOrigin === undefined ? {} : { corsOrigins: flags.corsOrigin }),
      ...(flags.udp === undefined ? {} : { udpText: await io.readFile(flags.udp) }),
      isEndingCells: flags.stopCells === true,
      onReady: ({ url, socketPath }) =>
        say({ ready: true, url, socketPath }, `ready on ${url} and ${socketPath}`),
      onWarning: (text) => say({ warning: text }, text),
      signal: stopping.signal,
      isTakingOver: flags.takeOver === true,
      upgradeSignal: upgrading.signal,
    });
  } finally {
    stopListening();
    stopUpgrading();
  }
  return EXIT_OK;
}

/** Parses `host:port`, `[address]:port`, `:port`. Throws a `UsageError`. */
export function parseListen(text: string): ServeOptions["listen"] {
  const found = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(text);
  const port = Number(found?.[3]);
  if (found === null || port > 0xffff) {
    throw new UsageError(
      `Cannot use --listen ${JSON.stringify(text)}`,
      "give host:port, such as 127.0.0.1:8080 or [::1]:8080",
    );
  }
  return { hostname: found[1] ?? (found[2] || "127.0.0.1"), port };
}

async function readTls(
  { io }: CliContext,
  { tlsCert, tlsKey }: ServeFlags,
): Promise<ServeOptions["tls"]> {
  if (tlsCert === undefined && tlsKey === undefined) return undefined;
  if (tlsCert === undefined || tlsKey === undefined) {
    throw new UsageError("Cannot serve HTTPS with one file", "give both --tls-cert and --tls-key");
  }
  return { cert: await io.readFile(tlsCert), key: await io.readFile(tlsKey) };
}
