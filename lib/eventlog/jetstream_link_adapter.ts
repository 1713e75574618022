/**
 * The connection to the broker: made, watched, and made again with a growing pause, to any node
 * of a cluster.
 *
 * Each connection is a session of its own, with the stream ensured before anybody sees it. When
 * it breaks everything that waits on it fails at once, and the next session starts clean: no
 * message that was buffered for one connection is ever sent on another, which keeps order.
 *
 * @module
 */
import {
  connect,
  type ConnectionOptions,
  credsAuthenticator,
  type NatsConnection,
  nkeyAuthenticator,
} from "@nats-io/transport-node";
import {
  JetStreamApiError,
  type JetStreamManager,
  jetstreamManager,
  type StreamConfig,
} from "@nats-io/jetstream";
import { Bell } from "./follow_shell.ts";
import { guardSockets } from "./jetstream_guard_adapter.ts";
import { LogAwayError } from "./jetstream_status.ts";
import {
  backoffMs,
  REPLICAS_MAX,
  STREAM_NAME,
  streamDrift,
  type StreamShape,
  wantedStream,
} from "./jetstream_stream.ts";
import { parseServers, type ServerList } from "./jetstream_subject.ts";

/** Who celld is to the broker, and whom it trusts. What stands here wins over the URL. */
export interface JetStreamCredentials {
  /** With {@link password}. */
  readonly user?: string;
  /** With {@link user}. */
  readonly password?: string;
  /** A token. */
  readonly token?: string;
  /** The seed of an nkey, `SU…`. */
  readonly nkeySeed?: string;
  /** File with a user's JWT and seed; read again for each connection. */
  readonly credsFile?: string;
  /** Asks for TLS, even without any of its members. Files in PEM. */
  readonly tls?: {
    /** Authorities to trust instead of the system's. */
    readonly caFile?: string;
    /** Our certificate. */
    readonly certFile?: string;
    /** Its key. */
    readonly keyFile?: string;
  };
}

/** How to reach the broker. */
export interface LinkOptions {
  /** See {@link JetStreamCredentials}. A function is asked for each connection, and may throw. */
  readonly credentials?: JetStreamCredentials | (() => JetStreamCredentials);
  /** The stream's name. Default `CELLOS_EVENTS`. */
  readonly stream?: string;
  /** Copies of a stream that is made. Default: 3 in a cluster, else 1. */
  readonly replicas?: number;
  /** How long the broker may take to answer, milliseconds. Default 2000. */
  readonly answerTimeoutMs?: number;
}

const ANSWER_TIMEOUT_MS = 2000;
const PING_INTERVAL_MS = 2000;
const PINGS_UNANSWERED_MAX = 2;
/** In which a cluster that was just started finds its nodes. */
const REPLICAS_PATIENCE_MS = 10_000;
/** How often one node of several is asked for the stream. */
const ATTEMPTS_MAX = 5;
const NO_PEERS_CODE = 10_005;
const NOT_CLUSTERED_CODE = 10_074;
const NAME_IN_USE_CODE = 10_058;

/** One connection whose stream is there. */
export interface Session {
  /** The connection. */
  readonly nc: NatsConnection;
  /** Manages streams and consumers. */
  readonly jsm: JetStreamManager;
  /** The stream's name. */
  readonly stream: string;
  /** Aborted when the connection is over. */
  readonly over: AbortSignal;
  /** Largest message that the broker takes, headers included. */
  readonly payloadBytesMax: number;
  /** How long the stream remembers ids. */
  readonly duplicateWindowMs: number;
  /** How the stream differs from the one wanted. */
  readonly drift: readonly string[];
}

/** Keeps one session at a time. */
export class JetStreamLink {
  /** Rings when a session starts or ends, and when an error was met. */
  readonly changed: Bell = new Bell();
  readonly #servers: ServerList;
  readonly #known: string[];
  readonly #options: LinkOptions;
  readonly #closing = new AbortController();
  readonly #running: Promise<void>;
  readonly #unguard: () => void;
  #session: Session | undefined;
  #nc: NatsConnection | undefined;
  #over = new AbortController();
  #lastError: string | undefined;
  #isRefused = false;
  #connections = 0;

  /** Starts connecting. Throws `ServerUrlError`. */
  constructor(url: string, options: LinkOptions) {
    this.#servers = parseServers(url);
    this.#known = [...this.#servers.servers];
    this.#options = options;
    this.#unguard = guardSockets((error) => {
      if (this.#mayBeTls) this.#fail(error);
    });
    this.#running = this.#run();
  }

  /** The session; `undefined` while there is none. */
  get session(): Session | undefined {
    return this.#session;
  }

  /** Why there is no session. */
  get lastError(): string | undefined {
    return this.#lastError;
  }

  /** Whether the last attempt failed by our credentials. */
  get isRefused(): boolean {
    return this.#isRefused;
  }

  /** Connections made. */
  get connections(): number {
    return this.#connections;
  }

  /** How long the broker may take to answer, milliseconds. */
  get answerTimeoutMs(): number {
    return this.#options.answerTimeoutMs ?? ANSWER_TIMEOUT_MS;
  }

  /** The session, waiting for it as long as said. Rejects with {@link LogAwayError}. */
  async ready(action: string, timeoutMs: number, signal?: AbortSignal): Promise<Session> {
    const untilMs = performance.now() + timeoutMs;
    while (this.#session === undefined) {
      const leftMs = untilMs - performance.now();
      if (leftMs <= 0 || this.changed.isSilenced || signal?.aborted) {
        throw new LogAwayError(action, `the broker is away (${this.#lastError ?? "connecting"})`);
      }
      await this.changed.wait(signal, leftMs === Infinity ? undefined : leftMs);
    }
    return this.#session;
  }

  /** Gives a session up that answers nothing, so that another node is tried. */
  abandon(session: Session, reason: string): void {
    if (this.#session !== session) return;
    this.#lastError = reason;
    this.#end();
  }

  /** Ends the session and makes no other. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.changed.silence();
    this.#end();
    await this.#running;
    this.#unguard();
  }

  get #mayBeTls(): boolean {
    const { credentials } = this.#options;
    // With files that are read each time, an alert may be ours whatever they say now.
    return this.#servers.tls || typeof credentials === "function" || credentials?.tls !== undefined;
  }

  /** Ends the session for everyone at once: closing takes the client a while, and asks would hang. */
  #end(): void {
    this.#session = undefined;
    this.#over.abort();
    this.#nc?.close().catch(() => {
      // It is over either way.
    });
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    let failures = 0;
    for (let turn = 0; !signal.aborted; turn++) {
      try {
        const nc = await connect(this.#connectOptions(this.#known[turn % this.#known.length]));
        await this.#serve(nc);
        failures = 0;
      } catch (error) {
        this.#fail(error);
        failures++;
      }
      // All nodes are tried quickly one after the other, then comes the pause.
      const isRound = failures === 0 || failures % this.#known.length === 0;
      const rounds = Math.floor(failures / this.#known.length);
      await pause(isRound ? backoffMs(rounds, Math.random()) : 10, signal);
    }
  }

  /** Holds one connection until it is over. */
  async #serve(nc: NatsConnection): Promise<void> {
    const over = new AbortController();
    this.#over = over;
    this.#nc = nc;
    // Becoming deaf to it is the end of everything that waits.
    const ended = nc.closed().then((error) => {
      over.abort();
      return error;
    });
    const watching = this.#watch(nc);
    try {
      if (this.#closing.signal.aborted) return;
      this.#learnServers(nc);
      this.#session = await this.#openSession(nc, over.signal);
      this.#connections++;
      this.#lastError = undefined;
      this.#isRefused = false;
      this.changed.ring();
      const error = await ended;
      this.#lastError ??= error instanceof Error ? error.message : "the connection broke";
    } finally {
      this.#session = undefined;
      await nc.close();
      await ended;
      await watching;
      this.changed.ring();
    }
  }

  async #openSession(nc: NatsConnection, over: AbortSignal): Promise<Session> {
    const jsm = await jetstreamManager(nc, { checkAPI: false, timeout: this.answerTimeoutMs });
    const isClustered = nc.info?.cluster !== undefined;
    const replicas = this.#options.replicas ?? (isClustered ? REPLICAS_MAX : 1);
    const stream = this.#options.stream ?? STREAM_NAME;
    const found = await this.#ensureStream(jsm, wantedStream(replicas, stream), over);
    const drift = streamDrift(found, wantedStream(replicas, stream));
    const sizes = [nc.info?.max_payload ?? 0, found.max_msg_size ?? 0].filter((size) => size > 0);
    const payloadBytesMax = Math.min(...sizes);
    const duplicateWindowMs = found.duplicate_window / 1e6;
    return { nc, jsm, stream, over, payloadBytesMax, duplicateWindowMs, drift };
  }

  /** Finds the stream or makes it; as long as the connection lives, a broker that wakes up is waited for. */
  async #ensureStream(
    jsm: JetStreamManager,
    wanted: StreamShape,
    over: AbortSignal,
  ): Promise<StreamShape> {
    const startMs = performance.now();
    let replicas = wanted.num_replicas;
    for (let failures = 0;; failures++) {
      try {
        return await findStream(jsm, wanted.name) ??
          await addStream(jsm, { ...wanted, num_replicas: replicas });
      } catch (error) {
        if (over.aborted || this.#closing.signal.aborted) throw error;
        const { code } = error as { code?: number };
        const lacksNodes = code === NO_PEERS_CODE || code === NOT_CLUSTERED_CODE;
        if (error instanceof JetStreamApiError && !lacksNodes && isFinal(error)) throw error;
        const waitedMs = performance.now() - startMs;
        // With fewer copies than wanted it is still a log; that it has fewer is told as drift.
        if (lacksNodes && waitedMs > REPLICAS_PATIENCE_MS) replicas = 1;
        // A node that is cut off from its cluster answers nothing of use: the next one may.
        if (!lacksNodes && failures >= ATTEMPTS_MAX && this.#known.length > 1) throw error;
        this.#fail(error);
        await pause(backoffMs(failures, Math.random()), over);
      }
    }
  }

  #learnServers(nc: NatsConnection): void {
    for (const server of nc.info?.connect_urls ?? []) {
      if (!this.#known.includes(server) && this.#known.length < 64) this.#known.push(server);
    }
  }

  async #watch(nc: NatsConnection): Promise<void> {
    for await (const status of nc.status()) {
      // A subject that we may not use shows here only: the request itself just stays unanswered.
      if (status.type === "error") this.#fail(status.error);
    }
  }

  #fail(error: unknown): void {
    const { name, message } = error as Error;
    this.#isRefused = name === "AuthorizationError" || name === "UserAuthenticationExpiredError";
    this.#lastError = message === "" ? name : message;
    this.changed.ring();
  }

  #connectOptions(server: string): ConnectionOptions {
    const given = this.#options.credentials;
    const credentials = typeof given === "function" ? given() : given ?? {};
    const user = credentials.user ?? this.#servers.user;
    const pass = credentials.password ?? this.#servers.password;
    const token = credentials.token ?? this.#servers.token;
    return {
      servers: [server],
      name: "celld",
      reconnect: false,
      ignoreClusterUpdates: true,
      timeout: this.answerTimeoutMs,
      pingInterval: PING_INTERVAL_MS,
      maxPingOut: PINGS_UNANSWERED_MAX,
      noAsyncTraces: true,
      ...authenticatorOf(credentials),
      ...(user === undefined ? {} : { user }),
      ...(pass === undefined ? {} : { pass }),
      ...(token === undefined ? {} : { token }),
      ...(this.#servers.tls || credentials.tls !== undefined
        ? { tls: { ...credentials.tls } }
        : {}),
    };
  }
}

function authenticatorOf(credentials: JetStreamCredentials): Partial<ConnectionOptions> {
  const { nkeySeed, credsFile } = credentials;
  if (credsFile !== undefined) {
    return { authenticator: credsAuthenticator(Deno.readFileSync(credsFile)) };
  }
  if (nkeySeed !== undefined) {
    return { authenticator: nkeyAuthenticator(new TextEncoder().encode(nkeySeed.trim())) };
  }
  return {};
}

async function findStream(
  jsm: JetStreamManager,
  name: string,
): Promise<StreamShape | undefined> {
  try {
    return (await jsm.streams.info(name)).config as StreamShape;
  } catch (error) {
    if ((error as { code?: number }).code === STREAM_NOT_FOUND_CODE) return undefined;
    throw error;
  }
}

const STREAM_NOT_FOUND_CODE = 10_059;

async function addStream(jsm: JetStreamManager, wanted: StreamShape): Promise<StreamShape> {
  const config = wanted as unknown as Partial<StreamConfig> & { name: string };
  return (await jsm.streams.add(config)).config as StreamShape;
}

/** Whether asking again cannot help. That another made the stream at the same time does not count. */
function isFinal(error: JetStreamApiError): boolean {
  return error.code !== NAME_IN_USE_CODE && error.status >= 400 && error.status < 500;
}

/** Waits, but not longer than until the signal. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Bell().wait(signal, ms);
}
