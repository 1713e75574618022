/**
 * The program: arguments in, exit code out. The only place that ends the process.
 *
 * The same file may run as a worker: bundled into one file, a worker's module is the whole
 * bundle. Then it loads that worker's own module, which starts itself, and no command line.
 *
 * @module
 */
import { processIo, runCli } from "#lib/cli/mod.ts";
import { composePorts } from "#lib/daemon/mod.ts";

/** The worker modules, by the name that their starters give. */
const WORKERS: Readonly<Record<string, () => Promise<unknown>>> = {
  "celld-flow": () => import("#lib/flow/audit_worker.ts"),
  "celld-host": () => import("#lib/cell/host_worker.ts"),
};

function isWorkerThread(): boolean {
  const scope = (globalThis as { WorkerGlobalScope?: new () => unknown }).WorkerGlobalScope;
  return scope !== undefined && globalThis instanceof scope;
}

if (isWorkerThread()) await WORKERS[self.name]?.();
else if (import.meta.main) {
  Deno.exit(await runCli(Deno.args, { io: processIo(), connect: composePorts }));
}
