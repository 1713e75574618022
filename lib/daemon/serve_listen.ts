/**
 * Where a server listens, and what it answers there while it waits for its log.
 *
 * @module
 */
import { type HttpServer, startHttpServer, WaitingApp } from "#lib/http/mod.ts";
import { reasonOf, RunError } from "./cell_order.ts";
import type { ServeOptions } from "./ports.ts";
import type { ServeLog } from "./serve_log.ts";

/** How long a log that is reached at once takes at most, in milliseconds. */
const QUICK_MS = 1000;

/** Listens. Rejects with {@link RunError}. */
export async function listen(
  { listen, socketPath, tls }: ServeOptions,
  app: Parameters<typeof startHttpServer>[0]["app"],
): Promise<HttpServer> {
  try {
    return await startHttpServer({
      app,
      hostname: listen.hostname,
      port: listen.port,
      ...(socketPath === undefined ? {} : { unixSocketPath: socketPath }),
      ...(tls === undefined ? {} : { tls }),
    });
  } catch (cause) {
    const where = `${listen.hostname}:${listen.port}`;
    throw new RunError(`Cannot listen on ${where}: ${reasonOf(cause)}`, { cause });
  }
}

/**
 * Waits for a log that is away, and says so on the API's addresses. Answers whether it is there;
 * false: the signal came first. Rejects with {@link RunError} where the broker refuses us.
 */
export async function waitForLog(options: ServeOptions, log: ServeLog): Promise<boolean> {
  const { signal, onWarning } = options;
  await log.ready(AbortSignal.any([signal, AbortSignal.timeout(QUICK_MS)]));
  if (log.isReady || signal.aborted) return !signal.aborted;
  onWarning(`Waiting for the event log: ${reasonToWait(log)}`);
  const app = new WaitingApp(() => ({
    reasons: [`celld waits for the event log: ${reasonToWait(log)}`],
    logBehind: log.spooled,
    members: { log: log.standing },
  }));
  const server = await listen(options, app);
  try {
    await log.ready(signal);
  } finally {
    await server.stop();
  }
  return !signal.aborted;
}

function reasonToWait(log: ServeLog): string {
  return log.failure?.message ?? `${log.spooled} events wait on this host's disk`;
}
