/**
 * Real processes on the host's socket: many at once, one that stands still, one that is killed.
 *
 * @module
 */
import { assert, assertEquals, assertLess } from "@std/assert";
import { campaign, recordCampaign } from "#tests/support/campaign.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { Beaters, Watched } from "./support.ts";

kernelTest(
  "liveness: every one of many processes is seen, and none is called silent or refused",
  ["root", "command:perl"],
  async () => {
    const count = campaign(100, 1000);
    await using watched = await Watched.start({ thresholdNs: 20e9 });
    const startMs = performance.now();
    await using beaters = await Beaters.start({ path: watched.path, count, periodMs: 500 });
    await watched.until("all are seen", () => watched.of("seen").length === count);
    const seenMs = performance.now() - startMs;
    assertEquals(
      new Set(watched.of("seen").map(({ agent }) => agent.hostPid)),
      new Set(beaters.pids),
    );
    const beats = await watched.counted("varta_observer_beats_total", 3 * count);
    const counters = await watched.observer.counters();
    const refused = Object.entries(counters).filter(([name, value]) =>
      value > 0 && !/^varta_observer_(?:beats|iteration|stage)_/.test(name)
    );
    assertEquals(refused, []);
    for (const { agent } of watched.of("seen")) {
      assertEquals([agent.origin, agent.name, agent.status], ["kernel_attested", "perl", "ok"]);
      assert(agent.generation > 0 && agent.namespaceInode > 0);
    }
    assertEquals(watched.events.length, count);
    assertEquals((await watched.observer.agents()).length, count);
    recordCampaign("liveness: beats of many processes", {
      processes: count,
      beats,
      seenMs: Math.round(seenMs),
    });
  },
);

kernelTest(
  "liveness: a process that stands still is one stall, and one resume when it goes on",
  ["root", "command:perl"],
  async () => {
    await using watched = await Watched.start({ thresholdNs: 400e6 });
    await using beaters = await Beaters.start({ path: watched.path, count: 5, periodMs: 50 });
    await watched.until("all are seen", () => watched.of("seen").length === 5);
    const pid = beaters.pids[2]!;
    Deno.kill(pid, "SIGSTOP");
    await watched.until("it is silent", () => watched.of("stalled", pid).length > 0);
    const [stalled] = watched.of("stalled", pid);
    assertEquals(stalled!.agent.status, "stall");
    const lateMs = (stalled!.atNs - stalled!.agent.lastNs - 400e6) / 1e6;
    assert(lateMs >= 0, "never before the threshold");
    assertLess(lateMs, 5000);
    // Two thresholds more of silence say nothing new.
    await new Promise((resolve) => setTimeout(resolve, 800));
    assertEquals(watched.of("stalled", pid).length, 1);
    Deno.kill(pid, "SIGCONT");
    await watched.until("it beats again", () => watched.of("resumed", pid).length > 0);
    assertEquals(watched.of("resumed", pid).length, 1);
    assertEquals(watched.of("gone").length, 0);
  },
);

kernelTest(
  "liveness: a process that is killed is gone at once, and is never called silent",
  ["root", "command:perl"],
  async () => {
    // A threshold far beyond the test: what is told is told by the kernel, not by silence.
    await using watched = await Watched.start({ thresholdNs: 3600e9 });
    await using beaters = await Beaters.start({ path: watched.path, count: 3, periodMs: 50 });
    await watched.until("all are seen", () => watched.of("seen").length === 3);
    const pid = beaters.pids[0]!;
    Deno.kill(pid, "SIGKILL");
    await watched.until("it is gone", () => watched.of("gone", pid).length > 0);
    assertEquals(watched.of("gone").map(({ reason }) => reason), ["exit"]);
    assertEquals(watched.of("stalled").length, 0);
    const left = (await watched.observer.agents()).map(({ hostPid }) => hostPid);
    assertEquals(new Set(left), new Set(beaters.pids.slice(1)));
  },
);

kernelTest(
  "liveness: one that stood still and is then killed is told as stalled, then as gone",
  ["root", "command:perl"],
  async () => {
    await using watched = await Watched.start({ thresholdNs: 300e6 });
    await using beaters = await Beaters.start({ path: watched.path, periodMs: 50 });
    const pid = beaters.pids[0]!;
    await watched.until("it is seen", () => watched.of("seen", pid).length > 0);
    Deno.kill(pid, "SIGSTOP");
    await watched.until("it is silent", () => watched.of("stalled", pid).length > 0);
    Deno.kill(pid, "SIGKILL");
    await watched.until("it is gone", () => watched.of("gone", pid).length > 0);
    assertEquals(watched.of("gone", pid)[0]!.agent.status, "stall");
    assertEquals(watched.of("stalled").length, 1);
  },
);

kernelTest(
  "liveness: with no room for descriptors beats count all the same, and it is counted",
  ["root", "command:perl"],
  async () => {
    await using watched = await Watched.start({ thresholdNs: 400e6, pidfdsMax: 1 });
    await using beaters = await Beaters.start({ path: watched.path, count: 3, periodMs: 50 });
    await watched.until("all are seen", () => watched.of("seen").length === 3);
    await watched.counted("varta_observer_pidfds_refused_total", 2);
    Deno.kill(beaters.pids[0]!, "SIGKILL");
    Deno.kill(beaters.pids[1]!, "SIGKILL");
    Deno.kill(beaters.pids[2]!, "SIGKILL");
    await watched.until("all three ends are told", () => {
      return watched.of("gone").length + watched.of("stalled").length === 3;
    });
    assertEquals(watched.of("gone").length, 1, "one descriptor, one exit");
  },
);

kernelTest(
  "liveness: a status that turns critical is told at once, an expected agent that stays away too",
  ["root", "command:perl"],
  async () => {
    await using watched = await Watched.start({
      thresholdNs: 60e9,
      expected: [
        { match: { name: "perl" }, withinNs: 2e9 },
        { match: { name: "nobody" }, withinNs: 1e6 },
      ],
    });
    await using beaters = await Beaters.start({
      path: watched.path,
      periodMs: 100,
      extra: ["status=2"],
    });
    await watched.until("it is critical", () => watched.of("critical").length > 0);
    assertEquals(watched.of("critical", beaters.pids[0]!).length, 1, "once, not at each beat");
    await watched.until("somebody is missing", () => watched.of("missing").length > 0);
    assertEquals(watched.of("missing").map(({ name }) => name), ["nobody"]);
  },
);
