/**
 * Every way in which the UDP plane refuses or gives up a datagram, over real sockets: it is counted
 * once, under its own reason, and the sums agree.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { parseCidr } from "#lib/base/mod.ts";
import { DROP_NAMES } from "#lib/udp/mod.ts";
import { bothFamilies } from "#tests/support/udp_families.ts";
import { eventually, UdpClient } from "#tests/support/udp_ends.ts";
import { UdpStage, type UdpStageOptions } from "#tests/support/udp_plane.ts";

/** What was dropped, by reason; none of those that were not. */
async function dropped(stage: UdpStage): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const name of DROP_NAMES) {
    const count = await stage.counter(`dropped.${name}`);
    if (count > 0) counts[name] = count;
  }
  return counts;
}

/** How a new flow comes to be refused. */
const REFUSALS: readonly {
  readonly why: string;
  readonly reason: string;
  /** Flows that may live. */
  readonly admitted: number;
  options(address: string): UdpStageOptions;
}[] = [{
  why: "the source is denied",
  reason: "denied",
  admitted: 0,
  options: (address) => ({
    listener: { access: { allow: [], deny: [parseCidr(`${address}/${bitsOf(address)}`)!] } },
  }),
}, {
  why: "the source is not among those allowed",
  reason: "denied",
  admitted: 0,
  options: () => ({
    listener: {
      access: { allow: [parseCidr("192.0.2.0/24")!, parseCidr("2001:db8::/32")!], deny: [] },
    },
  }),
}, {
  why: "the listener has its flows",
  reason: "flowLimit",
  admitted: 2,
  options: () => ({ listener: { limit: { maxFlows: 2 } } }),
}, {
  why: "the cluster has its flows",
  reason: "flowLimit",
  admitted: 2,
  options: () => ({ cluster: { limit: { maxFlows: 2 } } }),
}, {
  why: "the listener had its new flows of this second",
  reason: "rateLimit",
  admitted: 3,
  options: () => ({ listener: { limit: { newFlowsPerSecond: 0.001, burst: 3 } } }),
}, {
  why: "the cluster had its new flows of this second",
  reason: "rateLimit",
  admitted: 3,
  options: () => ({ cluster: { limit: { newFlowsPerSecond: 0.001, burst: 3 } } }),
}, {
  why: "the table is full",
  reason: "shed",
  admitted: 3,
  options: () => ({ plane: { maxFlows: 3 } }),
}, {
  why: "there is no route",
  reason: "noBackend",
  admitted: 0,
  options: () => ({ listener: { route: null } }),
}, {
  why: "the backends have their flows",
  reason: "noBackend",
  admitted: 2,
  options: () => ({ backend: { limit: { maxFlows: 2 } } }),
}];

function bitsOf(address: string): number {
  return address.includes(":") ? 128 : 32;
}

for (const { why, reason, admitted, options } of REFUSALS) {
  bothFamilies(`udp: where ${why}, a new flow is refused and counted`, async (address) => {
    await using stage = await UdpStage.start({ ...options(address), address });
    const clients = await Promise.all(Array.from({ length: 5 }, () => UdpClient.open(address)));
    for (const client of clients) await client.send("x", stage.port);
    await eventually(async () => await stage.counter("clientDatagrams") === 5);
    assertEquals(await dropped(stage), { [reason]: 5 - admitted });
    assertEquals(await stage.counter("datagramsIn"), admitted);
    assertEquals(await stage.flows(), admitted);
    await eventually(() => stage.backends[0].seen.length === admitted);
    for (const client of clients) await client.close();
  });
}

bothFamilies("udp: a prefix of sources has its own limits, changed live", async (address) => {
  await using stage = await UdpStage.start({ address });
  await stage.plane.setPrefixLimit({ maxFlows: 2 });
  const clients = await Promise.all(Array.from({ length: 5 }, () => UdpClient.open(address)));
  for (const client of clients) await client.send("x", stage.port);
  await eventually(async () => await stage.counter("clientDatagrams") === 5);
  assertEquals(await dropped(stage), { flowLimit: 3 });
  await stage.plane.setPrefixLimit(null);
  for (const client of clients) await client.send("y", stage.port);
  await eventually(async () => await stage.flows() === 5);
  assertEquals(await dropped(stage), { flowLimit: 3 });
  for (const client of clients) await client.close();
});

bothFamilies("udp: an unproven client gets no more than its share of replies", async (address) => {
  await using stage = await UdpStage.start({
    address,
    route: { amplification: { factor: 3, roundTrips: 1 } },
  });
  const [backend] = stage.backends;
  backend.answer = () => new Uint8Array(100);
  backend.replies = 5;
  await using client = await UdpClient.open(address);
  await client.send(new Uint8Array(100), stage.port);
  for (let reply = 0; reply < 3; reply++) await client.receive();
  await eventually(async () => await stage.counter("dropped.amplification") === 2);
  assert(await client.isSilent());
  // It answered a reply: it is there, and gets all.
  await client.send("1", stage.port);
  for (let reply = 0; reply < 5; reply++) await client.receive();
  assertEquals(await dropped(stage), { amplification: 2 });
  assertEquals(await stage.counter("datagramsOut"), 8);
});

bothFamilies(
  "udp: what has no room for a PROXY header is not sent, and counted",
  async (address) => {
    await using stage = await UdpStage.start({ address, route: { proxyProtocol: "every" } });
    await using client = await UdpClient.open(address);
    const header = address.includes(":") ? 52 : 28;
    const most = address.includes(":") ? 65_527 : 65_507;
    stage.backends[0].answer = (payload) => new TextEncoder().encode(String(payload.length));
    assertEquals(await client.ask(new Uint8Array(most - header), stage.port), String(most));
    await client.send(new Uint8Array(most - header + 1), stage.port);
    await eventually(() => stage.plane.shellCounters().sendError === 1);
    // The flow is none the worse for it.
    assertEquals(await client.ask("x", stage.port), String(header + 1));
    assertEquals(await stage.flows(), 1);
  },
);
