/**
 * A real `celld serve` with a UDP load balancer, and the real command line beside it. There are no
 * cells here: everything is on loopback.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import type { UdpClusterRecord, UdpListenerRecord } from "#lib/http/mod.ts";
import type { Settings } from "#lib/daemon/config.ts";
import { type Ground, Served } from "./served.ts";
import { type ProcessOutcome, runCelld } from "./subprocess.ts";

/** How a server is started. */
export interface ServedUdpOptions {
  /** Given to `celld serve --udp`. */
  readonly file?: unknown;
  /** Applied once it serves. */
  readonly document?: unknown;
  /** See `ServedOptions`. */
  readonly program?: string;
}

/** See the module. */
export class ServedUdp implements AsyncDisposable {
  readonly served: Served<Ground>;
  readonly base: string;

  private constructor(base: string, served: Served<Ground>) {
    this.base = base;
    this.served = served;
  }

  /** Starts a server. */
  static async start({ file, document, program }: ServedUdpOptions = {}): Promise<ServedUdp> {
    const base = Deno.makeTempDirSync({ prefix: "celld-udp-" });
    const settings: Settings = {
      runtimeDir: `${base}/run`,
      stateDir: `${base}/state`,
      nflogGroup: 100,
      flowBackend: "nflog",
      ipv4Pool: "10.213.0.0/16",
      ipv6Pool: "fdce:11d0::/112",
      cgroupParent: `celld-test-${Deno.pid}-${base.slice(-6).toLowerCase()}`,
    };
    const spawnInHost = (command: string, options: Deno.CommandOptions) =>
      new Deno.Command(command, options).spawn();
    const args = file === undefined ? [] : ["--udp", `${base}/udp.json`];
    if (file !== undefined) Deno.writeTextFileSync(`${base}/udp.json`, JSON.stringify(file));
    const options = program === undefined ? {} : { program };
    const udp = new ServedUdp(base, new Served({ settings, lab: { spawnInHost } }, args, options));
    await udp.served.start();
    if (document !== undefined) await udp.apply(document);
    return udp;
  }

  /** Runs the command line against it. */
  async celld(...args: readonly string[]): Promise<ProcessOutcome> {
    return await runCelld([...args, "--server", `unix:${this.served.socketPath}`]);
  }

  /** Writes a document to a file; its path. */
  file(document: unknown): string {
    const path = `${this.base}/document-${crypto.randomUUID()}.json`;
    const text = typeof document === "string" ? document : JSON.stringify(document);
    Deno.writeTextFileSync(path, text);
    return path;
  }

  /** Sets a document; what changed. */
  async apply(document: unknown, query = ""): Promise<Record<string, string[]>> {
    const answer = await this.served.ask("POST", `/v1/udp${query}`, document);
    assertEquals(answer.status, 200, answer.text);
    return answer.json();
  }

  /** A listener. */
  async listener(name: string): Promise<UdpListenerRecord> {
    const answer = await this.served.ask("GET", `/v1/udp/listeners/${name}`);
    assertEquals(answer.status, 200, answer.text);
    return answer.json<UdpListenerRecord & Record<string, unknown>>();
  }

  /** A cluster. */
  async cluster(name: string): Promise<UdpClusterRecord> {
    const answer = await this.served.ask("GET", `/v1/udp/clusters/${name}`);
    assertEquals(answer.status, 200, answer.text);
    return answer.json<UdpClusterRecord & Record<string, unknown>>();
  }

  /** The port where a listener really is. */
  async port(name: string): Promise<number> {
    return Number((await this.listener(name)).address.split(":").at(-1));
  }

  /** Its metrics, by name with labels. */
  async metrics(): Promise<Map<string, number>> {
    const { text } = await this.served.ask("GET", "/metrics");
    const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
    return new Map(lines.map((line) => {
      const space = line.lastIndexOf(" ");
      return [line.slice(0, space), Number(line.slice(space + 1))];
    }));
  }

  /** Flows of its log of flows, oldest first. */
  flowLog(): Record<string, unknown>[] {
    try {
      const text = Deno.readTextFileSync(`${this.served.stage.settings.stateDir}/udp-flows.jsonl`);
      return text.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line));
    } catch (error) {
      // None ended yet.
      if (error instanceof Deno.errors.NotFound) return [];
      throw error;
    }
  }

  /** Ends the server and forgets all of it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.served[Symbol.asyncDispose]();
    Deno.removeSync(this.base, { recursive: true });
  }
}

/** A free UDP port of loopback, as far as one can know. */
export function freePort(): number {
  using socket = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return socket.addr.port;
}
