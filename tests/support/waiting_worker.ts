/**
 * A worker that waits in the kernel, and a program that ends such workers while they wait.
 *
 * Run as a program it starts and terminates workers of this same module, and prints how many.
 *
 * @module
 */

import { Epoll } from "#ffi/mod.ts";

/** Time that a worker waits: longer than it lives, shorter than the program. */
const WAIT_MS = 150;
const ROUNDS = 10;

async function startAndTerminate(): Promise<void> {
  const worker = new Worker(import.meta.url, { type: "module", name: "waiting" });
  await new Promise((resolve) => worker.onmessage = resolve);
  // The wait begins right after the message; let it reach the kernel.
  await new Promise((resolve) => setTimeout(resolve, 20));
  worker.terminate();
}

if (self.name === "waiting") {
  (self as unknown as { postMessage(message: unknown): void }).postMessage("ready");
  await new Epoll().waitAsync(WAIT_MS);
} else if (import.meta.main) {
  for (let round = 0; round < ROUNDS; round++) await startAndTerminate();
  await new Promise((resolve) => setTimeout(resolve, 3 * WAIT_MS));
  console.log(`survived ${ROUNDS}`);
}
