/**
 * Starts a load on its thread, and waits for what it measured.
 *
 * @module
 */
import type { Load, LoadReport } from "./load_worker.ts";

/** Runs a load; `whenOpened` is called once followers are connected. */
export async function runLoad(
  load: Load,
  whenOpened?: () => Promise<void>,
): Promise<LoadReport> {
  const worker = new Worker(new URL("./load_worker.ts", import.meta.url), {
    type: "module",
    name: "http-load",
  });
  try {
    return await new Promise<LoadReport>((resolve, reject) => {
      worker.onerror = (event) => {
        event.preventDefault();
        reject(new Error(event.message));
      };
      worker.onmessage = ({ data }: MessageEvent<LoadReport | "opened">) => {
        if (data !== "opened") resolve(data);
        else whenOpened?.().catch(reject);
      };
      worker.postMessage(load);
    });
  } finally {
    worker.terminate();
  }
}
