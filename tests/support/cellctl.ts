/**
 * A stand-in for the original's own command line, written from its documentation alone: its calls,
 * its models, what it prints, its exit codes. It shares no code with ours.
 *
 * Where the documentation leaves a choice, it is the stricter client: `status` and `state` of a
 * formation are two names of one member, and a body with both is refused; texts that are not
 * optional must not be null; two list keys at once are refused.
 *
 * @module
 */
import { parse } from "yaml";
import {
  cellOf,
  EXIT,
  Failure,
  type Formation,
  formationOf,
  formationPath,
  type Json,
  listOf,
  nameOf,
} from "./cellctl_models.ts";

/** What a command did. */
export interface CellctlResult {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** How it is set up. */
export interface CellctlOptions {
  readonly server: string;
  readonly token: string;
  readonly files?: Readonly<Record<string, string>>;
  /** Ends commands that follow. */
  readonly signal?: AbortSignal;
  /** Of `rollout status`; the original's is 1500. */
  readonly pollMs?: number;
  /** By which way the server is reached. */
  readonly client?: Deno.HttpClient;
  /** Called with each line of stdout. */
  readonly onLine?: (line: string) => void;
}

const CLIENT_VERSION = "0.5.6";
/** Runs a command: `cellctl(["get", "cells"], …)`. */
export async function cellctl(
  args: readonly string[],
  options: CellctlOptions,
): Promise<CellctlResult> {
  const run = new Run(options);
  let code: number;
  try {
    code = await run.command(args);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    run.err += `error: ${error.message}\n`;
    code = error.code;
  }
  return { code, out: run.out, err: run.err };
}

class Run {
  out = "";
  err = "";
  readonly #options: CellctlOptions;
  readonly #server: string;

  constructor(options: CellctlOptions) {
    this.#options = options;
    this.#server = options.server.replace(/\/$/, "");
  }

  async command(args: readonly string[]): Promise<number> {
    const [verb, ...rest] = args;
    const { words, flags } = parseArgs(rest);
    switch (verb) {
      case "version":
        return await this.#version();
      case "apply":
        return await this.#apply(flags);
      case "get":
        return await this.#get(words, flags);
      case "describe":
        return await this.#describe(words);
      case "delete":
        return await this.#delete(words);
      case "logs":
        return await this.#logs(words, flags);
      case "events":
        return flags.has("f") ? await this.#follow(flags) : await this.#events(flags);
      case "rollout":
        return await this.#rollout(words, flags);
      case "diff":
        return await this.#diff(flags);
      default:
        throw new Failure(EXIT.usage, `unrecognized subcommand '${verb}'`);
    }
  }

  async #version(): Promise<number> {
    this.#print(`client: cellctl ${CLIENT_VERSION}`);
    try {
      const body = await this.#json("GET", "/v1/version") as Json;
      const pinned = (body.server as Json | undefined)?.version;
      if (typeof body.version !== "string" || pinned !== body.version) {
        throw new Failure(EXIT.api, "decode: version");
      }
      this.#print(`server: cellos-server ${body.version} (${this.#server})`);
    } catch (error) {
      this.err += `server: ${(error as Error).message}\n`;
    }
    return EXIT.ok;
  }

  async #apply(flags: Flags): Promise<number> {
    const document = this.#document(flags);
    const body = await this.#json("POST", "/v1/formations", JSON.stringify(document));
    const { id, name, state } = formationOf(body);
    this.#print(`formation/${name || id} created (state=${state})`);
    return EXIT.ok;
  }

  async #get(words: readonly string[], flags: Flags): Promise<number> {
    const [kind] = words;
    const output = flags.get("o") ?? "table";
    if (!["table", "wide", "json", "name"].includes(output)) {
      throw new Failure(EXIT.usage, `invalid value '${output}' for '--output'`);
    }
    if (kind !== "formations" && kind !== "cells") throw new Failure(EXIT.usage, "unknown kind");
    const formation = flags.get("formation");
    const query = formation === undefined ? "" : `?${new URLSearchParams({ formation })}`;
    const body = await this.#json("GET", `/v1/${kind}${query}`);
    const items = kind === "formations"
      ? listOf(body, kind).map(formationOf)
      : listOf(body, kind).map(cellOf);
    if (output === "json") this.#print(JSON.stringify(items));
    else if (output === "name") {
      for (const { id, name } of items) this.#print(`${kind.slice(0, -1)}/${name || id}`);
    } else {
      this.#print(output === "wide" ? "NAME STATE ID" : "NAME STATE");
      for (const { id, name, state } of items) {
        this.#print([name || id, state, ...(output === "wide" ? [id] : [])].join(" "));
      }
    }
    return EXIT.ok;
  }

  async #describe([kind, name]: readonly string[]): Promise<number> {
    if (kind === "cell") {
      const cell = cellOf(await this.#json("GET", `/v1/cells/${encodeURIComponent(name)}`));
      this.#print(`ID: ${cell.id}\nState: ${cell.state}`);
      return EXIT.ok;
    }
    const formation = formationOf(await this.#json("GET", formationPath(name)));
    this.#print(`ID: ${formation.id}\nState: ${formation.state}`);
    this.#print(`Tenant: ${formation.tenant ?? "-"}`);
    this.#print(`Created: ${formation.created_at ?? "-"}\nUpdated: ${formation.updated_at ?? "-"}`);
    this.#print("Cells:");
    if (formation.cells.length === 0) this.#print("  (none reported)");
    for (const cell of formation.cells) this.#print(`  ${cell.name || cell.id} ${cell.state}`);
    return EXIT.ok;
  }

  async #delete([, name]: readonly string[]): Promise<number> {
    const response = await this.#send("DELETE", formationPath(name));
    await response.body?.cancel();
    this.#print(`formation/${name} deleted`);
    return EXIT.ok;
  }

  async #logs([cell]: readonly string[], flags: Flags): Promise<number> {
    const query = new URLSearchParams();
    if (flags.has("f")) query.set("follow", "true");
    const tail = flags.get("tail");
    if (tail !== undefined) query.set("tail", tail);
    const path = `/v1/cells/${encodeURIComponent(cell)}/events?${query}`;
    const response = await this.#send("GET", path);
    if (!flags.has("f")) {
      const text = await response.text();
      const isArray = text.trimStart().startsWith("[");
      const events = isArray ? JSON.parse(text) as unknown[] : linesOf(text);
      for (const event of events) this.#printEvent(event);
      return EXIT.ok;
    }
    await this.#printStream(response);
    return EXIT.ok;
  }

  async #printStream(response: Response): Promise<void> {
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    const stop = () => void reader.cancel().catch(() => {});
    this.#options.signal?.addEventListener("abort", stop, { once: true });
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const lines = (rest + value).split("\n");
      rest = lines.pop() ?? "";
      for (const event of linesOf(lines.join("\n"))) this.#printEvent(event);
    }
    this.#options.signal?.removeEventListener("abort", stop);
    for (const event of linesOf(rest)) this.#printEvent(event);
  }

  async #events(flags: Flags): Promise<number> {
    const query = new URLSearchParams();
    for (const name of ["formation", "since", "limit"]) {
      const value = flags.get(name);
      if (value !== undefined) query.set(name, value);
    }
    const { events, cursor } = await this.#json("GET", `/v1/events?${query}`) as Json;
    if (!Array.isArray(events) || !Number.isInteger(cursor)) {
      throw new Failure(EXIT.api, "decode: events");
    }
    for (const { seq, event } of events as Json[]) {
      if (!Number.isInteger(seq)) throw new Failure(EXIT.api, "decode: seq");
      this.#printEvent(event);
    }
    return EXIT.ok;
  }

  async #follow(flags: Flags): Promise<number> {
    const query = new URLSearchParams();
    const since = flags.get("since");
    if (since !== undefined) query.set("since", since);
    const socket = new WebSocket(`${this.#server.replace(/^http/, "ws")}/ws/events?${query}`, {
      headers: { authorization: `Bearer ${this.#options.token}` },
      ...(this.#options.client === undefined ? {} : { client: this.#options.client }),
    });
    let problem: string | undefined;
    const stop = () => socket.close();
    this.#options.signal?.addEventListener("abort", stop, { once: true });
    await new Promise<void>((resolve) => {
      socket.onmessage = ({ data }) => {
        const { seq, event } = JSON.parse(String(data)) as Json;
        if (!Number.isInteger(seq)) throw new Failure(EXIT.api, "decode: seq");
        this.#printEvent(event);
      };
      socket.onerror = (event) => problem = (event as ErrorEvent).message;
      socket.onclose = () => resolve();
    });
    this.#options.signal?.removeEventListener("abort", stop);
    if (problem !== undefined) throw new Failure(EXIT.api, problem);
    return EXIT.ok;
  }

  async #rollout([verb, name]: readonly string[], flags: Flags): Promise<number> {
    if (verb !== "status") throw new Failure(EXIT.usage, `unrecognized subcommand '${verb}'`);
    const seconds = Number(flags.get("timeout") ?? Infinity);
    const deadline = performance.now() + seconds * 1000;
    for (;;) {
      const { state } = formationOf(await this.#json("GET", formationPath(name)));
      // The server's word for success is the second one; later clients take both.
      if (state === "COMPLETED" || state === "SUCCEEDED") {
        this.#print(`formation/${name} completed`);
        return EXIT.ok;
      }
      if (state === "FAILED") {
        this.#print(`formation/${name} failed`);
        return EXIT.api;
      }
      if (performance.now() >= deadline) {
        throw new Failure(EXIT.api, `timed out waiting for formation/${name}`);
      }
      await new Promise((resolve) => setTimeout(resolve, this.#options.pollMs ?? 1500));
    }
  }

  async #diff(flags: Flags): Promise<number> {
    const local = this.#document(flags);
    const name = nameOf(local);
    let remote: Formation;
    try {
      remote = formationOf(await this.#json("GET", formationPath(name)));
    } catch (error) {
      if (!(error instanceof Failure) || !error.message.startsWith("404 ")) throw error;
      this.#print(`formation/${name} would be created`);
      return EXIT.ok;
    }
    const isSame = JSON.stringify(remote.document) === JSON.stringify(local);
    this.#print(`formation/${name} ${isSame ? "unchanged" : "would change"}`);
    return EXIT.ok;
  }

  /** Parsed and checked on this side, and posted as JSON. */
  #document(flags: Flags): Json {
    const path = flags.get("f");
    if (path === undefined || path === "") throw new Failure(EXIT.usage, "-f is required");
    const text = this.#options.files?.[path];
    if (text === undefined) throw new Failure(EXIT.usage, `cannot read ${path}`);
    let document: unknown;
    try {
      document = parse(text);
    } catch (error) {
      throw new Failure(EXIT.validation, `invalid YAML: ${(error as Error).message}`);
    }
    const isFormation = typeof document === "object" && document !== null &&
      nameOf(document as Json) !== "";
    if (!isFormation) throw new Failure(EXIT.validation, "not a formation document");
    return document as Json;
  }

  async #json(method: string, path: string, body?: string): Promise<unknown> {
    const response = await this.#send(method, path, body);
    const text = await response.text();
    try {
      return JSON.parse(text);
    } catch {
      throw new Failure(EXIT.api, "decode: not JSON");
    }
  }

  async #send(method: string, path: string, body?: string): Promise<Response> {
    let response: Response;
    try {
      response = await fetch(`${this.#server}${path}`, {
        ...(this.#options.client === undefined ? {} : { client: this.#options.client }),
        method,
        headers: {
          "user-agent": `cellctl/${CLIENT_VERSION}`,
          "content-type": "application/json",
          authorization: `Bearer ${this.#options.token}`,
        },
        ...(body === undefined ? {} : { body }),
      });
    } catch (error) {
      throw new Failure(EXIT.api, `transport: ${(error as Error).message}`);
    }
    if (response.ok) return response;
    const text = await response.text();
    const type = response.headers.get("content-type") ?? "";
    if (!type.startsWith("application/problem+json")) {
      throw new Failure(EXIT.api, `${response.status} not a problem: ${text}`);
    }
    const { title, detail } = JSON.parse(text) as Json;
    throw new Failure(EXIT.api, `${response.status} ${title}: ${detail}`);
  }

  #print(text: string): void {
    this.out += `${text}\n`;
    this.#options.onLine?.(text);
  }

  #printEvent(event: unknown): void {
    const { specversion, id, type } = event as Json;
    if (specversion !== "1.0" || typeof id !== "string" || typeof type !== "string") {
      throw new Failure(EXIT.api, "decode: not a CloudEvent");
    }
    this.#print(JSON.stringify(event));
  }
}

type Flags = ReadonlyMap<string, string | undefined> & { get(name: string): string | undefined };

/** `-f` takes a path except where it means to follow; `--name value` otherwise. */
function parseArgs(args: readonly string[]): { words: string[]; flags: Flags } {
  const words: string[] = [];
  const flags = new Map<string, string | undefined>();
  for (let at = 0; at < args.length; at++) {
    if (!args[at].startsWith("-")) {
      words.push(args[at]);
      continue;
    }
    const name = args[at].replace(/^-+/, "");
    const next = args[at + 1];
    const takesValue = next !== undefined && !next.startsWith("-");
    flags.set(name, takesValue ? next : undefined);
    if (takesValue) at++;
  }
  return { words, flags };
}

function linesOf(text: string): unknown[] {
  return text.split("\n").filter((line) => line.trim() !== "").map((line) => JSON.parse(line));
}
