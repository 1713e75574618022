/**
 * The worker threads by name, for the case that a worker's module is the whole program: in a
 * bundled file `import.meta.url` of every module is the bundle's, so the thread begins in
 * `main.ts` and comes here. Behind each door is a worker module that starts its own loop when the
 * name is its own.
 *
 * @module
 */

const WORKERS: Readonly<Record<string, () => Promise<unknown>>> = {
  "celld-flow": () => import("#lib/flow/mod.ts"),
  "celld-observer": () => import("#lib/liveness/mod_shell.ts"),
  "celld-recovery": () => import("#lib/recovery/mod_shell.ts"),
  "celld-watchdog": () => import("./watch_watchdog_worker.ts"),
  "celld-host": () => import("#lib/cell/mod_shell.ts"),
};

/** Whether this thread is a worker. */
export function isWorkerThread(): boolean {
  const scope = (globalThis as { WorkerGlobalScope?: new () => unknown }).WorkerGlobalScope;
  return scope !== undefined && globalThis instanceof scope;
}

/** Loads the module of the worker that this thread is named as. Throws for any other name. */
export async function loadWorker(name: string): Promise<void> {
  const load = WORKERS[name];
  if (load === undefined) throw new TypeError(`Cannot start worker ${JSON.stringify(name)}`);
  await load();
}
