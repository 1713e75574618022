/**
 * Small helpers of a server: directories, waiting for a signal, errors as text.
 *
 * @module
 */
import { reasonOf, RunError } from "./cell_order.ts";

/** Makes a directory where it is not there. Throws {@link RunError}. */
export function makeDirectory(path: string, mode: number): void {
  try {
    Deno.mkdirSync(path, { recursive: true, mode });
  } catch (cause) {
    throw new RunError(`Cannot make ${JSON.stringify(path)}: ${reasonOf(cause)}`, { cause });
  }
}

/** Settles when the signal is aborted. */
export function abortOf(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

/** An error as it is told to operators. */
export function stackOf(error: unknown): string {
  return error instanceof Error ? error.stack ?? error.message : String(error);
}
