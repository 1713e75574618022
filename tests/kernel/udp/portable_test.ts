/**
 * The UDP plane without system calls of its own: the same behaviour on `node:dgram`.
 *
 * @module
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { decodeProxyHeader, ROUTE_DEFAULTS, type RouteConfig } from "#lib/udp/mod.ts";
import { PortableUdpPlane } from "#lib/udp/mod_shell.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { eventually, UdpBackend, UdpClient } from "#tests/support/udp_ends.ts";

/** Runs with two backends and a listener on loopback. */
async function withPlane(
  address: string,
  route: Partial<RouteConfig>,
  run: (plane: PortableUdpPlane, port: number, backends: UdpBackend[]) => Promise<void>,
): Promise<void> {
  const plane = new PortableUdpPlane(100);
  const backends = [
    await UdpBackend.start("BK0", address),
    await UdpBackend.start("BK1", address),
  ];
  try {
    for (const [backend, { port }] of backends.entries()) {
      await plane.setBackend({ backend, address, port });
    }
    const members = [{ backend: 0 }, { backend: 1 }];
    await plane.setCluster({ cluster: 0, policy: "round-robin", members });
    const settings = { ...ROUTE_DEFAULTS, cluster: 0, ...route };
    const { port } = await plane.setListener({ listener: 0, address, port: 0, route: settings });
    await run(plane, port, backends);
  } finally {
    await plane.stop();
    for (const backend of backends) await backend.close();
  }
}

for (const address of ["127.0.0.1", "::1"]) {
  kernelTest(
    `udp portable: clients are spread, and each gets its own replies (${address})`,
    [],
    async () => {
      await withPlane(address, { responses: 1 }, async (plane, port) => {
        const closed: string[] = [];
        plane.onFlow = ({ reason }) => closed.push(reason);
        const replies = new Set<string>();
        for (let index = 0; index < 4; index++) {
          await using client = await UdpClient.open(address);
          replies.add(await client.ask("x", port, address));
        }
        assertEquals([...replies].toSorted(), ["BK0:x", "BK1:x"]);
        await eventually(() => closed.length === 4);
        assertEquals(new Set(closed), new Set(["responsesReached"]));
        assertEquals(plane.counters().flows, 0);
        assertEquals(plane.counters().listeners[0].values.datagramsOut, 4);
      });
    },
  );

  kernelTest(
    `udp portable: PROXY headers, and no word of a third host (${address})`,
    [],
    async () => {
      await withPlane(address, { proxyProtocol: "first" }, async (_, port, backends) => {
        await using client = await UdpClient.open(address);
        await client.send("one", port, address);
        await client.receive();
        const [seen] = backends.flatMap((backend) => backend.seen);
        const header = decodeProxyHeader(seen.payload);
        assert(header.kind === "header");
        assertEquals(header.source, { address, port: client.port });
        await using stranger = await UdpBackend.start("stranger", address);
        await stranger.send("forged", seen.from.port, seen.from.address);
        assert(await client.isSilent());
      });
    },
  );
}

kernelTest("udp portable: idle flows end, and a backend that is down gets none", [], async () => {
  await withPlane("127.0.0.1", { frontTimeoutMs: 200, backTimeoutMs: 200 }, async (plane, port) => {
    const closed: string[] = [];
    plane.onFlow = ({ reason }) => closed.push(reason);
    await plane.setBackendState(0, "down");
    for (let index = 0; index < 3; index++) {
      await using client = await UdpClient.open();
      assertEquals(await client.ask("x", port), "BK1:x");
    }
    await eventually(() => closed.length === 3);
    assertEquals(closed, ["idle", "idle", "idle"]);
    await plane.setBackendState(1, "removed");
    await plane.removeCluster(0);
    await using client = await UdpClient.open();
    await client.send("x", port);
    await eventually(() => plane.counters().listeners[0].values["dropped.noBackend"] === 1);
  });
});

kernelTest("udp portable: source addresses are refused, and nothing is changed", [], async () => {
  await withPlane("127.0.0.1", {}, async (plane, port) => {
    const sourceAddresses = { ipv4: "127.77.0.0/16" };
    await assertRejects(
      () => plane.setCluster({ cluster: 0, policy: "random", members: [], sourceAddresses }),
      TypeError,
      "Cannot use source addresses",
    );
    await using client = await UdpClient.open();
    assertEquals((await client.ask("x", port)).slice(3), ":x");
  });
});
