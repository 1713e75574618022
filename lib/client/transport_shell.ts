/**
 * Requests to one server, over TCP or its Unix socket, and the errors that come of them.
 *
 * An answer with an error status is an {@link ApiError} from its problem; no answer is a
 * {@link ServerUnreachableError}. A request that is not a stream has {@link REQUEST_MS}.
 *
 * @module
 */
import { type Endpoint, endpointName, UNIX_BASE_URL } from "./endpoint.ts";
import { ApiError, parseProblem, ServerUnreachableError } from "./errors.ts";

/** How long a request may take that is not a stream, in milliseconds. */
export const REQUEST_MS = 30_000;

/** What a query may hold; what is `undefined` is left out. */
export type Query = Readonly<Record<string, string | number | boolean | undefined>>;

/** A request. */
export interface ApiRequest {
  readonly method: "GET" | "POST" | "DELETE";
  readonly path: string;
  readonly query?: Query;
  readonly body?: {
    readonly text: string | Uint8Array<ArrayBuffer>;
    readonly mediaType: string;
  };
  readonly accept?: string;
  /** What is asked for, for errors: `list cells`. */
  readonly action: string;
  /** Ends the request. */
  readonly signal?: AbortSignal;
  /** The answer stays open: no time limit. */
  readonly isStream?: boolean;
}

/** As whom a server is asked, and which is believed. */
export interface TransportOptions {
  /** Sent with every request. */
  readonly token?: string | undefined;
  /** PEM texts of who may sign its certificate, besides those that the runtime trusts. */
  readonly caCerts?: readonly string[];
}

/** See the module. */
export class Transport {
  readonly #endpoint: Endpoint;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #client: Deno.HttpClient | undefined;

  /** Connects on first use. */
  constructor(endpoint: Endpoint, options: TransportOptions = {}) {
    const { token, caCerts } = options;
    this.#endpoint = endpoint;
    this.#headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
    this.#client = endpoint.kind === "unix"
      ? Deno.createHttpClient({ proxy: { transport: "unix", path: endpoint.path } })
      : caCerts === undefined
      ? undefined
      : Deno.createHttpClient({ caCerts: [...caCerts] });
  }

  /** The server's name, for messages. */
  get serverName(): string {
    return endpointName(this.#endpoint);
  }

  /** Sends a request. Rejects with {@link ApiError} or {@link ServerUnreachableError}. */
  async send(request: ApiRequest): Promise<Response> {
    const { method, body, accept, action } = request;
    const response = await this.#fetch(this.#url(request), {
      method,
      redirect: "manual",
      headers: {
        ...this.#headers,
        accept: accept ?? "application/json",
        ...(body === undefined ? {} : { "content-type": body.mediaType }),
      },
      ...(body === undefined ? {} : { body: body.text }),
      ...signalOf(request),
    });
    if (response.ok) return response;
    throw new ApiError(action, parseProblem(response.status, await this.#text(response)));
  }

  /** The text of an answer. Rejects with {@link ServerUnreachableError}. */
  async text(request: ApiRequest): Promise<string> {
    return await this.#text(await this.send(request));
  }

  /** The bytes of an answer as they come; ends quietly with the request's signal. */
  async *bytes(request: ApiRequest): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
    try {
      const { body } = await this.send({ ...request, isStream: true });
      if (body !== null) yield* body;
    } catch (error) {
      if (request.signal?.aborted === true) return;
      throw this.#explain(error);
    }
  }

  /** Opens a WebSocket; whether it will be one, its events tell. */
  socket(path: string, query: Query): WebSocket {
    const url = this.#url({ path, query }).replace(/^http/, "ws");
    return new WebSocket(url, {
      headers: this.#headers,
      ...(this.#client === undefined ? {} : { client: this.#client }),
    });
  }

  /** Lets go of connections. */
  close(): void {
    this.#client?.close();
  }

  #url({ path, query = {} }: Pick<ApiRequest, "path" | "query">): string {
    const base = this.#endpoint.kind === "unix" ? UNIX_BASE_URL : this.#endpoint.baseUrl;
    const given = Object.entries(query).filter(([, value]) => value !== undefined)
      .map(([name, value]) => [name, String(value)]);
    return given.length === 0
      ? `${base}${path}`
      : `${base}${path}?${new URLSearchParams(given as [string, string][])}`;
  }

  async #fetch(url: string, init: RequestInit): Promise<Response> {
    try {
      return await fetch(url, {
        ...init,
        ...(this.#client === undefined ? {} : { client: this.#client }),
      });
    } catch (error) {
      throw this.#explain(error);
    }
  }

  async #text(response: Response): Promise<string> {
    try {
      return await response.text();
    } catch (error) {
      throw this.#explain(error);
    }
  }

  /** What the runtime says of a broken connection is long; its last part is why. */
  #explain(error: unknown): unknown {
    if (!(error instanceof Error)) return error;
    if (error.name === "TimeoutError") {
      return new ServerUnreachableError(this.serverName, `no answer in ${REQUEST_MS / 1000} s`);
    }
    if (!(error instanceof TypeError)) return error;
    const text = error.cause instanceof Error ? error.cause.message : error.message;
    const doubt = /invalid peer certificate: (\w+)/.exec(text)?.[1];
    if (doubt !== undefined) {
      const hint = "--ca-cert names who signed it";
      return new ServerUnreachableError(
        this.serverName,
        `its certificate is not trusted (${doubt}); ${hint}`,
      );
    }
    const why = /^[^(]*?(?:\([^)]*\)[^(]*?)*: ([^:]+?)(?: \(os error \d+\))?$/.exec(text)?.[1];
    return new ServerUnreachableError(this.serverName, why ?? text);
  }
}

function signalOf({ signal, isStream }: ApiRequest): { signal?: AbortSignal } {
  if (isStream === true) return signal === undefined ? {} : { signal };
  const timeout = AbortSignal.timeout(REQUEST_MS);
  return { signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]) };
}
