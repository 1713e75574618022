/**
 * celld, with a way to break its threads from outside: SIGUSR1 breaks the flow worker, SIGWINCH the
 * host worker, SIGPWR the observer, SIGURG the one that recovers, as a bug in them would.
 *
 * @module
 */
import { processIo, runCli } from "#lib/cli/mod.ts";
import { composePorts } from "#lib/daemon/mod.ts";

const SIGNALS = {
  SIGUSR1: "celld-flow",
  SIGWINCH: "celld-host",
  SIGPWR: "celld-observer",
  SIGURG: "celld-recovery",
} as const;

/** Remembers workers by name as they are started. */
function rememberWorkers(): Map<string, Worker> {
  const workers = new Map<string, Worker>();
  const Original = globalThis.Worker;
  globalThis.Worker = class extends Original {
    constructor(specifier: string | URL, options?: WorkerOptions) {
      super(specifier, options);
      workers.set(options?.name ?? "", this);
    }
  };
  return workers;
}

if (import.meta.main) {
  const workers = rememberWorkers();
  for (const [signal, name] of Object.entries(SIGNALS)) {
    // No worker knows what to do with it: an uncaught error, as of any bug.
    Deno.addSignalListener(signal as Deno.Signal, () => workers.get(name)?.postMessage(null));
  }
  Deno.exit(await runCli(Deno.args, { io: processIo(), connect: composePorts }));
}
