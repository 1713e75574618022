/**
 * The load balancer of a server without the server: settings in memory, workers and sockets real.
 *
 * @module
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { UdpService } from "#lib/daemon/udp_service.ts";
import type { UdpWorkersOptions } from "#lib/daemon/udp_workers.ts";
import { type CloudEvent, EVENT_TYPES, type UdpBackendData } from "#lib/events/mod.ts";
import type { UdpSetting } from "#lib/projection/mod.ts";
import { readUdpBalancer } from "#lib/udp/mod.ts";
// Before the tests: what it loads stays.
import "#lib/udp/mod_shell.ts";
import { eventually, UdpBackend, UdpClient } from "#tests/support/udp_ends.ts";

/** A service with what it did. */
class Ground implements AsyncDisposable {
  readonly service: UdpService;
  readonly pushed: CloudEvent[] = [];
  readonly flows: Record<string, unknown>[] = [];
  cells: ReturnType<UdpWorkersOptions["cellsOf"]> = [];
  readonly #settings = new Map<string, UdpSetting>();
  #seq = 0;

  constructor() {
    let id = 0;
    this.service = new UdpService({
      balancer: readUdpBalancer({ workers: 2 }),
      clock: { nowMs: () => 0, nextId: () => `event-${id++}` } as never,
      source: "/celld/test",
      settings: () => [...this.#settings.values()],
      commit: (events) => {
        for (const { type, data } of events) {
          const setting = { ...data as object, seq: this.#seq++ } as UdpSetting;
          const key = `${setting.kind}/${setting.name}`;
          if (type === EVENT_TYPES.udpSet) this.#settings.set(key, setting);
          else this.#settings.delete(key);
        }
        return Promise.resolve();
      },
      push: (events) => this.pushed.push(...events),
      cellsOf: (_, cluster) => cluster === "cells" ? this.cells : [],
      onWarning: () => {},
      writeFlow: (line) => this.flows.push(JSON.parse(line)),
    });
  }

  async apply(document: Record<string, unknown>): Promise<void> {
    const outcome = await this.service.apply(document, { isPruning: false, isDryRun: false });
    assert("set" in outcome, JSON.stringify(outcome));
  }

  async statuses(): Promise<Record<string, string>> {
    const clusters = await this.service.clusters();
    return Object.fromEntries(
      clusters.flatMap(({ backends }) => backends).map(({ name, status }) => [name, status]),
    );
  }

  async port(): Promise<number> {
    return Number((await this.service.listeners())[0].address.split(":").at(-1));
  }

  told(): string[] {
    return this.pushed.filter(({ type }) => type === EVENT_TYPES.udpBackend)
      .map(({ data }) => data as UdpBackendData)
      .map(({ backend, state }) => `${backend} ${state}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.service.close();
  }
}

const LISTENER = {
  name: "in",
  listen: "127.0.0.1:0",
  cluster: "cells",
  affinity: "source-port",
  responses: 1,
};

Deno.test("udp service: cells come as backends, drain when they are to end, and go", async () => {
  await using ground = new Ground();
  await using one = await UdpBackend.start("ONE");
  await using two = await UdpBackend.start("TWO");
  await using client = await UdpClient.open();
  const cell = (end: UdpBackend, isStopping = false) => ({
    cellId: end.name,
    address: "127.0.0.1",
    port: end.port,
    weight: 1,
    isStopping,
  });
  ground.cells = [cell(one)];
  await ground.apply({ clusters: [{ name: "cells" }], listeners: [LISTENER] });
  const port = await ground.port();
  assertEquals(await client.ask("1", port), "ONE:1");
  ground.cells = [cell(one), cell(two)];
  await ground.service.reconcile();
  assertEquals(await ground.statuses(), { ONE: "up", TWO: "up" });
  // The one that is to end still answers what it was asked.
  one.replies = 0;
  await using slow = await UdpClient.open();
  for (let asked = 0; one.seen.length < 2 && asked < 4; asked++) {
    await slow.send("slow", port);
    await new Promise((done) => setTimeout(done, 50));
  }
  ground.cells = [cell(one, true), cell(two)];
  await ground.service.reconcile();
  await ground.service.reconcile();
  assertEquals(await ground.statuses(), { ONE: "draining", TWO: "up" });
  const { from } = one.seen.at(-1)!;
  await one.send("late", from.port, from.address);
  const heard = [(await slow.receive()).text];
  while (heard.at(-1) !== "late") heard.push((await slow.receive()).text);
  for (let asked = 0; asked < 4; asked++) assertEquals(await client.ask("2", port), "TWO:2");
  ground.cells = [cell(two)];
  await ground.service.reconcile();
  assertEquals(await ground.statuses(), { TWO: "up" });
  assertEquals(ground.told(), ["ONE draining", "ONE removed"]);
  // A flow's record has its backend's name, though the backend is gone.
  await eventually(() => ground.flows.some(({ backend }) => backend === "ONE"));
});

Deno.test("udp service: a drain outlives changes and health; what nobody looks at is up", async () => {
  await using ground = new Ground();
  const one = await UdpBackend.start("ONE");
  const { port } = one;
  const health = {
    probe: { by: "udp", expect: { any: true }, send: { text: "?" } },
    intervalMs: 30,
    timeoutMs: 1000,
    rise: 1,
    fall: 1,
  };
  const cluster = (more: object) => ({
    clusters: [{
      name: "cells",
      backends: [{ name: "one", address: `127.0.0.1:${port}` }],
      ...more,
    }],
  });
  await ground.apply({ ...cluster({ health }), listeners: [LISTENER] });
  const target = { cluster: "cells", backend: "one" };
  await ground.service.drain({ target, isDraining: true, afterMs: 0 });
  const reasonOf = async () => (await ground.service.clusters())[0].backends[0].reason;
  await one.close();
  await eventually(async () => await reasonOf() === "no answer in time");
  await using again = await UdpBackend.start("AGAIN", "127.0.0.1", port);
  await eventually(async () => await reasonOf() === "probes are answered");
  assertEquals(await ground.statuses(), { one: "draining" });
  await using client = await UdpClient.open();
  await client.send("x", await ground.port());
  assertEquals(await client.isSilent(), true);
  await ground.service.drain({ target, isDraining: false, afterMs: 0 });
  assertEquals(await client.ask("y", await ground.port()), "AGAIN:y");

  await again.close();
  await eventually(async () => (await ground.statuses()).one === "down");
  await using last = await UdpBackend.start("LAST", "127.0.0.1", port);
  await ground.apply(cluster({ failOpen: false }));
  assertEquals(await ground.statuses(), { one: "up" });
  assertEquals(await client.ask("z", await ground.port()), "LAST:z");
  assertEquals(last.texts.at(-1), "z");
});

Deno.test("udp service: a backend at another address is another backend", async () => {
  await using ground = new Ground();
  await using one = await UdpBackend.start("ONE");
  await using two = await UdpBackend.start("TWO");
  await using client = await UdpClient.open();
  for (const end of [one, two, one]) {
    const backends = [{ name: "it", address: `127.0.0.1:${end.port}` }];
    await ground.apply({
      clusters: [{ name: "cells", backends }],
      listeners: [{ ...LISTENER, responses: null }],
    });
    assertEquals(await client.ask("x", await ground.port()), `${end.name}:x`);
  }
  assertEquals(ground.told(), ["it removed", "it removed"]);
});

Deno.test("udp service: changes go one after another, each on what the last one left", async () => {
  await using ground = new Ground();
  await ground.apply({ clusters: [{ name: "cells" }] });
  const options = { isPruning: false, isDryRun: false };
  const [set, removed, missing] = await Promise.all([
    ground.service.apply({ listeners: [LISTENER] }, options),
    ground.service.remove("cluster", "cells"),
    ground.service.remove("cluster", "none"),
  ]);
  assert("set" in set);
  assert("detail" in removed && "detail" in missing);
  assertStringIncludes(removed.detail, 'used by listener "in"');
  assertStringIncludes(missing.detail, 'Cannot find UDP cluster "none"');
  assertEquals((await ground.service.listeners())[0].status, "ready");
});

Deno.test("udp service: its end waits for replies that are on their way, and for no others", async () => {
  await using ground = new Ground();
  await using sink = await UdpBackend.start("SINK");
  sink.replies = 0;
  await ground.apply({
    clusters: [{ name: "cells", backends: [`127.0.0.1:${sink.port}`] }],
    listeners: [LISTENER, { ...LISTENER, name: "out", responses: 0 }],
  });
  await using client = await UdpClient.open();
  await client.send("slow", await ground.port());
  await eventually(() => sink.seen.length === 1);
  const { from } = sink.seen[0];
  const ended = ground.service.close();
  await new Promise((done) => setTimeout(done, 100));
  await sink.send("in time", from.port, from.address);
  assertEquals((await client.receive()).text, "in time");
  await ended;
  assertEquals(ground.flows.map(({ reason }) => reason), ["responsesReached"]);
});
