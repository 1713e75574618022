/**
 * The program: arguments in, exit code out. The only place that ends the process.
 *
 * The same file may run as a worker: bundled into one file, a worker's module is the whole
 * bundle. Then it loads that worker's own module, which starts itself, and no command line.
 *
 * @module
 */
import { processIo, runCli } from "#lib/cli/mod.ts";
import { composePorts, isWorkerThread, loadWorker } from "#lib/daemon/mod.ts";

if (isWorkerThread()) await loadWorker(self.name);
else if (import.meta.main) {
  Deno.exit(await runCli(Deno.args, { io: processIo(), connect: composePorts }));
}
