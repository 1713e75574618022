import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { ApiClient, findEndpoint, findToken } from "#lib/client/mod.ts";
import { refuse, type UdpClusterRecord, type UdpFlowRecord } from "#lib/http/mod.ts";
import { type ServedPlane, withServedPlane } from "#tests/support/served_plane.ts";
import { type FakeIo, fakeIo, type FakeIoOptions, run } from "./fake_io.ts";

const FILES = { "udp.yaml": "listeners: []\n", "udp.json": '{"clusters":[]}' };

function ask(
  served: ServedPlane,
  args: string,
  options: FakeIoOptions | FakeIo = { files: FILES },
): Promise<{ code: number; out: string; err: string }> {
  const openApi = (given: { server?: string | undefined; token?: string | undefined }) => {
    const discovery = { ...given, socketPath: served.socketPath, tokenPath: "/nowhere/token" };
    const endpoint = findEndpoint(discovery);
    return Promise.resolve(new ApiClient(endpoint, { token: findToken(endpoint, discovery) }));
  };
  return run(args.split(" "), { openApi }, options);
}

const CLUSTER: UdpClusterRecord = {
  name: "dns",
  balance: "maglev",
  settings: {},
  backends: [{
    name: "one",
    address: "10.0.0.1:53",
    status: "down",
    reason: "no answer\x1b[2J",
    weight: 100,
    backup: false,
    cell_id: null,
    flows: 2,
    counters: {},
  }],
};
const FLOW: UdpFlowRecord = {
  listener: "in",
  cluster: "dns",
  backend: null,
  client: "127.0.0.1:5",
  duration_ms: 1500.4,
  datagrams_in: 3,
  bytes_in: 9,
  datagrams_out: 2,
  bytes_out: 8,
};

/** A server with something to show. */
async function withBalancer(use: (served: ServedPlane) => Promise<void>): Promise<void> {
  await withServedPlane(async (served) => {
    const { udp } = served.plane;
    udp!.listenerList = [{
      name: "in",
      address: "127.0.0.1:53",
      cluster: "dns",
      status: "EADDRINUSE",
      flows: 4,
      counters: { datagramsIn: 7, datagramsOut: 6, "dropped.denied": 2, "dropped.shed": 1 },
      settings: {},
    }];
    udp!.clusters = () => Promise.resolve([CLUSTER] as never);
    udp!.flows = (() => Promise.resolve([FLOW])) as never;
    await use(served);
  });
}

Deno.test("udp apply hands a document on, and says of each thing what became of it", async () => {
  await withBalancer(async (served) => {
    const udp = served.plane.udp!;
    udp.answer = { set: ["cluster/dns"], removed: ["listener/old"], unchanged: ["listener/in"] };
    assertEquals(await ask(served, "udp apply -f udp.yaml --prune --dry-run"), {
      code: 0,
      out: "cluster/dns set (dry run)\nlistener/old removed (dry run)\n" +
        "listener/in unchanged (dry run)\n",
      err: "",
    });
    assertEquals(udp.applied, [[{ listeners: [] }, { isPruning: true, isDryRun: true }]]);
    const json = await ask(served, "udp apply -f udp.json --json");
    assertEquals(JSON.parse(json.out), udp.answer);
    udp.answer = { set: [], removed: [], unchanged: [] };
    assertEquals((await ask(served, "udp apply -f udp.yaml")).out, "nothing to do\n");
    assertEquals((await ask(served, "udp apply -f -", { stdin: "{}" })).code, 0);
    assertEquals((await ask(served, "udp apply -f nowhere.yaml")).code, 2);
    assertEquals((await ask(served, "udp apply")).code, 2);
  });
});

Deno.test("udp apply tells what is wrong in a document, and where", async () => {
  await withBalancer(async (served) => {
    const errors = [{ path: "listeners[0].listen", found: "1", wanted: "an address and a port" }];
    served.plane.udp!.answer = refuse("spec-invalid", "Cannot read it", { errors });
    const { code, err } = await ask(served, "udp apply -f udp.yaml");
    assertEquals(code, 3);
    assertEquals(
      err,
      "celld: The UDP document has a problem; nothing was changed\n" +
        "  listeners[0].listen\n    found   1\n    wanted  an address and a port\n",
    );
    const json = JSON.parse((await ask(served, "udp apply -f udp.yaml --json")).err);
    assertEquals([json.error.exitCode, json.error.problems], [3, errors]);
  });
});

Deno.test("udp get shows listeners, backends and flows, as tables and as JSON", async () => {
  await withBalancer(async (served) => {
    const out = async (args: string) => (await ask(served, args)).out;
    assertMatch(
      await out("udp get listeners"),
      /^LISTENER .*\nin +127\.0\.0\.1:53 +dns +EADDRINUSE +4 +7 +6 +3\n$/,
    );
    const backends = await out("udp get clusters dns");
    assertMatch(backends, /\ndns +one +10\.0\.0\.1:53 +down +2 +no answer/);
    assertEquals(backends.includes("\x1b"), false);
    assertMatch(await out("udp get flows"), /\nin +127\.0\.0\.1:5 +- +1\.5s +3 +2\n$/);
    assertEquals(JSON.parse(await out("udp get flows --json")), FLOW as unknown);
    assertEquals((await ask(served, "udp get flows")).err, "");
    // There may be more than what was asked for: it is said, past the output.
    const cut = await ask(served, "udp get flows --limit 1 --json");
    assertEquals(JSON.parse(cut.out), FLOW as unknown);
    assertEquals([cut.code, cut.err], [0, "Only the first 1 are shown; --limit says how many.\n"]);
    assertEquals(JSON.parse(await out("udp get clusters --json")), CLUSTER as unknown);
    const none = await ask(served, "udp get listeners none");
    assertEquals([none.code, none.err], [1, 'celld: there is no listener "none"\n']);
    assertEquals((await ask(served, "udp get flows in")).code, 2);
    assertEquals((await ask(served, "udp get colours")).code, 2);
  });
});

Deno.test("udp drain and undrain name a listener, or a cluster's backend", async () => {
  await withBalancer(async (served) => {
    const udp = served.plane.udp!;
    for (
      const args of [
        "drain listener/in",
        "drain listener/in --after 1m",
        "undrain backend/dns/[::1]:53",
        "drain backend/dns/a/b",
      ]
    ) assertEquals((await ask(served, `udp ${args}`)).code, 0, args);
    assertEquals(udp.drains, [
      { target: { listener: "in" }, isDraining: true, afterMs: 30_000 },
      { target: { listener: "in" }, isDraining: true, afterMs: 60_000 },
      { target: { cluster: "dns", backend: "[::1]:53" }, isDraining: false, afterMs: 30_000 },
      { target: { cluster: "dns", backend: "a/b" }, isDraining: true, afterMs: 30_000 },
    ]);
    for (const args of ["drain in", "drain backend/dns", "drain listener/", "drain x/y"]) {
      const { code, err } = await ask(served, `udp ${args}`);
      assertEquals(code, 2, args);
      assertStringIncludes(err, "give listener/NAME, or backend/CLUSTER/NAME");
    }
    assertEquals((await ask(served, "udp drain listener/in --after soon")).code, 2);
  });
});

Deno.test("udp delete removes by name; what is not there is the server's refusal", async () => {
  await withBalancer(async (served) => {
    served.plane.udp!.answer = { set: [], removed: ["listener/in"], unchanged: [] };
    assertEquals((await ask(served, "udp delete listener in")).out, "listener/in removed\n");
    assertEquals((await ask(served, "udp delete listener none")).code, 3);
    assertEquals((await ask(served, "udp delete backend one")).code, 2);
  });
});

Deno.test("udp top shows rates between two looks, and ends with a signal", async () => {
  await withBalancer(async (served) => {
    const once = await ask(served, "udp top --once");
    assertMatch(once.out, /^LISTENER +FLOWS +NEW\/S .*\nin +4 +0 +0 +0 +0\n\nCLUSTER/);
    const io = fakeIo();
    const ended = ask(served, "udp top", io);
    while (io.listenerCount() === 0) await new Promise((done) => setTimeout(done, 5));
    io.raise("SIGINT");
    assertEquals((await ended).code, 130);
    assertEquals(io.listenerCount(), 0);
  });
});
