/**
 * Real `nats-server` processes for tests: on loopback, with free ports and a folder of their own,
 * killed and cleared away at the end.
 *
 * @module
 */
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { jetstreamManager } from "@nats-io/jetstream";

/** Largest message that these servers take: an event at its bound, and its headers. */
const MAX_PAYLOAD_BYTES = 2 * 1024 * 1024;

const PROGRAM = findProgram("nats-server");

/** Whether the program is there. */
export const HAS_NATS_SERVER: boolean = PROGRAM !== undefined;

/**
 * Registers a test that needs `nats-server`, and perhaps another program; skipped, with the reason
 * in its name, where one is missing.
 */
export function natsTest(
  name: string,
  ...rest: [work: () => Promise<void>] | [options: { needs: string }, work: () => Promise<void>]
): void {
  const [options, fn] = rest.length === 1 ? [undefined, rest[0]] : rest;
  const programs = ["nats-server", ...(options === undefined ? [] : [options.needs])];
  const missing = programs.filter((program) => findProgram(program) === undefined);
  if (missing.length === 0) Deno.test(name, fn);
  else Deno.test({ name: `${name} (skipped: no ${missing.join(", no ")})`, ignore: true, fn });
}

function findProgram(name: string): string | undefined {
  const folders = ["/usr/sbin", "/usr/bin", "/usr/local/bin", "/bin"];
  return folders.map((folder) => `${folder}/${name}`).find(isFile);
}

/** How to start a server. */
export interface NatsOptions {
  /** Lines for its configuration, such as an `authorization` block. */
  readonly config?: string;
  /** Its place in a cluster. */
  readonly cluster?: { readonly port: number; readonly routes: readonly number[] };
  /** Name in the cluster. */
  readonly name?: string;
  /** Starts the program elsewhere, as in a namespace; its log tells then when it listens. */
  readonly spawn?: (program: string, options: Deno.CommandOptions) => Deno.ChildProcess;
}

/** One server, which can be killed and started again with the same port and storage. */
export class NatsServer {
  /** The folder with its storage, configuration and log. */
  readonly folder: string;
  /** Its port on 127.0.0.1. */
  readonly port: number;
  readonly #spawn: NatsOptions["spawn"];
  #child: Deno.ChildProcess | undefined;

  /** Use {@link startNats}. */
  constructor(folder: string, port: number, spawn?: NatsOptions["spawn"]) {
    this.folder = folder;
    this.port = port;
    this.#spawn = spawn;
  }

  /** Where clients find it. */
  get url(): string {
    return `nats://127.0.0.1:${this.port}`;
  }

  /** Starts it and waits until it listens. */
  async start(): Promise<void> {
    const startsBefore = this.#starts();
    const options: Deno.CommandOptions = {
      args: ["-c", `${this.folder}/nats.conf`],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    };
    const child = this.#spawn?.(PROGRAM!, options) ?? new Deno.Command(PROGRAM!, options).spawn();
    this.#child = child;
    let isOver = false;
    child.status.then(() => isOver = true);
    for (let attempt = 0; attempt < 500 && !isOver; attempt++) {
      const isThere = this.#spawn === undefined
        ? await answers(this.port)
        : this.#starts() > startsBefore;
      if (isThere) return;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await this.kill();
    throw new Error(`Cannot start nats-server: ${this.log()}`);
  }

  /** Ends it at once, as a crash would. */
  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined) return;
    try {
      child.kill("SIGKILL");
    } catch {
      // It has ended by itself.
    }
    await child.status;
  }

  /** Stops or continues it, as a machine that hangs; stopped, it does nothing more when this returns. */
  signal(signal: "SIGSTOP" | "SIGCONT"): void {
    const child = this.#child!;
    child.kill(signal);
    // A thread on another processor goes on until it notices.
    for (let look = 0; signal === "SIGSTOP" && look < 100_000; look++) {
      if (isStopped(child.pid)) return;
    }
  }

  /** What it logged, for messages of failed tests. */
  log(): string {
    try {
      return Deno.readTextFileSync(`${this.folder}/nats.log`);
    } catch {
      // Not even its log was made.
      return "nothing logged";
    }
  }

  #starts(): number {
    return this.log().split("Server is ready").length;
  }

  /** Kills it and removes its folder. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    Deno.removeSync(this.folder, { recursive: true });
  }
}

/** Starts a server. */
export async function startNats(options: NatsOptions = {}): Promise<NatsServer> {
  for (let attempt = 0;; attempt++) {
    const server = makeServer(options);
    try {
      await server.start();
      return server;
    } catch (error) {
      // Another process may have taken the port between its choice and its use.
      await server[Symbol.asyncDispose]();
      if (attempt === 3 || !(error as Error).message.includes("address already in use")) {
        throw error;
      }
    }
  }
}

function makeServer(options: NatsOptions): NatsServer {
  const folder = Deno.makeTempDirSync({ prefix: "celld-nats-" });
  const server = new NatsServer(folder, freePort(), options.spawn);
  const { cluster } = options;
  const lines = [
    `listen: "127.0.0.1:${server.port}"`,
    `server_name: "${options.name ?? "one"}"`,
    `log_file: "${folder}/nats.log"`,
    ...(options.config?.includes("max_payload") ? [] : [`max_payload: ${MAX_PAYLOAD_BYTES}`]),
    `jetstream { store_dir: "${folder}/store" }`,
    ...(cluster === undefined ? [] : [
      `cluster { name: "test", listen: "127.0.0.1:${cluster.port}", routes: [${
        cluster.routes.map((port) => `"nats://127.0.0.1:${port}"`).join(", ")
      }] }`,
    ]),
    options.config ?? "",
  ];
  Deno.writeTextFileSync(`${folder}/nats.conf`, lines.join("\n"));
  return server;
}

/** Several servers as one cluster. */
export class NatsCluster {
  /** Use {@link startNatsCluster}. */
  constructor(readonly nodes: readonly NatsServer[]) {}

  /** All of them, for a client. */
  get url(): string {
    return this.nodes.map(({ url }) => url).join(",");
  }

  /** Kills them and removes their folders. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const node of this.nodes) await node[Symbol.asyncDispose]();
  }
}

/** Starts a cluster of so many nodes. */
export async function startNatsCluster(
  size: number,
  place: Pick<NatsOptions, "spawn"> = {},
): Promise<NatsCluster> {
  const routes = Array.from({ length: size }, freePort);
  const nodes = await Promise.all(
    routes.map((port, index) =>
      startNats({ ...place, name: `node-${index}`, cluster: { port, routes } })
    ),
  );
  return new NatsCluster(nodes);
}

/** Runs with a client that knows nothing of celld. */
export async function withClient<T>(
  url: string,
  work: (nc: NatsConnection) => Promise<T>,
): Promise<T> {
  const nc = await connect({ servers: url.split(","), reconnect: false });
  try {
    return await work(nc);
  } finally {
    await nc.close();
  }
}

/** Removes the log's stream and everything in it. */
export async function deleteStream(url: string): Promise<void> {
  await withClient(url, async (nc) => {
    const manager = await jetstreamManager(nc);
    await manager.streams.delete("CELLOS_EVENTS");
  });
}

/**
 * Whether every copy of the log's stream is there and up to date. A node that was just started
 * counts as away until then, and a cluster of three is only safe from losing one.
 */
export async function isStreamWhole(url: string, copies: number): Promise<boolean> {
  try {
    return await withClient(url, async (nc) => {
      const manager = await jetstreamManager(nc);
      const { cluster } = await manager.streams.info("CELLOS_EVENTS");
      const others = cluster?.replicas ?? [];
      return cluster?.leader !== undefined && others.length === copies - 1 &&
        others.every(({ current, offline }) => current && offline !== true);
    });
  } catch {
    // A node that cannot answer now is not whole.
    return false;
  }
}

/** A port of 127.0.0.1 that nobody listens on. */
export function freePort(): number {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  listener.close();
  return port;
}

async function answers(port: number): Promise<boolean> {
  try {
    const connection = await Deno.connect({ hostname: "127.0.0.1", port });
    connection.close();
    return true;
  } catch {
    // Not yet.
    return false;
  }
}

/** Whether every thread of a process is stopped. */
function isStopped(pid: number): boolean {
  return Array.from(Deno.readDirSync(`/proc/${pid}/task`)).every(({ name }) => {
    const stat = Deno.readTextFileSync(`/proc/${pid}/task/${name}/stat`);
    return stat.slice(stat.lastIndexOf(")") + 2).startsWith("T");
  });
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    // Not there is the answer.
    return false;
  }
}
