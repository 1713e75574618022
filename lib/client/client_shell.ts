/**
 * The API of a celld as methods. One client is one server and one token; close it after use.
 *
 * Every method rejects with `ApiError` where the server refuses, `ServerUnreachableError` where
 * nobody answers, `UnexpectedAnswerError` where what answers is no celld.
 *
 * @module
 */
import { type Endpoint, endpointName } from "./endpoint.ts";
import { ApiError, UnexpectedAnswerError } from "./errors.ts";
import { readinessOf, type ReadinessView } from "./readiness.ts";
import { followEvents, type FollowOptions } from "./event_stream_shell.ts";
import { valuesOf } from "./ndjson.ts";
import {
  type AgentView,
  type CellStartedView,
  type CellView,
  type EventQuery,
  type EventRow,
  eventRowOf,
  type ExecNews,
  execNewsOf,
  type ExecOptions,
  formationPath,
  type FormationView,
  type HostView,
  membersOf,
  type OutputPart,
  outputPartOf,
  type RuleView,
  type ServerVersionView,
} from "./records.ts";
import {
  type ApiRequest,
  type Query,
  Transport,
  type TransportOptions,
} from "./transport_shell.ts";
import { UdpClient } from "./udp_client_shell.ts";

/** The most records on a page. */
const PAGE_LIMIT = 1000;
/** A place that no log reaches; the server brings it down to its last. */
const SINCE_MAX = 999_999_999_999_999;
const NDJSON = "application/x-ndjson";

/** A page of events. */
export interface EventPage {
  /** Oldest first. */
  readonly events: readonly EventRow[];
  /** How far the log was looked through. */
  readonly cursor: number;
}

/** See the module. */
export class ApiClient {
  /** The server, as people name it. */
  readonly serverName: string;
  /** The UDP load balancer. */
  readonly udp: UdpClient;
  readonly #transport: Transport;

  /** Connects on first use. */
  constructor(endpoint: Endpoint, options: TransportOptions = {}) {
    this.serverName = endpointName(endpoint);
    this.#transport = new Transport(endpoint, options);
    this.udp = new UdpClient(this.#transport, this.serverName);
  }

  /** What the server is. */
  async version(): Promise<ServerVersionView> {
    const value = await this.#object({
      method: "GET",
      path: "/v1/version",
      action: "ask for the version",
    });
    if (typeof value.version === "string") return value as ServerVersionView;
    throw this.#unexpected("a version");
  }

  /** Whether the server takes commands, and how far its log is behind. */
  async readiness(): Promise<ReadinessView> {
    const request = { method: "GET", path: "/readyz", action: "ask whether it is ready" } as const;
    try {
      return readinessOf(true, await this.#object(request));
    } catch (error) {
      if (!(error instanceof ApiError) || error.problem.kind !== "not-ready") throw error;
      return readinessOf(false, error.problem.members);
    }
  }

  /** Admits a formation from its document's text, JSON or YAML. */
  async createFormation(text: string): Promise<FormationView> {
    const action = "create the formation";
    return this.#formation(
      await this.#object({ method: "POST", path: "/v1/formations", body: document(text), action }),
    );
  }

  /** A formation by id or name. */
  async formation(idOrName: string, signal?: AbortSignal): Promise<FormationView> {
    return this.#formation(
      await this.#object({
        method: "GET",
        path: formationPath(idOrName),
        action: `show formation ${JSON.stringify(idOrName)}`,
        ...(signal === undefined ? {} : { signal }),
      }),
    );
  }

  /** Cancels a formation, by id or name; its cells stop. */
  async deleteFormation(idOrName: string): Promise<void> {
    const action = `delete formation ${JSON.stringify(idOrName)}`;
    await this.#transport.text({ method: "DELETE", path: formationPath(idOrName), action });
  }

  /** Changes how many cells a member of a formation has. */
  async scaleFormation(
    id: string,
    wish: { readonly member: string; readonly replicas: number },
  ): Promise<FormationView> {
    return this.#formation(
      await this.#object({
        method: "POST",
        path: `/v1/formations/${encodeURIComponent(id)}/scale`,
        body: document(JSON.stringify(wish)),
        action: "scale the formation",
      }),
    );
  }

  /** Formations by id. */
  formations(query: Query = {}): AsyncGenerator<FormationView, void, void> {
    return this.#list("formations", query, isRecord<FormationView>("id"));
  }

  /** Runs a cell from its specification's text, JSON or YAML. */
  async runCell(text: string): Promise<CellStartedView> {
    const { cellId, runId } = await this.#object({
      method: "POST",
      path: "/v1/cells",
      body: document(text),
      action: "run the cell",
    });
    if (typeof cellId === "string" && typeof runId === "string") return { cellId, runId };
    throw this.#unexpected("a cell's id and its run");
  }

  /** A cell. */
  async cell(id: string): Promise<CellView> {
    const action = `show cell ${JSON.stringify(id)}`;
    return this.#cell(await this.#object({ method: "GET", path: cellPath(id), action }));
  }

  /** Asks a cell to end; by force at once. */
  async stopCell(id: string, options: { readonly force: boolean }): Promise<CellView> {
    return this.#cell(
      await this.#object({
        method: "POST",
        path: `${cellPath(id)}/stop`,
        query: options.force ? { force: true } : {},
        action: `stop cell ${JSON.stringify(id)}`,
      }),
    );
  }

  /** Cells by id. */
  cells(query: Query = {}): AsyncGenerator<CellView, void, void> {
    return this.#list("cells", query, isRecord<CellView>("id"));
  }

  /** What was counted of flows, by cell. */
  rules(query: Query = {}): AsyncGenerator<RuleView, void, void> {
    return this.#list("rules", query, isRecord<RuleView>("cell_id"));
  }

  /** Agents by their pids on the host, as they are now. */
  agents(query: Query = {}): AsyncGenerator<AgentView, void, void> {
    return this.#list("agents", query, isRecord<AgentView>("id"));
  }

  /** Hosts by name. */
  hosts(query: Query = {}): AsyncGenerator<HostView, void, void> {
    return this.#list("hosts", query, isRecord<HostView>("name"));
  }

  /** What a cell wrote, in the order in which it came; ends with it where it is followed. */
  async *output(
    id: string,
    options: {
      readonly stream?: "stdout" | "stderr";
      readonly tailLines?: number;
      readonly follow: boolean;
      readonly signal: AbortSignal;
    },
  ): AsyncGenerator<OutputPart, void, void> {
    const { stream, tailLines, follow, signal } = options;
    const bytes = this.#transport.bytes({
      method: "GET",
      path: `${cellPath(id)}/logs`,
      query: { format: "ndjson", stream, tail: tailLines, follow: follow ? true : undefined },
      accept: NDJSON,
      action: `read the output of cell ${JSON.stringify(id)}`,
      signal,
    });
    for await (const value of valuesOf(bytes)) {
      const part = outputPartOf(value);
      if (part === undefined) throw this.#unexpected("a part of a cell's output");
      yield part;
    }
  }

  /** Runs a command in a cell; ends with it. The command is killed when the signal is aborted. */
  async *exec(
    id: string,
    options: ExecOptions,
    signal: AbortSignal,
  ): AsyncGenerator<ExecNews, void, void> {
    const bytes = this.#transport.bytes({
      method: "POST",
      path: `${cellPath(id)}/exec`,
      body: { text: JSON.stringify(options), mediaType: "application/json" },
      accept: NDJSON,
      action: `run a command in cell ${JSON.stringify(id)}`,
      signal,
    });
    for await (const value of valuesOf(bytes)) {
      const news = execNewsOf(value);
      if (news === undefined) throw this.#unexpected("what a command did");
      yield news;
    }
  }

  /** Gives a command bytes for its stdin; resolves once it has room for more. */
  async execInput(
    key: { readonly cellId: string; readonly execId: string },
    bytes: Uint8Array<ArrayBuffer>,
    isLast: boolean,
    signal: AbortSignal,
  ): Promise<void> {
    await (await this.#transport.send({
      method: "POST",
      path: `${cellPath(key.cellId)}/exec/${encodeURIComponent(key.execId)}/stdin`,
      query: isLast ? { end: true } : {},
      body: { text: bytes, mediaType: "application/octet-stream" },
      action: "write to the command",
      signal,
      // A command takes its input when it wants to.
      isStream: true,
    })).body?.cancel();
  }

  /** Events about a cell as they are on the log; ends with the cell where it is followed. */
  cellEvents(
    id: string,
    options: { readonly tail?: number; readonly follow: boolean; readonly signal: AbortSignal },
  ): AsyncGenerator<unknown, void, void> {
    const { tail, follow, signal } = options;
    return valuesOf(this.#transport.bytes({
      method: "GET",
      path: `${cellPath(id)}/events`,
      query: { tail, follow: follow ? true : undefined },
      accept: NDJSON,
      action: `read the events of cell ${JSON.stringify(id)}`,
      signal,
    }));
  }

  /** A page of events after a cursor. */
  async events(
    options: EventQuery & { readonly since?: number; readonly limit?: number } = {},
  ): Promise<EventPage> {
    const { events, cursor } = await this.#object({
      method: "GET",
      path: "/v1/events",
      query: { ...options },
      action: "read events",
    });
    if (!Array.isArray(events) || typeof cursor !== "number") {
      throw this.#unexpected("a page of events");
    }
    const rows = events.map(eventRowOf).filter((row) => row !== undefined);
    return { events: rows, cursor };
  }

  /** The last sequence of the log; 0 of an empty one. */
  async lastSeq(): Promise<number> {
    return (await this.events({ since: SINCE_MAX, limit: 1 })).cursor;
  }

  /** Follows events; see {@link followEvents}. */
  followEvents(options: FollowOptions): AsyncGenerator<EventRow, void, void> {
    return followEvents(this.#transport, options);
  }

  /** Lets go of connections. */
  close(): void {
    this.#transport.close();
  }

  /** Every record of a list, page by page, up to the query's `limit`. */
  async *#list<T>(
    name: string,
    query: Query,
    isWanted: (value: unknown) => value is T,
  ): AsyncGenerator<T, void, void> {
    const { limit, ...rest } = query;
    let left = typeof limit === "number" ? limit : Number.POSITIVE_INFINITY;
    let after: string | undefined;
    while (left > 0) {
      const page = await this.#object({
        method: "GET",
        path: `/v1/${name}`,
        query: { ...rest, limit: Math.min(left, PAGE_LIMIT), after },
        action: `list ${name}`,
      });
      const records = page[name];
      if (!Array.isArray(records)) throw this.#unexpected(`a list of ${name}`);
      for (const record of records) {
        if (!isWanted(record)) throw this.#unexpected(`a list of ${name}`);
        yield record;
      }
      left -= records.length;
      const { next } = page;
      if (typeof next !== "string" || next === after || records.length === 0) return;
      after = next;
    }
  }

  async #object(request: ApiRequest): Promise<Readonly<Record<string, unknown>>> {
    const text = await this.#transport.text(request);
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch {
      throw this.#unexpected("JSON");
    }
    const members = membersOf(value);
    if (members === undefined) throw this.#unexpected("an object");
    return members;
  }

  #formation(value: Readonly<Record<string, unknown>>): FormationView {
    const { id, name, status } = value;
    if ([id, name, status].every((one) => typeof one === "string")) return value as FormationView;
    throw this.#unexpected("a formation");
  }

  #cell(value: Readonly<Record<string, unknown>>): CellView {
    if (typeof value.id === "string" && typeof value.state === "string") return value as CellView;
    throw this.#unexpected("a cell");
  }

  #unexpected(wanted: string): UnexpectedAnswerError {
    return new UnexpectedAnswerError(this.serverName, wanted);
  }
}

function isRecord<T>(key: string): (value: unknown) => value is T {
  return (value): value is T => typeof membersOf(value)?.[key] === "string";
}

function cellPath(id: string): string {
  return `/v1/cells/${encodeURIComponent(id)}`;
}

function document(text: string): { text: string; mediaType: string } {
  const isJson = text.trimStart().startsWith("{");
  return { text, mediaType: isJson ? "application/json" : "application/yaml" };
}
