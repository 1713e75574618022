/**
 * A real server whose load balancer runs on the portable shell, chosen by its file.
 *
 * @module
 */
import { assertEquals, assertGreater, assertStringIncludes } from "@std/assert";
import { EVENT_TYPES } from "#lib/events/mod.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { ServedUdp } from "#tests/support/served_udp.ts";
import { placeText, UDP_FAMILIES } from "#tests/support/udp_families.ts";
import { eventually, UdpBackend, UdpClient } from "#tests/support/udp_ends.ts";

const NEEDS = ["root", "cap:CAP_SYS_ADMIN", "cap:CAP_NET_ADMIN"] as const;

kernelTest("udp portable e2e: a server's balancer, seen as the fast one is", NEEDS, async () => {
  const ends = [];
  for (const [family, address] of UDP_FAMILIES) {
    const backends = [
      await UdpBackend.start("BK0", address),
      await UdpBackend.start("BK1", address),
    ];
    ends.push({ family, address, backends });
  }
  const health = { passive: { unanswered: 3, holdMs: 60_000 } };
  const document = {
    clusters: ends.map(({ family, backends }) => ({
      name: family,
      backends: backends.map(({ name, address, port }) => ({
        name,
        address: placeText(address, port),
      })),
      health,
    })),
    listeners: ends.map(({ family, address }) => ({
      name: family,
      listen: placeText(address, 0),
      cluster: family,
      affinity: "source-port",
      responses: 1,
    })),
  };
  await using udp = await ServedUdp.start({
    file: { balancer: { shell: "portable" }, ...document },
  });
  for (const { family, address, backends } of ends) {
    const port = await udp.port(family);
    const heard = new Set<string>();
    for (let client = 0; client < 6; client++) {
      await using socket = await UdpClient.open(address);
      heard.add(await socket.ask("ping", port, address));
    }
    assertEquals([...heard].toSorted(), ["BK0:ping", "BK1:ping"]);
    const { counters, status } = await udp.listener(family);
    assertEquals([counters.datagramsOut, status], [6, "ready"]);

    // A client that waits is seen, a backend that is silent is found out.
    backends[1].replies = 0;
    await using silent = await UdpClient.open(address);
    await eventually(async () => {
      await using socket = await UdpClient.open(address);
      await socket.send("ping", port, address);
      const { backends } = await udp.cluster(family);
      return backends.some(({ name, status }) => name === "BK1" && status === "down");
    });
    assertEquals(await silent.ask("still", port, address), "BK0:still");
    const flows = await udp.celld("udp", "get", "flows");
    assertStringIncludes(flows.stdout, family);
  }
  const metrics = await udp.metrics();
  assertGreater(metrics.get("celld_udp_sent_to_client_total") ?? 0, 11);
  assertEquals(metrics.get("celld_udp_kernel_dropped_total"), 0);
  await eventually(() => udp.flowLog().some(({ reason }) => reason === "responsesReached"));

  const drained = await udp.celld("udp", "drain", "backend/IPv4/BK0");
  assertEquals(drained.code, 0, drained.stderr);
  const states = (await udp.cluster("IPv4")).backends.map(({ status }) => status);
  assertEquals(states, ["draining", "down"]);

  const source = {
    name: "own",
    backends: ["127.0.0.1:9"],
    sourceAddresses: { ipv4: "127.9.0.0/16" },
  };
  const refused = await udp.served.ask("POST", "/v1/udp", { clusters: [source] });
  assertEquals(refused.status, 409);
  assertStringIncludes(refused.text, "Cannot use source addresses");
  for (const { backends } of ends) for (const backend of backends) await backend.close();
});

kernelTest(
  "udp portable e2e: an upgrade ends flows, and keeps address and settings",
  NEEDS,
  async () => {
    await using backend = await UdpBackend.start("BK");
    const clusters = [{ name: "in", backends: [`127.0.0.1:${backend.port}`] }];
    const listeners = [{ name: "in", listen: "127.0.0.1:0", cluster: "in" }];
    const file = { balancer: { shell: "portable" }, clusters, listeners };
    await using udp = await ServedUdp.start({ file });
    const port = await udp.port("in");
    await using client = await UdpClient.open();
    assertEquals(await client.ask("before", port), "BK:before");
    const since = (await udp.served.events()).at(-1)!.seq;
    udp.served.signal("SIGUSR2");
    await eventually(async () => {
      const answer = await udp.served.tryAsk("GET", `/v1/events?since=${since}&limit=1000`);
      return answer?.status === 200 && answer.text.includes(EVENT_TYPES.udpInherited);
    }, 60_000);
    assertEquals(await udp.port("in"), port);
    assertEquals(await client.ask("after", port), "BK:after");
    assertEquals(new Set(backend.seen.map(({ from }) => from.port)).size, 2);
  },
);

kernelTest("udp portable e2e: two workers are refused before anything starts", NEEDS, async () => {
  await using udp = await ServedUdp.start({ file: { balancer: { shell: "portable" } } });
  assertEquals(await udp.served.end("SIGTERM"), 0);
  Deno.writeTextFileSync(
    `${udp.base}/udp.json`,
    JSON.stringify({ balancer: { shell: "portable", workers: 2 } }),
  );
  udp.served.spawn();
  assertEquals(await udp.served.ended(), 2);
  assertStringIncludes(
    udp.served.printed,
    "balancer.workers: found 2, want 1, since the portable shell has one thread",
  );
});
