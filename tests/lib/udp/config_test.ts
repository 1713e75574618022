/**
 * UDP documents: what is filled in, and what is refused with its exact path.
 *
 * @module
 */
import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  clusterDocument,
  listenerDocument,
  readUdpBalancer,
  readUdpCluster,
  readUdpConfig,
  readUdpListener,
  ROUTE_DEFAULTS,
  UdpConfigError,
} from "#lib/udp/mod.ts";

function pathsOf(read: () => unknown): string[] {
  return assertThrows(read, UdpConfigError).problems.map(({ path }) => path);
}

const LISTENER = { name: "dns", listen: "127.0.0.1:53", cluster: "dns" };
const CLUSTER = { name: "dns", backends: ["192.0.2.1:53"] };

Deno.test("udp config: a listener needs a name and where it listens, the rest has defaults", () => {
  assertEquals(readUdpListener({ name: "a", listen: "[::1]:0" }), {
    name: "a",
    listen: { address: "::1", port: 0 },
    cluster: null,
    route: ROUTE_DEFAULTS,
    maxDatagramBytes: 65_527,
    access: { allow: [], deny: [] },
    onChange: "keep",
    proxyFrom: [],
    receiveBufferBytes: 4_194_304,
    ipv6Only: true,
    gro: false,
  });
  assertEquals(pathsOf(() => readUdpListener({})), ["name", "listen"]);
});

Deno.test("udp config: every knob of a route is taken as it is written", () => {
  const route = {
    requests: 1,
    responses: 2,
    frontTimeoutMs: 1000,
    backTimeoutMs: 2000,
    unrepliedTimeoutMs: 500,
    proxyProtocol: "until-reply",
    pending: { datagrams: 8, bytes: 100, drops: "oldest" },
    amplification: { factor: 5, roundTrips: 2 },
    whenDown: "keep",
    whenRemoved: "close",
    whenUpstreamError: "reselect",
    forwardEmpty: false,
  };
  const affinity = { by: "prefix", ipv4Bits: 24, ipv6Bits: 56 };
  assertEquals(readUdpListener({ ...LISTENER, ...route, affinity }).route as unknown, {
    ...route,
    affinity,
  });
});

Deno.test("udp config: affinity is a word or an object with what its kind has", () => {
  const affinityOf = (affinity: unknown) =>
    readUdpListener({ ...LISTENER, affinity }).route.affinity;
  assertEquals(affinityOf("source-port"), { by: "source-port" });
  assertEquals(affinityOf({ by: "payload", length: 2 }), { by: "payload", offset: 0, length: 2 });
  assertEquals(affinityOf({ by: "quic" }), { by: "quic", connectionIdBytes: 8, serverIdBytes: 0 });
  assertEquals(pathsOf(() => affinityOf("sorce")), ["affinity"]);
  assertEquals(pathsOf(() => affinityOf({ by: "source", ipv4Bits: 8 })), ["affinity.ipv4Bits"]);
  assertEquals(pathsOf(() => affinityOf({ by: "prefix", ipv4Bits: 33 })), ["affinity.ipv4Bits"]);
  assertEquals(pathsOf(() => affinityOf({ bits: 8 })), ["affinity.by"]);
});

Deno.test("udp config: addresses are addresses with ports, prefixes are whole", () => {
  const listen = (text: unknown) => pathsOf(() => readUdpListener({ ...LISTENER, listen: text }));
  for (
    const bad of ["localhost:53", "127.0.0.1", "::1:53", "[127.0.0.1]:53", "1.2.3.4:65536", 53]
  ) {
    assertEquals(listen(bad), ["listen"], String(bad));
  }
  const { access } = readUdpListener({
    ...LISTENER,
    allow: ["10.0.0.0/8", "::1"],
    deny: ["10.1.0.0/16"],
  });
  assertEquals([access.allow.length, access.deny.length], [2, 1]);
  assertEquals(
    pathsOf(() => readUdpListener({ ...LISTENER, allow: ["10.1.2.3/8", "x"], proxyFrom: [1] })),
    ["allow[0]", "allow[1]", "proxyFrom[0]"],
  );
});

Deno.test("udp config: a backend is an address, or an object that says more", () => {
  const { backends } = readUdpCluster({
    name: "a",
    backends: ["[::1]:53", { address: "192.0.2.1:53", name: "one", weight: 7, backup: true }],
  });
  assertEquals(backends, [
    { address: "::1", port: 53, name: "[::1]:53", weight: 100, backup: false },
    { address: "192.0.2.1", port: 53, name: "one", weight: 7, backup: true },
  ]);
  assertEquals(
    pathsOf(() =>
      readUdpCluster({
        name: "a",
        backends: [
          { address: "192.0.2.1:53", weight: 0 },
          { address: "192.0.2.1:53", wieght: 1 },
          { address: "192.0.2.2:0" },
          { address: "192.0.2.3:1", quicServerId: "0g", sources: ["x"] },
        ],
      })
    ),
    [
      "backends[0].weight",
      "backends[1].wieght",
      "backends[1].name",
      "backends[2].address",
      "backends[3].quicServerId",
      "backends[3].sources[0]",
    ],
  );
});

Deno.test("udp config: health is not asked unless the document says how", () => {
  assertEquals(readUdpCluster(CLUSTER).health.isProbed, false);
  const health = {
    probe: { by: "dns", name: "example.org" },
    rise: 1,
    fall: 1,
    intervalMs: 100,
    timeoutMs: 50,
    jitter: 0,
    startsUp: false,
    passive: { errors: 2 },
  };
  assertEquals(readUdpCluster({ ...CLUSTER, health }).health as unknown, {
    ...health,
    isProbed: true,
    passive: { errors: 2, unanswered: 0, holdMs: 10_000 },
  });
});

Deno.test("udp config: a probe that cannot be made is refused where it stands", () => {
  const probe = (value: unknown) =>
    pathsOf(() => readUdpCluster({ ...CLUSTER, health: { probe: value } }));
  assertEquals(probe({ by: "http" }), ["health.probe.by"]);
  assertEquals(probe({ by: "tcp", port: 0 }), ["health.probe.port"]);
  assertEquals(probe({ by: "udp", send: { text: "a", hex: "00" } }), ["health.probe.send"]);
  assertEquals(probe({ by: "udp", expect: { matches: "(" } }), ["health.probe"]);
  assertEquals(probe({ by: "udp", expect: { any: true, equals: { text: "a" } } }), [
    "health.probe.expect",
  ]);
  assertEquals(probe({ by: "udp", send: { hex: "0" } }), ["health.probe"]);
});

Deno.test("udp config: a DNS probe asks for a known type and names its codes", () => {
  const read = (probe: object) => readUdpCluster({ ...CLUSTER, health: { probe } });
  const probe = { by: "dns", name: "a.test", type: "AAAA", codes: ["NOERROR", "REFUSED"] };
  assertEquals(read(probe).health.probe as unknown, probe);
  assertEquals(
    pathsOf(() => read({ by: "dns", type: 1, codes: ["NOERROR", 0] })),
    ["health.probe.type", "health.probe.codes[1]"],
  );
});

Deno.test("udp config: names are unique, and a listener's cluster is in the document", () => {
  assertEquals(
    pathsOf(() =>
      readUdpConfig({
        clusters: [CLUSTER, CLUSTER],
        listeners: [LISTENER, LISTENER, { ...LISTENER, name: "b", cluster: "none" }],
      })
    ),
    ["clusters[1].name", "listeners[1].name", "listeners[2].cluster"],
  );
  assertEquals(pathsOf(() => readUdpConfig({ listner: [] })), ["listner"]);
});

Deno.test("udp config: the balancer's own settings have bounds", () => {
  assertEquals(readUdpBalancer(undefined), {
    shell: "auto",
    workers: 1,
    maxFlows: 65_536,
    whenFull: "refuse",
  });
  assertEquals(readUdpBalancer({ workers: 2, prefixes: { maxFlows: 3, ipv4Bits: 24 } }), {
    shell: "auto",
    workers: 2,
    maxFlows: 65_536,
    whenFull: "refuse",
    prefixes: { maxFlows: 3, ipv4Bits: 24, ipv6Bits: 64 },
  });
  assertEquals(
    pathsOf(() =>
      readUdpBalancer({ workers: 0, maxFlows: 1.5, whenFull: "x", prefixes: { a: 1 } })
    ),
    ["workers", "maxFlows", "whenFull", "prefixes.a"],
  );
});

Deno.test("udp config: the portable shell has one worker, and there are three words for a shell", () => {
  for (const shell of ["auto", "fast", "portable"] as const) {
    assertEquals(readUdpBalancer({ shell }).shell, shell);
  }
  for (const shell of ["auto", "fast"]) {
    assertEquals(readUdpBalancer({ shell, workers: 2 }).workers, 2);
  }
  assertThrows(
    () => readUdpConfig({ balancer: { shell: "portable", workers: 2 } }),
    UdpConfigError,
    "balancer.workers: found 2, want 1, since the portable shell has one thread",
  );
  assertThrows(
    () => readUdpBalancer({ shell: "slow" }),
    UdpConfigError,
    'shell: found "slow", want "auto" or "fast" or "portable"',
  );
});

Deno.test("udp config: any JSON is a document or a UdpConfigError", () => {
  const word = fc.constantFrom(
    ...["name", "listen", "cluster", "backends", "affinity", "health", "probe", "by", "udp", "dns"],
    ...["send", "expect", "text", "hex", "limit", "cells", "pending", "listeners", "clusters"],
  );
  const { tree } = fc.letrec((tie) => ({
    tree: fc.oneof(
      { depthSize: "small" },
      fc.jsonValue({ maxDepth: 1 }),
      word,
      fc.array(tie("tree"), { maxLength: 4 }),
      fc.dictionary(word, tie("tree"), { maxKeys: 6 }),
    ),
  }));
  fc.assert(fc.property(tree, (value) => {
    for (const read of [readUdpConfig, readUdpListener, readUdpCluster, readUdpBalancer]) {
      try {
        read(value);
      } catch (error) {
        if (!(error instanceof UdpConfigError)) throw error;
      }
    }
  }));
});

Deno.test("udp config: settings written down again are read as the same settings", () => {
  const listeners = [{ name: "a", listen: "[::1]:0" }, {
    ...LISTENER,
    responses: null,
    unrepliedTimeoutMs: 5,
    amplification: { factor: 2 },
    affinity: { by: "quic", serverIdBytes: 3 },
    allow: ["10.0.0.0/8", "2001:db8::/32"],
    deny: ["10.1.0.0/16"],
    proxyFrom: ["127.0.0.1/32"],
    limit: { maxFlows: 3 },
  }];
  for (const read of listeners.map(readUdpListener)) {
    const text = JSON.stringify(listenerDocument(read));
    assertEquals(readUdpListener(JSON.parse(text)), read);
  }
  const clusters = [CLUSTER, {
    name: "cells",
    cells: { formation: "f", port: 53 },
    backends: [{ address: "[::1]:53", name: "x", quicServerId: "00ff", sources: ["::1"] }],
    health: { probe: { by: "dns" }, passive: { errors: 1 } },
    limit: { newFlowsPerSecond: 5 },
  }];
  for (const read of clusters.map(readUdpCluster)) {
    const text = JSON.stringify(clusterDocument(read));
    assertEquals(readUdpCluster(JSON.parse(text)), read);
  }
});

Deno.test("udp config: source addresses are one whole prefix of each family", () => {
  const read = (sourceAddresses: unknown) => readUdpCluster({ ...CLUSTER, sourceAddresses });
  assertEquals(read({ ipv4: "127.77.0.0/16", ipv6: "FD00:77:0::/64" }).sourceAddresses, {
    ipv4: "127.77.0.0/16",
    ipv6: "fd00:77::/64",
    transparent: false,
  });
  assertEquals(read({ ipv6: "fd00::/64", transparent: true }).sourceAddresses?.transparent, true);
  assertEquals(readUdpCluster(CLUSTER).sourceAddresses, undefined);
  const paths = (value: unknown) => pathsOf(() => read(value));
  assertEquals(paths({ ipv4: "127.77.0.1/16" }), ["sourceAddresses.ipv4"]);
  assertEquals(paths({ ipv4: "fd00::/64" }), ["sourceAddresses.ipv4"]);
  assertEquals(paths({ ipv6: 5 }), ["sourceAddresses.ipv6"]);
  assertEquals(paths({}), ["sourceAddresses"]);
  assertEquals(paths({ ipv4: "10.0.0.0/8", transparent: 1 }), ["sourceAddresses.transparent"]);
});
