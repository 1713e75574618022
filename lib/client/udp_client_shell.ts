/**
 * The UDP load balancer of a server, through its API.
 *
 * @module
 */
import { UnexpectedAnswerError } from "./errors.ts";
import type { ApiRequest, Query, Transport } from "./transport_shell.ts";

/** What was changed. */
export interface UdpChangeView {
  /** New, or changed. */
  readonly set: readonly string[];
  /** What is no more. */
  readonly removed: readonly string[];
  /** What was so already. */
  readonly unchanged: readonly string[];
}

/** A listener. */
export interface UdpListenerView {
  /** Unique among its kind. */
  readonly name: string;
  /** An address and a port. */
  readonly address?: string;
  /** Name of its cluster. */
  readonly cluster?: string | null;
  /** `ready`, `up`, or what is wrong. */
  readonly status?: string;
  /** Live flows. */
  readonly flows?: number;
  /** Totals by name. */
  readonly counters?: Readonly<Record<string, number>>;
  /** Members that the client does not look into. */
  readonly [member: string]: unknown;
}

/** A backend of a cluster. */
export interface UdpBackendView {
  /** Unique among its kind. */
  readonly name: string;
  /** An address and a port. */
  readonly address?: string;
  /** `ready`, `up`, or what is wrong. */
  readonly status?: string;
  /** Why, in a sentence. */
  readonly reason?: string;
  /** Live flows. */
  readonly flows?: number;
  /** Totals by name. */
  readonly counters?: Readonly<Record<string, number>>;
  /** Members that the client does not look into. */
  readonly [member: string]: unknown;
}

/** A cluster. */
export interface UdpClusterView {
  /** Unique among its kind. */
  readonly name: string;
  /** How a new flow is given a backend. */
  readonly balance?: string;
  /** With what they do. */
  readonly backends: readonly UdpBackendView[];
  /** Members that the client does not look into. */
  readonly [member: string]: unknown;
}

/** A live flow. */
export interface UdpFlowView {
  /** Name of the listener. */
  readonly listener: string;
  /** An address and a port. */
  readonly client: string;
  /** Name of the backend. */
  readonly backend?: string | null;
  /** Members that the client does not look into. */
  readonly [member: string]: unknown;
}

/** What is to drain. */
export type UdpDrainTarget = { readonly listener: string } | {
  /** Name of its cluster. */
  readonly cluster: string;
  /** Name of the backend. */
  readonly backend: string;
};

/** See the module. */
export class UdpClient {
  readonly #transport: Transport;
  readonly #serverName: string;

  /** Asks over a transport that its owner closes. */
  constructor(transport: Transport, serverName: string) {
    this.#transport = transport;
    this.#serverName = serverName;
  }

  /** Sets what a document names, JSON or YAML. */
  async apply(
    text: string,
    options: { readonly isPruning: boolean; readonly isDryRun: boolean },
  ): Promise<UdpChangeView> {
    const isJson = text.trimStart().startsWith("{");
    const query: Query = {
      prune: options.isPruning || undefined,
      dry_run: options.isDryRun || undefined,
    };
    return await this.#change({
      method: "POST",
      path: "/v1/udp",
      query,
      body: { text, mediaType: isJson ? "application/json" : "application/yaml" },
      action: "set the load balancer",
    });
  }

  /** Removes a listener or a cluster. */
  async remove(kind: "listener" | "cluster", name: string): Promise<UdpChangeView> {
    const path = `/v1/udp/${kind}s/${encodeURIComponent(name)}`;
    return await this.#change({ method: "DELETE", path, action: `remove ${kind} ${name}` });
  }

  /** Begins or ends a drain. */
  async drain(
    target: UdpDrainTarget,
    wish: { readonly isDraining: boolean; readonly afterMs: number },
  ): Promise<UdpChangeView> {
    const place = "listener" in target
      ? `listeners/${encodeURIComponent(target.listener)}`
      : `clusters/${encodeURIComponent(target.cluster)}/backends/${
        encodeURIComponent(target.backend)
      }`;
    const text = JSON.stringify({ draining: wish.isDraining, after_ms: wish.afterMs });
    return await this.#change({
      method: "POST",
      path: `/v1/udp/${place}/drain`,
      body: { text, mediaType: "application/json" },
      action: "drain",
    });
  }

  /** Listeners by name. */
  async listeners(): Promise<readonly UdpListenerView[]> {
    return await this.#list("listeners", {}) as readonly UdpListenerView[];
  }

  /** Clusters by name. */
  async clusters(): Promise<readonly UdpClusterView[]> {
    return await this.#list("clusters", {}) as readonly UdpClusterView[];
  }

  /** Live flows. */
  async flows(query: Query): Promise<readonly UdpFlowView[]> {
    return await this.#list("flows", query) as readonly UdpFlowView[];
  }

  async #list(name: string, query: Query): Promise<readonly unknown[]> {
    const action = `list UDP ${name}`;
    const answer = await this.#object({ method: "GET", path: `/v1/udp/${name}`, query, action });
    const records = answer[name];
    const isWhole = Array.isArray(records) &&
      records.every((one) => typeof one === "object" && one !== null);
    if (!isWhole) throw new UnexpectedAnswerError(this.#serverName, `a list of UDP ${name}`);
    return records;
  }

  async #change(request: ApiRequest): Promise<UdpChangeView> {
    const answer = await this.#object(request);
    const isWhole = [answer.set, answer.removed, answer.unchanged].every(Array.isArray);
    if (!isWhole) throw new UnexpectedAnswerError(this.#serverName, "what was changed");
    return answer as unknown as UdpChangeView;
  }

  async #object(request: ApiRequest): Promise<Readonly<Record<string, unknown>>> {
    const text = await this.#transport.text(request);
    try {
      const value = JSON.parse(text);
      if (typeof value === "object" && value !== null) return value;
    } catch {
      // Told below.
    }
    throw new UnexpectedAnswerError(this.#serverName, "an object");
  }
}
