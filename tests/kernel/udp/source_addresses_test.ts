/**
 * Flows with an own address instead of a socket, over the real kernel: a namespace of its own where
 * the prefix is local.
 *
 * @module
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { clientOf, ROUTE_DEFAULTS, type RouteConfig } from "#lib/udp/mod.ts";
import { UdpOrderError, UdpPlane, type UdpPlaneOptions } from "#lib/udp/mod_shell.ts";
import { campaign } from "#tests/support/campaign.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { type CrowdFamily, UdpCrowd } from "#tests/support/udp_crowd.ts";
import { eventually, UdpClient } from "#tests/support/udp_ends.ts";
import { openFiles, UdpStage } from "#tests/support/udp_plane.ts";

const NEEDS = ["root", "command:ip"] as const;
const PREFIXES = { ipv4: "127.77.0.0/16", ipv6: "fd00:77::/64" };
/** For as many flows as wanted. */
const WIDE = { ipv4: "127.128.0.0/9", ipv6: "fd00:77::/64" };

/** A plane beside a crowd, in its namespace. */
class Stage implements AsyncDisposable {
  readonly #stack = new AsyncDisposableStack();
  readonly crowd: UdpCrowd;
  plane!: UdpPlane;
  port = 0;

  constructor(family: CrowdFamily, backends: number) {
    this.crowd = this.#stack.use(new UdpCrowd(family, backends));
  }

  static async start(
    family: CrowdFamily,
    options: {
      backends?: number;
      plane?: UdpPlaneOptions;
      route?: Partial<RouteConfig>;
      prefixes?: typeof PREFIXES;
    } = {},
  ): Promise<Stage> {
    const stage = new Stage(family, options.backends ?? 1);
    const { crowd } = stage;
    // Threads are started at once: in the namespace. Only what comes after may wait.
    const { started } = crowd.inside(() => ({ started: UdpPlane.start(options.plane) }));
    stage.plane = await started;
    stage.#stack.defer(() => stage.plane.stop());
    const members = Array.from({ length: options.backends ?? 1 }, (_, backend) => ({ backend }));
    for (const { backend } of members) {
      await stage.plane.setBackend({
        backend,
        address: crowd.server,
        port: crowd.portOf(backend),
      });
    }
    const { [family]: prefix } = options.prefixes ?? PREFIXES;
    await stage.plane.setCluster({
      cluster: 0,
      policy: "round-robin",
      members,
      sourceAddresses: { [family]: prefix },
    });
    const route = { ...ROUTE_DEFAULTS, cluster: 0, ...options.route };
    const listener = { listener: 0, address: crowd.server, port: 0, route };
    stage.port = (await stage.plane.setListener(listener)).port;
    return stage;
  }

  async flows(): Promise<number> {
    const { workers } = await this.plane.counters();
    return workers.reduce((sum, { flows }) => sum + flows, 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

for (const family of ["ipv4", "ipv6"] as const) {
  kernelTest(
    `udp sources: any number of flows with one socket, each reply to its client (${family})`,
    NEEDS,
    async () => {
      const count = campaign(2000, 100_000);
      await using stage = await Stage.start(family, {
        backends: 3,
        plane: { maxFlows: count, checkInvariants: false },
        prefixes: WIDE,
      });
      assertEquals(stage.plane.maxFlows, count);
      stage.crowd.ask(1, stage.port);
      const files = openFiles();
      const first = stage.crowd.ask(count, stage.port);
      assertEquals([first.wrong, first.by.indexOf(-1)], [0, -1]);
      assertEquals(await stage.flows(), count);
      assertEquals(openFiles(), files, "a flow has no descriptor");
      // All three have their part, and each flow stays with its backend.
      assertEquals(new Set(first.by), new Set([0, 1, 2]));
      const second = stage.crowd.ask(count, stage.port);
      assertEquals([second.wrong, second.by], [0, first.by]);
      const { foreign, sendError, noSocket, queueFull } = stage.plane.shellCounters();
      assertEquals([foreign, sendError, noSocket, queueFull], [0, 0, 0, 0]);
    },
  );

  kernelTest(
    `udp sources: what is not from the flow's backend is dropped and counted (${family})`,
    NEEDS,
    async () => {
      await using stage = await Stage.start(family, { backends: 2 });
      const { crowd, plane, port } = stage;
      crowd.tell(0, port);
      const senders: ReturnType<UdpCrowd["takeSenders"]> = [];
      let mine = 0;
      await eventually(() => {
        for (const backend of [0, 1]) {
          const found = crowd.takeSenders(backend);
          if (found.length > 0) mine = backend;
          senders.push(...found);
        }
        return senders.length === 1;
      });
      const { address } = clientOf(senders[0].words, 0);
      const before = plane.shellCounters().sentToClient;
      // The other backend is a stranger to this flow.
      crowd.sendFrom(1 - mine, address, senders[0].port);
      await eventually(() => plane.shellCounters().foreign === 1);
      // An address that no flow has.
      const nobody = family === "ipv4" ? "127.77.200.200" : "fd00:77::7:7";
      crowd.sendFrom(mine, nobody, senders[0].port);
      await eventually(() => plane.shellCounters().foreign === 2);
      assertEquals(plane.shellCounters().sentToClient, before);
      crowd.sendFrom(mine, address, senders[0].port);
      await eventually(() => plane.shellCounters().sentToClient === before + 1);
    },
  );

  kernelTest(
    `udp sources: an ICMP message moves the flow that it is about (${family})`,
    NEEDS,
    async () => {
      await using stage = await Stage.start(family, { backends: 2 });
      const { crowd, plane, port } = stage;
      const clients = 20;
      const before = crowd.ask(clients, port).by;
      assertEquals(before.filter((backend) => backend === 0).length, clients / 2);
      crowd.closeBackend(0);
      // Half of these are lost: nobody can know. The kernel's answers move exactly their flows.
      const lossy = crowd.ask(clients, port, true);
      assertEquals(lossy.by.filter((backend) => backend === 1).length, clients / 2);
      await eventually(() => plane.shellCounters().icmp === clients / 2);
      const { wrong, by } = crowd.ask(clients, port);
      assertEquals([wrong, by], [0, new Int32Array(clients).fill(1)]);
      assertEquals(await stage.flows(), clients);
      assertEquals(plane.shellCounters().sendError, 0);
    },
  );

  kernelTest(
    `udp sources: an address is taken back, and two workers share the prefix (${family})`,
    NEEDS,
    async () => {
      await using stage = await Stage.start(family, {
        plane: { workers: 2, maxFlows: 4000 },
        route: { responses: 1, requests: 1 },
      });
      for (let round = 0; round < 20; round++) {
        const { wrong, by } = stage.crowd.ask(200, stage.port);
        assertEquals([wrong, by.indexOf(-1)], [0, -1], `round ${round}`);
      }
      await eventually(async () => await stage.flows() === 0);
      const { workers } = await stage.plane.counters();
      const created = workers.map(({ listeners }) => listeners[1].values.flowsCreated);
      assertEquals(created[0] + created[1], 4000);
      assert(created.every((count) => count > 0), `one worker had all: ${created}`);
    },
  );
}

kernelTest(
  "udp sources: a prefix that is not local is refused, and nothing is changed",
  [...NEEDS],
  async () => {
    await using stage = await Stage.start("ipv4");
    await using v6 = await Stage.start("ipv6");
    for (
      const [{ plane }, sourceAddresses, text] of [
        [stage, { ipv4: "198.18.0.0/15" }, "198.18.0.0/15"],
        [v6, { ipv6: "2001:db8:5::/64" }, "2001:db8:5::/64"],
      ] as const
    ) {
      const settings = { cluster: 0, policy: "random", members: [], sourceAddresses } as const;
      await assertRejects(
        () => plane.setCluster(settings),
        UdpOrderError,
        `Cannot use source addresses of ${text}: the prefix is not local to this host`,
      );
    }
    assertEquals(stage.crowd.ask(10, stage.port).wrong, 0);
    // Asked for, it is the operator's business.
    const members = [{ backend: 0 }];
    const sourceAddresses = { ipv4: "198.18.0.0/15", transparent: true };
    await stage.plane.setCluster({ cluster: 0, policy: "random", members, sourceAddresses });
    stage.crowd.tell(500, stage.port);
    let seen: ReturnType<UdpCrowd["takeSenders"]> = [];
    await eventually(() => (seen = stage.crowd.takeSenders(0)).length > 0);
    assertEquals(clientOf(seen[0].words, 0).address.slice(0, 7), "198.18.");
  },
);

kernelTest("udp sources: a prefix with too few addresses sheds flows and counts", [], async () => {
  await using stage = await UdpStage.start({
    cluster: { sourceAddresses: { ipv4: "127.77.0.0/30" } },
  });
  const clients = await Promise.all([1, 2, 3].map(() => UdpClient.open()));
  assertEquals(await clients[0].ask("a", stage.port), "BK0:a");
  assertEquals(await clients[1].ask("b", stage.port), "BK0:b");
  await clients[2].send("c", stage.port);
  await eventually(() => stage.plane.shellCounters().limitReached > 0);
  await eventually(async () => await stage.flows() === 2);
  const own = new Set(stage.backends[0].seen.map(({ from }) => from.address));
  assertEquals(own, new Set(["127.77.0.1", "127.77.0.2"]));
  for (const client of clients) await client.close();
});

kernelTest(
  "udp sources: the mode is changed while flows live, and no flow is lost",
  [],
  async () => {
    await using stage = await UdpStage.start();
    await using early = await UdpClient.open();
    await using late = await UdpClient.open();
    const before = stage.plane.maxFlows;
    await early.ask("a", stage.port);
    const set = (prefix?: string) =>
      stage.plane.setCluster({
        cluster: 0,
        policy: "round-robin",
        members: [{ backend: 0 }],
        ...(prefix === undefined ? {} : { sourceAddresses: { ipv4: prefix } }),
      });
    await set("127.77.0.0/16");
    assert(stage.plane.maxFlows >= before);
    assertEquals(await late.ask("b", stage.port), "BK0:b");
    assertEquals(await early.ask("c", stage.port), "BK0:c");
    await set();
    assertEquals(await late.ask("d", stage.port), "BK0:d");
    assertEquals(stage.plane.maxFlows, before);
    const from = stage.backends[0].seen.map((one) => one.from.address);
    assertEquals(from, ["127.0.0.1", "127.77.0.1", "127.0.0.1", "127.77.0.1"]);
  },
);
