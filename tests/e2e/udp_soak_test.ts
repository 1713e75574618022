/**
 * A long load on the UDP load balancer, near its peak, while its settings change every second and
 * a backend dies and returns: what is lost has a counter, and nothing grows.
 *
 * @module
 */
import { assert, assertEquals, assertGreater } from "@std/assert";
import { campaign, recordCampaign } from "#tests/support/campaign.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { ServedUdp } from "#tests/support/served_udp.ts";
import { eventually } from "#tests/support/udp_ends.ts";
import { dropsAt, Echo, load } from "#tests/support/udp_load.ts";

const NEEDS = [
  "root",
  "cap:CAP_SYS_ADMIN",
  "cap:CAP_NET_ADMIN",
  "path:/usr/bin/perl",
] as const;
const SECONDS = campaign(4, 300);
const PEAK_SECONDS = campaign(1, 10);
/** Of the measured peak. */
const SHARE = 0.8;
const FLOWS = 64;
/** Of the server: resident bytes, and descriptors. */
function sizeOf(pid: number): { readonly bytes: number; readonly files: number } {
  const status = Deno.readTextFileSync(`/proc/${pid}/status`);
  const files = [...Deno.readDirSync(`/proc/${pid}/fd`)].length;
  return { bytes: Number(/^VmRSS:\s+(\d+) kB/m.exec(status)![1]) * 1024, files };
}

function documentOf(backends: readonly Echo[], turn: number): unknown {
  const policies = ["round-robin", "least-flows", "random", "power-of-two"];
  return {
    clusters: [{
      name: "soak",
      balance: policies[turn % policies.length],
      backends: backends.map(({ port }, index) => ({
        name: `b${index}`,
        address: `127.0.0.1:${port}`,
        weight: 100 + turn % 7,
      })),
      health: {
        probe: { by: "udp", send: { text: "?" }, expect: { any: true } },
        intervalMs: 100,
        timeoutMs: 1000,
        rise: 1,
        fall: 2,
        passive: { errors: 3, holdMs: 200 },
      },
    }],
    listeners: [
      {
        name: "soak",
        listen: "127.0.0.1:0",
        cluster: "soak",
        affinity: "source-port",
        frontTimeoutMs: 1000 + turn % 3,
        backTimeoutMs: 1000,
        limit: { maxFlows: 10_000 + turn },
      },
      // Comes and goes.
      ...(turn % 2 === 0 ? [] : [{ name: "other", listen: "127.0.0.1:0", cluster: "soak" }]),
    ],
  };
}

/** Waits for a promise, but no longer than so many milliseconds. */
async function within(promise: Promise<unknown>, timeMs: number): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const patience = new Promise((done) => timer = setTimeout(done, timeMs));
  await Promise.race([promise, patience]);
  clearTimeout(timer);
}

kernelTest(
  "udp soak: near the peak, with changes every second and a backend that dies, losses are counted",
  NEEDS,
  async () => {
    await using udp = await ServedUdp.start();
    await using steady = new Echo();
    await using flapping = new Echo();
    const backends = [steady, flapping];
    await udp.apply(documentOf(backends, 0));
    const port = await udp.port("soak");
    const up = async () =>
      (await udp.cluster("soak")).backends.every(({ status }) => status === "up");
    await eventually(up, 30_000);
    const peak = await load(port, { rate: 0, seconds: PEAK_SECONDS, flows: FLOWS });
    const rate = Math.floor(peak.heard / PEAK_SECONDS * SHARE);
    assertGreater(rate, 100);
    await eventually(async () => (await udp.listener("soak")).flows === 0, 20_000);
    const { pid } = udp.served;
    const steadyBefore = dropsAt(steady.port);
    const [before, counted] = [sizeOf(pid), await readCounters(udp)];

    const running = load(port, { rate, seconds: SECONDS, flows: FLOWS });
    const sizes: number[] = [];
    let isOver = false;
    const over = running.finally(() => isOver = true);
    for (let turn = 1; !isOver; turn++) {
      await udp.apply(documentOf(backends, turn), "?prune");
      if (turn % 4 === 1) await flapping.kill();
      if (turn % 4 === 3) flapping.start();
      sizes.push(sizeOf(pid).bytes);
      await within(over, 1000);
    }
    const { sent, heard, overflowed } = await running;
    await udp.apply(documentOf(backends, 0), "?prune");
    await eventually(async () => (await udp.listener("soak")).flows === 0, 20_000);
    const after = await readCounters(udp);
    const of = (name: string) => after.get(name)! - counted.get(name)!;

    // In = taken + dropped by the kernel; taken = sent + dropped, by reason; sent = answered + lost.
    assertEquals(of("clientDatagrams") + of("kernelDropped"), sent);
    assertEquals(
      of("clientDatagrams") + of("backendDatagrams"),
      of("datagramsIn") + of("datagramsOut") + of("dropped"),
    );
    assertEquals(
      of("datagramsIn") + of("datagramsOut"),
      of("sentToBackend") + of("sentToClient") + of("notSent"),
    );
    assertEquals(heard + overflowed, of("sentToClient"));
    // Only the one that died took datagrams with it.
    const lostBy = (name: string) => of(`${name}.in`) - of(`${name}.out`);
    assertEquals(
      of("sentToBackend") - of("backendDatagrams"),
      lostBy("b0") + lostBy("b1") - of("notSent"),
    );
    const overflowed0 = dropsAt(steady.port) - steadyBefore;
    const repliesLost = of("repliesKernelDropped");
    const lost0 = lostBy("b0") - of("b0.dropped") - overflowed0;
    assert(lost0 >= 0 && lost0 <= repliesLost, `${lost0} of ${lostBy("b0")}, ${repliesLost}`);
    assertGreater(heard, sent / 2);

    const size = sizeOf(pid);
    const half = sizes.slice(Math.floor(sizes.length / 2));
    assert(Math.max(...half) < before.bytes + 150 * 1024 * 1024, `${before.bytes} ${sizes}`);
    assert(Math.abs(size.files - before.files) <= 4, `${before.files} ${size.files}`);
    recordCampaign("udp soak", {
      seconds: SECONDS,
      peak: `${Math.round(peak.heard / PEAK_SECONDS)} /s`,
      rate: `${rate} /s`,
      sent,
      heard,
      "lost with the backend": lostBy("b1"),
      "overflowed at the other": overflowed0,
      "dropped by reason": of("dropped") + of("kernelDropped") + of("notSent") + repliesLost,
      memory: `${Math.round(before.bytes / 2 ** 20)} to ${Math.round(size.bytes / 2 ** 20)} MiB`,
      descriptors: `${before.files} to ${size.files}`,
    });
  },
);

/** What is counted, of the listener, the backends and the sockets, by short names. */
async function readCounters(udp: ServedUdp): Promise<Map<string, number>> {
  const found = new Map<string, number>();
  const { counters } = await udp.listener("soak");
  for (const [name, value] of Object.entries(counters)) found.set(name, value);
  const droppedOf = (row: Readonly<Record<string, number>>) =>
    Object.entries(row).reduce(
      (sum, [name, one]) => name.startsWith("dropped.") ? sum + one : sum,
      0,
    );
  found.set("dropped", droppedOf(counters));
  for (const one of (await udp.cluster("soak")).backends) {
    found.set(`${one.name}.in`, one.counters.datagramsIn);
    found.set(`${one.name}.out`, one.counters.datagramsOut);
    found.set(`${one.name}.dropped`, droppedOf(one.counters));
  }
  const metrics = await udp.metrics();
  const shell = (name: string) => metrics.get(`celld_udp_${name}_total`)!;
  found.set("kernelDropped", shell("kernel_dropped"));
  found.set("repliesKernelDropped", shell("replies_kernel_dropped"));
  found.set("sentToBackend", shell("sent_to_backend"));
  found.set("sentToClient", shell("sent_to_client"));
  const unsent = ["queue_full", "send_error", "no_socket", "queue_discarded"];
  found.set("notSent", unsent.reduce((sum, name) => sum + shell(name), 0));
  return found;
}
