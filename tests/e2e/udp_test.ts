/**
 * The UDP load balancer of a real server: documents go in by the API, datagrams by sockets.
 *
 * @module
 */
import { assert, assertEquals, assertGreater } from "@std/assert";
import { kernelTest } from "#tests/support/kernel.ts";
import { ServedUdp } from "#tests/support/served_udp.ts";
import { eventually, UdpBackend, UdpClient } from "#tests/support/udp_ends.ts";

const NEEDS = ["root", "cap:CAP_SYS_ADMIN", "cap:CAP_NET_ADMIN"] as const;
const LOOPBACKS = ["127.0.0.1", "::1"] as const;

const placeOf = ({ address, port }: UdpBackend) =>
  address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
const anyPort = (address: string) => address.includes(":") ? `[${address}]:0` : `${address}:0`;

async function startBackends(count: number, address: string, from = 0): Promise<UdpBackend[]> {
  const numbers = Array.from({ length: count }, (_, index) => index + from);
  return await Promise.all(numbers.map((number) => UdpBackend.start(`BK${number}`, address)));
}

function cluster(name: string, backends: readonly UdpBackend[], more: object = {}): object {
  return {
    name,
    backends: backends.map((one) => ({ name: one.name, address: placeOf(one) })),
    ...more,
  };
}

/** Asks from a socket of its own; whose answer came. */
async function askFrom(client: UdpClient, port: number, address: string): Promise<string> {
  return (await client.ask("ping", port, address)).split(":")[0];
}

kernelTest("udp e2e: datagrams go and return, in both families, round robin", NEEDS, async () => {
  await using udp = await ServedUdp.start();
  for (const address of LOOPBACKS) {
    const backends = await startBackends(2, address);
    const name = address.includes(":") ? "six" : "four";
    const listeners = [{
      name,
      listen: anyPort(address),
      cluster: name,
      affinity: "source-port",
      responses: 1,
    }];
    assertEquals(await udp.apply({ clusters: [cluster(name, backends)], listeners }), {
      set: [`cluster/${name}`, `listener/${name}`],
      removed: [],
      unchanged: [],
    });
    const port = await udp.port(name);
    const heard = new Set<string>();
    for (let client = 0; client < 6; client++) {
      await using socket = await UdpClient.open(address);
      heard.add(await askFrom(socket, port, address));
    }
    assertEquals([...heard].sort(), ["BK0", "BK1"]);
    // One reply each: a second client is served as the first was.
    await eventually(async () => (await udp.listener(name)).flows === 0);
    assertEquals((await udp.listener(name)).counters.datagramsOut, 6);
    assertEquals(backends.map((one) => one.texts), [
      ["ping", "ping", "ping"],
      ["ping", "ping", "ping"],
    ]);
    for (const one of backends) await one.close();
  }
});

for (const balance of ["rendezvous", "maglev"] as const) {
  kernelTest(
    `udp e2e: ${balance} keeps each client with its backend, and moves few to a newcomer`,
    NEEDS,
    async () => {
      await using udp = await ServedUdp.start();
      const backends = await startBackends(3, "127.0.0.1");
      const listeners = [{
        name: "hashed",
        listen: "127.0.0.1:0",
        cluster: "hashed",
        affinity: "source-port",
        responses: 1,
      }];
      await udp.apply({ clusters: [cluster("hashed", backends, { balance })], listeners });
      const port = await udp.port("hashed");
      const clients = await Promise.all(Array.from({ length: 20 }, () => UdpClient.open()));
      const ask = () => Promise.all(clients.map((one) => askFrom(one, port, "127.0.0.1")));
      const first = await ask();
      assertEquals(await ask(), first);
      assertGreater(new Set(first).size, 1);
      backends.push(...await startBackends(1, "127.0.0.1", 3));
      await udp.apply({ clusters: [cluster("hashed", backends, { balance })] });
      const after = await ask();
      const elsewhere = after.filter((name, index) => name !== first[index]);
      // Rendezvous moves to the newcomer alone; Maglev shifts a few more.
      if (balance === "rendezvous") assertEquals(elsewhere.filter((name) => name !== "BK3"), []);
      else assert(elsewhere.length <= 15, `${elsewhere.length} of 20 moved`);
      for (const end of [...clients, ...backends]) await end.close();
    },
  );
}

kernelTest("udp e2e: caps, sizes and PROXY headers are as the document says", NEEDS, async () => {
  await using udp = await ServedUdp.start();
  await using sink = await UdpBackend.start("SINK");
  await using echo = await UdpBackend.start("ECHO");
  sink.replies = 0;
  const to = (name: string, more: object) => ({ name, listen: "127.0.0.1:0", ...more });
  await udp.apply({
    clusters: [cluster("sink", [sink]), cluster("echo", [echo])],
    listeners: [
      to("capped", { cluster: "sink", requests: 2, responses: 0 }),
      to("small", { cluster: "echo", maxDatagramBytes: 64 }),
      to("proxied", { cluster: "sink", proxyProtocol: "first" }),
      to("nowhere", {}),
    ],
  });
  await using client = await UdpClient.open();

  const capped = await udp.port("capped");
  for (const text of ["1", "2", "3"]) await client.send(text, capped);
  await eventually(() => sink.seen.length === 3);
  // The second ended the first flow: the third came over another socket.
  const ports = sink.seen.map(({ from }) => from.port);
  assertEquals([ports[0] === ports[1], ports[1] === ports[2]], [true, false]);
  await eventually(() => udp.flowLog().some(({ reason }) => reason === "requestsReached"));

  const small = await udp.port("small");
  await client.send("x".repeat(200), small);
  assertEquals(await client.ask("little", small), "ECHO:little");
  assertEquals((await udp.listener("small")).counters["dropped.truncated"], 1);

  sink.seen.length = 0;
  await client.send("inside", await udp.port("proxied"));
  await eventually(() => sink.seen.length === 1);
  const [{ payload }] = sink.seen;
  const view = new DataView(payload.buffer);
  assertEquals(payload.slice(0, 4).toHex(), "0d0a0d0a");
  assertEquals([payload[12], payload[13], view.getUint16(14)], [0x21, 0x12, 12]);
  assertEquals([...payload.slice(16, 24)], [127, 0, 0, 1, 127, 0, 0, 1]);
  assertEquals(
    [view.getUint16(24), view.getUint16(26)],
    [client.port, await udp.port("proxied")],
  );
  assertEquals(new TextDecoder().decode(payload.slice(28)), "inside");

  await client.send("lost", await udp.port("nowhere"));
  await eventually(async () => (await udp.listener("nowhere")).counters["dropped.noBackend"] === 1);
});

kernelTest(
  "udp e2e: listeners come and go; with a dead backend the others serve",
  NEEDS,
  async () => {
    await using udp = await ServedUdp.start();
    await using alive = await UdpBackend.start("BK0");
    const gone = await UdpBackend.start("BK1");
    const listeners = [{
      name: "late",
      listen: "127.0.0.1:0",
      cluster: "half",
      affinity: "source-port",
      responses: 1,
    }];
    const health = { passive: { errors: 1, holdMs: 60_000 } };
    await udp.apply({ clusters: [cluster("half", [alive, gone], { health })], listeners });
    await gone.close();
    const port = await udp.port("late");
    let answered = 0;
    for (let client = 0; client < 6; client++) {
      await using socket = await UdpClient.open();
      await socket.send("ping", port);
      if (!await socket.isSilent()) answered += 1;
    }
    // The dead one costs what it was sent before the kernel's error made it down.
    assertGreater(answered, 3);
    const states = (await udp.cluster("half")).backends.map(({ name, status }) => [name, status]);
    assertEquals(states, [["BK0", "up"], ["BK1", "down"]]);

    assertEquals((await udp.served.ask("DELETE", "/v1/udp/listeners/late")).status, 200);
    await using socket = await UdpClient.open();
    await socket.send("ping", port).catch(() => {});
    assertEquals(await socket.isSilent(), true);
    assertEquals((await udp.served.ask("GET", "/v1/udp/listeners/late")).status, 404);
  },
);

kernelTest("udp e2e: a change of everything but the address loses no flow", NEEDS, async () => {
  await using udp = await ServedUdp.start();
  const backends = await startBackends(2, "127.0.0.1");
  const document = (more: object, balance: string) => ({
    clusters: [cluster("kept", backends, { balance })],
    listeners: [{ name: "kept", listen: "127.0.0.1:0", cluster: "kept", ...more }],
  });
  await udp.apply(document({}, "round-robin"));
  const port = await udp.port("kept");
  const clients = await Promise.all(Array.from({ length: 8 }, () => UdpClient.open()));
  const ask = () => Promise.all(clients.map((one) => askFrom(one, port, "127.0.0.1")));
  const first = await ask();
  const sockets = () =>
    backends.flatMap(({ seen }) => seen.map(({ from }) => from.port)).toSorted((a, b) => a - b);
  const flows = new Set(sockets());
  const changes = [
    [{ frontTimeoutMs: 5000, affinity: "source-port" }, "random"],
    [{ maxDatagramBytes: 500, limit: { maxFlows: 8 } }, "least-flows"],
    [{ requests: 0, pending: { datagrams: 1 }, deny: ["192.0.2.0/24"] }, "maglev"],
    [{ whenDown: "keep", amplification: { factor: 10 } }, "rendezvous"],
    // Nobody new may come; who is there may stay.
    [{ deny: ["127.0.0.0/8"], onChange: "keep" }, "rendezvous"],
  ] as const;
  for (const [more, balance] of changes) {
    await udp.apply(document(more, balance));
    assertEquals(await ask(), first, balance);
  }
  assertEquals(new Set(sockets()), flows);
  assertEquals((await udp.listener("kept")).flows, 8);
  await udp.apply(document({ deny: ["127.0.0.0/8"], onChange: "close" }, "rendezvous"));
  await eventually(async () => (await udp.listener("kept")).flows === 0);
  for (const end of [...clients, ...backends]) await end.close();
});
