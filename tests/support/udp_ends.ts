/**
 * Clients and backends for tests of the UDP load balancer: real sockets on loopback.
 *
 * @module
 */
import { createSocket, type RemoteInfo, type Socket } from "node:dgram";

/** How long a client waits for what must come; generous, for a busy machine. */
const REPLY_MS = 5000;
/** How often it is looked whether a socket is closed, every two milliseconds. */
const CLOSE_LOOKS = 100;
/** How long nobody must answer before it counts as silence. */
const SILENCE_MS = 300;

function bind(socket: Socket, port: number, address: string): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once("error", reject);
    socket.bind(port, address, resolve);
  });
}

function familyOf(address: string): "udp4" | "udp6" {
  return address.includes(":") ? "udp6" : "udp4";
}

/** A datagram that a backend saw. */
export interface Seen {
  readonly payload: Uint8Array;
  readonly from: RemoteInfo;
}

/** A server that answers `name:payload`, or does not. */
export class UdpBackend implements AsyncDisposable {
  /** All that came, oldest first. */
  readonly seen: Seen[] = [];
  /** Answers to each datagram. */
  replies = 1;
  /** Makes an answer's payload. */
  answer: (payload: Uint8Array) => Uint8Array;
  readonly #socket: Socket;
  #isClosed = false;
  readonly name: string;

  private constructor(socket: Socket, name: string) {
    this.#socket = socket;
    this.name = name;
    this.answer = (payload) =>
      new Uint8Array([...new TextEncoder().encode(`${name}:`), ...payload]);
    socket.on("message", (message, from) => {
      const payload = Uint8Array.from(message);
      this.seen.push({ payload, from });
      for (let reply = 0; reply < this.replies; reply++) {
        socket.send(this.answer(payload), from.port, from.address);
      }
    });
  }

  /** Starts one; port 0 for any. */
  static async start(name: string, address = "127.0.0.1", port = 0): Promise<UdpBackend> {
    const socket = createSocket(familyOf(address));
    await bind(socket, port, address);
    return new UdpBackend(socket, name);
  }

  /** Where it is. */
  get port(): number {
    return this.#socket.address().port;
  }

  /** Its address. */
  get address(): string {
    return this.#socket.address().address;
  }

  /** What came, as texts. */
  get texts(): string[] {
    return this.seen.map(({ payload }) => new TextDecoder().decode(payload));
  }

  /** Sends to anyone, from its socket. */
  send(payload: string, port: number, address: string): Promise<void> {
    return new Promise((resolve, reject) =>
      this.#socket.send(payload, port, address, (error) => error ? reject(error) : resolve())
    );
  }

  /** Stops it: its port is then closed. The second time it does nothing. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const { port } = this;
    const before = socketsAt(port);
    await new Promise<void>((resolve) => this.#socket.close(() => resolve()));
    // The runtime says so a little before the kernel has it closed, which others may have again.
    for (let look = 0; look < CLOSE_LOOKS && socketsAt(port) >= before; look++) {
      await new Promise((done) => setTimeout(done, 2));
    }
  }

  /** As {@link UdpBackend.close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** A client's socket. */
export class UdpClient implements AsyncDisposable {
  readonly #socket: Socket;
  readonly #inbox: Seen[] = [];
  readonly #loopback: string;
  #waiting: (() => void) | undefined;

  private constructor(socket: Socket, loopback: string) {
    this.#socket = socket;
    this.#loopback = loopback;
    socket.on("message", (message, from) => {
      this.#inbox.push({ payload: Uint8Array.from(message), from });
      this.#waiting?.();
    });
  }

  /** Opens one. */
  static async open(address = "127.0.0.1", port = 0): Promise<UdpClient> {
    const socket = createSocket(familyOf(address));
    await bind(socket, port, address);
    return new UdpClient(socket, address.includes(":") ? "::1" : "127.0.0.1");
  }

  /** Its port. */
  get port(): number {
    return this.#socket.address().port;
  }

  /** Sends a datagram; to its family's loopback where no address is given. */
  send(payload: string | Uint8Array, port: number, address = this.#loopback): Promise<void> {
    return new Promise((resolve, reject) =>
      this.#socket.send(payload, port, address, (error) => error ? reject(error) : resolve())
    );
  }

  /** The next reply; throws where none comes in time. */
  async receive(withinMs: number = REPLY_MS): Promise<Seen & { readonly text: string }> {
    if (this.#inbox.length === 0) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiting = resolve;
      const timer = setTimeout(resolve, withinMs);
      await promise;
      clearTimeout(timer);
      this.#waiting = undefined;
    }
    const seen = this.#inbox.shift();
    if (seen === undefined) throw new Error(`no reply came within ${withinMs} ms`);
    return { ...seen, text: new TextDecoder().decode(seen.payload) };
  }

  /** Sends and waits for the reply's text. */
  async ask(
    payload: string | Uint8Array,
    port: number,
    address = this.#loopback,
  ): Promise<string> {
    await this.send(payload, port, address);
    return (await this.receive()).text;
  }

  /** True where nothing comes for a while. */
  async isSilent(forMs: number = SILENCE_MS): Promise<boolean> {
    try {
      await this.receive(forMs);
      return false;
    } catch {
      // Nothing came: what is asked.
      return true;
    }
  }

  /** Closes the socket. */
  close(): Promise<void> {
    return new Promise((resolve) => this.#socket.close(() => resolve()));
  }

  /** As {@link UdpClient.close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** Sockets of this network that are bound to a UDP port, connected or not. */
export function socketsAt(port: number): number {
  const end = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const rows = ["udp", "udp6"].flatMap((table) =>
    Deno.readTextFileSync(`/proc/thread-self/net/${table}`).split("\n")
  );
  return rows.filter((row) => row.trim().split(/\s+/)[1]?.endsWith(end)).length;
}

/** Waits until something holds; throws where it never does. */
export async function eventually(
  holds: () => boolean | Promise<boolean>,
  withinMs: number = REPLY_MS,
): Promise<void> {
  const untilMs = Date.now() + withinMs;
  while (!(await holds())) {
    if (Date.now() > untilMs) throw new Error(`it never held: ${holds}`);
    await new Promise((done) => setTimeout(done, 10));
  }
}
