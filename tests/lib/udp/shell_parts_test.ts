/**
 * The pure parts of the UDP shell: queues, bounds, reports, handing over, clients behind a proxy.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { encodeUtf8 } from "#lib/base/mod.ts";
import { ROUTE_DEFAULTS, type RouteConfig } from "#lib/udp/contract.ts";
import { COUNTER, CounterRows } from "#lib/udp/counters.ts";
import { boundFlows, FILES_KEPT, shareOf } from "#lib/udp/flow_bound.ts";
import {
  ConnectionDirectory,
  DIRECTORY_BYTES,
  GIVEN,
  HandOver,
  HandOverRing,
  RING_BYTES,
  RING_ENTRIES,
  RING_PAYLOAD_MAX,
} from "#lib/udp/hand_over.ts";
import { PROXIED_CLIENTS_MAX, ProxiedClients, PROXY_REFUSED } from "#lib/udp/proxied_clients.ts";
import { encodeLocalHeader, encodeProxyHeader } from "#lib/udp/proxy_protocol.ts";
import { FLOWS_A_REPORT_MAX, Reports } from "#lib/udp/reports.ts";
import { clientOf, localOf, makeTuple } from "#lib/udp/tuple.ts";
import { WriteQueue } from "#lib/udp/write_queue.ts";
import { campaign } from "#tests/support/campaign.ts";

const TUPLE = makeTuple({ address: "192.0.2.1", port: 1111 }, { address: "192.0.2.9", port: 53 });

Deno.test("write queue: it keeps order and its bound, and drops what came last", () => {
  fc.assert(
    fc.property(
      fc.array(fc.oneof(fc.constant("push" as const), fc.nat(6)), { maxLength: 100 }),
      (steps) => {
        const queue = new WriteQueue(5);
        const model: number[] = [];
        let next = 0;
        for (const step of steps) {
          if (step === "push") {
            const bytes = new Uint8Array([0, next & 0xff, 0]);
            const isKept = queue.push(bytes, 1, 1, TUPLE);
            bytes[1] ^= 0xff; // it was copied
            assertEquals(isKept, model.length < 5);
            if (isKept) model.push(next & 0xff);
            next += 1;
          } else {
            let room = step;
            const sent: number[] = [];
            queue.drain(({ payload, tuple }) => {
              if (room === 0) return false;
              room -= 1;
              assertEquals(tuple, TUPLE);
              sent.push(payload[0]);
              return true;
            });
            assertEquals(sent, model.splice(0, step));
          }
          assertEquals(queue.length, model.length);
        }
        assertEquals([queue.clear(), queue.length], [model.length, 0]);
      },
    ),
    { numRuns: campaign(200, 20_000) },
  );
});

Deno.test("flow bound: the least of what is asked, descriptors and ports, and why", () => {
  const host = { filesMax: 20_000, filesOpen: 44, portFirst: 32768, portLast: 60999 };
  assertEquals(boundFlows({ ...host, asked: 1000 }), {
    maxFlows: 1000,
    maxUnsocketed: 1000,
    told: [],
  });
  const files = boundFlows({ ...host, asked: 25_000 });
  assertEquals(files.maxFlows, 20_000 - 44 - FILES_KEPT);
  assertEquals(files.maxUnsocketed, 25_000);
  assertEquals(files.told, [
    "Flows are bounded to 19700, not 25000: this process may open 20000 descriptors (LimitNOFILE)",
  ]);
  const ports = boundFlows({ ...host, filesMax: 1_000_000, asked: 50_000 });
  assertEquals(ports.maxFlows, 28_232);
  assert(ports.told[0].includes("28232 local ports"), ports.told[0]);
  assertEquals(
    boundFlows({ ...host, filesMax: 1_000_000, asked: 50_000, sources: 2 }),
    { maxFlows: 50_000, maxUnsocketed: 50_000, told: [] },
  );
  // Nothing asked: nothing to tell, whatever it is.
  const little = boundFlows({ ...host, filesMax: 300 });
  assertEquals([little.maxFlows, little.told], [1, []]);
  assertEquals([shareOf(10, 3), shareOf(9, 3), shareOf(1, 4)], [4, 3, 1]);
});

Deno.test("hand over: a ring gives what it took, whole and in order, and no more than it holds", () => {
  const memory = new SharedArrayBuffer(RING_BYTES);
  const writer = new HandOverRing(memory);
  const reader = new HandOverRing(memory);
  let pushed = 0;
  let drained = 0;
  for (let round = 0; round < 5; round++) {
    for (let index = 0; index < RING_ENTRIES + 3; index++) {
      const payload = encodeUtf8(`--${pushed}`);
      const isTaken = writer.push(7, TUPLE, payload, 2, payload.length - 2);
      assertEquals(isTaken, index < RING_ENTRIES);
      if (isTaken) pushed += 1;
    }
    reader.drain((listener, tuple, payload) => {
      assertEquals([listener, Array.from(tuple)], [7, Array.from(TUPLE)]);
      assertEquals(new TextDecoder().decode(payload), String(drained));
      drained += 1;
    });
    assertEquals(drained, pushed);
  }
  const large = new Uint8Array(RING_PAYLOAD_MAX + 1);
  assertEquals(writer.push(0, TUPLE, large, 0, large.length), false);
  assertEquals(writer.push(0, TUPLE, large, 0, large.length - 1), true);
});

Deno.test("hand over: the directory says who claimed last, and forgets rather than grows", () => {
  const directory = new ConnectionDirectory(new SharedArrayBuffer(DIRECTORY_BYTES));
  assertEquals(directory.ownerOf(0x1234_5678), -1);
  directory.claim(0x1234_5678, 2);
  directory.claim(0xf234_5678, 0);
  assertEquals([directory.ownerOf(0x1234_5678), directory.ownerOf(0xf234_5678)], [2, 0]);
  directory.claim(0x1234_5678, 1);
  assertEquals(directory.ownerOf(0x1234_5678), 1);
  // Sixteen hashes of one place: at most its ways are kept, and never a wrong owner told.
  for (let high = 0; high < 16; high++) directory.claim((high << 20) >>> 0, high);
  const kept = Array.from({ length: 16 }, (_, high) => directory.ownerOf((high << 20) >>> 0));
  assert(kept.every((owner, high) => owner === -1 || owner === high), kept.join());
  assert(kept.filter((owner) => owner >= 0).length >= 2, kept.join());
});

Deno.test("hand over: a learned connection's datagrams go to their worker, others stay", () => {
  const directory = new ConnectionDirectory(new SharedArrayBuffer(DIRECTORY_BYTES));
  const rings = [0, 1].map(() => new HandOverRing(new SharedArrayBuffer(RING_BYTES)));
  const woken: number[] = [];
  const key = { low: 1, high: 2 };
  const [mine, other] = [0, 1].map((worker) =>
    new HandOver({ worker, key, directory, rings, wake: (whom) => woken.push(whom) })
  );
  const route: RouteConfig = {
    ...ROUTE_DEFAULTS,
    cluster: 0,
    affinity: { by: "quic", connectionIdBytes: 4, serverIdBytes: 0 },
  };
  const reply = new Uint8Array([0xc0, 0, 0, 0, 1, 2, 9, 9, 4, 1, 2, 3, 4, 0xaa]);
  const short = new Uint8Array([0x40, 1, 2, 3, 4, 0xbb]);
  const give = (from: HandOver, of: RouteConfig | null = route) =>
    from.give(3, of, TUPLE, short, 0, short.length);
  assertEquals(give(other), GIVEN.no);
  mine.learn(route, reply, 0, reply.length);
  assertEquals([give(mine), give(other)], [GIVEN.no, GIVEN.yes]);
  assertEquals(woken, [0]);
  assertEquals(rings[0].drain((_, __, payload) => assertEquals(payload, short)), 1);
  assertEquals(give(other, { ...ROUTE_DEFAULTS, cluster: 0 }), GIVEN.no);
  assertEquals(give(other, null), GIVEN.no);
  for (let index = 0; index < RING_ENTRIES; index++) give(other);
  assertEquals(give(other), GIVEN.full);
  // Cut replies teach nothing, and are no harm.
  for (let length = 0; length < 13; length++) {
    const fresh = new ConnectionDirectory(new SharedArrayBuffer(DIRECTORY_BYTES));
    const learner = new HandOver({ worker: 1, key, directory: fresh, rings, wake: () => {} });
    learner.learn(route, reply, 0, length);
    const reader = new HandOver({ worker: 0, key, directory: fresh, rings, wake: () => {} });
    assertEquals(give(reader), GIVEN.no, `${length} bytes`);
  }
});

Deno.test("proxied clients: a header names the client, and its socket's next datagrams are his", () => {
  const clients = new ProxiedClients();
  const header = encodeProxyHeader({ address: "198.51.100.7", port: 99 }, {
    address: "203.0.113.1",
    port: 443,
  });
  const datagram = new Uint8Array([0xff, ...header, 0x68, 0x69]);
  const tuple = TUPLE.slice();
  assertEquals(clients.read(tuple, datagram, 1, datagram.length - 1), header.length);
  assertEquals(clientOf(tuple, 0), { address: "198.51.100.7", port: 99 });
  assertEquals(localOf(tuple, 0), { address: "203.0.113.1", port: 443 });
  const later = TUPLE.slice();
  assertEquals(clients.read(later, encodeUtf8("hi"), 0, 2), 0);
  assertEquals(clientOf(later, 0), { address: "198.51.100.7", port: 99 });
  const stranger = makeTuple({ address: "192.0.2.2", port: 1 }, { address: "192.0.2.9", port: 53 });
  assertEquals(clients.read(stranger, encodeUtf8("hi"), 0, 2), PROXY_REFUSED);
  assertEquals(clients.read(stranger, header, 0, header.length - 1), PROXY_REFUSED);
  // What the proxy sends for itself is from itself.
  const own = stranger.slice();
  assertEquals(clients.read(own, encodeLocalHeader(), 0, 16), 16);
  assertEquals(own, stranger);
});

Deno.test("proxied clients: the number of remembered sockets is bounded", () => {
  const clients = new ProxiedClients();
  const local = encodeLocalHeader();
  const tuple = TUPLE.slice();
  for (let index = 0; index < PROXIED_CLIENTS_MAX + 10; index++) {
    tuple[3] = index;
    clients.read(tuple, local, 0, local.length);
  }
  assertEquals(clients.size, PROXIED_CLIENTS_MAX);
  tuple[3] = 0;
  assertEquals(clients.read(tuple, encodeUtf8("x"), 0, 1), PROXY_REFUSED);
});

Deno.test("reports: traffic is told as differences, and only where there is some", () => {
  const counters = new CounterRows();
  const reports = new Reports(true);
  assertEquals(reports.take([0, 1], counters), undefined);
  counters.add(1, COUNTER.datagramsIn, 5);
  counters.add(1, COUNTER.datagramsOut, 2);
  assertEquals(reports.take([0, 1], counters)?.traffic, [
    { backend: 1, sent: 5, received: 2, icmp: [] },
  ]);
  assertEquals(reports.take([0, 1], counters), undefined);
  for (let index = 0; index < 100; index++) reports.addIcmp(0, "ECONNREFUSED");
  const [told] = reports.take([0, 1], counters)?.traffic ?? [];
  assertEquals([told.backend, told.sent, told.icmp.length], [0, 0, 16]);
});

Deno.test("reports: flows past the bound are counted, not kept", () => {
  const reports = new Reports(true);
  const record = {
    flow: 1,
    listener: 0,
    cluster: 0,
    backend: 0,
    client: { address: "192.0.2.1", port: 1 },
    local: { address: "192.0.2.9", port: 53 },
    startedAtMs: 0,
    durationMs: 1,
    datagramsIn: 1,
    bytesIn: 1,
    datagramsOut: 0,
    bytesOut: 0,
    dropped: 0,
    reselections: 0,
  };
  for (let index = 0; index < FLOWS_A_REPORT_MAX + 7; index++) {
    reports.addFlow(reports.wantsFlows ? record : undefined, "idle");
  }
  const report = reports.take([], new CounterRows());
  assertEquals([report?.closed.length, report?.untold], [FLOWS_A_REPORT_MAX, 7]);
  assertEquals(report?.closed[0].reason, "idle");
  const silent = new Reports(false);
  assertEquals(silent.wantsFlows, false);
  silent.addFlow(undefined, "idle");
  assertEquals(silent.take([], new CounterRows()), undefined);
});
