/**
 * The UDP plane over real sockets, past the common scenarios: ends, limits, sources, failures.
 *
 * @module
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  closeUdpSocket,
  encodeSockaddr,
  inetSocketAddress,
  openUdpFlowSocket,
  UDP_RUN_BYTES,
  UdpRun,
  UdpSlab,
} from "#ffi/mod.ts";
import { parseCidr } from "#lib/base/mod.ts";
import { decodeProxyHeader, encodeProxyHeader } from "#lib/udp/mod.ts";
import { UdpOrderError } from "#lib/udp/mod_shell.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { bothFamilies, placeText } from "#tests/support/udp_families.ts";
import { eventually, UdpBackend, UdpClient } from "#tests/support/udp_ends.ts";
import { openFiles, UdpStage } from "#tests/support/udp_plane.ts";

const V4 = "127.0.0.1";

bothFamilies(
  "udp: idle flows end after either timeout, and give their descriptors back",
  async (address) => {
    await using stage = await UdpStage.start({
      address,
      route: { frontTimeoutMs: 200, backTimeoutMs: 300, unrepliedTimeoutMs: 100 },
    });
    const before = openFiles();
    const clients = await Promise.all(Array.from({ length: 8 }, () => UdpClient.open(address)));
    for (const client of clients) await client.ask("x", stage.port);
    assertEquals(await stage.flows(), 8);
    for (const client of clients) await client.close();
    stage.backends[0].replies = 0;
    await using silent = await UdpClient.open(address);
    await silent.send("x", stage.port);
    await eventually(() => stage.closed.length === 9);
    assertEquals(stage.closed.filter(({ reason }) => reason === "idle").length, 8);
    assertEquals(stage.closed.filter(({ reason }) => reason === "unreplied").length, 1);
    for (const flow of stage.closed.filter(({ reason }) => reason === "idle")) {
      assert(flow.durationMs >= 300, `ended early: ${flow.durationMs} ms`);
    }
    assertEquals(await stage.flows(), 0);
    // One client is still open.
    assertEquals(openFiles(), before + 1);
  },
);

bothFamilies(
  "udp: two sockets of one address get their own replies under source affinity",
  async (address) => {
    await using stage = await UdpStage.start({
      address,
      backends: 3,
      policy: "rendezvous",
      route: { affinity: { by: "source" } },
    });
    await using one = await UdpClient.open(address);
    await using two = await UdpClient.open(address);
    await one.send("one", stage.port);
    await two.send("two", stage.port);
    const [first, second] = [(await one.receive()).text, (await two.receive()).text];
    assert(first.endsWith(":one") && second.endsWith(":two"), `${first} ${second}`);
    assertEquals(first.split(":")[0], second.split(":")[0]);
  },
);

bothFamilies(
  "udp: two pipelined queries are both answered where one reply each is due",
  async (address) => {
    await using stage = await UdpStage.start({ address, route: { responses: 1 } });
    await using client = await UdpClient.open(address);
    await client.send("a", stage.port);
    await client.send("b", stage.port);
    const replies = [(await client.receive()).text, (await client.receive()).text];
    assertEquals(replies.toSorted(), ["BK0:a", "BK0:b"]);
  },
);

bothFamilies(
  "udp: past the bound new flows are shed and counted, and room comes back",
  async (address) => {
    await using stage = await UdpStage.start({
      address,
      plane: { maxFlows: 2 },
      route: { responses: 1 },
    });
    stage.backends[0].replies = 0;
    const clients = await Promise.all(Array.from({ length: 3 }, () => UdpClient.open(address)));
    for (const client of clients) await client.send("x", stage.port);
    await eventually(async () => await stage.counter("dropped.shed") === 1);
    assertEquals(await stage.flows(), 2);
    await stage.plane.setMaxFlows(1);
    for (const seen of stage.backends[0].seen) {
      await stage.backends[0].send("late", seen.from.port, seen.from.address);
    }
    await eventually(async () => await stage.flows() === 0);
    stage.backends[0].replies = 1;
    await using next = await UdpClient.open(address);
    assertEquals(await next.ask("x", stage.port), "BK0:x");
    for (const client of clients) await client.close();
  },
);

for (const [family, address] of [["IPv4", "0.0.0.0"], ["IPv6", "::"]] as const) {
  kernelTest(
    `udp: a wildcard listener answers from the address asked (${family})`,
    [],
    async () => {
      await using stage = await UdpStage.start({ address });
      const asked = family === "IPv4" ? ["127.0.0.1", "127.0.0.7", "127.9.9.9"] : ["::1"];
      await using client = await UdpClient.open(family === "IPv4" ? V4 : "::1");
      for (const one of asked) {
        await client.send("x", stage.port, one);
        const { text, from } = await client.receive();
        assertEquals([text, from.address, from.port], ["BK0:x", one, stage.port]);
      }
      // Each local address is a flow of its own.
      assertEquals(await stage.flows(), asked.length);
    },
  );
}

kernelTest(
  "udp: one dual-stack listener serves both families, each from its own address",
  [],
  async () => {
    await using stage = await UdpStage.start({
      address: "::",
      listener: { isV6Only: false },
      route: { proxyProtocol: "every" },
      backend: { address: V4 },
    });
    stage.backends[0].answer = () => new TextEncoder().encode("ok");
    await using four = await UdpClient.open(V4);
    await using six = await UdpClient.open("::1");
    await four.send("4", stage.port, "127.0.0.3");
    assertEquals((await four.receive()).from.address, "127.0.0.3");
    await six.send("6", stage.port, "::1");
    assertEquals((await six.receive()).from.address, "::1");
    const headers = stage.backends[0].seen.map(({ payload }) => decodeProxyHeader(payload));
    assert(headers.every((one) => one.kind === "header"));
    const told = headers.map((one) => one.kind === "header" ? one.source : undefined);
    assertEquals(told, [{ address: V4, port: four.port }, { address: "::1", port: six.port }]);
  },
);

bothFamilies(
  "udp: what a third host sends to a flow's socket is not passed on",
  async (address) => {
    await using stage = await UdpStage.start({ address });
    await using client = await UdpClient.open(address);
    await client.ask("x", stage.port);
    const upstream = stage.backends[0].seen[0].from;
    await using stranger = await UdpBackend.start("stranger", address);
    await stranger.send("forged", upstream.port, upstream.address);
    assert(await client.isSilent());
    assertEquals(await client.ask("y", stage.port), "BK0:y");
  },
);

bothFamilies("udp: empty datagrams and those of 60 000 bytes go both ways", async (address) => {
  await using stage = await UdpStage.start({ address });
  await using client = await UdpClient.open(address);
  assertEquals(await client.ask("", stage.port), "BK0:");
  const large = crypto.getRandomValues(new Uint8Array(60_000));
  stage.backends[0].answer = (payload) => payload;
  await client.send(large, stage.port);
  assertEquals((await client.receive()).payload, large);
  await client.send("", stage.port);
  assertEquals((await client.receive()).payload.length, 0);
});

bothFamilies(
  "udp: PROXY headers go with each datagram, or until the first reply",
  async (address) => {
    for (const mode of ["every", "until-reply"] as const) {
      await using stage = await UdpStage.start({
        address,
        route: { proxyProtocol: mode },
        backend: { tlvs: [{ type: 5, value: new Uint8Array([1, 2]) }] },
      });
      const [backend] = stage.backends;
      backend.replies = 0;
      await using client = await UdpClient.open(address);
      await client.send("1", stage.port);
      await client.send("2", stage.port);
      await eventually(() => backend.seen.length === 2);
      backend.replies = 1;
      await client.send("3", stage.port);
      await client.receive();
      await client.send("4", stage.port);
      await client.receive();
      const headers = backend.seen.map(({ payload }) => decodeProxyHeader(payload));
      const kinds = headers.map(({ kind }) => kind);
      assertEquals(kinds, ["header", "header", "header", mode === "every" ? "header" : "none"]);
      const [first] = headers;
      assert(first.kind === "header");
      assertEquals(first.tlvs, [{ type: 5, value: new Uint8Array([1, 2]) }]);
    }
  },
);

kernelTest(
  "udp: a trusted proxy's header tells who the client is; others' are payload",
  [],
  async () => {
    await using stage = await UdpStage.start({
      route: { proxyProtocol: "every" },
      listener: { proxyFrom: [parseCidr("127.0.0.2/32")!] },
    });
    const [backend] = stage.backends;
    const header = encodeProxyHeader({ address: "192.0.2.7", port: 5353 }, {
      address: "198.51.100.1",
      port: 53,
    });
    await using proxy = await UdpClient.open("127.0.0.2");
    backend.answer = () => new TextEncoder().encode("reply");
    await proxy.send(new Uint8Array([...header, 0x68, 0x69]), stage.port);
    assertEquals((await proxy.receive()).text, "reply");
    const told = decodeProxyHeader(backend.seen[0].payload);
    assert(told.kind === "header");
    assertEquals(told.source, { address: "192.0.2.7", port: 5353 });
    assertEquals(told.destination, { address: "198.51.100.1", port: 53 });
    // Without a header, the same socket's next datagram is the same client's.
    await proxy.send("more", stage.port);
    assertEquals((await proxy.receive()).text, "reply");
    assertEquals(await stage.flows(), 1);
    await using unknown = await UdpClient.open("127.0.0.2");
    await unknown.send("who?", stage.port);
    await eventually(() => stage.plane.shellCounters().proxyRefused === 1);
    // Not trusted: a header is payload like any other, and goes behind ours.
    await using forger = await UdpClient.open(V4);
    await forger.send(header, stage.port);
    await forger.receive();
    const last = decodeProxyHeader(backend.seen.at(-1)!.payload);
    assert(last.kind === "header");
    assertEquals(last.source, { address: V4, port: forger.port });
  },
);

bothFamilies("udp: TCP and UDP share a port, and an address in use is told", async (address) => {
  await using stage = await UdpStage.start({ address });
  using tcp = Deno.listen({ hostname: address, port: stage.port });
  assertEquals((tcp.addr as Deno.NetAddr).port, stage.port);
  const error = await assertRejects(
    () => stage.plane.setListener({ listener: 5, address, port: stage.port, route: null }),
    UdpOrderError,
    `bind ${placeText(address, stage.port)}`,
  );
  assertEquals((error as UdpOrderError).code, "EADDRINUSE");
});

bothFamilies("udp: a listener's settings change without losing a flow", async (address) => {
  await using stage = await UdpStage.start({ address, backends: 2 });
  await using client = await UdpClient.open(address);
  const mine = (await client.ask("x", stage.port)).split(":")[0];
  for (let change = 0; change < 20; change++) {
    await client.send(`n${change}`, stage.port);
    await stage.listen({ maxDatagramBytes: 1000 + change, route: stage.route({ responses: 9 }) });
    assertEquals((await client.receive()).text, `${mine}:n${change}`);
  }
  assertEquals(await stage.flows(), 1);
  await stage.listen({ route: null });
  // It has nowhere to go for new clients; the live flow goes on.
  assertEquals(await client.ask("last", stage.port), `${mine}:last`);
  await using other = await UdpClient.open(address);
  await other.send("x", stage.port);
  await eventually(async () => await stage.counter("dropped.noBackend") === 1);
});

bothFamilies(
  "udp: a drain waits for replies that are on their way, then ends the rest",
  async (address) => {
    await using stage = await UdpStage.start({ address, route: { responses: 1 } });
    const [backend] = stage.backends;
    backend.replies = 0;
    await using client = await UdpClient.open(address);
    await client.send("slow", stage.port);
    await eventually(() => backend.seen.length === 1);
    const drained = stage.plane.drain(5000);
    // Orders are carried out in order: after the next answer it drains.
    await stage.plane.counters();
    await using late = await UdpClient.open(address);
    await late.send("new", stage.port);
    await eventually(async () => await stage.counter("dropped.draining") === 1);
    const { from } = backend.seen[0];
    await backend.send("at last", from.port, from.address);
    assertEquals((await client.receive()).text, "at last");
    const beganMs = performance.now();
    await drained;
    assert(performance.now() - beganMs < 4000, "it waited for its deadline");
    await stage.plane.undrain();
    await client.send("again", stage.port);
    await eventually(() => backend.seen.length === 2);
    await stage.plane.drain(200);
    assertEquals(await stage.flows(), 0);
  },
);

bothFamilies(
  "udp: bursts of one client go as runs, and arrive whole and in order",
  async (address) => {
    await using stage = await UdpStage.start({ address });
    const [backend] = stage.backends;
    backend.replies = 0;
    const count = 200;
    const slab = new UdpSlab(1, 256, UDP_RUN_BYTES);
    const sender = new UdpRun(slab);
    const fd = openUdpFlowSocket({
      backend: encodeSockaddr(inetSocketAddress(address, stage.port)),
    });
    for (let index = 0; index < count; index++) {
      slab.bytes.set(new TextEncoder().encode(String(index).padStart(200, ".")), slab.payloadAt(0));
      assertEquals(sender.sendOne(fd, slab.payloadAt(0), 200), 200);
    }
    closeUdpSocket(fd);
    await eventually(() => backend.seen.length === count);
    const numbers = backend.texts.map((text) => Number(text.replaceAll(".", "")));
    assertEquals(numbers, Array.from({ length: count }, (_, index) => index));
    assertEquals(stage.plane.shellCounters().sentToBackend, count);
  },
);

bothFamilies(
  "udp: what came in was sent or dropped for a reason that is counted",
  async (address) => {
    await using stage = await UdpStage.start({
      address,
      listener: { maxDatagramBytes: 100 },
      route: { forwardEmpty: false },
    });
    await using client = await UdpClient.open(address);
    for (let index = 0; index < 10; index++) await client.ask("x", stage.port);
    for (let index = 0; index < 3; index++) await client.send(new Uint8Array(101), stage.port);
    await using empty = await UdpClient.open(address);
    for (let index = 0; index < 4; index++) await empty.send("", stage.port);
    await eventually(async () => await stage.counter("clientDatagrams") === 17);
    assertEquals(await stage.counter("datagramsIn"), 10);
    assertEquals(await stage.counter("dropped.truncated"), 3);
    assertEquals(await stage.counter("dropped.invalid"), 4);
    assertEquals(await stage.counter("datagramsOut"), 10);
    const { sentToBackend, sentToClient, sendError, queueFull } = stage.plane.shellCounters();
    assertEquals([sentToBackend, sentToClient, sendError, queueFull], [10, 10, 0, 0]);
  },
);

bothFamilies("udp: a closed flow's record tells what it was", async (address) => {
  await using stage = await UdpStage.start({ address, route: { responses: 1 } });
  await using client = await UdpClient.open(address);
  await client.ask("12345", stage.port);
  await eventually(() => stage.closed.length === 1);
  const [{ client: from, local, backend, datagramsIn, bytesIn, datagramsOut, bytesOut, ...rest }] =
    stage.closed;
  assertEquals([from, local], [{ address, port: client.port }, {
    address,
    port: stage.port,
  }]);
  assertEquals([backend, datagramsIn, bytesIn, datagramsOut, bytesOut], [0, 1, 5, 1, 9]);
  assert(rest.firstReplyMs !== undefined && rest.firstReplyMs >= 0);
  assertEquals(rest.reason, "responsesReached");
});

bothFamilies(
  "udp: a run that comes as one is split, and each part has its PROXY header",
  async (address) => {
    await using stage = await UdpStage.start({
      address,
      listener: { takesRuns: true },
      route: { proxyProtocol: "every" },
    });
    const [backend] = stage.backends;
    backend.replies = 0;
    const slab = new UdpSlab(8, 64, UDP_RUN_BYTES);
    const run = new UdpRun(slab);
    const fd = openUdpFlowSocket({
      backend: encodeSockaddr(inetSocketAddress(address, stage.port)),
    });
    for (let slot = 0; slot < 8; slot++) {
      slab.bytes.fill(0x30 + slot, slab.payloadAt(slot), slab.payloadAt(slot) + 16);
      assert(run.add(slab.payloadAt(slot), 16));
    }
    assertEquals(run.flush(fd, () => {}), 8);
    closeUdpSocket(fd);
    await eventually(() => backend.seen.length === 8);
    const texts = backend.seen.map(({ payload }) => {
      const header = decodeProxyHeader(payload);
      assert(header.kind === "header");
      return new TextDecoder().decode(payload.subarray(header.headerBytes));
    });
    assertEquals(texts, Array.from({ length: 8 }, (_, slot) => String(slot).repeat(16)));
    const { sentToBackend } = stage.plane.shellCounters();
    assertEquals(sentToBackend, 8);
  },
);
