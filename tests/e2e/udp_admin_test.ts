/**
 * The UDP load balancer as its operator has it: documents by the command line, words of refusal,
 * drains, restarts, and what is seen of it.
 *
 * @module
 */
import { FLOW_EVENTS_PER_SECOND } from "#lib/daemon/udp_flows.ts";
import {
  assert,
  assertEquals,
  assertGreater,
  assertMatch,
  assertStringIncludes,
} from "@std/assert";
import { EVENT_TYPES, type UdpBackendData, type UdpFlowClosedData } from "#lib/events/mod.ts";
import { dataOf } from "#tests/support/celld_stage.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { Served } from "#tests/support/served.ts";
import { freePort, ServedUdp } from "#tests/support/served_udp.ts";
import { eventually, UdpBackend, UdpClient } from "#tests/support/udp_ends.ts";

const NEEDS = ["root", "cap:CAP_SYS_ADMIN", "cap:CAP_NET_ADMIN"] as const;

function documentOf(backend: UdpBackend, more: object = {}, listen = "127.0.0.1:0") {
  return {
    clusters: [{
      name: "echo",
      backends: [{ name: "one", address: `127.0.0.1:${backend.port}` }],
    }],
    listeners: [{ name: "in", listen, cluster: "echo", ...more }],
  };
}

kernelTest("udp cli: documents are tried, set, shown and pruned", NEEDS, async () => {
  await using udp = await ServedUdp.start();
  await using backend = await UdpBackend.start("BK");
  const path = udp.file(documentOf(backend));
  const dry = await udp.celld("udp", "apply", "-f", path, "--dry-run");
  assertEquals([dry.code, dry.stdout], [
    0,
    "cluster/echo set (dry run)\nlistener/in set (dry run)\n",
  ]);
  assertMatch((await udp.celld("udp", "get", "listeners")).stderr, /^Nothing found/);

  assertEquals(
    (await udp.celld("udp", "apply", "-f", path)).stdout,
    [
      "cluster/echo set\n",
      "listener/in set\n",
    ].join(""),
  );
  assertEquals(
    (await udp.celld("udp", "apply", "-f", path)).stdout,
    [
      "cluster/echo unchanged\n",
      "listener/in unchanged\n",
    ].join(""),
  );
  const shown = await udp.celld("udp", "get", "listeners", "in");
  assertMatch(
    shown.stdout,
    /^LISTENER +ADDRESS +CLUSTER +STATUS .*\nin +127\.0\.0\.1:\d+ +echo +ready/,
  );
  assertMatch(
    (await udp.celld("udp", "get", "clusters")).stdout,
    /\necho +one +127\.0\.0\.1:\d+ +up/,
  );
  assertEquals((await udp.celld("udp", "get", "clusters", "none")).code, 1);

  await using client = await UdpClient.open();
  assertEquals(await client.ask("hello", await udp.port("in")), "BK:hello");
  const flows = await udp.celld("udp", "get", "flows", "--json", "--listener", "in");
  const flow = JSON.parse(flows.stdout);
  assertEquals(
    [flow.listener, flow.cluster, flow.backend, flow.client, flow.datagrams_out, flow.bytes_in],
    ["in", "echo", "one", `127.0.0.1:${client.port}`, 1, 5],
  );
  assertMatch((await udp.celld("udp", "get", "flows", "--cluster", "none")).stderr, /^Nothing/);
  const top = await udp.celld("udp", "top", "--once");
  assertMatch(top.stdout, /^LISTENER +FLOWS +NEW\/S +IN\/S .*\nin +1 +0 +0 +0 +0\n/);

  const inUse = await udp.celld("udp", "delete", "cluster", "echo");
  assertEquals(inUse.code, 3);
  assertStringIncludes(inUse.stderr, 'Cannot remove the cluster "echo": used by listener "in"');
  assertEquals(
    (await udp.celld("udp", "apply", "--prune", "-f", udp.file({}))).stdout,
    [
      "listener/in removed\n",
      "cluster/echo removed\n",
    ].join(""),
  );
  assertEquals((await udp.celld("udp", "delete", "listener", "in")).code, 3);
});

kernelTest(
  "udp cli: a wrong document is refused with all that is wrong, where it is",
  NEEDS,
  async () => {
    await using udp = await ServedUdp.start();
    const wrong = {
      clusters: [{ name: "a", balance: "best", backends: ["10.0.0.1"] }, { name: "a" }],
      listeners: [{
        name: "in",
        listen: "0.0.0.0:70000",
        cluster: "none",
        frontTimeoutMs: 0,
        foo: 1,
      }],
    };
    const said = await udp.celld("udp", "apply", "-f", udp.file(wrong));
    assertEquals(said.code, 3);
    assertMatch(said.stderr, /^celld: The UDP document has \d+ problems; nothing was changed\n/);
    for (
      const part of [
        'clusters[0].balance\n    found   "best"\n    wanted  "round-robin" or ',
        'clusters[0].backends[0].address\n    found   "10.0.0.1"',
        'clusters[1].name\n    found   "a"\n    wanted  a name that is not taken',
        "listeners[0].frontTimeoutMs\n    found   0\n    wanted  an integer from 1 to 86400000",
        'listeners[0].listen\n    found   "0.0.0.0:70000"',
        "listeners[0].foo",
        'listeners[0].cluster\n    found   "none"\n    wanted  the name of a cluster',
      ]
    ) assertStringIncludes(said.stderr, part);
    assertEquals((await udp.celld("udp", "get", "clusters", "--json")).stdout, "");
    const balancer = await udp.celld("udp", "apply", "-f", udp.file({ balancer: { workers: 2 } }));
    assertStringIncludes(balancer.stderr, "give `balancer` to `celld serve`");
    assertEquals((await udp.celld("udp", "drain", "listener")).code, 2);
    assertEquals((await udp.celld("udp", "drain", "listener/none")).code, 3);
  },
);

kernelTest("udp cli: drains take nothing new and let what lives go on", NEEDS, async () => {
  await using udp = await ServedUdp.start();
  await using one = await UdpBackend.start("ONE");
  await using two = await UdpBackend.start("TWO");
  const backends = [one, two].map(({ name, port }) => ({ name, address: `127.0.0.1:${port}` }));
  await udp.apply({
    clusters: [{ name: "pair", backends }],
    listeners: [{ name: "in", listen: "127.0.0.1:0", cluster: "pair", affinity: "source-port" }],
  });
  const port = await udp.port("in");
  await using first = await UdpClient.open();
  await using second = await UdpClient.open();
  const [before] = [await first.ask("x", port), await second.ask("x", port)];
  const name = before.split(":")[0];

  const drained = await udp.celld("udp", "drain", `backend/pair/${name}`);
  assertEquals([drained.code, drained.stdout], [0, `backend/pair/${name} set\n`]);
  const statuses = async () =>
    Object.fromEntries((await udp.cluster("pair")).backends.map((it) => [it.name, it.status]));
  assertEquals((await statuses())[name], "draining");
  // A change of the cluster does not end it.
  await udp.apply({ clusters: [{ name: "pair", backends, balance: "least-flows" }] });
  assertEquals((await statuses())[name], "draining");
  assertEquals(await first.ask("x", port), before);
  for (let client = 0; client < 4; client++) {
    await using fresh = await UdpClient.open();
    assert(!(await fresh.ask("x", port)).startsWith(name));
  }
  await udp.celld("udp", "undrain", `backend/pair/${name}`);
  assertEquals(await statuses(), { ONE: "up", TWO: "up" });

  assertEquals((await udp.celld("udp", "drain", "listener/in", "--after", "1h")).code, 0);
  assertEquals((await udp.listener("in")).status, "draining");
  assertEquals(await first.ask("x", port), before);
  await using late = await UdpClient.open();
  await late.send("x", port);
  assertEquals(await late.isSilent(), true);
  assertEquals((await udp.listener("in")).counters["dropped.draining"], 1);
  await udp.celld("udp", "undrain", "listener/in");
  await late.ask("x", port);
  await udp.celld("udp", "drain", "listener/in", "--after", "100ms");
  await eventually(async () => (await udp.listener("in")).flows === 0);
});

kernelTest(
  "udp serve: an address that is taken is told, and tried until it is free",
  NEEDS,
  async () => {
    await using udp = await ServedUdp.start();
    await using backend = await UdpBackend.start("BK");
    const taken = await UdpBackend.start("OTHER");
    const listen = `127.0.0.1:${taken.port}`;
    const answer = await udp.served.ask("POST", "/v1/udp", documentOf(backend, {}, listen));
    assertEquals(answer.status, 409);
    assertStringIncludes(answer.json<{ detail: string }>().detail, "EADDRINUSE");
    assertStringIncludes((await udp.listener("in")).status, "EADDRINUSE");
    const { port } = taken;
    await taken.close();
    await using client = await UdpClient.open();
    const untilMs = performance.now() + 30_000;
    while ((await udp.listener("in")).status !== "ready" && performance.now() < untilMs) {
      await new Promise((done) => setTimeout(done, 100));
    }
    assertEquals(await client.ask("now", port), "BK:now");
    // TCP has ports of its own.
    using tcp = Deno.listen({ hostname: "127.0.0.1", port });
    assertEquals([tcp.addr.port, await client.ask("still", port)], [port, "BK:still"]);
  },
);

kernelTest(
  "udp serve: settings outlive a kill and an upgrade; a file sets them at the start",
  NEEDS,
  async () => {
    await using backend = await UdpBackend.start("BK");
    const port = freePort();
    const file = { balancer: { workers: 2 }, ...documentOf(backend, {}, `127.0.0.1:${port}`) };
    await using udp = await ServedUdp.start({ file });
    await using client = await UdpClient.open();
    assertEquals(await client.ask("1", port), "BK:1");
    await udp.apply({ listeners: [{ name: "more", listen: "[::1]:0", cluster: "echo" }] });
    for (const signal of ["SIGKILL", "SIGTERM"] as const) {
      await udp.served.end(signal);
      await udp.served.start();
      assertEquals(await client.ask(signal, port), `BK:${signal}`);
      const records = (await udp.served.ask("GET", "/v1/udp/listeners"))
        .json<{ listeners: { name: string; status: string }[] }>().listeners;
      assertEquals(records.map(({ name, status }) => [name, status]), [
        ["in", "ready"],
        ["more", "ready"],
      ]);
    }
    // A wrong file is no reason to disturb the server that is there.
    Deno.writeTextFileSync(`${udp.base}/udp.json`, '{"listeners":[{"name":"in"}]}');
    await using wrong = new Served(udp.served.stage, [
      "--take-over",
      ...["--udp", `${udp.base}/udp.json`],
    ]);
    wrong.spawn();
    assertEquals(await wrong.ended(), 2);
    assertStringIncludes(wrong.printed, "listeners[0].listen");
    assertEquals(await client.ask("still", port), "BK:still");
    assertEquals(await udp.served.end("SIGTERM"), 0);
    udp.served.spawn();
    assertEquals(await udp.served.ended(), 2);
  },
);

kernelTest(
  "udp serve: flows are seen as metrics, lines and events, and the sums agree",
  NEEDS,
  async () => {
    await using udp = await ServedUdp.start();
    await using backend = await UdpBackend.start("BK");
    const health = {
      probe: { by: "udp", send: { text: "?" }, expect: { any: true } },
      intervalMs: 50,
      timeoutMs: 500,
      fall: 2,
    };
    const document = documentOf(backend, {
      affinity: "source-port",
      responses: 1,
      deny: ["127.0.0.2/32"],
    });
    await udp.apply({ ...document, clusters: [{ ...document.clusters[0], health }] });
    const port = await udp.port("in");
    const count = 60;
    for (let flow = 0; flow < count; flow++) {
      await using client = await UdpClient.open();
      await client.ask("12345", port);
    }
    await using denied = await UdpClient.open("127.0.0.2");
    await denied.send("no", port);
    await eventually(async () => (await udp.listener("in")).counters["dropped.denied"] === 1);
    await eventually(() => udp.flowLog().length === count);
    const metrics = await udp.metrics();
    const of = (name: string) => metrics.get(`celld_udp_${name}`);
    assertEquals(of('listener_datagrams_in_total{listener="in"}'), count);
    assertEquals(of('listener_client_datagrams_total{listener="in"}'), count + 1);
    assertEquals(of('listener_bytes_out_total{listener="in"}'), count * "BK:12345".length);
    assertEquals(of('listener_flows_created_total{listener="in"}'), count);
    assertEquals(of('listener_dropped_total{listener="in",reason="denied"}'), 1);
    assertEquals(of('backend_datagrams_in_total{cluster="echo",backend="one"}'), count);
    assertEquals(of('backend_up{cluster="echo",backend="one"}'), 1);
    assertEquals([of("flows"), of("kernel_dropped_total")], [0, 0]);
    const [line] = udp.flowLog();
    const { time, client, durationMs, firstReplyMs, ...rest } = line;
    assertMatch(`${time} ${client}`, /^\d{4}-.*Z 127\.0\.0\.1:\d+$/);
    assert(Number(firstReplyMs) >= 0 && Number(durationMs) >= Number(firstReplyMs));
    assertEquals(rest, {
      listener: "in",
      cluster: "echo",
      backend: "one",
      reason: "responsesReached",
      datagramsIn: 1,
      bytesIn: 5,
      datagramsOut: 1,
      bytesOut: 8,
      dropped: 0,
    });

    await backend.close();
    await eventually(async () => (await udp.cluster("echo")).backends[0].status === "down");
    assertEquals(
      (await udp.metrics()).get('celld_udp_backend_up{cluster="echo",backend="one"}'),
      0,
    );
    await udp.served.end("SIGTERM");
    await udp.served.start();
    const events = (await udp.served.events()).map(({ event }) => event);
    const told = dataOf<UdpFlowClosedData>(events, EVENT_TYPES.udpFlowClosed);
    const times = events.filter(({ type }) => type === EVENT_TYPES.udpFlowClosed)
      .map(({ time }) => Date.parse(time!));
    // So many a second, however slow the machine is, and what is left at the end.
    const seconds = Math.floor((Math.max(...times) - Math.min(...times)) / 1000) + 1;
    assertGreater(FLOW_EVENTS_PER_SECOND * seconds + 2, told.length);
    assertEquals(told.reduce((sum, { sampledOf }) => sum + sampledOf, 0), count);
    const [down] = dataOf<UdpBackendData>(events, EVENT_TYPES.udpBackend);
    assertEquals([down.cluster, down.backend, down.state], ["echo", "one", "down"]);
  },
);
