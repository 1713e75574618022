/**
 * The UDP plane over its life: drains against probes, a thread that dies, flows that go round own
 * addresses, a real DNS server.
 *
 * @module
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { closeUdpSocket } from "#ffi/mod.ts";
import { parseCidr } from "#lib/base/mod.ts";
import {
  decodeProxyHeader,
  encodeProxyHeader,
  HEALTH_DEFAULTS,
  ROUTE_DEFAULTS,
} from "#lib/udp/mod.ts";
import { HealthChecker, UdpPlane, UdpWorkerGoneError } from "#lib/udp/mod_shell.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { bothFamilies } from "#tests/support/udp_families.ts";
import { eventually, UdpBackend, UdpClient } from "#tests/support/udp_ends.ts";
import { UdpStage } from "#tests/support/udp_plane.ts";
import { epollFds, isWorkers } from "./loops.ts";

const FAST = { intervalMs: 50, timeoutMs: 200, rise: 1, fall: 1, jitter: 0 };

kernelTest("udp: a probe's result does not end what an operator drains", [], async () => {
  await using stage = await UdpStage.start({
    backends: 2,
    health: {
      probe: { by: "udp", send: { text: "health" }, expect: { any: true } },
      settings: FAST,
    },
  });
  const { plane } = stage;
  await plane.setBackendState(0, "draining");
  const [first] = stage.backends;
  const { port } = first;
  await first.close();
  await eventually(() => plane.healthOf(0)?.isUp === false);
  await using again = await UdpBackend.start("BK0", "127.0.0.1", port);
  await eventually(() => plane.healthOf(0)?.isUp === true);
  // It is well, and drains: new flows go to the other.
  for (let index = 0; index < 6; index++) {
    await using client = await UdpClient.open();
    assertEquals(await client.ask("x", stage.port), "BK1:x");
  }
  await plane.setBackendState(0, "up");
  const replies = new Set<string>();
  for (let index = 0; index < 6; index++) {
    await using client = await UdpClient.open();
    replies.add(await client.ask("x", stage.port));
  }
  assertEquals(replies, new Set(["BK0:x", "BK1:x"]), again.name);
});

kernelTest("udp: flows go round a backend's sources, and each keeps its own", [], async () => {
  const sources = ["127.0.0.11", "127.0.0.12", "127.0.0.13"];
  await using stage = await UdpStage.start({ backend: { sources } });
  const clients = await Promise.all(Array.from({ length: 9 }, () => UdpClient.open()));
  for (let round = 0; round < 2; round++) {
    for (const [index, client] of clients.entries()) {
      assertEquals(await client.ask(`${index}`, stage.port), `BK0:${index}`);
    }
  }
  const { seen, texts } = stage.backends[0];
  const from = new Map<string, Set<string>>();
  for (const [index, text] of texts.entries()) {
    const place = `${seen[index].from.address}:${seen[index].from.port}`;
    from.set(text, (from.get(text) ?? new Set()).add(place));
  }
  assert([...from.values()].every((places) => places.size === 1), "a flow changed its source");
  for (const source of sources) {
    const own = [...from.values()].filter((places) => [...places][0].startsWith(`${source}:`));
    assertEquals(own.length, 3, source);
  }
  for (const client of clients) await client.close();
});

kernelTest(
  "udp: a worker's death is told, its sockets are closed, and another plane takes over",
  [],
  async () => {
    for (const workers of [1, 2]) {
      const before = epollFds();
      await using backend = await UdpBackend.start("BK0");
      const start = async (port: number) => {
        const plane = await UdpPlane.start({ workers });
        await plane.setBackend({ backend: 0, address: "127.0.0.1", port: backend.port });
        await plane.setCluster({ cluster: 0, policy: "random", members: [{ backend: 0 }] });
        const route = { ...ROUTE_DEFAULTS, cluster: 0 };
        const settings = { listener: 0, address: "127.0.0.1", port, route };
        return { plane, port: (await plane.setListener(settings)).port };
      };
      const first = await start(0);
      const gone: Error[] = [];
      first.plane.onGone = (error) => gone.push(error);
      await using client = await UdpClient.open();
      assertEquals(await client.ask("a", first.port), "BK0:a");
      // A thread of this process has a loop that waits at one of these: its next wait fails.
      const victim = epollFds().find((fd) => isWorkers(fd, first.port));
      assert(victim !== undefined, "no loop has the listener's socket");
      closeUdpSocket(victim);
      await eventually(() => gone.length === 1);
      assert(gone[0] instanceof UdpWorkerGoneError);
      assert(gone[0].message.includes("EBADF"), gone[0].message);
      await assertRejects(() => first.plane.counters(), UdpWorkerGoneError);
      await first.plane.stop();
      assertEquals(gone.length, 1);
      const second = await start(first.port);
      for (let index = 0; index < 8; index++) {
        await using other = await UdpClient.open();
        assertEquals(await other.ask("b", second.port), "BK0:b");
      }
      assertEquals(await client.ask("c", second.port), "BK0:c");
      await second.plane.stop();
      await eventually(() => epollFds().length <= before.length);
    }
  },
);

/** A server that knows one zone, and asks nobody. */
function unboundConfig(base: string, address: string, port: number): string {
  return `server:
  interface: ${address}
  port: ${port}
  directory: "${base}"
  pidfile: "${base}/unbound.pid"
  chroot: ""
  username: ""
  use-syslog: no
  logfile: "${base}/unbound.log"
  do-daemonize: no
  do-tcp: no
  module-config: "iterator"
  local-zone: "probe.test." static
  local-data: "probe.test. A 192.0.2.1"
remote-control:
  control-enable: no
`;
}

bothFamilies(
  "udp: the DNS probe believes a real DNS server, and sees it die",
  async (address) => {
    await using place = await UdpBackend.start("place", address);
    const { port } = place;
    await place.close();
    const base = Deno.makeTempDirSync({ prefix: "celld-dns-" });
    Deno.writeTextFileSync(`${base}/unbound.conf`, unboundConfig(base, address, port));
    const server = new Deno.Command("unbound", {
      args: ["-d", "-c", `${base}/unbound.conf`],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    const seen: string[] = [];
    const checker = new HealthChecker(1, (backend, isUp) => seen.push(`${backend} ${isUp}`));
    try {
      const settings = { ...HEALTH_DEFAULTS, ...FAST, timeoutMs: 2000, startsUp: false };
      const where = { address, port, settings };
      checker.set(0, { ...where, probe: { by: "dns", name: "probe.test", type: "A" } });
      await eventually(() => checker.view(0)?.isUp === true);
      // It answers, and not what is wanted.
      const probe = { by: "dns", name: "probe.test", type: "A", codes: ["NXDOMAIN"] } as const;
      checker.set(1, { ...where, probe });
      await eventually(() => (checker.view(1)?.streak ?? 0) < 0);
      assert(checker.view(1)?.reason.includes("NOERROR"), checker.view(1)?.reason);
    } finally {
      server.kill("SIGTERM");
      await server.status;
      Deno.removeSync(base, { recursive: true });
    }
    await eventually(() => checker.view(0)?.isUp === false);
    await checker.stop();
    assertEquals(seen.filter((text) => text.startsWith("0 ")), ["0 true", "0 false"]);
  },
  ["root", "command:unbound"],
);

kernelTest(
  "udp: a trusted proxy's header is taken over IPv6, and tells either family",
  [],
  async () => {
    await using stage = await UdpStage.start({
      address: "::1",
      route: { proxyProtocol: "every" },
      listener: { proxyFrom: [parseCidr("::1/128")!] },
    });
    const [backend] = stage.backends;
    backend.answer = () => new TextEncoder().encode("reply");
    const pairs = [
      [{ address: "2001:db8::7", port: 5353 }, { address: "2001:db8::53", port: 53 }],
      [{ address: "192.0.2.7", port: 5353 }, { address: "198.51.100.1", port: 53 }],
    ] as const;
    for (const [source, destination] of pairs) {
      await using proxy = await UdpClient.open("::1");
      const header = encodeProxyHeader(source, destination);
      await proxy.send(new Uint8Array([...header, 0x68, 0x69]), stage.port, "::1");
      // The reply goes to the proxy, as it is.
      assertEquals((await proxy.receive()).text, "reply");
      const { payload } = backend.seen.at(-1)!;
      const told = decodeProxyHeader(payload);
      assert(told.kind === "header");
      assertEquals([told.source, told.destination], [source, destination]);
      assertEquals(new TextDecoder().decode(payload.subarray(told.headerBytes)), "hi");
    }
    await using unknown = await UdpClient.open("::1");
    await unknown.send("who?", stage.port, "::1");
    await eventually(() => stage.plane.shellCounters().proxyRefused === 1);
    assertEquals(await stage.flows(), 2);
  },
);
