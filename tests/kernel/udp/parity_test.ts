/**
 * The UDP plane over real sockets, where other balancers go wrong: sizes at their limits, several
 * addresses of one host, caps that change under live flows, backends that leave.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import {
  closeUdpSocket,
  encodeSockaddr,
  inetSocketAddress,
  openUdpFlowSocket,
  receiveUdp,
  UDP_RUN_BYTES,
  UdpRun,
  UdpSlab,
} from "#ffi/mod.ts";
import { PER_PACKET, ROUTE_DEFAULTS } from "#lib/udp/mod.ts";
import { UdpPlane } from "#lib/udp/mod_shell.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { UdpCrowd } from "#tests/support/udp_crowd.ts";
import { bothFamilies } from "#tests/support/udp_families.ts";
import { eventually, UdpClient } from "#tests/support/udp_ends.ts";
import { openFiles, UdpStage } from "#tests/support/udp_plane.ts";

bothFamilies("udp: the largest datagrams that there are go both ways whole", async (address) => {
  await using stage = await UdpStage.start({ address });
  stage.backends[0].answer = (payload) => payload;
  await using client = await UdpClient.open(address);
  // 65 535 bytes are the most that a length can say; IPv4 counts its own header in.
  const most = address.includes(":") ? 65_535 - 8 : 65_535 - 20 - 8;
  const large = crypto.getRandomValues(new Uint8Array(65_536)).subarray(0, most);
  await client.send(large, stage.port);
  assertEquals((await client.receive()).payload, large);
  assertEquals(stage.backends[0].seen[0].payload.length, most);
});

for (
  const [family, asked] of [
    ["ipv4", ["127.0.0.1", "127.64.0.9", "127.77.3.1"]],
    ["ipv6", ["::1", "fd00:64::9", "fd00:77::3:1"]],
  ] as const
) {
  kernelTest(
    `udp: a wildcard listener answers from each address that is local by a route (${family})`,
    ["root", "command:ip"],
    async () => {
      using crowd = new UdpCrowd(family, 1);
      const { started } = crowd.inside(() => ({ started: UdpPlane.start() }));
      const plane = await started;
      await using _stop = { [Symbol.asyncDispose]: () => plane.stop() };
      const { server } = crowd;
      await plane.setBackend({ backend: 0, address: server, port: crowd.portOf(0) });
      await plane.setCluster({ cluster: 0, policy: "random", members: [{ backend: 0 }] });
      const route = { ...ROUTE_DEFAULTS, cluster: 0 };
      const wildcard = family === "ipv4" ? "0.0.0.0" : "::";
      const { port } = await plane.setListener({ listener: 0, address: wildcard, port: 0, route });
      const slab = new UdpSlab(2, 64, UDP_RUN_BYTES);
      const run = new UdpRun(slab);
      for (const one of asked) {
        // The kernel gives a connected socket nothing that comes from another address.
        const backend = encodeSockaddr(inetSocketAddress(one, port));
        const fd = crowd.inside(() => openUdpFlowSocket({ backend }));
        using _close = { [Symbol.dispose]: () => closeUdpSocket(fd) };
        assertEquals(run.sendOne(fd, slab.payloadAt(0), 5), 5);
        let from: number | undefined;
        await eventually(() => (from = crowd.takeSenders(0)[0]?.port) !== undefined);
        crowd.sendFrom(0, server, from!);
        await eventually(() => receiveUdp(fd, slab, 1) === 1);
      }
      // Each address asked is a flow of its own.
      assertEquals((await plane.counters()).workers[0].flows, asked.length);
    },
  );
}

bothFamilies(
  "udp: flows past a cap that was made smaller end when they are idle, and room comes back",
  async (address) => {
    await using stage = await UdpStage.start({
      address,
      plane: { maxFlows: 16 },
      route: { frontTimeoutMs: 1500, backTimeoutMs: 100 },
    });
    const before = openFiles();
    const clients = await Promise.all(Array.from({ length: 8 }, () => UdpClient.open(address)));
    for (const client of clients) await client.ask("x", stage.port);
    await stage.plane.setMaxFlows(2);
    // They are eight still, and go on; a ninth is one too many.
    assertEquals(await stage.flows(), 8);
    for (const client of clients) await client.ask("y", stage.port);
    await using ninth = await UdpClient.open(address);
    await ninth.send("x", stage.port);
    await eventually(async () => await stage.counter("dropped.shed") === 1);
    await stage.plane.setMaxFlows(4);
    await eventually(() => stage.closed.length === 8);
    assert(stage.closed.every(({ reason, durationMs }) => reason === "idle" && durationMs >= 1500));
    for (const client of clients) await client.close();
    assertEquals(openFiles(), before + 1, "a flow's descriptor is left");
    assertEquals(await ninth.ask("z", stage.port), "BK0:z");
    await eventually(async () => await stage.flows() === 0);
    assertEquals(openFiles(), before + 1);
  },
);

bothFamilies("udp: either timeout alone holds a flow, the later of both", async (address) => {
  for (const [frontTimeoutMs, backTimeoutMs] of [[600, 50], [50, 600]]) {
    await using stage = await UdpStage.start({
      address,
      route: { frontTimeoutMs, backTimeoutMs, unrepliedTimeoutMs: null },
    });
    await using client = await UdpClient.open(address);
    await client.ask("x", stage.port);
    await eventually(() => stage.closed.length === 1);
    const [{ reason, durationMs }] = stage.closed;
    assertEquals(reason, "idle");
    assert(durationMs >= 600, `it ended after ${durationMs} ms`);
    assertEquals(await stage.flows(), 0);
  }
});

bothFamilies(
  "udp: a flow leaves a backend that is down or removed, stays, or ends, as its route says",
  async (address) => {
    for (const gone of ["down", "removed"] as const) {
      for (const what of ["reselect", "keep", "close"] as const) {
        await using stage = await UdpStage.start({
          address,
          backends: 2,
          route: gone === "down" ? { whenDown: what } : { whenRemoved: what },
        });
        await using client = await UdpClient.open(address);
        const mine = Number((await client.ask("a", stage.port))[2]);
        await stage.plane.setBackendState(mine, gone);
        if (what === "close") {
          await eventually(() => stage.closed.length === 1);
          assertEquals(stage.closed[0].reason, "backendGone");
        }
        const next = Number((await client.ask("b", stage.port))[2]);
        assertEquals(next === mine, what === "keep", `${gone}, ${what}`);
        assertEquals(await stage.flows(), 1);
        assertEquals(await stage.counter("reselections"), what === "reselect" ? 1 : 0);
      }
    }
  },
);

bothFamilies(
  "udp: in per-packet mode one client's datagrams go round, and each has its reply",
  async (address) => {
    await using stage = await UdpStage.start({ address, backends: 2, route: PER_PACKET });
    await using client = await UdpClient.open(address);
    const texts = ["0", "1", "2", "3", "4", "5"];
    for (const text of texts) await client.send(text, stage.port);
    const replies: string[] = [];
    for (const _ of texts) replies.push((await client.receive()).text);
    assertEquals(replies.map((reply) => reply.slice(4)).toSorted(), texts);
    assertEquals(stage.backends.map(({ seen }) => seen.length), [3, 3]);
    await eventually(async () => await stage.flows() === 0);
    await eventually(() => stage.closed.length === texts.length);
  },
);

bothFamilies(
  "udp: the same cluster set again changes nothing for live flows nor for the turns",
  async (address) => {
    await using stage = await UdpStage.start({
      address,
      backends: 2,
      route: { responses: null, affinity: { by: "source-port" } },
    });
    await using first = await UdpClient.open(address);
    const mine = await first.ask("x", stage.port);
    for (let turn = 0; turn < 4; turn++) {
      await stage.setMembers();
      assertEquals(await first.ask("x", stage.port), mine);
    }
    // The next new flow has the other backend: the turns did not begin anew.
    await using second = await UdpClient.open(address);
    assert(await second.ask("x", stage.port) !== mine);
    assertEquals(await stage.flows(), 2);
  },
);
