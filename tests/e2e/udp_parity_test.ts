/**
 * The UDP load balancer of a real server, in both families, where other balancers go wrong: the end
 * of a server, descriptors that run out, clusters set again, routes taken away and given back.
 *
 * @module
 */
import { assert, assertEquals, assertGreater, assertMatch } from "@std/assert";
import type { Need } from "#tests/support/kernel.ts";
import { ServedUdp } from "#tests/support/served_udp.ts";
import { bothFamilies, placeText } from "#tests/support/udp_families.ts";
import { eventually, UdpBackend, UdpClient } from "#tests/support/udp_ends.ts";

const NEEDS: readonly Need[] = ["root", "cap:CAP_SYS_ADMIN", "cap:CAP_NET_ADMIN"];

function clusterOf(backends: readonly UdpBackend[], more: object = {}): object {
  return {
    name: "echo",
    backends: backends.map((one) => ({
      name: one.name,
      address: placeText(one.address, one.port),
    })),
    ...more,
  };
}

function listenerOf(address: string, more: object = {}): object {
  return { name: "in", listen: placeText(address, 0), cluster: "echo", ...more };
}

function openFilesOf(pid: number): number {
  return Array.from(Deno.readDirSync(`/proc/${pid}/fd`)).length;
}

bothFamilies("udp e2e: a server that ends waits for replies on their way", async (address) => {
  await using udp = await ServedUdp.start();
  await using backend = await UdpBackend.start("BK", address);
  backend.replies = 0;
  await udp.apply({
    clusters: [clusterOf([backend])],
    listeners: [listenerOf(address, { responses: 1 })],
  });
  await using client = await UdpClient.open(address);
  await client.send("slow", await udp.port("in"));
  await eventually(() => backend.seen.length === 1);
  const { from } = backend.seen[0];
  const ended = udp.served.end("SIGTERM");
  await new Promise((done) => setTimeout(done, 200));
  await backend.send("in time", from.port, from.address);
  assertEquals((await client.receive()).text, "in time");
  assertEquals(await ended, 0);
  assertEquals(udp.flowLog().map(({ reason }) => reason), ["responsesReached"]);
}, NEEDS);

bothFamilies(
  "udp e2e: where descriptors run out flows are shed without a flood of lines, and come back",
  async (address) => {
    await using udp = await ServedUdp.start();
    await using backend = await UdpBackend.start("BK", address);
    await udp.apply({
      clusters: [clusterOf([backend])],
      listeners: [listenerOf(address, { frontTimeoutMs: 700, backTimeoutMs: 100 })],
    });
    const port = await udp.port("in");
    const { pid } = udp.served;
    const clients = await Promise.all(Array.from({ length: 40 }, () => UdpClient.open(address)));
    for (const client of clients.slice(0, 4)) await client.ask("x", port);
    await eventually(() => udp.flowLog().length === 4);
    const files = openFilesOf(pid);
    limitFiles(pid, files + 10);
    const printed = udp.served.printed.length;
    const datagrams = 1000;
    for (let index = 0; index < datagrams; index++) {
      await clients[index % clients.length].send(String(index), port);
    }
    await eventually(() => openFilesOf(pid) <= files);
    limitFiles(pid, 4096);
    const { counters, flows } = await udp.listener("in");
    assertEquals([flows, counters.clientDatagrams], [0, datagrams + 4]);
    const metrics = await udp.metrics();
    const of = (name: string) => metrics.get(`celld_udp_${name}_total`)!;
    assertGreater(of("limit_reached"), 100);
    assertEquals(of("no_socket"), of("limit_reached"));
    // What came was sent, or had no socket to be sent by.
    assertEquals(of("sent_to_backend") + of("no_socket"), datagrams + 4);
    await eventually(() => udp.flowLog().length === counters.flowsClosed);
    const lines = udp.served.printed.slice(printed).split("\n").filter((line) => line !== "");
    assert(lines.length <= 5, lines.join("\n"));
    assertEquals(await clients[39].ask("again", port), "BK:again");
    for (const client of clients) await client.close();
  },
  [...NEEDS, "command:prlimit"],
);

function limitFiles(pid: number, count: number): void {
  const args = ["--pid", String(pid), `--nofile=${count}:`];
  const { success, stderr } = new Deno.Command("prlimit", { args }).outputSync();
  assert(success, new TextDecoder().decode(stderr));
}

bothFamilies("udp e2e: the largest datagrams that there are pass by default", async (address) => {
  await using udp = await ServedUdp.start();
  await using backend = await UdpBackend.start("BK", address);
  backend.answer = (payload) => payload;
  await udp.apply({ clusters: [clusterOf([backend])], listeners: [listenerOf(address)] });
  await using client = await UdpClient.open(address);
  const large = new Uint8Array(address.includes(":") ? 65_527 : 65_507).fill(7);
  await client.send(large, await udp.port("in"));
  assertEquals((await client.receive()).payload, large);
}, NEEDS);

bothFamilies(
  "udp e2e: a cluster set again leaves its listener's settings and flows as they are",
  async (address) => {
    await using udp = await ServedUdp.start();
    await using one = await UdpBackend.start("ONE", address);
    await using two = await UdpBackend.start("TWO", address);
    const listener = listenerOf(address, {
      affinity: "source-port",
      proxyProtocol: "first",
      limit: { maxFlows: 3 },
      frontTimeoutMs: 60_000,
    });
    await udp.apply({ clusters: [clusterOf([one])], listeners: [listener] });
    const port = await udp.port("in");
    const { settings } = await udp.listener("in");
    await using first = await UdpClient.open(address);
    await first.ask("1", port);
    await udp.apply({ clusters: [clusterOf([one, two], { balance: "rendezvous" })] });
    assertEquals((await udp.listener("in")).settings, settings);
    // One PROXY header was sent, and no other is: it is the same flow.
    assertEquals(await first.ask("2", port), "ONE:2");
    assertEquals((await udp.listener("in")).flows, 1);
    const others = await Promise.all(Array.from({ length: 3 }, () => UdpClient.open(address)));
    for (const other of others) await other.send("x", port);
    const limited = async () => (await udp.listener("in")).counters["dropped.flowLimit"];
    await eventually(async () => await limited() === 1);
    assertEquals((await udp.listener("in")).flows, 3);
    for (const other of others) await other.close();
  },
  NEEDS,
);

bothFamilies(
  "udp e2e: without its cluster a listener admits nobody and keeps whom it has",
  async (address) => {
    await using udp = await ServedUdp.start();
    await using backend = await UdpBackend.start("BK", address);
    await udp.apply({ clusters: [clusterOf([backend])], listeners: [listenerOf(address)] });
    const port = await udp.port("in");
    await using first = await UdpClient.open(address);
    assertEquals(await first.ask("1", port), "BK:1");
    await udp.apply({ listeners: [listenerOf(address, { cluster: null })] });
    assertEquals(await first.ask("2", port), "BK:2");
    await using late = await UdpClient.open(address);
    await late.send("x", port);
    await eventually(async () => (await udp.listener("in")).counters["dropped.noBackend"] === 1);
    assertEquals(await late.isSilent(), true);
    await udp.apply({ listeners: [listenerOf(address)] });
    assertEquals(await late.ask("y", port), "BK:y");
    assertEquals(await first.ask("3", port), "BK:3");
    // The first flow was the same all the while.
    assertEquals(new Set(backend.seen.map(({ from }) => from.port)).size, 2);
  },
  NEEDS,
);

bothFamilies(
  "udp e2e: with no backend that answers probes, a cluster is open or closed as it says",
  async (address) => {
    await using udp = await ServedUdp.start();
    // It serves, and answers no probe.
    await using backend = await UdpBackend.start("BK", address);
    const health = {
      probe: { by: "udp", send: { hex: "70696e67" }, expect: { matches: "^pong" } },
      intervalMs: 30,
      timeoutMs: 1000,
      rise: 1,
      fall: 2,
    };
    const document = (failOpen: boolean) => ({
      clusters: [clusterOf([backend], { health, failOpen })],
      listeners: [listenerOf(address)],
    });
    const status = async () => (await udp.cluster("echo")).backends[0].status;
    await udp.apply(document(false));
    await eventually(async () => await status() === "down");
    const port = await udp.port("in");
    await using client = await UdpClient.open(address);
    await client.send("x", port);
    await eventually(async () => (await udp.listener("in")).counters["dropped.noBackend"] === 1);
    await udp.apply(document(true));
    assertEquals(await client.ask("x", port), "BK:x");
    // Now it answers them, and is up.
    backend.answer = () => new TextEncoder().encode("pong!");
    await eventually(async () => await status() === "up");
    assertMatch(await client.ask("y", port), /^pong/);
  },
  NEEDS,
);

bothFamilies(
  "udp e2e: metrics and the flow's line name the flow's ends and sums",
  async (address) => {
    await using udp = await ServedUdp.start();
    await using backend = await UdpBackend.start("BK", address);
    const health = { probe: { by: "none" } };
    await udp.apply({
      clusters: [clusterOf([backend], { health })],
      listeners: [listenerOf(address, { responses: 1, maxDatagramBytes: 10 })],
    });
    const port = await udp.port("in");
    await using client = await UdpClient.open(address);
    assertEquals(await client.ask("12345", port), "BK:12345");
    await client.send("too long for it", port);
    await eventually(() => udp.flowLog().length === 1);
    const [{ time, durationMs, firstReplyMs, ...line }] = udp.flowLog();
    assertMatch(String(time), /^\d{4}-.*Z$/);
    assert(Number(firstReplyMs) >= 0 && Number(durationMs) >= Number(firstReplyMs));
    assertEquals(line, {
      listener: "in",
      client: placeText(address, client.port),
      cluster: "echo",
      backend: "BK",
      reason: "responsesReached",
      datagramsIn: 1,
      bytesIn: 5,
      datagramsOut: 1,
      bytesOut: 8,
      dropped: 0,
    });
    await eventually(async () => (await udp.listener("in")).counters["dropped.truncated"] === 1);
    const metrics = await udp.metrics();
    const of = (name: string) => metrics.get(`celld_udp_${name}`);
    assertEquals(of('listener_client_datagrams_total{listener="in"}'), 2);
    assertEquals(of('listener_datagrams_in_total{listener="in"}'), 1);
    assertEquals(of('listener_datagrams_out_total{listener="in"}'), 1);
    assertEquals(of('listener_bytes_out_total{listener="in"}'), 8);
    assertEquals(of('listener_flows_created_total{listener="in"}'), 1);
    assertEquals(of('listener_flows_closed_total{listener="in"}'), 1);
    assertEquals(of('listener_dropped_total{listener="in",reason="truncated"}'), 1);
    assertEquals(of('backend_datagrams_out_total{cluster="echo",backend="BK"}'), 1);
    assertEquals(of("flows"), 0);
  },
  NEEDS,
);
