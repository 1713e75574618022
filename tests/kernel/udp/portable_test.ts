/**
 * The UDP plane on what the runtime has: the same behaviour over real sockets.
 *
 * @module
 */
import {
  assert,
  assertEquals,
  assertGreater,
  assertMatch,
  assertNotEquals,
  assertRejects,
} from "@std/assert";
import { parseCidr, Prng } from "#lib/base/mod.ts";
import { decodeProxyHeader, encodeProxyHeader } from "#lib/udp/mod.ts";
import { UdpOrderError, UdpWorkerGoneError } from "#lib/udp/mod_shell.ts";
import { campaign } from "#tests/support/campaign.ts";
import { bothFamilies } from "#tests/support/udp_families.ts";
import { eventually, UdpBackend, UdpClient } from "#tests/support/udp_ends.ts";
import { openFiles, UdpStage } from "#tests/support/udp_plane.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { PortableStage } from "./portable_stage.ts";

/** What a descriptor is, and which; `undefined` for a closed one. */
function fileOf(fd: number): string | undefined {
  try {
    return Deno.readLinkSync(`/proc/self/fd/${fd}`);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

bothFamilies(
  "udp portable: clients are spread, and each gets its own replies",
  async (address) => {
    await using stage = await PortableStage.start(address, { route: { responses: 1 } });
    const replies = new Set<string>();
    for (let index = 0; index < 4; index++) {
      await using client = await UdpClient.open(address);
      replies.add(await client.ask("x", stage.port, address));
    }
    assertEquals([...replies].toSorted(), ["BK0:x", "BK1:x"]);
    await eventually(() => stage.closed.length === 4);
    assertEquals(new Set(stage.reasons), new Set(["responsesReached"]));
    assertEquals(stage.closed[0].client.address, address);
    assertEquals([await stage.flows(), await stage.counter("datagramsOut")], [0, 4]);
    const shell = stage.plane.shellCounters();
    assertEquals([shell.sentToBackend, shell.sentToClient, shell.sendError], [4, 4, 0]);
  },
);

bothFamilies("udp portable: a flow's order is kept, whatever its length", async (address) => {
  await using stage = await PortableStage.start(address);
  await using client = await UdpClient.open(address);
  const texts = Array.from({ length: 200 }, (_, index) => `${index}:${"x".repeat(index * 7)}`);
  const heard: string[] = [];
  // A window that no socket's buffer loses.
  for (let at = 0; at < texts.length; at += 20) {
    const some = texts.slice(at, at + 20);
    for (const text of some) await client.send(text, stage.port, address);
    for (const _ of some) heard.push((await client.receive()).text.slice(4));
  }
  assertEquals(heard, texts);
});

bothFamilies(
  "udp portable: nobody but the backend reaches a flow's client, and who tries is counted",
  async (address) => {
    await using stage = await PortableStage.start(address);
    await using client = await UdpClient.open(address);
    await client.ask("one", stage.port, address);
    const [seen] = stage.backends.flatMap((backend) => backend.seen);
    await using stranger = await UdpBackend.start("stranger", address);
    await stranger.send("forged", seen.from.port, seen.from.address);
    await eventually(() => stage.plane.shellCounters().foreign === 1);
    assert(await client.isSilent());
    assertEquals((await client.ask("two", stage.port, address)).slice(3), ":two");
  },
);

bothFamilies("udp portable: PROXY headers go out, and are read", async (address) => {
  const width = address.includes(":") ? 128 : 32;
  const proxyFrom = [parseCidr(`${address}/${width}`)].filter((one) => one !== undefined);
  await using stage = await PortableStage.start(address, {
    route: { proxyProtocol: "first" },
    listener: { proxyFrom },
  });
  await using proxy = await UdpClient.open(address);
  const source = { address: address.includes(":") ? "2001:db8::7" : "192.0.2.7", port: 7777 };
  const destination = { address, port: 53 };
  const header = encodeProxyHeader(source, destination);
  const first = new Uint8Array([...header, ...new TextEncoder().encode("one")]);
  assertEquals((await proxy.ask(first, stage.port, address)).slice(-3), "one");
  const [seen] = stage.backends.flatMap((backend) => backend.seen);
  const decoded = decodeProxyHeader(seen.payload);
  assert(decoded.kind === "header");
  assertEquals([decoded.source, decoded.destination], [source, destination]);
  // It is remembered who that is, and the second one goes without a header.
  assertEquals((await proxy.ask("two", stage.port, address)).slice(3), ":two");
  assertEquals((await stage.plane.snapshot()).length, 1);
  await using unknown = await UdpClient.open(address);
  await unknown.send("three", stage.port, address);
  await eventually(() => stage.plane.shellCounters().proxyRefused === 1);
});

bothFamilies("udp portable: sizes at their limits", async (address) => {
  await using stage = await PortableStage.start(address, { listener: { maxDatagramBytes: 1000 } });
  await using client = await UdpClient.open(address);
  assertEquals((await client.ask("", stage.port, address)).slice(3), ":");
  assertEquals((await client.ask("x".repeat(996), stage.port, address)).length, 1000);
  await client.send("x".repeat(1001), stage.port, address);
  await eventually(async () => await stage.counter("dropped.truncated") === 1);
  // A reply that is too long by its name.
  await client.send("x".repeat(997), stage.port, address);
  await eventually(async () => await stage.counter("dropped.truncated") === 2);
  // The longest that there is fits into the same sockets' buffers.
  await stage.listen({ maxDatagramBytes: 65_535 });
  const longest = address.includes(":") ? 65_527 : 65_507;
  for (const backend of stage.backends) backend.answer = (payload) => payload;
  await client.send(new Uint8Array(longest).fill(7), stage.port, address);
  const { payload } = await client.receive();
  assertEquals([payload.length, payload.every((byte) => byte === 7)], [longest, true]);
});

bothFamilies("udp portable: idle flows end, and their sockets with them", async (address) => {
  const timeouts = { frontTimeoutMs: 200, backTimeoutMs: 200 };
  await using stage = await PortableStage.start(address, { route: timeouts });
  const before = openFiles();
  // At one time: a port that is free again may be the next client's, and its flow the same.
  const clients = await Promise.all(Array.from({ length: 20 }, () => UdpClient.open(address)));
  for (const client of clients) await client.ask("x", stage.port, address);
  for (const client of clients) await client.close();
  await eventually(() => stage.closed.length === 20);
  assertEquals(new Set(stage.reasons), new Set(["idle"]));
  await eventually(() => openFiles() <= before);
  assertEquals(openFiles(), before);
});

bothFamilies("udp portable: backends go down and away, live", async (address) => {
  await using stage = await PortableStage.start(address);
  await stage.plane.setBackendState(0, "down");
  for (let index = 0; index < 3; index++) {
    await using client = await UdpClient.open(address);
    assertEquals(await client.ask("x", stage.port, address), "BK1:x");
  }
  await stage.plane.setBackendState(1, "removed");
  await stage.plane.removeCluster(0);
  await using client = await UdpClient.open(address);
  await client.send("x", stage.port, address);
  await eventually(async () => await stage.counter("dropped.noBackend") === 1);
});

bothFamilies(
  "udp portable: flows are bounded, by all, by source and by settings",
  async (address) => {
    await using stage = await PortableStage.start(address);
    const clients = await Promise.all([0, 1, 2, 3].map(() => UdpClient.open(address)));
    const [one, two, three, four] = clients;
    await stage.plane.setPrefixLimit({ maxFlows: 1 });
    await one.ask("x", stage.port, address);
    await two.send("x", stage.port, address);
    await eventually(async () => await stage.counter("dropped.flowLimit") === 1);
    await stage.plane.setPrefixLimit(null);
    await two.ask("x", stage.port, address);
    await stage.plane.setMaxFlows(2);
    assertEquals(stage.plane.maxFlows, 2);
    await three.send("x", stage.port, address);
    await eventually(async () => await stage.counter("dropped.shed") === 1);
    await assertRejects(() => stage.plane.setMaxFlows(1e6), RangeError, "want at most 100");
    await stage.plane.setMaxFlows(100);
    const deny = [parseCidr(`${address}/${address.includes(":") ? 128 : 32}`)]
      .filter((prefix) => prefix !== undefined);
    await stage.listen({ access: { allow: [], deny } });
    await four.send("x", stage.port, address);
    await eventually(async () => await stage.counter("dropped.denied") === 1);
    for (const client of clients) await client.close();
  },
);

bothFamilies("udp portable: a request's end waits for what is to be sent", async (address) => {
  await using stage = await PortableStage.start(address, {
    route: { requests: 2, responses: 0 },
  });
  for (const backend of stage.backends) backend.replies = 0;
  await using client = await UdpClient.open(address);
  for (let index = 0; index < 40; index++) await client.send(`${index}`, stage.port, address);
  const count = () => stage.backends.reduce((sum, { seen }) => sum + seen.length, 0);
  await eventually(() => count() === 40);
  await eventually(() => stage.closed.length === 20);
  assertEquals(new Set(stage.reasons), new Set(["requestsReached"]));
});

bothFamilies("udp portable: a drain ends when its flows do, or by its time", async (address) => {
  await using stage = await PortableStage.start(address, { route: { responses: 2 } });
  await using client = await UdpClient.open(address);
  await client.ask("x", stage.port, address);
  const drained = stage.plane.drain(20_000);
  await using late = await UdpClient.open(address);
  await late.send("x", stage.port, address);
  await eventually(async () => await stage.counter("dropped.draining") === 1);
  for (const backend of stage.backends) backend.replies = 3;
  await client.ask("y", stage.port, address);
  await drained;
  assertEquals(await stage.flows(), 0);
  await stage.plane.undrain();
  assertEquals((await late.ask("z", stage.port, address)).slice(3), ":z");
  for (const backend of stage.backends) backend.replies = 0;
  await client.send("unanswered", stage.port, address);
  await eventually(async () => await stage.flows() >= 1);
  await stage.plane.drain(100, 0);
  assertEquals(await stage.flows(), 0);
  await eventually(() => stage.reasons.includes("drain"));
});

bothFamilies("udp portable: probes and silence make backends down and up", async (address) => {
  const silent = { errors: 0, unanswered: 2, holdMs: 600 };
  await using stage = await PortableStage.start(address, {
    route: { responses: 1 },
    health: { settings: { passive: silent } },
  });
  const told: string[] = [];
  stage.plane.onHealth = (backend, isUp) => told.push(`${backend} ${isUp ? "up" : "down"}`);
  stage.backends[0].replies = 0;
  await eventually(async () => {
    await using client = await UdpClient.open(address);
    await client.send("x", stage.port, address);
    return told.includes("0 down");
  });
  assertEquals(stage.plane.healthOf(0)?.isUp, false);
  stage.backends[0].replies = 1;
  await eventually(() => told.includes("0 up"));
  const probe = { by: "udp", send: { text: "?" }, expect: { any: true } } as const;
  const settings = { intervalMs: 50, timeoutMs: 200, rise: 1, fall: 1 };
  const { port } = stage.backends[1];
  await stage.plane.setBackend({ backend: 1, address, port }, { probe, settings });
  await stage.backends[1].close();
  await eventually(() => told.includes("1 down"));
  assertEquals(stage.plane.healthOf(1)?.isUp, false);
  stage.backends[1] = await UdpBackend.start("BK1", address, port);
  await eventually(() => told.includes("1 up"));
  await stage.plane.setBackend({ backend: 1, address, port });
  assertEquals(stage.plane.healthOf(1), undefined);
});

bothFamilies("udp portable: whatever happens, each datagram is in one count", async (address) => {
  await using stage = await PortableStage.start(address, {
    plane: { maxFlows: 40 },
    route: { responses: 2, requests: 5, proxyProtocol: "every" },
  });
  const before = openFiles();
  const random = new Prng(7);
  const clients = await Promise.all(Array.from({ length: 60 }, () => UdpClient.open(address)));
  let sent = 0;
  for (let step = 0; step < campaign(600, 20_000); step++) {
    const roll = random.below(40);
    if (roll === 0) await stage.plane.setBackendState(random.below(2), "down");
    else if (roll < 3) await stage.plane.setBackendState(random.below(2), "up");
    else if (roll === 3) stage.backends[random.below(2)].replies = random.below(4);
    else if (roll === 4) await stage.listen({ maxDatagramBytes: 500 + random.below(1000) });
    else if (roll === 5) await stage.plane.setMaxFlows(20 + random.below(21));
    else {
      sent += 1;
      const size = random.below(1200);
      await clients[random.below(60)].send(new Uint8Array(size), stage.port, address);
    }
    // So that the kernel loses none: nobody would know.
    if (step % 50 === 0) {
      await eventually(async () => await stage.counter("clientDatagrams") === sent);
    }
  }
  await eventually(async () => await stage.counter("clientDatagrams") === sent);
  await stage.plane.drain(0);
  const { workers: [{ waiting }], shell } = await stage.plane.counters();
  const { workers: [{ listeners }] } = await stage.plane.counters();
  const row = listeners.find(({ listener }) => listener === 0)?.values ?? {};
  const dropped = Object.entries(row).filter(([name]) => name.startsWith("dropped."))
    .reduce((sum, [, count]) => sum + count, 0);
  const forwarded = row.datagramsIn + row.datagramsOut;
  assertGreater(row.datagramsOut, 0);
  assertEquals(forwarded + dropped, row.clientDatagrams + row.backendDatagrams);
  const unsent = shell.noSocket + shell.queueFull + shell.sendError + shell.queueDiscarded;
  const gone = shell.sentToBackend + shell.sentToClient + unsent;
  assertEquals(gone + waiting, forwarded);
  for (const client of clients) await client.close();
  await eventually(() => openFiles() <= before);
});

bothFamilies("udp portable: an address that is taken is told by its code", async (address) => {
  await using stage = await PortableStage.start(address);
  const failure = await assertRejects(
    () => stage.listen({ listener: 1 }),
    UdpOrderError,
    "Cannot listen at ",
  );
  assertEquals(failure.code, "EADDRINUSE");
  await stage.plane.removeListener(0);
  assertEquals((await stage.listen()).port, stage.port);
});

bothFamilies("udp portable: nothing goes over to a successor", async (address) => {
  await using stage = await PortableStage.start(address);
  await using client = await UdpClient.open(address);
  await client.ask("x", stage.port, address);
  assertEquals(await stage.plane.release(), []);
  assertEquals(stage.reasons, ["drain"]);
  assertEquals(await stage.plane.release(), []);
  await assertRejects(() => stage.plane.snapshot(), UdpWorkerGoneError, "it was stopped");
  await using next = await PortableStage.start(address, { listener: { port: stage.port } });
  assertGreater((await client.ask("y", next.port, address)).length, 0);
});

bothFamilies("udp portable: what a predecessor left is closed", async (address) => {
  await using predecessor = await UdpStage.start({ address });
  await using client = await UdpClient.open(address);
  await client.ask("x", predecessor.port, address);
  const [{ listeners: [listener], flows: [flow] }] = await predecessor.plane.release();
  const fds = [listener.fd, flow.fd ?? -1];
  const left = fds.map(fileOf);
  for (const file of left) assertMatch(file ?? "", /^socket:/);
  await using stage = await PortableStage.start(address);
  // At the same port, which is free then.
  const settings = { listener: 1, address, port: predecessor.port, route: null };
  const answer = await stage.plane.setListener(settings, [{ ...listener, flows: [flow] }]);
  assertEquals([answer.port, answer.restored], [predecessor.port, 0]);
  for (const [index, fd] of fds.entries()) assertNotEquals(fileOf(fd), left[index]);
});

kernelTest("udp portable: source addresses are refused, and nothing is changed", [], async () => {
  await using stage = await PortableStage.start("127.0.0.1");
  const sourceAddresses = { ipv4: "127.77.0.0/16" };
  await assertRejects(
    () => stage.plane.setCluster({ cluster: 0, policy: "random", members: [], sourceAddresses }),
    UdpOrderError,
    "Cannot use source addresses",
  );
  await using client = await UdpClient.open();
  assertEquals((await client.ask("x", stage.port)).slice(3), ":x");
});

kernelTest("udp portable: an IPv6 wildcard takes IPv4 only where it is asked to", [], async () => {
  for (const isV6Only of [true, false]) {
    await using stage = await PortableStage.start("::1", { listener: { address: "::", isV6Only } });
    await using six = await UdpClient.open("::1");
    assertEquals((await six.ask("x", stage.port, "::1")).slice(3), ":x");
    await using four = await UdpClient.open("127.0.0.1");
    await four.send("x", stage.port, "127.0.0.1");
    if (isV6Only) {
      await eventually(() => stage.plane.shellCounters().foreign === 1);
      assertEquals(await stage.flows(), 1);
    } else assertEquals((await four.receive()).text.slice(3), ":x");
  }
});
