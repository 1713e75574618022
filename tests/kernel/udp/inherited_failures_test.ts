/**
 * What a plane is to take over and cannot: every descriptor is closed once, and the workers go on.
 *
 * @module
 */
import { assert, assertEquals, assertInstanceOf, assertRejects } from "@std/assert";
import {
  addAddress,
  closeUdpSocket,
  createNetns,
  createPipe,
  createVeth,
  duplicateFd,
  encodeSockaddr,
  type Fd,
  inetSocketAddress,
  linkIndex,
  NetlinkConn,
  openUdpFlowSocket,
  setLinkUp,
  UDP_BATCH,
  UDP_RECEIVE_BYTES,
  UDP_RUN_BYTES,
  UdpReceiveBatch,
  UdpRun,
  UdpSlab,
  withNetns,
} from "#ffi/mod.ts";
import { type ListenerInheritance, ROUTE_DEFAULTS } from "#lib/udp/mod.ts";
import { UdpOrderError, UdpPlane, UdpWorkerGoneError } from "#lib/udp/mod_shell.ts";
import { FLOW_QUEUE_MAX } from "#lib/udp/upstreams_worker.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { eventually, UdpClient } from "#tests/support/udp_ends.ts";
import { bothFamilies } from "#tests/support/udp_families.ts";
import { openFiles } from "#tests/support/udp_plane.ts";
import { epollFds, isWorkers } from "./loops.ts";
import { listenerParts, openUdpSockets, SuccessionStage } from "./succession_stage.ts";

const NEEDS = ["root", "path:/proc/sys/net/ipv4/neigh"] as const;

type Part = ListenerInheritance | undefined;

/** The same with other flows. */
function withFlows(
  part: Part,
  change: (flow: ListenerInheritance["flows"][number]) => object,
): Part {
  if (part === undefined) return undefined;
  return { ...part, flows: part.flows.map((flow) => ({ ...flow, ...change(flow) })) };
}

bothFamilies(
  "udp inherited: after any number of lives there are no more descriptors",
  async (address) => {
    await using stage = await SuccessionStage.start({ address, plane: { workers: 2 } });
    const clients = await Promise.all(Array.from({ length: 8 }, () => UdpClient.open(address)));
    const ask = async () => {
      for (const client of clients) {
        assertEquals(
          await client.ask("x", stage.port, address),
          "BK0:x",
        );
      }
    };
    await ask();
    await stage.succeed();
    await ask();
    const [files, sockets] = [openFiles(), openUdpSockets()];
    const lives = 8;
    for (let life = 0; life < lives; life++) {
      assertEquals((await stage.succeed()).restored, 8);
      await ask();
      assertEquals(openUdpSockets(), sockets);
    }
    // A loop has more than one other descriptor, and the runtime's threads end in their own time.
    await eventually(() => openFiles() < files + 2 * lives);
    await stage.plane.removeListener(0);
    // Two sockets of the listener, and one a flow.
    assertEquals(openUdpSockets(), sockets - 10);
    for (const client of clients) await client.close();
  },
);

kernelTest(
  "udp inherited: a flow that cannot go on is let go of, and the others go on",
  [],
  async () => {
    await using stage = await SuccessionStage.start();
    const clients = await Promise.all(Array.from({ length: 6 }, () => UdpClient.open()));
    for (const client of clients) await client.ask("x", stage.port);
    await stage.succeed();
    for (const client of clients) assertEquals(await client.ask("y", stage.port), "BK0:y");
    const sockets = openUdpSockets();
    let turn = 0;
    const { restored } = await stage.succeed({
      map: ([part]) => [
        withFlows(part, (flow) => {
          turn += 1;
          // No backend of this number, none at all, a number out of range, another listener.
          if (turn === 1) return { backend: 99 };
          if (turn === 2) return { backend: -1 };
          if (turn === 3) return { backend: 1e9 };
          if (turn === 4) return { listener: 7 };
          // The key is the next one's already.
          return turn === 5 ? { tuple: part?.flows[5].tuple } : flow;
        }),
      ],
    });
    assertEquals([restored, await stage.flows()], [1, [1]]);
    assertEquals(openUdpSockets(), sockets - 5);
    for (const client of clients) assertEquals(await client.ask("z", stage.port), "BK0:z");
    assertEquals(openUdpSockets(), sockets);
    for (const client of clients) await client.close();
  },
);

kernelTest("udp inherited: limits on new flows do not count those that go on", [], async () => {
  const limit = { newFlowsPerSecond: 1, burst: 20 };
  await using stage = await SuccessionStage.start({ listener: { limit } });
  const clients = await Promise.all(Array.from({ length: 20 }, () => UdpClient.open()));
  for (const client of clients) assertEquals(await client.ask("x", stage.port), "BK0:x");
  const tight = { newFlowsPerSecond: 0.001, burst: 1 };
  assertEquals((await stage.succeed({ listener: { limit: tight } })).restored, 20);
  for (const client of clients) assertEquals(await client.ask("y", stage.port), "BK0:y");
  // The one that is admitted is still to come; then nobody is.
  await using late = await UdpClient.open();
  assertEquals(await late.ask("z", stage.port), "BK0:z");
  await using later = await UdpClient.open();
  await later.send("z", stage.port);
  assert(await later.isSilent());
  // A limit on their number holds.
  assertEquals((await stage.succeed({ plane: { maxFlows: 5 } })).restored, 5);
  for (const client of clients) await client.close();
});

kernelTest(
  "udp inherited: a listener that cannot be opened closes all that it was given",
  [],
  async () => {
    const clients = await Promise.all(Array.from({ length: 8 }, () => UdpClient.open()));
    const cases:
      readonly (readonly [object, string, (parts: readonly Part[]) => readonly Part[]])[] = [
        [{ port: 1 }, "Cannot listen at 127.0.0.1 port 1: the socket is at", (parts) => parts],
        [{ address: "127.0.0.2" }, "Cannot listen at 127.0.0.2", (parts) => parts],
        [{ address: "::1" }, "Cannot listen at ::1", (parts) => parts],
        [{ listener: 70_000 }, "Cannot use listener 70000", (parts) => parts],
        // The first one opens what the second one cannot.
        [{}, "ENOTSOCK", ([first, second]) => {
          if (second !== undefined) closeUdpSocket(second.fd);
          const { read, write } = createPipe();
          write.close();
          return [first, second && { ...second, fd: read.release() }];
        }],
      ];
    for (const [changes, reason, map] of cases) {
      const sockets = openUdpSockets();
      const inside = await SuccessionStage.start({ plane: { workers: 2 } });
      for (const client of clients) await client.ask("x", inside.port);
      const error = await assertRejects(() => inside.succeed({ listener: changes, map }));
      assertInstanceOf(error, UdpOrderError);
      assert(error.message.includes(reason), error.message);
      // The plane serves all the same.
      assertEquals((await inside.listen({ port: 0 })).restored, 0);
      await inside[Symbol.asyncDispose]();
      await eventually(() => openUdpSockets() === sockets);
    }
    for (const client of clients) await client.close();
  },
);

kernelTest("udp inherited: a listener that is open already takes nothing over", [], async () => {
  await using stage = await SuccessionStage.start();
  await using client = await UdpClient.open();
  await client.ask("x", stage.port);
  const parts = listenerParts(await stage.plane.release());
  const plane = await UdpPlane.start();
  const route = { ...ROUTE_DEFAULTS, cluster: 0 };
  const settings = { listener: 0, address: "127.0.0.1", port: 0, route };
  const { port } = await plane.setListener(settings);
  const sockets = openUdpSockets();
  const answer = await plane.setListener(settings, parts);
  assertEquals([answer.port, answer.restored], [port, 0]);
  assertEquals(openUdpSockets(), sockets - 2);
  await plane.stop();
});

kernelTest("udp inherited: a plane that was stopped closes what it is given", [], async () => {
  await using stage = await SuccessionStage.start();
  await using client = await UdpClient.open();
  await client.ask("x", stage.port);
  const parts = listenerParts(await stage.plane.release());
  const sockets = openUdpSockets();
  await assertRejects(() => stage.listen({}, parts), UdpWorkerGoneError, "it was stopped");
  assertEquals(openUdpSockets(), sockets - 2);
});

kernelTest(
  "udp inherited: a worker that died leaves nothing, the others leave what is theirs",
  [],
  async () => {
    await using stage = await SuccessionStage.start({ plane: { workers: 2 } });
    const clients = await Promise.all(Array.from({ length: 16 }, () => UdpClient.open()));
    for (const client of clients) await client.ask("x", stage.port);
    const flows = await stage.flows();
    const gone: Error[] = [];
    stage.plane.onGone = (error) => gone.push(error);
    const victim = epollFds().find((fd) => isWorkers(fd, stage.port));
    assert(victim !== undefined, "no loop has the listener's socket");
    closeUdpSocket(victim);
    await eventually(() => gone.length === 1);
    let left: number[] = [];
    const { restored } = await stage.succeed({
      between: (released) => void (left = released.map((one) => one.flows.length)),
    });
    const dead = left.indexOf(0);
    assertEquals(left, flows.map((count, worker) => worker === dead ? 0 : count));
    assertEquals(restored, flows[1 - dead]);
    for (const client of clients) assertEquals(await client.ask("y", stage.port), "BK0:y");
    for (const client of clients) await client.close();
  },
);

kernelTest(
  "udp inherited: sockets that a predecessor holds open too do not keep a loop busy",
  [],
  async () => {
    await using stage = await SuccessionStage.start();
    await using client = await UdpClient.open();
    await client.ask("x", stage.port);
    const copies: Fd[] = [];
    await stage.succeed({
      between([{ listeners, flows }]) {
        for (const { fd } of [...listeners, ...flows]) copies.push(duplicateFd(fd ?? -1));
      },
    });
    assertEquals(copies.length, 2);
    const [{ from }] = stage.backends[0].seen;
    await stage.plane.removeListener(0);
    // They are open still, and something is in them that nobody reads.
    await client.send("y", stage.port);
    await stage.backends[0].send("late", from.port, "127.0.0.1");
    const slab = new UdpSlab(UDP_BATCH, 64, UDP_RECEIVE_BYTES);
    const { turns } = stage.plane.shellCounters();
    await new Promise((done) => setTimeout(done, 500));
    assert(stage.plane.shellCounters().turns - turns < 500, "the loop does not rest");
    const batch = new UdpReceiveBatch(slab, 0);
    assertEquals(copies.map((fd) => batch.receive(fd.number)), [1, 1]);
    for (const copy of copies) copy.close();
  },
);

kernelTest(
  "udp inherited: what waits for a full socket is given up, and counted",
  NEEDS,
  async () => {
    using near = createNetns();
    using far = createNetns();
    withNetns(near, () => {
      using route = NetlinkConn.open("route");
      setLinkUp(route, 1);
      createVeth(route, {
        name: "near0",
        peerName: "far0",
        peerNetns: far,
        peerMac: "02:77:00:00:00:02",
      });
      const index = linkIndex(route, "near0");
      setLinkUp(route, index);
      addAddress(route, { index, address: "192.0.2.1", prefixLength: 24, noDad: true });
      // The neighbour does not answer: the kernel keeps what is sent, charged to its socket.
      const settings = "/proc/sys/net/ipv4/neigh/near0";
      Deno.writeTextFileSync(`${settings}/unres_qlen_bytes`, `${64 << 20}`);
      Deno.writeTextFileSync(`${settings}/mcast_solicit`, "100");
    });
    withNetns(far, () => {
      using route = NetlinkConn.open("route");
      setLinkUp(route, linkIndex(route, "far0"));
    });
    const { started } = withNetns(near, () => ({ started: UdpPlane.start() }));
    const plane = await started;
    await plane.setBackend({ backend: 0, address: "192.0.2.2", port: 7000 });
    await plane.setCluster({ cluster: 0, policy: "random", members: [{ backend: 0 }] });
    const route = { ...ROUTE_DEFAULTS, cluster: 0 };
    const settings = { listener: 0, address: "127.0.0.1", port: 0, route };
    const { port } = await plane.setListener(settings);
    const count = 1000;
    const slab = new UdpSlab(1, 1024, UDP_RUN_BYTES);
    const run = new UdpRun(slab);
    withNetns(near, () => {
      const fd = openUdpFlowSocket({
        backend: encodeSockaddr(inetSocketAddress("127.0.0.1", port)),
      });
      for (let sent = 0; sent < count; sent++) run.sendOne(fd, slab.payloadAt(0), 1000);
      closeUdpSocket(fd);
    });
    await eventually(() => {
      const { sentToBackend, queued, queueFull } = plane.shellCounters();
      return sentToBackend + queued + queueFull === count;
    });
    const [{ discarded, flows, listeners }] = await plane.release();
    const { queued, queueDiscarded } = plane.shellCounters();
    assertEquals([queued, queueDiscarded, discarded], [FLOW_QUEUE_MAX, discarded, FLOW_QUEUE_MAX]);
    assertEquals([flows.length, flows[0].requests], [1, count]);
    for (const { fd } of [...flows, ...listeners]) closeUdpSocket(fd ?? -1);
  },
);
