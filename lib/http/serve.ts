/**
 * Listens for the API: TCP on the loopback interface unless told otherwise, and a Unix socket for
 * the local root.
 *
 * The Unix socket is made with mode 0600, so the kernel lets only the user that runs celld and root
 * connect: what comes from there is root's. The runtime does not tell who is behind a connection, so
 * that holds only for as long as nothing of the socket's file was changed since; from the first
 * change on, whoever connects there needs a token like everybody else, root too. {@link HttpServer.stop} tells those who follow, lets
 * requests in flight finish, and says after a time whether they did: the end of the process cuts
 * the rest.
 *
 * @module
 */
import type { Peer } from "./access.ts";
import type { HttpApp } from "./app.ts";

/** Where the API is bound unless told otherwise. */
export const HOSTNAME_DEFAULT = "127.0.0.1";
/** The port of the API unless told otherwise, as the original's quick start has it. */
export const PORT_DEFAULT = 8080;
/** How long requests in flight may take to finish, in milliseconds. */
export const DRAIN_MS = 10_000;

/** How the API is served. */
export interface HttpServerOptions {
  /** Started and stopped with the server. */
  readonly app: Pick<HttpApp, "fetch" | "start" | "stop">;
  /** See {@link HOSTNAME_DEFAULT}. */
  readonly hostname?: string;
  /** 0: any free one. */
  readonly port?: number;
  /** Absent: no Unix socket. Its folder must let nobody else write. */
  readonly unixSocketPath?: string;
  /** PEM texts. Absent: plain HTTP. */
  readonly tls?: { readonly cert: string; readonly key: string };
  /** See {@link DRAIN_MS}. */
  readonly drainMs?: number;
}

/** A running server. */
export interface HttpServer {
  /** Where it is bound. */
  readonly hostname: string;
  /** Its port. */
  readonly port: number;
  /** `http://127.0.0.1:8080`. */
  readonly url: string;
  /** Resolves once both listeners have ended. */
  readonly finished: Promise<void>;
  /** See the module. Answers whether everything in flight had finished. Twice does nothing more. */
  stop(): Promise<boolean>;
}

/** Starts to serve. Rejects where the address is taken or the log cannot be followed. */
export async function startHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const { app } = options;
  await app.start();
  const listeners: Deno.HttpServer[] = [];
  try {
    const tcp = serveTcp(options);
    listeners.push(tcp);
    if (options.unixSocketPath !== undefined) {
      listeners.push(serveUnix(app, options.unixSocketPath));
    }
    return runningServer(options, tcp.addr, listeners);
  } catch (error) {
    await app.stop();
    await Promise.allSettled(listeners.map((one) => one.shutdown()));
    throw error;
  }
}

function serveTcp(options: HttpServerOptions): Deno.HttpServer<Deno.NetAddr> {
  const { app, hostname = HOSTNAME_DEFAULT, port = PORT_DEFAULT, tls } = options;
  return Deno.serve(
    { hostname, port, onListen: () => {}, ...(tls ?? {}) },
    (request, info) => app.fetch(request, tcpPeer(info)),
  );
}

function tcpPeer(info: Deno.ServeHandlerInfo<Deno.NetAddr>): Peer {
  return { address: info.remoteAddr.hostname, isRoot: false };
}

function serveUnix(
  app: Pick<HttpApp, "fetch">,
  path: string,
): Deno.HttpServer<Deno.UnixAddr> {
  removeStale(path);
  // The mode must be right from the first moment: a later chmod would leave a gap.
  const mask = Deno.umask(0o177);
  try {
    const server = Deno.serve(
      { path, onListen: () => {} },
      (request) => app.fetch(request, { address: "unix", isRoot: isUnchanged() }),
    );
    const isUnchanged = watchSocketFile(path);
    return server;
  } finally {
    Deno.umask(mask);
  }
}

/** A killed server leaves its socket behind; anything else at the path is not ours to remove. */
function removeStale(path: string): void {
  try {
    if (Deno.lstatSync(path).isSocket) Deno.removeSync(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

function runningServer(
  options: HttpServerOptions,
  { hostname, port }: Deno.NetAddr,
  listeners: readonly Deno.HttpServer[],
): HttpServer {
  const shown = hostname.includes(":") ? `[${hostname}]` : hostname;
  const finished = Promise.all(listeners.map((one) => one.finished)).then(() => {});
  let stopping: Promise<boolean> | undefined;
  return {
    hostname,
    port,
    url: `${options.tls === undefined ? "http" : "https"}://${shown}:${port}`,
    finished,
    stop: () => stopping ??= stopServer(options, listeners),
  };
}

/**
 * Answers whether a socket's file is as it was made: a change of its owner or mode shows in its
 * status time for ever, so nobody else can have connected in between either.
 */
function watchSocketFile(path: string): () => boolean {
  const first = socketState(path);
  let isSame = first !== undefined;
  return () => isSame &&= socketState(path) === first;
}

function socketState(path: string): string | undefined {
  try {
    const { isSocket, uid, mode, ino, ctime } = Deno.lstatSync(path);
    const isPrivate = isSocket && uid === Deno.uid() && ((mode ?? 0o777) & 0o177) === 0;
    return isPrivate ? `${ino} ${ctime?.getTime()}` : undefined;
  } catch {
    // Gone, or not to be looked at: not as it was made.
    return undefined;
  }
}

async function stopServer(
  options: HttpServerOptions,
  listeners: readonly Deno.HttpServer[],
): Promise<boolean> {
  // Those who follow must have heard where to resume: the listener's end would cut them short. What
  // comes meanwhile is refused by the app.
  await options.app.stop();
  const drained = Promise.all(listeners.map((one) => one.shutdown())).then(() => true);
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), options.drainMs ?? DRAIN_MS);
  });
  const isDrained = await Promise.race([drained, late]);
  clearTimeout(timer);
  if (options.unixSocketPath !== undefined) removeStale(options.unixSocketPath);
  return isDrained;
}
