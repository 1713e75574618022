/**
 * Beats over UDP on the loopback: never believed for more than they are; sealed ones refused when
 * replayed, reordered, cut, forged or too many.
 *
 * @module
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { call, closeUdpSocket, encodeSockaddr, openUdpFlowSocket, withScratch } from "#ffi/mod.ts";
import { LivenessObserver, type LivenessOptions, ObserverError } from "#lib/liveness/mod_shell.ts";
import { deriveAgentKey, sealFrame } from "#lib/liveness/secure_frame.ts";
import { encodeFrame, FRAME_BYTES, VlpFrame } from "#lib/liveness/vlp_frame.ts";
import { campaign } from "#tests/support/campaign.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { Beaters, Watched } from "./support.ts";

const KEY = new Uint8Array(32).fill(7);
const MASTER = new Uint8Array(32).fill(9);
const PREFIX = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);

function frameBytes(fields: Partial<Omit<VlpFrame, "isTerminal">>): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(FRAME_BYTES);
  encodeFrame(Object.assign(new VlpFrame(), { nonceLo: 1 }, fields), bytes);
  return bytes;
}

/** A client that sends to one port of the loopback. */
class Sender implements Disposable {
  readonly #socket: number;

  constructor(port: number) {
    const backend = encodeSockaddr({ family: "ipv4", address: "127.0.0.1", port });
    this.#socket = openUdpFlowSocket({ backend });
  }

  send(...packets: Uint8Array[]): void {
    for (const packet of packets) {
      withScratch((arena) =>
        call("sendto", this.#socket, arena.copy(packet), packet.length, 0, 0, 0)
      );
    }
  }

  [Symbol.dispose](): void {
    closeUdpSocket(this.#socket);
  }
}

function withUdp(udp: Partial<LivenessOptions["udp"]> = {}): Promise<Watched> {
  return Watched.start({
    thresholdNs: 400e6,
    udp: { address: "127.0.0.1", port: 0, ...udp },
  });
}

kernelTest(
  "liveness: a beat over UDP is unverified, and stays so when it stalls",
  ["root"],
  async () => {
    await using watched = await withUdp();
    using sender = new Sender(watched.observer.facts.udpPort!);
    sender.send(frameBytes({ pid: 4_000 }), new Uint8Array(31), new Uint8Array(33));
    await watched.until("its stall is told", () => watched.of("stalled", 4_000).length === 1);
    for (const { agent } of [...watched.of("seen"), ...watched.of("stalled")]) {
      assertEquals([agent.origin, agent.generation], ["network_unverified", 0]);
    }
    assertEquals(await watched.counted("varta_truncated_datagrams_total", 2), 2);
  },
);

kernelTest(
  "liveness: a spoofed beat for a process that the kernel vouches for changes nothing",
  ["root", "command:perl"],
  async () => {
    await using watched = await withUdp();
    await using beaters = await Beaters.start({ path: watched.path, periodMs: 50 });
    const pid = beaters.pids[0]!;
    await watched.until("it is seen", () => watched.of("seen", pid).length === 1);
    using sender = new Sender(watched.observer.facts.udpPort!);
    // A spoofer may neither keep a silent process alive nor make it critical.
    Deno.kill(pid, "SIGSTOP");
    let nonce = 1000;
    const spoof = setInterval(
      () => sender.send(frameBytes({ pid, nonceLo: nonce++, status: 2 })),
      50,
    );
    try {
      await watched.until("its stall is told", () => watched.of("stalled", pid).length === 1);
    } finally {
      clearInterval(spoof);
    }
    assert(await watched.counted("varta_origin_conflict_total", 1) > 0);
    assertEquals(watched.of("stalled", pid)[0]!.agent.origin, "kernel_attested");
    assertEquals(watched.of("critical").length + watched.of("resumed").length, 0);
    assertEquals(watched.of("conflict")[0]!.reason, "origin");
    Deno.kill(pid, "SIGCONT");
  },
);

kernelTest(
  "liveness: sealed packets of both forms are taken, anything else is refused and counted",
  ["root"],
  async () => {
    await using watched = await withUdp({ sharedKeys: [KEY], masterKey: MASTER });
    using sender = new Sender(watched.observer.facts.udpPort!);
    const sealed = (pid: number, counter: number, nonceLo: number, key = KEY) =>
      sealFrame(frameBytes({ pid, nonceLo }), { key, prefix: PREFIX, counter });
    const own = sealFrame(frameBytes({ pid: 4_002 }), {
      key: deriveAgentKey(MASTER, 4_002),
      prefix: PREFIX.map((byte) => byte + 1),
      counter: 0,
      agentPid: 4_002,
    });
    sender.send(sealed(4_001, 5, 5), own);
    await watched.until("both are seen", () => watched.of("seen").length === 2);
    // Replayed, reordered, sealed by another key, cut, in the open.
    sender.send(sealed(4_001, 5, 5), own, sealed(4_001, 4, 6));
    assertEquals(await watched.counted("varta_secure_replay_refused_total", 3), 3);
    sender.send(sealed(4_003, 9, 1, MASTER), sealed(4_001, 6, 6).subarray(0, 59));
    sender.send(frameBytes({ pid: 4_003 }));
    assertEquals(await watched.counted("varta_frame_decrypt_failures_total", 1), 1);
    assertEquals(await watched.counted("varta_truncated_datagrams_total", 2), 2);
    assertEquals(watched.of("seen").length, 2);
  },
);

kernelTest(
  "liveness: a flood of forged packets costs a bounded number of keys, the known beat on",
  ["root"],
  async () => {
    await using watched = await withUdp({ sharedKeys: [KEY] });
    using sender = new Sender(watched.observer.facts.udpPort!);
    const sealed = (counter: number) =>
      sealFrame(frameBytes({ pid: 4_001, nonceLo: counter + 1 }), {
        key: KEY,
        prefix: PREFIX,
        counter,
      });
    sender.send(sealed(0));
    await watched.until("it is seen", () => watched.of("seen").length === 1);
    const count = campaign(2_000, 50_000);
    const junk = new Uint8Array(60).fill(9);
    const startMs = performance.now();
    for (let index = 0; index < count; index++) {
      sender.send(junk);
      // Not faster than the socket's buffer, so that all of it is judged.
      if (index % 500 === 0) await watched.observer.counters();
    }
    const seconds = (performance.now() - startMs) / 1000 + 1;
    await watched.counted("varta_secure_budget_refused_total", count / 4);
    await new Promise((resolve) => setTimeout(resolve, 20));
    sender.send(sealed(1));
    await watched.counted("varta_observer_beats_total", 2);
    const { varta_secure_aead_attempts_total: attempts } = await watched.observer.counters();
    assert(attempts! <= 102 + 50 * seconds, `${attempts} keys tried in ${seconds} s`);
  },
);

kernelTest(
  "liveness: keys of a wrong length, and a path in a place that others may write, are told",
  ["root"],
  async () => {
    const start = (options: Partial<LivenessOptions>) =>
      LivenessObserver.start({ thresholdNs: 1e9, ...options });
    const folder = await Deno.makeTempDir();
    await Deno.chmod(folder, 0o777);
    try {
      const socket = { path: `${folder}/beats.sock` };
      const error = await assertRejects(() => start({ socket }), ObserverError, "not sticky");
      assertEquals(error.code, "parent");
      await assertRejects(() => start({ thresholdNs: 1 }), ObserverError, "at least 10 ms");
      await assertRejects(
        () => start({ udp: { address: "nowhere", port: 0 } }),
        ObserverError,
        "no address",
      );
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
);

kernelTest("liveness: ten thousand stalls at once are all told, and beats go on meanwhile", [
  "root",
  "command:perl",
], async () => {
  const count = 10_000;
  await using watched = await Watched.start({
    thresholdNs: 2e9,
    capacity: 16_384,
    globalLimits: { ratePerSecond: 0, burst: 0 },
    udp: { address: "127.0.0.1", port: 0 },
  });
  await using beaters = await Beaters.start({ path: watched.path, periodMs: 100 });
  using sender = new Sender(watched.observer.facts.udpPort!);
  const first = 20_000;
  for (let index = 0; index < count; index++) {
    sender.send(frameBytes({ pid: first + index }));
    // Not faster than the socket's buffer.
    if (index % 1000 === 999) await watched.observer.counters();
  }
  const isTheirs = (pid: number) => pid >= first && pid < first + count;
  const stalls = () => watched.of("stalled").filter(({ agent }) => isTheirs(agent.hostPid)).length;
  await watched.until("all stalls are told", () => stalls() === count);
  assertEquals(watched.observer.eventsLost, 0);
  const pid = beaters.pids[0]!;
  const { beats } = (await watched.observer.agents()).find(({ hostPid }) => hostPid === pid)!;
  await watched.counted("varta_observer_beats_total", count + beats + 3);
  assertEquals(stalls(), count, "each once");
});
