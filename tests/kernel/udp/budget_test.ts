/**
 * A worker's turn, one at a time over real sockets: who is busy leaves room for the others.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import {
  closeUdpSocket,
  encodeSockaddr,
  inetSocketAddress,
  openUdpFlowSocket,
  openUdpListener,
  UDP_BATCH,
  UDP_RUN_BYTES,
  UdpRun,
  UdpSlab,
} from "#ffi/mod.ts";
import { UdpEngine } from "#lib/udp/engine_worker.ts";
import { BUDGET_DATAGRAMS } from "#lib/udp/ingress_worker.ts";
import { ROUTE_DEFAULTS } from "#lib/udp/mod.ts";
import { SHELL_COUNTER, SHELL_COUNTER_BYTES, shellCounters } from "#lib/udp/shell_counters.ts";
import { bothFamilies } from "#tests/support/udp_families.ts";

const CLUSTER = 0;
/** More than many budgets, and few enough for a socket's own queue. */
const FLOOD = 2000;

/** An engine in this thread with a sink behind it, which nobody reads. */
function makeEngine(address: string) {
  const counters = new SharedArrayBuffer(SHELL_COUNTER_BYTES);
  const engine = new UdpEngine({
    worker: 0,
    workers: 1,
    maxFlows: 16,
    hashKey: { low: 1, high: 2 },
    tableSeed: 3,
    counters,
    orders: new SharedArrayBuffer(8),
    rings: [],
    directory: new SharedArrayBuffer(0),
  });
  const sink = openUdpListener({ address: encodeSockaddr(inetSocketAddress(address, 0)) });
  assert("port" in sink.address);
  engine.clusters.setBackend({ backend: 0, address, port: sink.address.port });
  engine.clusters.setCluster({ cluster: CLUSTER, policy: "random", members: [{ backend: 0 }] });
  return { engine, sink, counters: shellCounters(counters) };
}

/** Sends so many datagrams from one socket. */
function flood(address: string, port: number, count: number): void {
  const slab = new UdpSlab(1, 64, UDP_RUN_BYTES);
  const run = new UdpRun(slab);
  const fd = openUdpFlowSocket({ backend: encodeSockaddr(inetSocketAddress(address, port)) });
  for (let sent = 0; sent < count; sent++) assertEquals(run.sendOne(fd, slab.payloadAt(0), 8), 8);
  closeUdpSocket(fd);
}

bothFamilies(
  "udp: in one turn a flooded listener takes no more than its budget, and the others have theirs",
  (address) => {
    const { engine, sink, counters } = makeEngine(address);
    try {
      const route = { ...ROUTE_DEFAULTS, cluster: CLUSTER };
      const [busy, calm] = [0, 1].map((listener) =>
        engine.listen({ listener, address, port: 0, route }).port
      );
      flood(address, busy, FLOOD);
      flood(address, calm, 3);
      const taken = (listener: number) =>
        engine.manager.listenerCounters.read(listener).clientDatagrams;
      engine.turn(0);
      // It may be over by what came with its last look, and by nothing else.
      assert(taken(0) > 0 && taken(0) < BUDGET_DATAGRAMS + UDP_BATCH, `${taken(0)} in one turn`);
      assert(taken(0) < FLOOD / 4, `${taken(0)} of ${FLOOD} in one turn`);
      assertEquals(taken(1), 3);
      let turns = 1;
      for (; taken(0) + counters[SHELL_COUNTER.kernelDropped] < FLOOD; turns++) {
        assert(turns < FLOOD, `${taken(0)} of ${FLOOD} came`);
        engine.turn(0);
      }
      assert(turns >= Math.floor(FLOOD / (BUDGET_DATAGRAMS + UDP_BATCH)), `${turns} turns`);
    } finally {
      engine.close();
      sink.fd.close();
    }
    return Promise.resolve();
  },
  // Room for all of the flood is root's to take.
  ["root"],
);
