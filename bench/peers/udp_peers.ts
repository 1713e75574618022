/**
 * UDP balancers that are compared, and their load, as processes: `udp_proxy.c`, `udp_load.c`, nginx.
 *
 * @module
 */
import { findCommand } from "#tests/support/kernel.ts";

const START_MS = 10_000;
const LOOK_MS = 20;
/** Each balancer listens here; backends follow from {@link BACKEND_PORT} on. */
export const LISTEN_PORT = 9000;
/** First port of the backends, which the load is. */
export const BACKEND_PORT = 9100;
/** Backends. */
export const BACKENDS = 4;

/** What a load found. */
export interface LoadOutcome {
  readonly perSecond: number;
  readonly lost: number;
  /** Replies that were not what they should be. */
  readonly wrong: number;
  /** Processor time of the balancer for one round trip: two datagrams in, two out. */
  readonly cpuNs: number;
  readonly p50Us: number;
  readonly p99Us: number;
}

/** Compiles a C program of this folder; `undefined` where there is no compiler. */
export function compilePeer(name: string, directory: string): string | undefined {
  const compiler = findCommand("cc");
  if (compiler === undefined) return undefined;
  const program = `${directory}/${name}`;
  const source = new URL(`./${name}.c`, import.meta.url).pathname;
  const { success } = new Deno.Command(compiler, { args: ["-O2", "-o", program, source] })
    .outputSync();
  return success ? program : undefined;
}

/** Starts a balancer on one processor (or all), and waits until it listens. */
export async function startBalancer(
  command: readonly string[],
  processor: number | undefined,
): Promise<Deno.ChildProcess> {
  const pinned = processor === undefined ? command : ["taskset", "-c", `${processor}`, ...command];
  const child = new Deno.Command(pinned[0], {
    args: pinned.slice(1),
    stdin: "null",
    stdout: "null",
    stderr: "inherit",
  }).spawn();
  const untilMs = performance.now() + START_MS;
  while (!isListening()) {
    if (performance.now() > untilMs) {
      child.kill("SIGKILL");
      throw new Error(`Cannot start ${command[0]}: it does not listen`);
    }
    await new Promise((done) => setTimeout(done, LOOK_MS));
  }
  return child;
}

/** Ends a balancer, and waits until its port is free. */
export async function stopBalancer(child: Deno.ChildProcess): Promise<void> {
  child.kill("SIGTERM");
  await child.status;
}

/** Runs one load on the first processor. */
export async function runLoad(
  program: string,
  of: { flows: number; window: number; seconds: number; rate: number; pids: readonly number[] },
): Promise<LoadOutcome> {
  const numbers = [LISTEN_PORT, BACKEND_PORT, BACKENDS, of.flows, of.window, of.seconds];
  const args = ["-c", "0", program, ...[...numbers, of.rate].map(String), of.pids.join(",")];
  const { success, stdout } = await new Deno.Command("taskset", {
    args,
    stdin: "null",
    stderr: "inherit",
  }).output();
  if (!success) throw new Error("Cannot load: udp_load failed");
  const [trips, seconds, lost, wrong, cpu, p50Us, p99Us] = new TextDecoder().decode(stdout)
    .trim().split(" ").map(Number);
  const perSecond = trips / seconds;
  return { perSecond, lost, wrong, cpuNs: cpu / trips * 1e9, p50Us, p99Us };
}

/** A process and its children. */
export function processesOf(pid: number): number[] {
  const children = Deno.readTextFileSync(`/proc/${pid}/task/${pid}/children`).trim();
  return [pid, ...children.split(/\s+/).filter((text) => text !== "").map(Number)];
}

/** Resident bytes of processes, and what the kernel's own tables have, all in all. */
export function readMemory(pids: readonly number[]): { rssBytes: number; slabBytes: number } {
  const read = (path: string, name: string) => {
    const found = new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(Deno.readTextFileSync(path));
    return Number(found?.[1] ?? NaN) * 1024;
  };
  const rssBytes = pids.reduce((sum, pid) => sum + read(`/proc/${pid}/status`, "VmRSS"), 0);
  return { rssBytes, slabBytes: read("/proc/meminfo", "Slab") };
}

/** An nginx that balances UDP; `undefined` where it or its module is missing. */
export function nginxCommand(directory: string, workers: number): string[] | undefined {
  const nginx = findCommand("nginx");
  const module = "/usr/lib/nginx/modules/ngx_stream_module.so";
  if (nginx === undefined || !exists(module)) return undefined;
  const servers = Array.from(
    { length: BACKENDS },
    (_, index) => `server 127.0.0.1:${BACKEND_PORT + index} max_fails=0;`,
  );
  const config = `${directory}/nginx${workers}.conf`;
  const shared = workers > 1 ? " reuseport" : "";
  const processes = workers > 1 ? `master_process on; user root` : "master_process off";
  Deno.writeTextFileSync(
    config,
    `load_module ${module};
daemon off; ${processes}; worker_processes ${workers};
pid ${directory}/nginx.pid; error_log /dev/null crit;
events { worker_connections 250000; use epoll; }
stream {
  upstream backends { ${servers.join(" ")} }
  server { listen 127.0.0.1:${LISTEN_PORT} udp rcvbuf=4m${shared}; proxy_pass backends; proxy_timeout 60s; }
}
`,
  );
  return [nginx, "-c", config];
}

function isListening(): boolean {
  const port = `:${LISTEN_PORT.toString(16).toUpperCase()} `;
  return Deno.readTextFileSync("/proc/net/udp").includes(port);
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    // Not there: the package is not installed.
    return false;
  }
}
