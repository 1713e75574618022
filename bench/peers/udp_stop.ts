/**
 * How many flows a UDP balancer opens before it stops: clients of any number and backends that
 * never answer, with a few sockets in all.
 *
 * @module
 */
import {
  encodeSockaddr,
  inetSocketAddress,
  openUdpListener,
  openUdpSourceSocket,
  UDP_BATCH,
  UDP_SEND_BYTES,
  UdpSendBatch,
  UdpSlab,
} from "#ffi/mod.ts";
import { makeTuple } from "#lib/udp/mod.ts";
import { BACKEND_PORT, BACKENDS, LISTEN_PORT } from "./udp_peers.ts";

/** Lets the balancer keep up: its socket's room is for some thousands. */
const PAUSE_EVERY = 1024;
const PAUSE_MS = 40;
const SETTLE_MS = 500;

/** Opens flows of so many clients; how many sockets the processes have more than before. */
export async function countSocketsOpened(
  pids: readonly number[],
  clients: number,
): Promise<number> {
  using stack = new DisposableStack();
  const place = (address: string, port: number) => encodeSockaddr(inetSocketAddress(address, port));
  for (let backend = 0; backend < BACKENDS; backend++) {
    stack.use(openUdpListener({ address: place("127.0.0.1", BACKEND_PORT + backend) }).fd);
  }
  const client = stack.use(openUdpSourceSocket({ address: place("0.0.0.0", 0) }).fd);
  const slab = new UdpSlab(1, 64, UDP_SEND_BYTES);
  const batch = new UdpSendBatch(slab);
  const before = countSockets(pids);
  const server = { address: "127.0.0.1", port: LISTEN_PORT };
  const tuple = makeTuple(server, { address: "127.16.0.0", port: 0 });
  for (let sent = 0; sent < clients;) {
    for (let at = 0; at < UDP_BATCH && sent < clients; at++, sent++) {
      batch.add(false, tuple, 0, LISTEN_PORT, slab.payloadAt(0), 64, tuple, 4);
      tuple[7] += 1;
    }
    // What is refused is one flow less.
    batch.flush(client.number, () => {});
    if (sent % PAUSE_EVERY === 0) await new Promise((done) => setTimeout(done, PAUSE_MS));
  }
  await new Promise((done) => setTimeout(done, SETTLE_MS));
  return countSockets(pids) - before;
}

function countSockets(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => sum + Array.from(Deno.readDirSync(`/proc/${pid}/fd`)).length, 0);
}
