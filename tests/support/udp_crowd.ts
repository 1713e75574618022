/**
 * Any number of UDP clients and some backends with a few sockets in all, in a network namespace of
 * its own where whole prefixes are local.
 *
 *   clients  127.64.0.1 … or fd00:64::1 …      sources  127.77.0.0/16 or fd00:77::/64
 *
 * @module
 */
import {
  createNetns,
  encodeSockaddr,
  type Fd,
  inetSocketAddress,
  openUdpListener,
  openUdpSourceSocket,
  UDP_BATCH,
  UDP_RECEIVE_BYTES,
  UDP_SEND_BYTES,
  type UdpListenerSocket,
  UdpReceiveBatch,
  UdpSendBatch,
  UdpSlab,
  withNetns,
} from "#ffi/mod.ts";
import { makeTuple, PORTS_AT, TUPLE_WORDS, writePorts } from "#lib/udp/mod.ts";
import { findCommand } from "./kernel.ts";

/** Which protocol. */
export type CrowdFamily = "ipv4" | "ipv6";

const PLACES = {
  ipv4: { server: "127.0.0.1", wildcard: "0.0.0.0", client: "127.64.0.1" },
  ipv6: { server: "::1", wildcard: "::", client: "fd00:64::1" },
};
/** Datagrams on their way at one time; fewer than any socket has room for. */
const WINDOW = 64;
const PAYLOAD_BYTES = 8;
const GIVE_UP_MS = 60_000;

/** What {@link UdpCrowd.ask} found. */
export interface CrowdAnswer {
  /** Which backend answered each client; -1 for none. */
  readonly by: Int32Array;
  /** Replies that came to another client, or were not whole. */
  readonly wrong: number;
}

/** See the module. */
export class UdpCrowd implements Disposable {
  /** The namespace. */
  readonly ns: Fd = createNetns();
  /** Where the backends are. */
  readonly server: string;
  readonly #family: CrowdFamily;
  readonly #slab = new UdpSlab(2 * UDP_BATCH, 2048, UDP_RECEIVE_BYTES + UDP_SEND_BYTES + 4096);
  readonly #received = new UdpReceiveBatch(this.#slab, 0);
  readonly #batch = new UdpSendBatch(this.#slab);
  readonly #view = new DataView(this.#slab.bytes.buffer);
  readonly #client: UdpListenerSocket;
  readonly #backends: (UdpListenerSocket | undefined)[] = [];
  readonly #tuple = new Uint32Array(TUPLE_WORDS);
  #round = 0;

  /** Makes the namespace, its local prefixes and the clients' socket. */
  constructor(family: CrowdFamily, backends: number) {
    this.#family = family;
    const { server, wildcard } = PLACES[family];
    this.server = server;
    this.#ip("link", "set", "lo", "up");
    // 127.0.0.0/8 is local as it is.
    if (family === "ipv6") {
      for (const prefix of ["fd00:64::/64", "fd00:77::/64"]) {
        this.#ip("-6", "route", "add", "local", prefix, "dev", "lo");
      }
    }
    const place = (address: string) => encodeSockaddr(inetSocketAddress(address, 0));
    this.#client = this.inside(() => openUdpSourceSocket({ address: place(wildcard) }));
    for (let index = 0; index < backends; index++) {
      this.#backends.push(this.inside(() => openUdpListener({ address: place(server) })));
    }
  }

  /** Runs something on this thread in the namespace. */
  inside<T>(use: () => T): T {
    return withNetns(this.ns, use);
  }

  /** A backend's port. */
  portOf(backend: number): number {
    const address = this.#backends[backend]?.address;
    if (address === undefined || !("port" in address)) throw new Error("no such backend");
    return address.port;
  }

  /** Closes a backend: nobody listens there any more. */
  closeBackend(backend: number): void {
    this.#backends[backend]?.fd.close();
    this.#backends[backend] = undefined;
  }

  /**
   * Sends a datagram of each client, and takes the answers as they come.
   *
   * @param isLossy Do not wait for what is missing longer than a moment.
   */
  ask(clients: number, port: number, isLossy = false): CrowdAnswer {
    const by = new Int32Array(clients).fill(-1);
    const round = ++this.#round;
    let sent = 0;
    let got = 0;
    let wrong = 0;
    let quietSince = performance.now();
    while (got < clients) {
      const count = Math.min(UDP_BATCH, clients - sent, WINDOW - (sent - got));
      if (count > 0) {
        this.#send(sent, count, round, port);
        sent += count;
      }
      for (const [index, backend] of this.#backends.entries()) {
        if (backend !== undefined) this.#echo(index, backend);
      }
      const before = got + wrong;
      this.#takeReplies((client, ofRound, backend) => {
        if (ofRound !== round) return;
        if (client < 0 || client >= clients || by[client] !== -1) wrong += 1;
        else {
          by[client] = backend;
          got += 1;
        }
      });
      const now = performance.now();
      if (got + wrong > before || count > 0) quietSince = now;
      if (isLossy && sent === clients && now > quietSince + 300) break;
      // What is lost blocks the window: then it is given up.
      if (isLossy && now > quietSince + 300) got += sent - got;
      if (now > quietSince + GIVE_UP_MS) break;
    }
    return { by, wrong };
  }

  /** Sends a datagram from a backend's socket to anyone. */
  sendFrom(backend: number, address: string, port: number): void {
    const socket = this.#backends[backend];
    if (socket === undefined) throw new Error("no such backend");
    const tuple = makeTuple({ address, port }, { address, port });
    this.#batch.add(this.#family === "ipv6", tuple, 0, port, this.#slab.payloadAt(40), 1);
    this.#batch.flush(socket.fd.number, (_, errno) => {
      throw new Error(`not sent: errno ${errno}`);
    });
  }

  /** Takes what came to a backend, without an answer: who sent. */
  takeSenders(backend: number): { readonly words: Uint32Array; readonly port: number }[] {
    const socket = this.#backends[backend];
    if (socket === undefined) throw new Error("no such backend");
    const senders = [];
    const count = this.#received.receive(socket.fd.number);
    for (let at = 0; at < count; at++) {
      const words = new Uint32Array(TUPLE_WORDS);
      const port = this.#received.readSender(at, words, 0);
      writePorts(words, 0, port, 0);
      senders.push({ words, port });
    }
    return senders;
  }

  /** Sends one datagram of a client, and takes no answer. */
  tell(client: number, port: number): void {
    this.#send(client, 1, ++this.#round, port);
  }

  /** Closes all. */
  [Symbol.dispose](): void {
    this.#client.fd.close();
    for (const backend of this.#backends) backend?.fd.close();
    this.ns.close();
  }

  #ip(...args: string[]): void {
    const ip = findCommand("ip") ?? "ip";
    const { success, stderr } = this.inside(() => new Deno.Command(ip, { args }).outputSync());
    if (!success) throw new Error(new TextDecoder().decode(stderr));
  }

  #firstClient(): Uint32Array {
    const { server, client } = PLACES[this.#family];
    return makeTuple({ address: server, port: 0 }, { address: client, port: 0 });
  }

  #send(first: number, count: number, round: number, port: number): void {
    const tuple = this.#firstClient();
    tuple[7] += first;
    for (let at = 0; at < count; at++) {
      const offset = this.#slab.payloadAt(UDP_BATCH + at);
      this.#view.setUint32(offset, first + at);
      this.#view.setUint32(offset + 4, round);
      this.#batch.add(this.#family === "ipv6", tuple, 0, port, offset, PAYLOAD_BYTES, tuple, 4);
      tuple[7] += 1;
    }
    this.#batch.flush(this.#client.fd.number, (_, errno) => {
      throw new Error(`not sent: errno ${errno}`);
    });
  }

  /** A backend's answer is what it got, and who it is. */
  #echo(index: number, { fd }: UdpListenerSocket): void {
    const count = this.#received.receive(fd.number);
    for (let at = 0; at < count; at++) {
      const port = this.#received.readSender(at, this.#tuple, 0);
      const offset = this.#received.payloadAt(at);
      this.#slab.bytes[offset + PAYLOAD_BYTES] = index;
      this.#tuple[PORTS_AT] = 0;
      const isV6 = this.#family === "ipv6";
      this.#batch.add(isV6, this.#tuple, 0, port, offset, PAYLOAD_BYTES + 1);
    }
    // A flow that ended since is nobody's loss.
    if (count > 0) this.#batch.flush(fd.number, () => {});
  }

  #takeReplies(take: (client: number, round: number, backend: number) => void): void {
    const first = this.#firstClient()[7];
    for (;;) {
      const count = this.#received.receive(this.#client.fd.number);
      for (let at = 0; at < count; at++) {
        this.#received.readControl(at, this.#tuple, 4);
        const offset = this.#received.payloadAt(at);
        const client = this.#view.getUint32(offset);
        const isWhole = this.#received.lengthAt(at) === PAYLOAD_BYTES + 1;
        const isTheirs = isWhole && this.#tuple[7] === first + client;
        const round = this.#view.getUint32(offset + 4);
        take(isTheirs ? client : -1, round, this.#slab.bytes[offset + PAYLOAD_BYTES]);
      }
      if (count < UDP_BATCH) return;
    }
  }
}
