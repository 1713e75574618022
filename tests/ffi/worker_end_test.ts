/**
 * A worker may end while its thread pool still waits inside the stub.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { runProcess } from "#tests/support/subprocess.ts";

Deno.test("stub: stays mapped when a worker is terminated during a wait", async () => {
  const program = new URL("../support/waiting_worker.ts", import.meta.url).pathname;
  const outcome = await runProcess([Deno.execPath(), "run", "-A", "--no-check", program]);
  // Were it unloaded with the worker, the returning wait would run unmapped memory: SIGSEGV.
  assertEquals([outcome.code, outcome.stdout], [0, "survived 10\n"], outcome.stderr);
});
