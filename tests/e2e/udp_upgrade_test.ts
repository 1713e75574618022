/**
 * Upgrades of a real server under clients of its UDP load balancer, who notice nothing: a successor
 * takes over, the same process starts again, a successor fails, a thread dies.
 *
 * @module
 */
import { assert, assertEquals, assertGreater, assertStringIncludes } from "@std/assert";
import { EVENT_TYPES } from "#lib/events/mod.ts";
import { campaign, recordCampaign } from "#tests/support/campaign.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { type Ground, Served } from "#tests/support/served.ts";
import { ServedUdp } from "#tests/support/served_udp.ts";
import { eventually, UdpBackend, UdpClient } from "#tests/support/udp_ends.ts";
import { dropsAt, Echo, load } from "#tests/support/udp_load.ts";

const NEEDS = ["root", "cap:CAP_SYS_ADMIN", "cap:CAP_NET_ADMIN"] as const;
const BREAKABLE = new URL("../support/breakable_celld.ts", import.meta.url).pathname;
/** A client asks again so long after an answer, or after a while without one. */
const ASK_EVERY_MS = 4;
const ASK_ANYWAY_MS = 100;
const REPLY_MS = 10_000;

const place = (address: string, port: number) =>
  address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;

function documentOf(address: string, backends: readonly UdpBackend[], more: object = {}): object {
  return {
    clusters: [{
      name: "app",
      balance: "round-robin",
      backends: backends.map((one) => ({ name: one.name, address: place(address, one.port) })),
    }],
    listeners: [{ name: "app", listen: place(address, 0), cluster: "app", ...more }],
  };
}

async function startBackends(count: number, address: string): Promise<UdpBackend[]> {
  const numbers = Array.from({ length: count }, (_, index) => index);
  return await Promise.all(numbers.map((number) => UdpBackend.start(`BK${number}`, address)));
}

/** Clients that never stop asking, each over one socket. */
class Askers implements AsyncDisposable {
  readonly #clients: UdpClient[] = [];
  readonly #running: Promise<void>[] = [];
  readonly #answered = new Set<string>();
  #sent = 0;
  #isEnding = false;

  static async start(count: number, port: number, address: string): Promise<Askers> {
    const askers = new Askers();
    for (let index = 0; index < count; index++) {
      const client = await UdpClient.open(address);
      askers.#clients.push(client);
      askers.#running.push(askers.#run(client, index, port, address));
    }
    return askers;
  }

  /** Questions so far. */
  get sent(): number {
    return this.#sent;
  }

  /** Asks no more; how many questions had no answer in good time. */
  async end(): Promise<number> {
    this.#isEnding = true;
    await Promise.all(this.#running);
    return this.#sent - this.#answered.size;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isEnding = true;
    await Promise.all(this.#running);
    for (const client of this.#clients) await client.close();
  }

  /** What nobody reads yet is to have room in the buffers of this test's own sockets. */
  async #run(client: UdpClient, index: number, port: number, address: string): Promise<void> {
    for (let round = 0; !this.#isEnding; round++) {
      await client.send(`${index}.${round}`, port, address);
      this.#sent += 1;
      await this.#listen(client, ASK_ANYWAY_MS);
      // All of them: who has answers in hand would go on asking while nobody serves.
      while (await this.#listen(client, 0));
      await pause(ASK_EVERY_MS);
    }
    const untilMs = Date.now() + REPLY_MS;
    while (this.#answered.size < this.#sent && Date.now() < untilMs) {
      await this.#listen(client, ASK_ANYWAY_MS);
    }
  }

  /** Whether an answer came. */
  async #listen(client: UdpClient, forMs: number): Promise<boolean> {
    try {
      this.#answered.add((await client.receive(forMs)).text.split(":")[1]);
      return true;
    } catch {
      // Nothing for a while: the end looks at what is missing.
      return false;
    }
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((done) => setTimeout(done, ms));
}

/** A server in place of the one that serves. */
function successorOf(udp: ServedUdp, ...args: string[]): Served<Ground> {
  return new Served(udp.served.stage, ["--take-over", ...args]);
}

/** Ports that backends see their clients at: one a flow. */
function portsSeen(backends: readonly UdpBackend[]): Set<number> {
  return new Set(backends.flatMap(({ seen }) => seen.map(({ from }) => from.port)));
}

async function dataOf(served: Served<Ground>, type: string): Promise<Record<string, unknown>[]> {
  const entries = await served.events();
  return entries.filter(({ event }) => event.type === type)
    .map(({ event }) => event.data as Record<string, unknown>);
}

/** What the kernel had no room for at a server's sockets, in this life of it. */
async function droppedOf(served: Served<Ground>): Promise<number> {
  const { text } = await served.ask("GET", "/metrics");
  const value = /^celld_udp_kernel_dropped_total (\d+)$/m.exec(text)?.[1];
  return Number(value);
}

for (const address of ["127.0.0.1", "::1"]) {
  kernelTest(
    `udp upgrade: a successor gets the sockets of ${address}, and no client notices`,
    NEEDS,
    async () => {
      await using udp = await ServedUdp.start();
      const backends = await startBackends(2, address);
      await udp.apply(documentOf(address, backends));
      const port = await udp.port("app");
      await using known = await UdpClient.open(address);
      const whose = (await known.ask("ping", port, address)).split(":")[0];
      await using askers = await Askers.start(4, port, address);
      await eventually(() => askers.sent > 100);

      const pid = udp.served.pid;
      await using next = successorOf(udp);
      next.spawn();
      assertEquals(await udp.served.ended(), 0, udp.served.printed);
      await next.ready();
      assert(next.pid !== pid);
      assertStringIncludes(udp.served.printed, `Process ${next.pid} has taken over`);
      const before = askers.sent;
      await using fresh = await UdpClient.open(address);
      assertStringIncludes(await fresh.ask("ping", port, address), ":ping");
      assertEquals((await known.ask("ping", port, address)).split(":")[0], whose);
      await eventually(() => askers.sent > before + 100);
      assertEquals(await askers.end(), 0, "every question is answered");

      // One flow each, over both lives: the backends saw no other ports.
      assertEquals(portsSeen(backends).size, 6);
      const [inherited] = await dataOf(next, EVENT_TYPES.udpInherited);
      assertEquals(inherited, { restored: 5, flows: 0, listeners: 0, discarded: 0 });
      const stops = await dataOf(next, EVENT_TYPES.hostStopped);
      assertEquals(stops.map(({ pid, reason }) => [pid, reason]), [[pid, "upgrade"]]);
      const starts = await dataOf(next, EVENT_TYPES.hostStarted);
      assertEquals(starts.map((it) => it.pid), [pid, next.pid]);
      // What a flow did in both lives is one record.
      assertEquals(udp.flowLog(), []);
      assertEquals((await next.ask("DELETE", "/v1/udp/listeners/app")).status, 200);
      await eventually(() => udp.flowLog().length === 6);
      const total = udp.flowLog().reduce((sum, flow) => sum + Number(flow.datagramsIn), 0);
      assertEquals(total, askers.sent + 3);
      for (const one of backends) await one.close();
    },
  );
}

kernelTest("udp upgrade: the same process starts again, with several workers", NEEDS, async () => {
  await using udp = await ServedUdp.start({ file: { balancer: { workers: 2 } } });
  const backends = await startBackends(3, "127.0.0.1");
  await udp.apply(documentOf("127.0.0.1", backends));
  const port = await udp.port("app");
  await using askers = await Askers.start(16, port, "127.0.0.1");
  await eventually(() => askers.sent > 200);
  const { pid } = udp.served;
  const rounds = campaign(2, 20);
  for (let round = 1; round <= rounds; round++) {
    const since = (await udp.served.events()).at(-1)!.seq;
    udp.served.signal("SIGUSR2");
    await eventually(async () => {
      const answer = await udp.served.tryAsk("GET", `/v1/events?since=${since}&limit=1000`);
      return answer?.status === 200 && answer.text.includes(EVENT_TYPES.udpInherited);
    }, 60_000);
    const before = askers.sent;
    await eventually(() => askers.sent > before + 200);
  }
  assertEquals(await askers.end(), 0, "every question is answered");
  assertEquals(portsSeen(backends).size, 16);
  assertEquals(udp.served.pid, pid);
  const inherited = await dataOf(udp.served, EVENT_TYPES.udpInherited);
  assertEquals(
    inherited,
    Array(rounds).fill({ restored: 16, flows: 0, listeners: 0, discarded: 0 }),
  );
  assertEquals((await udp.metrics()).get("celld_udp_flows"), 16);
  for (const one of backends) await one.close();
});

kernelTest(
  "udp upgrade: under load, what is lost over many upgrades is nothing, or counted",
  [...NEEDS, "path:/usr/bin/perl"],
  async () => {
    const rounds = campaign(2, 20);
    const flows = campaign(64, 900);
    await using udp = await ServedUdp.start();
    await using echo = new Echo();
    const address = `127.0.0.1:${echo.port}`;
    await udp.apply({
      clusters: [{ name: "app", backends: [{ name: "echo", address }] }],
      listeners: [{ name: "app", listen: "127.0.0.1:0", cluster: "app" }],
    });
    const port = await udp.port("app");
    const seconds = 4 + rounds * 3;
    const running = load(port, { rate: 2000, seconds, flows });
    await eventually(async () => (await udp.listener("app")).flows === flows);
    let server = udp.served;
    await using successors = new AsyncDisposableStack();
    let counted = 0;
    for (let round = 1; round <= rounds; round++) {
      const since = (await server.events()).at(-1)!.seq;
      if (round % 2 === 1) server.signal("SIGUSR2");
      else {
        const before = server;
        server = successors.use(successorOf(udp));
        server.spawn();
        assertEquals(await before.ended(), 0);
      }
      await eventually(async () => {
        const answer = await server.tryAsk("GET", `/v1/events?since=${since}&limit=1000`);
        return answer?.status === 200 && answer.text.includes(EVENT_TYPES.udpInherited);
      }, 60_000);
      await server.ready();
      await pause(1500);
      counted += await droppedOf(server);
    }
    const { sent, heard, overflowed, silentMs } = await running;
    const inherited = await dataOf(server, EVENT_TYPES.udpInherited);
    const all = { restored: flows, flows: 0, listeners: 0, discarded: 0 };
    assertEquals(inherited, Array(rounds).fill(all));
    assertEquals(sent - heard, overflowed + counted + dropsAt(echo.port));
    recordCampaign("udp upgrades", {
      rounds,
      sent,
      heard,
      "dropped and counted": counted,
      "without an answer at most": `${silentMs} ms`,
    });
  },
);

kernelTest("udp upgrade: where the successor fails, the server goes on", NEEDS, async () => {
  await using udp = await ServedUdp.start();
  const backends = await startBackends(2, "127.0.0.1");
  await udp.apply(documentOf("127.0.0.1", backends));
  const port = await udp.port("app");
  await using askers = await Askers.start(4, port, "127.0.0.1");
  await eventually(() => askers.sent > 50);
  const { pid } = udp.served;

  // Its API's port is taken.
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  await using next = successorOf(udp, "--listen", `127.0.0.1:${taken.addr.port}`);
  next.spawn();
  assertEquals(await next.ended(), 125, next.printed);
  await eventually(() => udp.served.printed.includes("does not serve"), 60_000);
  await udp.served.ready();
  assertStringIncludes(udp.served.printed, "it ended before it served");
  assertEquals(udp.served.pid, pid);

  const before = askers.sent;
  await eventually(() => askers.sent > before + 50);
  assertEquals(await askers.end(), 0, "every question is answered");
  assertEquals(portsSeen(backends).size, 4);
  // It can be taken over still.
  await using better = successorOf(udp);
  better.spawn();
  assertEquals(await udp.served.ended(), 0, udp.served.printed);
  await better.ready();
  assertEquals((await better.ask("GET", "/v1/udp/listeners/app")).json().flows, 4);
  for (const one of backends) await one.close();
});

kernelTest("udp upgrade: a thread of the server dies, and flows go on", NEEDS, async () => {
  await using udp = await ServedUdp.start({ program: BREAKABLE });
  const backends = await startBackends(2, "127.0.0.1");
  await udp.apply(documentOf("127.0.0.1", backends));
  const port = await udp.port("app");
  await using askers = await Askers.start(4, port, "127.0.0.1");
  await eventually(() => askers.sent > 50);
  udp.served.signal("SIGUSR1");
  await eventually(async () => {
    const answer = await udp.served.tryAsk("GET", "/v1/events?limit=1000");
    return answer?.status === 200 && answer.text.includes(EVENT_TYPES.hostWorkerRestarted);
  }, 60_000);
  await udp.served.ready();
  const before = askers.sent;
  await eventually(() => askers.sent > before + 50);
  assertEquals(await askers.end(), 0, "every question is answered");
  assertEquals(portsSeen(backends).size, 4);
  for (const one of backends) await one.close();
});

kernelTest(
  "udp upgrade: the successor's own document counts, for flows that went over too",
  NEEDS,
  async () => {
    await using udp = await ServedUdp.start();
    const backends = await startBackends(2, "127.0.0.1");
    await udp.apply(documentOf("127.0.0.1", backends, { affinity: "source-port" }));
    const port = await udp.port("app");
    const clients = await Promise.all(Array.from({ length: 4 }, () => UdpClient.open()));
    for (const client of clients) await client.ask("ping", port);
    // The successor's own document: one backend is at another place.
    const moved = await UdpBackend.start("moved");
    const file = udp.file({
      clusters: [{
        name: "app",
        balance: "round-robin",
        backends: [
          { name: "BK0", address: place("127.0.0.1", backends[0].port) },
          { name: "BK1", address: place("127.0.0.1", moved.port) },
        ],
      }],
    });
    await using next = successorOf(udp, "--udp", file);
    next.spawn();
    assertEquals(await udp.served.ended(), 0);
    await next.ready();
    const [inherited] = await dataOf(next, EVENT_TYPES.udpInherited);
    assertEquals(inherited, { restored: 4, flows: 0, listeners: 0, discarded: 0 });
    const heard: string[] = [];
    for (const client of clients) heard.push((await client.ask("ping", port)).split(":")[0]);
    assertEquals(heard.filter((name) => name === "BK1"), []);
    assertGreater(heard.filter((name) => name === "moved").length, 0);
    for (const end of [...clients, ...backends, moved]) await end.close();
  },
);

kernelTest("udp upgrade: hashing policies choose as before", NEEDS, async () => {
  await using udp = await ServedUdp.start();
  const backends = await startBackends(4, "127.0.0.1");
  const document = documentOf("127.0.0.1", backends, {
    affinity: { by: "payload", offset: 0, length: 2 },
    responses: 1,
  }) as { clusters: object[] };
  document.clusters = document.clusters.map((one) => ({ ...one, balance: "rendezvous" }));
  await udp.apply(document);
  const port = await udp.port("app");
  const ask = async () => {
    const names: string[] = [];
    for (let key = 10; key < 42; key++) {
      await using client = await UdpClient.open();
      names.push((await client.ask(`${key}`, port)).split(":")[0]);
    }
    return names;
  };
  const before = await ask();
  assertEquals(new Set(before).size, 4);
  await using next = successorOf(udp);
  next.spawn();
  assertEquals(await udp.served.ended(), 0);
  await next.ready();
  assertEquals(await ask(), before);
  for (const one of backends) await one.close();
});

kernelTest("udp upgrade: where nobody serves, taking over is starting", NEEDS, async () => {
  await using udp = await ServedUdp.start();
  await using second = new Served(udp.served.stage);
  second.spawn();
  assertEquals(await second.ended(), 125);
  assertStringIncludes(second.printed, "--take-over");
  assertEquals(await udp.served.end("SIGTERM"), 0);
  await using next = successorOf(udp);
  await next.start();
  assertEquals(await next.end("SIGTERM"), 0);
});
