/**
 * Asking a server for a command: which one, as whom, and letting go of it afterwards.
 *
 * @module
 */
import type { ApiClient } from "#lib/client/mod.ts";
import type { ApiOptions } from "#lib/daemon/mod.ts";
import type { CliContext } from "./context.ts";
import type { CliIo } from "./io.ts";

/** What the command line may say of a server. */
export type ServerFlags = ApiOptions;

/** The server that flags or the environment name, and the token for it. */
export function apiOptionsOf({ io }: CliContext, flags: ServerFlags): ApiOptions {
  return {
    server: flags.server ?? (io.env["CELLD_SERVER"] || undefined),
    token: flags.token ?? (io.env["CELLD_TOKEN"] || undefined),
    caCert: flags.caCert ?? (io.env["CELLD_CA_CERT"] || undefined),
  };
}

/** Runs `use` with a client of the API. */
export async function withApi<T>(
  context: CliContext,
  flags: ServerFlags,
  use: (api: ApiClient) => Promise<T>,
): Promise<T> {
  const api = await context.ports.openApi(apiOptionsOf(context, flags));
  try {
    return await use(api);
  } finally {
    api.close();
  }
}

/** Runs `use` until it ends or a signal does; answers the signal where one did. */
export async function untilSignal(
  io: CliIo,
  use: (signal: AbortSignal) => Promise<void>,
): Promise<string | undefined> {
  const controller = new AbortController();
  let endedBy: string | undefined;
  const stopListening = io.onSignal((signal) => {
    endedBy = signal;
    controller.abort();
  });
  try {
    await use(controller.signal);
  } catch (error) {
    if (endedBy === undefined) throw error;
  } finally {
    stopListening();
  }
  return endedBy;
}

/** Waits, or until the signal is aborted. */
export function pause(timeMs: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, timeMs);
    signal.addEventListener("abort", done, { once: true });
  });
}
