/**
 * Flows with an address instead of a socket go from one plane to the next: each keeps its address,
 * its port, and what was on its way back.
 *
 * @module
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { closeUdpSocket } from "#ffi/mod.ts";
import { clientOf, type InheritedSource, ROUTE_DEFAULTS } from "#lib/udp/mod.ts";
import { type ListenAnswer, UdpOrderError, UdpPlane } from "#lib/udp/mod_shell.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { type CrowdFamily, UdpCrowd } from "#tests/support/udp_crowd.ts";
import { eventually } from "#tests/support/udp_ends.ts";
import { listenerParts, openUdpSockets } from "./succession_stage.ts";

const NEEDS = ["root", "command:ip"] as const;
const PREFIXES = { ipv4: "127.77.0.0/16", ipv6: "fd00:77::/64" };

/** A plane in a crowd's namespace, with its successors. */
class Stage implements AsyncDisposable {
  readonly crowd: UdpCrowd;
  readonly #family: CrowdFamily;
  plane!: UdpPlane;
  port = 0;

  private constructor(family: CrowdFamily) {
    this.#family = family;
    this.crowd = new UdpCrowd(family, 1);
  }

  static async start(family: CrowdFamily): Promise<Stage> {
    const stage = new Stage(family);
    await stage.#startPlane();
    await stage.setCluster([]);
    stage.port = (await stage.#listen(0, [])).port;
    return stage;
  }

  /** Lets a successor take over. */
  async succeed(
    options: {
      between?: () => void;
      changes?: Partial<InheritedSource>;
      /** Whether it is said that all flows are there. @default {true} */
      isTold?: boolean;
    } = {},
  ): Promise<ListenAnswer> {
    const released = await this.plane.release();
    options.between?.();
    await this.#startPlane();
    const sources = released.map((one) =>
      one.sources.map((source) => ({ ...source, ...options.changes }))
    );
    assertEquals(sources.map(({ length }) => length), [1]);
    await this.setCluster(sources);
    const answer = await this.#listen(this.port, listenerParts(released));
    if (options.isTold !== false) await this.plane.serveInherited();
    return answer;
  }

  async setCluster(inherited: readonly (readonly InheritedSource[])[]): Promise<void> {
    const sourceAddresses = { [this.#family]: PREFIXES[this.#family] };
    const members = [{ backend: 0 }];
    const settings = { cluster: 0, policy: "round-robin", members, sourceAddresses } as const;
    await this.plane.setCluster(settings, inherited);
  }

  /** Tells the backend something, and answers where it came from. */
  async senderOf(client: number): Promise<{ address: string; port: number }> {
    this.crowd.tell(client, this.port);
    const senders: ReturnType<UdpCrowd["takeSenders"]> = [];
    await eventually(() => {
      senders.push(...this.crowd.takeSenders(0));
      return senders.length > 0;
    });
    assertEquals(senders.length, 1);
    return clientOf(senders[0].words, 0);
  }

  async #startPlane(): Promise<void> {
    const { crowd } = this;
    // Threads are started at once: in the namespace. Only what comes after may wait.
    const { started } = crowd.inside(() => ({ started: UdpPlane.start({ maxFlows: 2000 }) }));
    this.plane = await started;
    await this.plane.setBackend({ backend: 0, address: crowd.server, port: crowd.portOf(0) });
  }

  #listen(port: number, inherited: ReturnType<typeof listenerParts>): Promise<ListenAnswer> {
    const route = { ...ROUTE_DEFAULTS, cluster: 0 };
    const settings = { listener: 0, address: this.crowd.server, port, route };
    return this.plane.setListener(settings, inherited);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.plane.stop();
    this.crowd[Symbol.dispose]();
  }
}

for (const family of ["ipv4", "ipv6"] as const) {
  kernelTest(
    `udp inherited sources: a flow keeps its address and what is on its way (${family})`,
    NEEDS,
    async () => {
      const count = 300;
      await using stage = await Stage.start(family);
      const { crowd } = stage;
      const first = await stage.senderOf(7);
      assertEquals(crowd.ask(count, stage.port).wrong, 0);
      const { restored } = await stage.succeed({
        // Nobody serves: the reply waits.
        between: () => crowd.sendFrom(0, first.address, first.port),
      });
      assertEquals(restored, count);
      await eventually(() => stage.plane.shellCounters().sentToClient === 1);
      assertEquals(await stage.senderOf(7), first);
      // Nobody says that all is there: it is read all the same, a little later.
      await stage.succeed({
        between: () => crowd.sendFrom(0, first.address, first.port),
        isTold: false,
      });
      await eventually(() => stage.plane.shellCounters().sentToClient === 1);
      const again = crowd.ask(2 * count, stage.port);
      // Those that were there and those that are new: each reply to its client.
      assertEquals([again.wrong, again.by.indexOf(-1)], [0, -1]);
      const { workers: [{ flows }] } = await stage.plane.counters();
      const { foreign, noSocket, limitReached } = stage.plane.shellCounters();
      assertEquals([flows, foreign, noSocket, limitReached], [2 * count, 0, 0, 0]);
    },
  );
}

kernelTest("udp inherited sources: a socket that does not fit is closed", NEEDS, async () => {
  await using stage = await Stage.start("ipv4");
  const { crowd } = stage;
  const first = await stage.senderOf(1);
  const count = () => crowd.inside(openUdpSockets);
  const sockets = count();
  for (const changes of [{ isTransparent: true }, { prefix: "127.78.0.0/16" }]) {
    assertEquals((await stage.succeed({ changes })).restored, 1);
    assertEquals(count(), sockets);
    // The cluster opened its own: the flow goes on from its address, with another port.
    const { address, port } = await stage.senderOf(1);
    assertEquals(address, first.address);
    assert(port !== first.port, "the socket was taken over");
  }
  // Where the order fails, it is closed as well.
  const [{ sources, listeners, flows }] = await stage.plane.release();
  const [{ fd }] = sources;
  assertEquals([listeners.length, flows.length], [1, 1]);
  closeUdpSocket(listeners[0].fd);
  await stage.plane.stop();
  await using other = await Stage.start("ipv4");
  await other.plane.removeListener(0);
  await other.plane.removeCluster(0);
  const broken = { prefix: "192.0.2.0/24", isTransparent: false, fd, dropped: 0 };
  const before = count();
  await assertRejects(
    () =>
      other.plane.setCluster({
        cluster: 1,
        policy: "random",
        members: [{ backend: 0 }],
        sourceAddresses: { ipv4: "192.0.2.0/24" },
      }, [[broken]]),
    UdpOrderError,
    "not local to this host",
  );
  assertEquals(count(), before - 1);
});
