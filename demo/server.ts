/**
 * The servers of the lab's internet: HTTP, a TCP echo, and a UDP echo.
 *
 * Started by `lab.ts` inside a network namespace of its own; its one argument is a
 * `ServerConfig` as JSON. Says `ready` once every port is bound, then one line for what it sees
 * (`observation.ts`). A line `flush` on its standard input is answered by `flushed`; at the end
 * of its standard input it ends, so that it never outlives who started it.
 *
 * HTTP is spoken by hand, because what a test compares is connections and their local address,
 * which an HTTP library hides: `GET /` a small body, `GET /big?bytes=N` N bytes, `POST` counts
 * what is sent. One request a connection.
 *
 * @module
 */
import { createSocket, type Socket } from "node:dgram";
import {
  type Endpoint,
  formatServerLine,
  type ServerConfig,
  type ServerLine,
  type ServiceName,
} from "./observation.ts";

const HEAD_BYTES_MAX = 16 * 1024;
const BIG_BYTES_MAX = 1024 * 1024 * 1024;
const CHUNK = new Uint8Array(64 * 1024).fill(0x2e);

const encoder = new TextEncoder();
let nextId = 1;

function say(line: ServerLine): void {
  const bytes = encoder.encode(formatServerLine(line));
  for (let done = 0; done < bytes.length;) done += Deno.stdout.writeSync(bytes.subarray(done));
}

/** Payload bytes of one connection, counted as they pass. */
class Tally {
  received = 0;
  sent = 0;
  request: string | undefined;
}

async function writeAll(conn: Deno.TcpConn, bytes: Uint8Array, tally: Tally): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const written = await conn.write(bytes.subarray(done));
    done += written;
    tally.sent += written;
  }
}

/** Reads up to the blank line; the rest of what was read is the body's beginning. */
async function readHead(
  conn: Deno.TcpConn,
  tally: Tally,
): Promise<{ head: string; bodyBytes: number } | undefined> {
  const buffer = new Uint8Array(HEAD_BYTES_MAX);
  let used = 0;
  while (used < buffer.length) {
    const count = await conn.read(buffer.subarray(used));
    if (count === null) return undefined;
    used += count;
    tally.received += count;
    const text = new TextDecoder("latin1").decode(buffer.subarray(0, used));
    const end = text.indexOf("\r\n\r\n");
    if (end >= 0) return { head: text.slice(0, end), bodyBytes: used - end - 4 };
  }
  return undefined;
}

async function serveHttp(conn: Deno.TcpConn, tally: Tally): Promise<void> {
  const read = await readHead(conn, tally);
  if (read === undefined) return;
  const [method = "", target = "/"] = read.head.split("\r\n", 1)[0].split(" ");
  tally.request = `${method} ${target}`;
  const announced = Number(/^content-length: *(\d+)/im.exec(read.head)?.[1] ?? 0);
  const buffer = new Uint8Array(64 * 1024);
  let bodyBytes = read.bodyBytes;
  while (bodyBytes < announced) {
    const count = await conn.read(buffer);
    if (count === null) break;
    bodyBytes += count;
    tally.received += count;
  }
  const url = new URL(target, "http://lab");
  if (url.pathname === "/big") {
    const wanted = Math.min(Number(url.searchParams.get("bytes") ?? 0) || 0, BIG_BYTES_MAX);
    await writeAll(conn, head(wanted), tally);
    for (let left = wanted; left > 0; left -= Math.min(left, CHUNK.length)) {
      await writeAll(conn, CHUNK.subarray(0, Math.min(left, CHUNK.length)), tally);
    }
    return;
  }
  const body = encoder.encode(
    method === "POST"
      ? `received ${bodyBytes} bytes\n`
      : `hello from ${addressOf(conn.localAddr)}\n`,
  );
  await writeAll(conn, head(body.length), tally);
  await writeAll(conn, body, tally);
}

function head(bodyBytes: number): Uint8Array {
  return encoder.encode(
    `HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: ${bodyBytes}\r\n` +
      "Connection: close\r\n\r\n",
  );
}

async function serveEcho(conn: Deno.TcpConn, tally: Tally): Promise<void> {
  const buffer = new Uint8Array(64 * 1024);
  for (;;) {
    const count = await conn.read(buffer);
    if (count === null) return;
    tally.received += count;
    await writeAll(conn, buffer.subarray(0, count), tally);
  }
}

function addressOf(addr: Deno.Addr): string {
  return (addr as Deno.NetAddr).hostname;
}

function endpointOf(addr: Deno.Addr): Endpoint {
  return { address: addressOf(addr), port: (addr as Deno.NetAddr).port };
}

async function serveConnection(service: ServiceName, conn: Deno.TcpConn): Promise<void> {
  const tally = new Tally();
  const fixed = {
    id: nextId++,
    protocol: "tcp" as const,
    service,
    peer: endpointOf(conn.remoteAddr),
    local: endpointOf(conn.localAddr),
  };
  const tell = (open: boolean) =>
    say({
      kind: "seen",
      observation: {
        ...fixed,
        bytesReceived: tally.received,
        bytesSent: tally.sent,
        open,
        ...(tally.request === undefined ? {} : { request: tally.request }),
      },
    });
  tell(true);
  try {
    await (service === "http" ? serveHttp(conn, tally) : serveEcho(conn, tally));
  } catch (error) {
    // A peer that goes away in the middle is what some tests do; what passed is still counted.
    if (
      !(error instanceof Deno.errors.ConnectionReset || error instanceof Deno.errors.BrokenPipe)
    ) {
      throw error;
    }
  } finally {
    conn.close();
    tell(false);
  }
}

async function acceptAll(service: ServiceName, listener: Deno.TcpListener): Promise<void> {
  for await (const conn of listener) {
    serveConnection(service, conn).catch((error) => console.error(`${service}: ${error}`));
  }
}

/** One socket an address: the reply then leaves from the address that was asked. */
function openUdpEcho(address: string, port: number): Promise<Socket> {
  const socket = createSocket({ type: address.includes(":") ? "udp6" : "udp4" });
  socket.on("message", (message, peer) => {
    say({
      kind: "seen",
      observation: {
        id: nextId++,
        protocol: "udp",
        service: "udp-echo",
        peer: { address: peer.address, port: peer.port },
        local: { address, port },
        bytesReceived: message.length,
        bytesSent: message.length,
        open: false,
      },
    });
    socket.send(message, peer.port, peer.address);
  });
  const { promise, resolve, reject } = Promise.withResolvers<Socket>();
  socket.once("error", reject);
  socket.bind(port, address, () => resolve(socket));
  return promise;
}

async function main(): Promise<void> {
  const config = JSON.parse(Deno.args[0]) as ServerConfig;
  for (const { service, port, addresses } of config.services) {
    for (const address of addresses) {
      if (service === "udp-echo") await openUdpEcho(address, port);
      else acceptAll(service, Deno.listen({ hostname: address, port }));
    }
  }
  say({ kind: "ready" });
  const lines = Deno.stdin.readable.pipeThrough(new TextDecoderStream());
  for await (const text of lines) {
    // Twice through the event loop: what the kernel had queued is then read and said.
    for (const _flush of text.matchAll(/flush\n/g)) {
      await new Promise((resolve) => setTimeout(resolve, 5));
      say({ kind: "flushed" });
    }
  }
  Deno.exit(0);
}

if (import.meta.main) await main();
