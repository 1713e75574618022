/**
 * The UDP plane when things fail: backends that die, descriptors that run out, threads that share.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { kernelTest } from "#tests/support/kernel.ts";
import { bothFamilies } from "#tests/support/udp_families.ts";
import { eventually, UdpBackend, UdpClient } from "#tests/support/udp_ends.ts";
import { openFiles, UdpStage } from "#tests/support/udp_plane.ts";

const FAST = { intervalMs: 50, timeoutMs: 200, rise: 2, fall: 2, jitter: 0.1 };

bothFamilies(
  "udp: a flow leaves a backend that died, at the first sign from the kernel",
  async (address) => {
    await using stage = await UdpStage.start({ address, backends: 2 });
    await using client = await UdpClient.open(address);
    const mine = (await client.ask("x", stage.port)).split(":")[0];
    await stage.backends.find(({ name }) => name === mine)?.close();
    const other = stage.backends.find(({ name }) => name !== mine)!;
    // The first one is lost: nobody can know. The kernel's answer to it moves the flow.
    await client.send("lost", stage.port);
    await eventually(() => stage.plane.shellCounters().icmp > 0);
    assertEquals(await client.ask("again", stage.port), `${other.name}:again`);
    assertEquals(await stage.counter("reselections"), 1);
    assertEquals(await stage.flows(), 1);
  },
);

bothFamilies(
  "udp: flows keep or end with a dead backend where the route says so",
  async (address) => {
    for (const [whenUpstreamError, flows] of [["keep", 1], ["close", 0]] as const) {
      await using stage = await UdpStage.start({ address, route: { whenUpstreamError } });
      await using client = await UdpClient.open(address);
      await client.ask("x", stage.port);
      await stage.backends[0].close();
      await client.send("lost", stage.port);
      await eventually(() => stage.plane.shellCounters().icmp > 0);
      await eventually(async () => await stage.flows() === flows);
    }
  },
);

bothFamilies("udp: probes make a backend down and up again, and flows follow", async (address) => {
  await using stage = await UdpStage.start({
    address,
    backends: 2,
    health: {
      probe: { by: "udp", send: { text: "health" }, expect: { matches: "^BK\\d:health$" } },
      settings: FAST,
    },
  });
  const changes: string[] = [];
  stage.plane.onHealth = (backend, isUp) => changes.push(`${backend} ${isUp ? "up" : "down"}`);
  const [first] = stage.backends;
  const { port } = first;
  await first.close();
  await eventually(() => changes.includes("0 down"));
  for (let index = 0; index < 4; index++) {
    await using client = await UdpClient.open(address);
    assertEquals(await client.ask("x", stage.port), "BK1:x");
  }
  await using again = await UdpBackend.start("BK0", address, port);
  await eventually(() => changes.includes("0 up"));
  const replies = new Set<string>();
  for (let index = 0; index < 4; index++) {
    await using client = await UdpClient.open(address);
    replies.add(await client.ask("x", stage.port));
  }
  assertEquals(replies.size, 2, again.name);
  assertEquals(changes, ["0 down", "0 up"]);
});

bothFamilies(
  "udp: a TCP probe looks at its own port, and no one there is down",
  async (address) => {
    using tcp = Deno.listen({ hostname: address, port: 0 });
    const { port } = tcp.addr as Deno.NetAddr;
    const accepting = (async () => {
      for await (const connection of tcp) connection.close();
    })().catch(() => {});
    const stage = await UdpStage.start({
      address,
      health: { probe: { by: "tcp", port }, settings: { ...FAST, startsUp: false } },
    });
    await using _stage = stage;
    await eventually(() => stage.plane.healthOf(0)?.isUp === true);
    tcp.close();
    await eventually(() => stage.plane.healthOf(0)?.isUp === false);
    await accepting;
  },
);

bothFamilies(
  "udp: with all backends down a cluster is open or closed as it says",
  async (address) => {
    for (const failOpen of [true, false]) {
      await using stage = await UdpStage.start({ address, failOpen });
      await stage.plane.setBackendState(0, "down");
      await using client = await UdpClient.open(address);
      await client.send("x", stage.port);
      if (failOpen) assertEquals((await client.receive()).text, "BK0:x");
      else await eventually(async () => await stage.counter("dropped.noBackend") === 1);
    }
  },
);

bothFamilies(
  "udp: probes of a backend that wants PROXY headers carry a local one",
  async (address) => {
    await using stage = await UdpStage.start({
      address,
      health: {
        probe: { by: "udp", send: { text: "hi" }, expect: { any: true } },
        settings: FAST,
        expectsProxyHeader: true,
      },
    });
    await eventually(() => stage.backends[0].seen.length > 0);
    const [{ payload }] = stage.backends[0].seen;
    assertEquals(payload[12], 0x20);
    assertEquals(new TextDecoder().decode(payload.subarray(16)), "hi");
  },
);

bothFamilies(
  "udp: where descriptors run out flows are shed and counted, and come back",
  async (address) => {
    await using stage = await UdpStage.start({
      address,
      route: { frontTimeoutMs: 400, backTimeoutMs: 400 },
    });
    await using client = await UdpClient.open(address);
    await using late = await UdpClient.open(address);
    const files: Deno.FsFile[] = [];
    try {
      for (;;) files.push(Deno.openSync("/dev/null"));
    } catch (error) {
      assert(error instanceof Error, "no descriptor is left");
    }
    const before = stage.plane.shellCounters().limitReached;
    try {
      await client.send("x", stage.port);
      const untilMs = Date.now() + 5000;
      while (stage.plane.shellCounters().limitReached === before) {
        assert(Date.now() < untilMs, "it was not counted");
        await new Promise((done) => setTimeout(done, 10));
      }
    } finally {
      for (const file of files) file.close();
    }
    assertEquals(await late.ask("y", stage.port), "BK0:y");
  },
);

bothFamilies(
  "udp: two workers agree on backends, and each client has one of them",
  async (address) => {
    const options = {
      backends: 3,
      policy: "maglev",
      route: { affinity: { by: "source" } },
    } as const;
    await using stage = await UdpStage.start({ address, ...options, plane: { workers: 2 } });
    const before = openFiles();
    const clients = await Promise.all(Array.from({ length: 32 }, () => UdpClient.open(address)));
    const replies = new Set<string>();
    for (const client of clients) replies.add((await client.ask("x", stage.port)).split(":")[0]);
    const { workers } = await stage.plane.counters();
    assertEquals(replies.size, 1, "one source, one backend, whatever the worker");
    assert(
      workers.every(({ flows }) => flows > 0),
      JSON.stringify(workers.map((one) => one.flows)),
    );
    assertEquals(workers[0].flows + workers[1].flows, 32);
    assertEquals(openFiles(), before + 64);
    for (const client of clients) await client.close();
  },
);

bothFamilies(
  "udp: a QUIC client that changes its address stays with its worker's connection",
  async (address) => {
    const route = {
      affinity: { by: "quic", connectionIdBytes: 8, serverIdBytes: 0 },
    } as const;
    await using stage = await UdpStage.start({
      address,
      backends: 4,
      plane: { workers: 2 },
      route,
    });
    const id = [7, 7, 7, 7, 1, 2, 3, 4];
    // A long header each way: the server's tells the id that it chose.
    const initial = [0xc0, 0, 0, 0, 1, 8, 9, 9, 9, 9, 9, 9, 9, 9, 0];
    for (const backend of stage.backends) {
      backend.answer = () =>
        new Uint8Array([0xc0, 0, 0, 0, 1, 0, 8, ...id, backend.name.charCodeAt(2)]);
    }
    await using first = await UdpClient.open(address);
    await first.send(new Uint8Array(initial), stage.port);
    const owner = (await first.receive()).payload.at(-1);
    const short = new Uint8Array([0x40, ...id, 1, 2, 3]);
    const clients = await Promise.all(Array.from({ length: 16 }, () => UdpClient.open(address)));
    for (const client of clients) {
      await client.send(short, stage.port);
      assertEquals((await client.receive()).payload.at(-1), owner);
    }
    // Each side counts after it has acted.
    await eventually(() => {
      const { handedOver, takenOver } = stage.plane.shellCounters();
      return handedOver > 0 && handedOver === takenOver;
    });
    assertEquals(stage.plane.shellCounters().handOverFull, 0);
    for (const client of clients) await client.close();
  },
);

kernelTest("udp: workers come and go without leaving a descriptor or a port", [], async () => {
  let port = 0;
  const round = async () => {
    await using stage = await UdpStage.start({ plane: { workers: 2 } });
    port = stage.port;
    await using client = await UdpClient.open();
    await client.ask("x", stage.port);
  };
  // The first one also opens what the runtime keeps.
  await round();
  const before = openFiles();
  for (let times = 0; times < 3; times++) await round();
  // A thread's own descriptors are closed a moment after its end.
  await eventually(() => openFiles() <= before);
  await using free = await UdpBackend.start("free", "127.0.0.1", port);
  assertEquals(free.port, port);
});
