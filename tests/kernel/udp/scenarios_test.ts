/**
 * The UDP plane end to end, over real sockets: what a balancer of datagrams has to do.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { decodeProxyHeader } from "#lib/udp/mod.ts";
import { bothFamilies } from "#tests/support/udp_families.ts";
import { eventually, UdpBackend, UdpClient } from "#tests/support/udp_ends.ts";
import { UdpStage, type UdpStageOptions } from "#tests/support/udp_plane.ts";

/** A scenario of both families. */
function scenario(
  name: string,
  options: UdpStageOptions,
  run: (stage: UdpStage, address: string) => Promise<void>,
): void {
  bothFamilies(`udp: ${name}`, async (address) => {
    await using stage = await UdpStage.start({ ...options, address });
    await run(stage, address);
  });
}

/** Asks once from each of so many sockets; the replies. */
async function askFrom(count: number, port: number, address: string): Promise<string[]> {
  const replies: string[] = [];
  for (let index = 0; index < count; index++) {
    await using client = await UdpClient.open(address);
    replies.push(await client.ask("x", port, address));
  }
  return replies;
}

scenario("a datagram goes forth and its reply back", {}, async (stage, address) => {
  await using client = await UdpClient.open(address);
  assertEquals(await client.ask("ping", stage.port, address), "BK0:ping");
  assertEquals(stage.backends[0].texts, ["ping"]);
});

scenario("round robin spreads clients evenly", { backends: 2 }, async (stage, address) => {
  const replies = await askFrom(6, stage.port, address);
  assertEquals(replies.filter((reply) => reply === "BK0:x").length, 3);
  assertEquals(replies.filter((reply) => reply === "BK1:x").length, 3);
});

for (const policy of ["rendezvous", "maglev"] as const) {
  scenario(
    `${policy} keeps each client's backend, and a newcomer takes only its own`,
    {
      backends: 3,
      policy,
      route: { affinity: { by: "source-port" }, responses: 1 },
    },
    async (stage, address) => {
      const clients = await Promise.all(
        Array.from({ length: 20 }, () => UdpClient.open(address)),
      );
      try {
        const round = async () => {
          const replies: string[] = [];
          for (const client of clients) replies.push(await client.ask("k", stage.port, address));
          return replies;
        };
        const first = await round();
        assertEquals(await round(), first);
        assert(new Set(first).size >= 2, first.join());
        await stage.addBackend();
        await stage.setMembers();
        const later = await round();
        const moved = later.filter((reply, index) => reply !== first[index]);
        // Maglev may move a few more than the newcomer's.
        const strangers = moved.filter((reply) => reply !== "BK3:k").length;
        assert(policy === "rendezvous" ? strangers === 0 : strangers <= 4, later.join());
      } finally {
        for (const client of clients) await client.close();
      }
    },
  );
}

scenario("a flow ends with its one reply, and the next begins", {
  route: { responses: 1 },
}, async (stage, address) => {
  await askFrom(2, stage.port, address);
  await eventually(() => stage.closed.length === 2);
  assertEquals(stage.closed.map(({ reason }) => reason), ["responsesReached", "responsesReached"]);
});

scenario("the third datagram of a source opens another flow where a flow takes two", {
  backends: 2,
  route: { requests: 2 },
}, async (stage, address) => {
  await using client = await UdpClient.open(address);
  const replies = [];
  for (let index = 0; index < 4; index++) {
    replies.push(await client.ask(String(index), stage.port, address));
  }
  // The Nth reply comes too, and the flow after it goes to the other backend.
  const [first, second, third, fourth] = replies.map((reply) => reply.split(":")[0]);
  assertEquals([first, third], [second, fourth]);
  assert(first !== third, replies.join());
  assertEquals(replies.map((reply) => reply.split(":")[1]), ["0", "1", "2", "3"]);
});

scenario("a datagram that is too long is dropped and counted, a short one goes", {
  listener: { maxDatagramBytes: 64 },
}, async (stage, address) => {
  await using client = await UdpClient.open(address);
  await client.send(new Uint8Array(200), stage.port, address);
  assert(await client.isSilent());
  assertEquals(await client.ask("ok", stage.port, address), "BK0:ok");
  assertEquals(stage.backends[0].texts, ["ok"]);
  assertEquals(await stage.counter("dropped.truncated"), 1);
});

scenario("a backend learns the client from the PROXY protocol, in the first datagram", {
  route: { proxyProtocol: "first" },
}, async (stage, address) => {
  await using client = await UdpClient.open(address);
  await client.ask("one", stage.port, address);
  await client.ask("two", stage.port, address);
  const [first, second] = stage.backends[0].seen.map(({ payload }) => payload);
  const header = decodeProxyHeader(first);
  assert(header.kind === "header");
  assertEquals(header.source, { address, port: client.port });
  assertEquals(header.destination, { address, port: stage.port });
  assertEquals(new TextDecoder().decode(first.subarray(header.headerBytes)), "one");
  assertEquals(new TextDecoder().decode(second), "two");
});

scenario("a listener comes and goes while the plane runs", {}, async (stage, address) => {
  const settings = { listener: 1, address, port: 0, route: stage.route() };
  const { port } = await stage.plane.setListener(settings);
  await using client = await UdpClient.open(address);
  assertEquals(await client.ask("a", port, address), "BK0:a");
  await stage.plane.removeListener(1);
  // The port is free: no one there any more.
  await using other = await UdpBackend.start("other", address, port);
  assertEquals(await client.ask("b", port, address), `${other.name}:b`);
  assertEquals(await client.ask("c", stage.port, address), "BK0:c");
});

scenario("with one backend of two gone, every client is served after its first loss", {
  backends: 2,
}, async (stage, address) => {
  await stage.backends[1].close();
  for (let index = 0; index < 6; index++) {
    await using client = await UdpClient.open(address);
    let reply: string | undefined;
    for (let attempt = 0; attempt < 3 && reply === undefined; attempt++) {
      await client.send("x", stage.port, address);
      reply = await client.receive(500).then(({ text }) => text, () => undefined);
    }
    assertEquals(reply, "BK0:x");
  }
  assert(stage.plane.shellCounters().icmp > 0);
});

scenario("one socket keeps its backend", {
  backends: 2,
  policy: "rendezvous",
  route: { affinity: { by: "source-port" } },
}, async (stage, address) => {
  await using client = await UdpClient.open(address);
  const replies = new Set<string>();
  for (let index = 0; index < 3; index++) replies.add(await client.ask("x", stage.port, address));
  assertEquals(replies.size, 1);
  assertEquals(await stage.flows(), 1);
});
