/**
 * The sockets of the portable shell: listeners, and one for each flow.
 *
 * `Deno.listenDatagram` connects nothing, tells of no ICMP message and of no loss, sets no option,
 * and cuts what is longer than its buffer without a word. So each sender is compared with who it
 * should be, and a buffer has a byte more than the longest datagram that is let pass.
 *
 * @module
 */
import { formatIp, parseIp } from "#lib/base/mod.ts";
import type { CidrSet } from "./access.ts";
import { isSameAddress, writeAddressText } from "./portable_address.ts";
import { type DatagramPeer, OutSocket, SendLane, type SendRoom } from "./send_lane.ts";
import { SHELL_COUNTER } from "./shell_counters.ts";
import type { TupleEnd } from "./tuple.ts";
import type { BackendSettings, ListenerSettings } from "./worker_messages.ts";
import { UdpOrderError } from "./worker_link_shell.ts";

/** Opens a socket; as `Deno.listenDatagram`, which it is but for tests. */
export type OpenDatagramSocket = (where: DatagramPeer) => Deno.DatagramConn;

/** What a kernel says where there are too many sockets. */
const LIMIT_CODES: ReadonlySet<unknown> = new Set(["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"]);

/** Whether an error of opening says that there are too many. */
export function isLimit(error: unknown): boolean {
  return LIMIT_CODES.has(codeOf(error));
}

/** `Deno.listenDatagram`, where this Deno has it. Throws `TypeError`. */
export function openDatagramSocket(where: DatagramPeer): Deno.DatagramConn {
  if (typeof Deno.listenDatagram !== "function") {
    throw new TypeError("Cannot open a socket: Deno was started without --unstable-net");
  }
  return Deno.listenDatagram(where);
}

/** Where an end is. */
export function peerOf({ address, port }: TupleEnd): DatagramPeer {
  return { transport: "udp", hostname: address, port };
}

/** A backend made ready. */
export class PortableBackend {
  /** As it was set. */
  readonly settings: BackendSettings;
  /** Where it is. */
  readonly peer: DatagramPeer;
  readonly #sources: readonly DatagramPeer[];
  #turn = 0;

  /** Its sockets go round its sources. */
  constructor(settings: BackendSettings) {
    this.settings = settings;
    const ip = parseIp(settings.address);
    const address = ip === undefined ? settings.address : formatIp(ip);
    this.peer = peerOf({ address, port: settings.port });
    const any = ip?.family === 6 ? "::" : "0.0.0.0";
    this.#sources = (settings.sources ?? [any]).map((address) => peerOf({ address, port: 0 }));
  }

  /** Where the next flow's socket is to be. */
  nextSource(): DatagramPeer {
    this.#turn = (this.#turn + 1) % this.#sources.length;
    return this.#sources[this.#turn];
  }
}

/** An open listener. */
export class PortableListener {
  /** Its socket. */
  readonly out: OutSocket<Deno.DatagramConn>;
  /** Port that it listens on. */
  readonly port: number;
  /** The address that it is bound to, as four words. */
  readonly local: Uint32Array<ArrayBuffer> = new Uint32Array(4);
  /** As it was set last. */
  settings: ListenerSettings;
  /** Senders whose PROXY protocol headers are believed. */
  proxyFrom: CidrSet | undefined;

  /** Opens it. Throws `UdpOrderError`. */
  constructor(settings: ListenerSettings, open: OpenDatagramSocket) {
    const { address, port } = settings;
    this.settings = settings;
    if (!writeAddressText(this.local, 0, address)) {
      throw new UdpOrderError("EINVAL", `Cannot listen at ${JSON.stringify(address)}: no address`);
    }
    try {
      this.out = new OutSocket(open(peerOf({ address, port })));
    } catch (error) {
      const place = address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
      const code = codeOf(error);
      const reason = error instanceof Error ? error.message : String(error);
      throw new UdpOrderError(
        typeof code === "string" ? code : "Error",
        `Cannot listen at ${place}: ${typeof code === "string" ? `${code}: ` : ""}${reason}`,
      );
    }
    this.port = (this.out.socket.addr as Deno.NetAddr).port;
  }

  /** Whether IPv4 clients, who come to any IPv6 wildcard here, are none of its. */
  get refusesIpv4(): boolean {
    return this.settings.address.includes(":") && (this.settings.isV6Only ?? true);
  }
}

/** A flow's socket and its two ways. */
export class PortableUpstream {
  /** Its socket. */
  readonly out: OutSocket<Deno.DatagramConn>;
  /** Whom it talks to. */
  readonly backend: PortableBackend;
  /** Where its replies go: the client, or the proxy that it comes by. */
  client: DatagramPeer;
  /** What the client sent. */
  readonly toBackend: SendLane;
  /** What the backend answered; it leaves from the listener. */
  readonly toClient: SendLane;

  /** Opens it. Throws the error of `Deno.listenDatagram`. */
  constructor(
    backend: PortableBackend,
    listener: PortableListener,
    client: DatagramPeer,
    room: SendRoom,
    open: OpenDatagramSocket,
  ) {
    this.backend = backend;
    this.client = client;
    this.out = new OutSocket(open(backend.nextSource()));
    this.toBackend = new SendLane(this.out, room, SHELL_COUNTER.sentToBackend);
    this.toClient = new SendLane(listener.out, room, SHELL_COUNTER.sentToClient);
  }

  /** Whether a datagram's sender is the backend. */
  isFrom({ hostname, port }: DatagramPeer): boolean {
    const { peer } = this.backend;
    return port === peer.port && isSameAddress(hostname, peer.hostname);
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}
