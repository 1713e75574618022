/**
 * Programs of others around the UDP load balancer: DNS servers and `dig`, `iperf3`, `logger`.
 *
 * @module
 */
import { assert, assertEquals, assertGreater } from "@std/assert";
import { campaign, recordCampaign } from "#tests/support/campaign.ts";
import { findCommand, kernelTest } from "#tests/support/kernel.ts";
import { freePort, ServedUdp } from "#tests/support/served_udp.ts";
import { runProcess } from "#tests/support/subprocess.ts";
import { eventually, UdpBackend } from "#tests/support/udp_ends.ts";

const NEEDS = ["root", "cap:CAP_SYS_ADMIN", "cap:CAP_NET_ADMIN"] as const;
const QUERIES = campaign(2000, 50_000);
/** So many `dig`s at a time. */
const DIGS = 4;
/** For programs to start, on a busy machine. */
const PATIENT_MS = 60_000;
const ANSWER = "192.0.2.77";

const sumOf = (counters: Readonly<Record<string, number>>, prefix: string) =>
  Object.entries(counters).reduce(
    (sum, [key, value]) => key.startsWith(prefix) ? sum + value : sum,
    0,
  );

function unboundConfig(base: string, port: number): string {
  return `server:
  interface: 127.0.0.1
  port: ${port}
  do-daemonize: no
  use-syslog: no
  logfile: "${base}/unbound.log"
  username: ""
  chroot: ""
  directory: "${base}"
  pidfile: "${base}/unbound.pid"
  local-zone: "celld.test." redirect
  local-data: "celld.test. 60 IN A ${ANSWER}"
remote-control:
  control-enable: no
`;
}

function nsdConfig(base: string, port: number): string {
  Deno.writeTextFileSync(
    `${base}/celld.zone`,
    `$ORIGIN celld.test.\n$TTL 60\n@ IN SOA ns.celld.test. x.celld.test. 1 3600 600 86400 60\n` +
      `@ IN NS ns.celld.test.\nns IN A ${ANSWER}\n* IN A ${ANSWER}\n`,
  );
  return `server:
  ip-address: 127.0.0.1@${port}
  username: ""
  chroot: ""
  database: ""
  zonesdir: "${base}"
  zonelistfile: "${base}/zone.list"
  xfrdfile: "${base}/xfrd.state"
  xfrdir: "${base}"
  pidfile: "${base}/nsd.pid"
  logfile: "${base}/nsd.log"
  rrl-ratelimit: 0
remote-control:
  control-enable: no
zone:
  name: celld.test
  zonefile: celld.zone
`;
}

/** A DNS server that can be killed and started again. */
class DnsServer implements AsyncDisposable {
  readonly #command: string;
  readonly #args: readonly string[];
  #child: Deno.ChildProcess | undefined;

  constructor(program: "unbound" | "nsd", base: string, port: number) {
    const config = program === "nsd" ? nsdConfig(base, port) : unboundConfig(base, port);
    Deno.writeTextFileSync(`${base}/${program}.conf`, config);
    this.#command = findCommand(program)!;
    this.#args = ["-d", "-c", `${base}/${program}.conf`];
    this.start();
  }

  start(): void {
    // A session of its own, so that its children go with it.
    this.#child = new Deno.Command("setsid", {
      args: ["--wait", this.#command, ...this.#args],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    this.#child = undefined;
    for (const pid of descendantsOf(child.pid)) {
      try {
        Deno.kill(pid, "SIGKILL");
      } catch (error) {
        // It went with its parent.
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      }
    }
    await child.status;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}

/** A process and those it started, the youngest first. */
function descendantsOf(pid: number): number[] {
  const children = Deno.readTextFileSync(`/proc/${pid}/task/${pid}/children`).trim().split(/\s+/)
    .filter((word) => word !== "").map(Number);
  return [...children.flatMap(descendantsOf), pid];
}

/** Asks by `dig`; how many were answered. */
async function dig(base: string, port: number, from: number, count: number): Promise<number> {
  const path = `${base}/queries-${from}`;
  const names = Array.from({ length: count }, (_, index) => `host-${from + index}.celld.test A`);
  Deno.writeTextFileSync(path, `${names.join("\n")}\n`);
  const { stdout } = await runProcess([
    "dig",
    ...["@127.0.0.1", "-p", String(port)],
    ...["+short", "+tries=10", "+timeout=1", "+noedns", "-f", path],
  ], { timeoutMs: 10 * 60_000 });
  return stdout.split("\n").filter((line) => line === ANSWER).length;
}

kernelTest(
  "udp peers: no query of dig stays unanswered while one of two DNS servers dies and returns",
  [...NEEDS, "command:dig", "command:unbound", "command:nsd", "command:setsid"],
  async () => {
    await using udp = await ServedUdp.start();
    const { base } = udp;
    const ports = { unbound: freePort(), nsd: freePort() };
    await using _unbound = new DnsServer("unbound", base, ports.unbound);
    await using nsd = new DnsServer("nsd", base, ports.nsd);
    const health = {
      probe: { by: "dns", name: "probe.celld.test", type: "A", codes: ["NOERROR"] },
      intervalMs: 100,
      timeoutMs: 2000,
      rise: 1,
      fall: 2,
      startsUp: false,
    };
    await udp.apply({
      clusters: [{
        name: "dns",
        health,
        backends: Object.entries(ports).map(([name, port]) => ({
          name,
          address: `127.0.0.1:${port}`,
        })),
      }],
      listeners: [{ name: "dns", listen: "127.0.0.1:0", cluster: "dns", responses: 1 }],
    });
    const statusOf = async (name: string) =>
      (await udp.cluster("dns")).backends.find((one) => one.name === name)!.status;
    for (const name of ["unbound", "nsd"]) {
      await eventually(async () => await statusOf(name) === "up", PATIENT_MS);
    }

    const port = await udp.port("dns");
    const part = QUERIES / DIGS;
    const digs = Array.from({ length: DIGS }, (_, index) => dig(base, port, index * part, part));
    const asked = async () => (await udp.listener("dns")).counters.datagramsIn;
    await eventually(async () => await asked() > QUERIES / 10, PATIENT_MS);
    await nsd.kill();
    await eventually(async () => await statusOf("nsd") === "down", PATIENT_MS);
    nsd.start();
    await eventually(async () => await statusOf("nsd") === "up", PATIENT_MS);
    const answered = (await Promise.all(digs)).reduce((sum, count) => sum + count, 0);
    assertEquals(answered, QUERIES);
    // At most a window of each dig's was asked again.
    const { counters } = await udp.listener("dns");
    const { backends } = await udp.cluster("dns");
    assertEquals(counters.clientDatagrams - sumOf(counters, "dropped."), counters.datagramsIn);
    assertEquals(
      backends.reduce((sum, one) => sum + one.counters.datagramsIn, 0),
      counters.datagramsIn,
    );
    assertEquals(
      backends.reduce((sum, one) => sum + one.counters.datagramsOut, 0),
      counters.datagramsOut,
    );
    assertGreater(counters.datagramsOut + 1, QUERIES);
    for (const one of backends) assertGreater(one.counters.datagramsOut, QUERIES / 20);
    recordCampaign("udp peers: dig, one of two DNS servers killed", {
      queries: QUERIES,
      answered,
      again: counters.datagramsIn - QUERIES,
    });
  },
);

/** Passes TCP connections on: the control channel of iperf3, which has the number of its UDP. */
function forwardTcp(port: number, to: string): Disposable {
  const listener = Deno.listen({ hostname: "127.0.0.1", port });
  const pipes: Promise<unknown>[] = [];
  (async () => {
    for await (const near of listener) {
      const far = await Deno.connect({ hostname: to, port });
      pipes.push(
        near.readable.pipeTo(far.writable).catch(() => {}),
        far.readable.pipeTo(near.writable).catch(() => {}),
      );
    }
  })();
  return { [Symbol.dispose]: () => listener.close() };
}

kernelTest(
  "udp peers: a stream of iperf3 goes through whole",
  [...NEEDS, "command:iperf3"],
  async () => {
    await using udp = await ServedUdp.start();
    const port = freePort();
    const server = new Deno.Command("iperf3", {
      args: ["-s", "-1", "-B", "127.0.0.2", "-p", String(port)],
      stdout: "null",
      stderr: "null",
    }).spawn();
    await udp.apply({
      clusters: [{ name: "iperf", backends: [`127.0.0.2:${port}`] }],
      listeners: [{ name: "iperf", listen: `127.0.0.1:${port}`, cluster: "iperf" }],
    });
    using _control = forwardTcp(port, "127.0.0.2");
    const seconds = campaign(2, 20);
    const { stdout } = await runProcess([
      "iperf3",
      ...["-u", "-c", "127.0.0.1", "-p", String(port)],
      ...["-b", "20M", "-l", "1200", "-t", String(seconds), "--json"],
    ]);
    await server.status;
    const { sum } = JSON.parse(stdout).end;
    const { counters } = await udp.listener("iperf");
    recordCampaign("udp peers: iperf3 at 20 Mbit/s", {
      packets: sum.packets,
      lost: sum.lost_packets,
    });
    assertGreater(sum.packets, seconds * 1000);
    const kernelDropped = (await udp.metrics()).get("celld_udp_kernel_dropped_total")!;
    assert(sum.lost_packets <= kernelDropped + sum.packets / 100, stdout);
    // One more than packets: the stream's greeting.
    assert(counters.datagramsIn + kernelDropped >= sum.packets, JSON.stringify(counters));
    assertEquals(counters.clientDatagrams, counters.datagramsIn);
  },
);

kernelTest(
  "udp peers: lines of logger spread evenly over sinks that never answer",
  [...NEEDS, "command:logger"],
  async () => {
    await using udp = await ServedUdp.start();
    const sinks = await Promise.all([0, 1, 2].map((number) => UdpBackend.start(`S${number}`)));
    for (const sink of sinks) sink.replies = 0;
    await udp.apply({
      clusters: [{ name: "syslog", backends: sinks.map(({ port }) => `127.0.0.1:${port}`) }],
      listeners: [{
        name: "syslog",
        listen: "127.0.0.1:0",
        cluster: "syslog",
        requests: 1,
        responses: 0,
      }],
    });
    const port = String(await udp.port("syslog"));
    const lines = Array.from({ length: 300 }, (_, index) => `line-${index}`);
    Deno.writeTextFileSync(`${udp.base}/lines`, `${lines.join("\n")}\n`);
    const { code } = await runProcess(
      ["logger", "-n", "127.0.0.1", "-P", port, "-d", "-t", "test", "-f", `${udp.base}/lines`],
    );
    assertEquals(code, 0);
    const seen = () => sinks.flatMap(({ texts }) => texts);
    await eventually(() => seen().length === lines.length);
    assertEquals(sinks.map((sink) => sink.seen.length), [100, 100, 100]);
    assertEquals(new Set(seen().map((text) => /line-\d+$/.exec(text)![0])), new Set(lines));
    assertEquals((await udp.listener("syslog")).flows, 0);
    for (const sink of sinks) await sink.close();
  },
);
