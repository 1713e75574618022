/**
 * A plane lets go of its sockets and flows, another takes them over: clients and backends see
 * nothing of it, and nothing that the kernel had queued is lost.
 *
 * @module
 */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { closeUdpSocket, UDP_RUN_BYTES, UdpRun, UdpSlab } from "#ffi/mod.ts";
import { parseCidr } from "#lib/base/mod.ts";
import { encodeProxyHeader, type InheritedFlow } from "#lib/udp/mod.ts";
import { campaign } from "#tests/support/campaign.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { eventually, socketsAt, UdpClient } from "#tests/support/udp_ends.ts";
import { bothFamilies } from "#tests/support/udp_families.ts";
import { SuccessionStage } from "./succession_stage.ts";

async function openClients(count: number, address?: string): Promise<UdpClient[]> {
  return await Promise.all(Array.from({ length: count }, () => UdpClient.open(address)));
}

async function closeAll(clients: readonly UdpClient[]): Promise<void> {
  for (const client of clients) await client.close();
}

/** Takes so many replies. */
async function take(client: UdpClient, count: number): Promise<string[]> {
  const texts: string[] = [];
  while (texts.length < count) texts.push((await client.receive()).text);
  return texts;
}

bothFamilies("udp inherited: a flow goes on, and neither end sees a change", async (address) => {
  await using stage = await SuccessionStage.start({ address, backends: 3 });
  await using client = await UdpClient.open(address);
  const first = await client.ask("one", stage.port, address);
  assertEquals(await client.ask("two", stage.port, address), first.replace("one", "two"));
  const before = stage.plane;
  const { port, restored } = await stage.succeed();
  assertEquals([port, restored], [stage.port, 1]);
  // What let go is done, and says so.
  await before.stop();
  assertEquals(await before.release(), [{ listeners: [], sources: [], flows: [], discarded: 0 }]);
  const refused = await before.counters().then(() => "answered", ({ name }: Error) => name);
  assertEquals(refused, "UdpWorkerGoneError");
  await client.send("three", stage.port, address);
  const { text, from } = await client.receive();
  assertEquals([text, from.port, from.address], [
    first.replace("one", "three"),
    stage.port,
    address,
  ]);
  const senders = stage.backends.flatMap(({ seen }) => seen.map((one) => one.from.port));
  assertEquals([senders.length, new Set(senders).size], [3, 1]);
  assertEquals([stage.closed, await stage.counter("flowsCreated")], [[], 1]);
  const closed = await stage.end(1);
  assertEquals(closed.length, 1);
  const { datagramsIn, datagramsOut, bytesIn, client: known } = closed[0];
  assertEquals([datagramsIn, datagramsOut, bytesIn], [3, 3, "onetwothree".length]);
  assertEquals(known, { address, port: client.port });
});

bothFamilies(
  "udp inherited: what comes while nobody serves waits in the kernel",
  async (address) => {
    const each = 40;
    await using stage = await SuccessionStage.start({ address, backends: 4 });
    const clients = await openClients(8, address);
    for (const client of clients) await client.ask("hello", stage.port, address);
    const numbers = Array.from({ length: each }, (_, index) => index);
    await stage.succeed({
      async between() {
        for (const index of numbers) {
          for (const client of clients) await client.send(`c${index}`, stage.port, address);
        }
        for (const backend of stage.backends) {
          const flows = new Map(backend.seen.map(({ from }) => [from.port, from]));
          assertEquals(flows.size, 2);
          for (const { port } of flows.values()) {
            for (const index of numbers) await backend.send(`b${index}`, port, address);
          }
        }
      },
    });
    for (const client of clients) {
      const texts = await take(client, 2 * each);
      const wanted = numbers.flatMap((at) => [`b${at}`, `BK:c${at}`]);
      // None is lost, and each is there once.
      assertEquals(texts.map((text) => text.replace(/^BK\d/, "BK")).sort(), wanted.sort());
    }
    assertEquals(await stage.flows(), [8]);
    await closeAll(clients);
  },
);

kernelTest("udp inherited: each of two workers goes on with its own flows", [], async () => {
  await using stage = await SuccessionStage.start({ backends: 3, plane: { workers: 2 } });
  const clients = await openClients(24);
  const ask = async (text: string) => {
    const replies: string[] = [];
    for (const client of clients) replies.push(await client.ask(text, stage.port));
    return replies;
  };
  const first = await ask("x");
  const flows = await stage.flows();
  assert(flows.every((count) => count > 0), `one worker had all: ${flows}`);
  const senders = stage.backends.map(({ seen }) => seen.map(({ from }) => from.port).sort());
  const { restored } = await stage.succeed({
    async between() {
      for (const client of clients) await client.send("between", stage.port);
    },
  });
  assertEquals([restored, await stage.flows()], [24, flows]);
  for (const [index, client] of clients.entries()) {
    assertEquals(await take(client, 1), [first[index].replace("x", "between")]);
  }
  assertEquals(await ask("x"), first);
  for (const [index, { seen }] of stage.backends.entries()) {
    const after = seen.map(({ from }) => from.port);
    const own = senders[index];
    assertEquals(after.length, 3 * own.length);
    assertEquals([...new Set(after)].sort(), own);
  }
  // New clients are spread as ever.
  const others = await openClients(12);
  const met = new Set<string>();
  for (const other of others) met.add(await other.ask("new", stage.port));
  assert(met.size > 1, "new clients have one backend");
  assertEquals((await stage.flows()).reduce((sum, count) => sum + count, 0), 36);
  await closeAll([...clients, ...others]);
});

bothFamilies(
  "udp inherited: replies go on to the proxy that a flow came through",
  async (address) => {
    const trusted = `${address}/${address.includes(":") ? 128 : 32}`;
    const proxyFrom = [parseCidr(trusted)!];
    await using stage = await SuccessionStage.start({ address, listener: { proxyFrom } });
    await using proxy = await UdpClient.open(address);
    const source = { address: address.includes(":") ? "2001:db8::7" : "192.0.2.7", port: 5353 };
    const header = encodeProxyHeader(source, { address, port: 53 });
    const datagram = (text: string) =>
      new Uint8Array([...header, ...new TextEncoder().encode(text)]);
    assertEquals(await proxy.ask(datagram("a"), stage.port, address), "BK0:a");
    const { restored } = await stage.succeed({
      async between() {
        const [{ from }] = stage.backends[0].seen;
        await stage.backends[0].send("unasked", from.port, address);
      },
    });
    assertEquals(restored, 1);
    assertEquals((await proxy.receive()).text, "unasked");
    assertEquals(await proxy.ask(datagram("b"), stage.port, address), "BK0:b");
    assertEquals((await stage.end(1)).map((flow) => [flow.client, flow.datagramsIn]), [[
      source,
      2,
    ]]);
  },
);

for (const [wildcard, own] of [["0.0.0.0", "127.0.0.9"], ["::", "::1"]]) {
  kernelTest(
    `udp inherited: a listener at ${wildcard} goes on to reply from the address asked`,
    [],
    async () => {
      await using stage = await SuccessionStage.start({ address: wildcard });
      await using client = await UdpClient.open(own);
      await client.ask("a", stage.port, own);
      const { restored } = await stage.succeed({
        between: () => client.send("b", stage.port, own),
      });
      assertEquals(restored, 1);
      for (const text of ["b", "c"]) {
        if (text === "c") await client.send(text, stage.port, own);
        const reply = await client.receive();
        assertEquals([reply.text, reply.from.address, reply.from.port], [
          `BK0:${text}`,
          own,
          stage.port,
        ]);
      }
    },
  );
}

kernelTest("udp inherited: losses in the kernel are told once, in whichever life", [], async () => {
  const listener = { receiveBufferBytes: 8192 };
  await using stage = await SuccessionStage.start({ listener });
  await using client = await UdpClient.open();
  await client.ask("hello", stage.port);
  const burst = 400;
  const between = async () => {
    for (let index = 0; index < burst; index++) await client.send(`${index}`, stage.port);
  };
  for (const life of [1, 2]) {
    const told: number[] = [];
    await stage.succeed({
      async between([released]) {
        told.push(...released.listeners.map(({ dropped }) => dropped));
        await between();
      },
    });
    // A datagram carries the losses before it.
    let sent = burst;
    await eventually(async () => {
      await client.send("last", stage.port);
      sent += 1;
      await new Promise((done) => setTimeout(done, 50));
      const { kernelDropped } = stage.plane.shellCounters();
      return await stage.counter("clientDatagrams") + kernelDropped === sent;
    });
    const { kernelDropped } = stage.plane.shellCounters();
    assert(kernelDropped > 0, `nothing was lost in life ${life}: the buffer is too large`);
    assertEquals(told[0] > 0, life === 2, "what was told goes over");
  }
});

kernelTest("udp inherited: an error that waits in a flow's socket moves the flow", [], async () => {
  await using stage = await SuccessionStage.start({ backends: 2 });
  await using client = await UdpClient.open();
  const first = await client.ask("x", stage.port);
  const own = stage.backends.findIndex(({ name }) => first.startsWith(name));
  const slab = new UdpSlab(1, 64, UDP_RUN_BYTES);
  await stage.succeed({
    async between([{ flows: [{ fd }] }]) {
      await stage.backends[own].close();
      // The kernel's answer to this one is the flow's pending error.
      assertEquals(new UdpRun(slab).sendOne(fd ?? -1, slab.payloadAt(0), 1), 1);
    },
  });
  await eventually(() => stage.plane.shellCounters().icmp === 1);
  assertEquals([await stage.flows(), stage.closed], [[1], []]);
  assertNotEquals((await client.ask("x", stage.port)).slice(0, 3), first.slice(0, 3));
  assertEquals((await stage.end(1)).map(({ reselections }) => reselections), [1]);
});

kernelTest("udp inherited: one worker after one: two, and one after two", [], async () => {
  await using stage = await SuccessionStage.start({ backends: 2 });
  const clients = await openClients(16);
  const ask = async (some: readonly UdpClient[]) => {
    for (const client of some) assertEquals((await client.ask("x", stage.port)).slice(3), ":x");
  };
  await ask(clients);
  // The second opens its own, and joins a socket that was alone.
  const grown = await stage.succeed({
    plane: { workers: 2 },
    map: ([part]) => [part, undefined],
  });
  assertEquals(grown.restored, 16);
  await ask(clients);
  const others = await openClients(24);
  await ask(others);
  const flows = await stage.flows();
  assert(flows[1] > 0, "the second worker gets nothing");
  // All clients come to the one that is left: it has the flows of both.
  const shrunk = await stage.succeed({ plane: { workers: 1 } });
  const all = flows.reduce((sum, count) => sum + count, 0);
  assert(all >= 40, `${all} flows`);
  // Some clients had a flow with either: one of theirs goes on.
  assertEquals([shrunk.restored, await stage.flows()], [40, [40]]);
  await ask([...clients, ...others]);
  assertEquals(await stage.flows(), [40]);
  await closeAll([...clients, ...others]);
});

for (const [before, after] of [[3, 1], [3, 2]]) {
  bothFamilies(
    `udp inherited: what waits for workers that are no more is not lost (${before} to ${after})`,
    async (address) => {
      const plane = { workers: before };
      await using stage = await SuccessionStage.start({ address, backends: 2, plane });
      const clients = await openClients(24, address);
      for (const client of clients) await client.ask("x", stage.port, address);
      const texts = Array.from({ length: 8 }, (_, index) => `waits ${index}`);
      await stage.succeed({
        plane: { workers: after },
        between: async () => {
          for (const text of texts) {
            for (const client of clients) await client.send(text, stage.port, address);
          }
        },
      });
      for (const client of clients) {
        const replies = await take(client, texts.length);
        assertEquals(new Set(replies.map((reply) => reply.split(":")[1])), new Set(texts));
      }
      assertEquals(socketsAt(stage.port), after);
      // Nobody is asked who does not listen any more.
      const others = await openClients(24, address);
      for (const client of [...clients, ...others]) await client.ask("y", stage.port, address);
      await closeAll([...clients, ...others]);
    },
  );
}

kernelTest("udp inherited: a flow that has nothing to send by opens a socket", [], async () => {
  await using stage = await SuccessionStage.start();
  await using client = await UdpClient.open();
  await client.ask("x", stage.port);
  const { restored } = await stage.succeed({
    map: ([part]) => [part && { ...part, flows: part.flows.map(withoutSocket) }],
  });
  assertEquals(restored, 1);
  assertEquals(await client.ask("y", stage.port), "BK0:y");
  assertEquals(new Set(stage.backends[0].seen.map(({ from }) => from.port)).size, 2);
  assertEquals((await stage.end(1)).map(({ datagramsIn }) => datagramsIn), [2]);
});

function withoutSocket({ fd, ...flow }: InheritedFlow): InheritedFlow {
  if (fd !== undefined) closeUdpSocket(fd);
  return flow;
}

for (const workers of [1, 2]) {
  kernelTest(`udp inherited: under traffic nothing is lost (${workers} workers)`, [], async () => {
    await using stage = await SuccessionStage.start({ backends: 4, plane: { workers } });
    const clients = await openClients(12);
    const inboxes = clients.map(() => [] as string[]);
    let sent = 0;
    let isDone = false;
    // No client has more than a few under way: what is lost is the balancer's.
    const talk = async (client: UdpClient, inbox: string[]) => {
      while (!isDone) {
        const text = `${sent++}`;
        const reply = await client.ask(text, stage.port);
        inbox.push(text, reply.slice(4));
      }
    };
    const talks = clients.map((client, index) => talk(client, inboxes[index]));
    await eventually(() => inboxes.every(({ length }) => length > 0));
    for (let life = 0; life < campaign(4, 40); life++) {
      await new Promise((done) => setTimeout(done, 50));
      assertEquals((await stage.succeed()).restored, clients.length);
    }
    isDone = true;
    await Promise.all(talks);
    for (const inbox of inboxes) {
      for (let at = 0; at < inbox.length; at += 2) assertEquals(inbox[at + 1], inbox[at]);
    }
    const seen = stage.backends.flatMap(({ texts }) => texts).map(Number).sort((a, b) => a - b);
    assertEquals(seen, Array.from({ length: sent }, (_, index) => index));
    const senders = stage.backends.flatMap(({ seen }) => seen.map(({ from }) => from.port));
    assertEquals(new Set(senders).size, clients.length);
    assertEquals(stage.closed, []);
    await closeAll(clients);
  });
}

kernelTest(
  "udp inherited: a backend that was down is down until it shows otherwise",
  [],
  async () => {
    await using stage = await SuccessionStage.start({ backends: 2 });
    const [{ port }] = stage.backends;
    const settings = { backend: 0, address: "127.0.0.1", port };
    // Nobody listens there by TCP: it shows nothing.
    await stage.plane.setBackend(settings, { isUp: false, probe: { by: "tcp" } });
    assertEquals(stage.plane.healthOf(0)?.isUp, false);
    const clients = await openClients(6);
    for (const client of clients) assertEquals(await client.ask("x", stage.port), "BK1:x");
    await closeAll(clients);
  },
);
