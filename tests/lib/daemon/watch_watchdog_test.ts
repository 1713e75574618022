/**
 * What guards a stand-alone observer: its own watchdog, systemd's, and a device.
 *
 * @module
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { ReceiveBatch, UnixDatagramSocket } from "#ffi/mod.ts";
import { HardwareWatchdog } from "#lib/daemon/watch_hardware.ts";
import { notifySystemd } from "#lib/daemon/watch_notify.ts";
import { WatchError } from "#lib/daemon/watch_support.ts";
import { SelfWatchdog, watchdogOrder } from "#lib/daemon/watch_watchdog.ts";
import { WatchdogJudge } from "#lib/daemon/watch_watchdog_worker.ts";
import { REPOSITORY_ROOT, runProcess } from "#tests/support/subprocess.ts";

Deno.test("watchdog: by itself where a flag says so, with four seconds under systemd's", () => {
  assertEquals(watchdogOrder(undefined, {}), undefined);
  assertEquals(watchdogOrder(undefined, { NOTIFY_SOCKET: "/s" }), undefined);
  assertEquals(watchdogOrder(undefined, { WATCHDOG_USEC: "1000000" }), undefined);
  assertEquals(watchdogOrder(7, {}), { deadlineMs: 7000 });
  const env = { NOTIFY_SOCKET: "/s", WATCHDOG_USEC: "1000000" };
  const telling = { notifySocket: "/s", tellEveryMs: 500 };
  assertEquals(watchdogOrder(undefined, env), { deadlineMs: 4000, ...telling });
  assertEquals(watchdogOrder(2, env), { deadlineMs: 2000, ...telling });
  assertEquals(watchdogOrder(undefined, { ...env, WATCHDOG_USEC: "x" }), undefined);
});

Deno.test("watchdog: rounds that stand still are overdue, and not told; none is before the first", () => {
  const judge = new WatchdogJudge({ deadlineMs: 1000, tellEveryMs: 500 });
  assertEquals(judge.sleepMs, 250);
  let nowMs = 0;
  const look = (rounds: number) => {
    nowMs += 250;
    const { isOverdue, isTelling } = judge.look(rounds, nowMs);
    return isOverdue ? "overdue" : isTelling ? "tell" : "";
  };
  assertEquals(Array.from({ length: 8 }, () => look(0)).join(), ",,,,,,,");
  assertEquals([look(1), look(2), look(3), look(4)], ["tell", "", "tell", ""]);
  assertEquals([look(4), look(4), look(4), look(4), look(4)], ["tell", "", "", "", "overdue"]);
});

Deno.test("watchdog: one that was stopped itself begins to count again", () => {
  const judge = new WatchdogJudge({ deadlineMs: 1000 });
  assertEquals(judge.sleepMs, 500);
  judge.look(1, 500);
  assertEquals(judge.look(1, 60_000).isOverdue, false);
  assertEquals(judge.look(1, 60_500).isOverdue, false);
  assertEquals(judge.look(1, 61_100).isOverdue, true);
});

Deno.test("watchdog: it ends when it is told to, and was not needed", async () => {
  const watchdog = await SelfWatchdog.start({ deadlineMs: 60_000 }, (reason) => {
    throw new Error(reason);
  });
  watchdog.stamp();
  await watchdog.stop();
});

Deno.test("watchdog: a main thread that hangs is ended by SIGABRT", async () => {
  const code = `import { SelfWatchdog } from "#lib/daemon/watch_watchdog.ts";
    const watchdog = await SelfWatchdog.start({ deadlineMs: 300 }, () => {});
    watchdog.stamp();
    const end = performance.now() + 20_000;
    while (performance.now() < end);
    console.log("went on");`;
  const { signal, stdout } = await runProcess([Deno.execPath(), "eval", "--quiet", code], {
    cwd: REPOSITORY_ROOT,
  });
  assertEquals([signal, stdout], ["SIGABRT", ""]);
});

Deno.test("notify: a word comes as one datagram, whoever does not listen is no error", () => {
  const folder = Deno.makeTempDirSync({ prefix: "celld-watch-" });
  try {
    const path = `${folder}/notify.sock`;
    notifySystemd(path, "READY=1\n");
    notifySystemd(undefined, "READY=1\n");
    notifySystemd(`@${"x".repeat(200)}`, "READY=1\n");
    notifySystemd(`/${"x".repeat(200)}`, "READY=1\n");
    notifySystemd("@celld-test-nobody", "READY=1\n");
    using socket = UnixDatagramSocket.bind({ path });
    notifySystemd(path, "STOPPING=1\n");
    const batch = new ReceiveBatch({ slots: 4, payloadBytes: 64 });
    assertEquals(batch.receive(socket.fd), 1);
    const from = batch.payloadAt(0);
    const bytes = batch.bytes.slice(from, from + batch.lengthAt(0));
    assertEquals(new TextDecoder().decode(bytes), "STOPPING=1\n");
    batch.closeDescriptors();
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("hardware watchdog: what is no watchdog is refused, and not waited for", () => {
  for (const path of ["/dev/null", "/etc/passwd", "/dev/nothing-of-the-kind", "/tmp"]) {
    const error = assertThrows(() => HardwareWatchdog.open(path), WatchError);
    assert(error.message.startsWith("Cannot use --hw-watchdog"));
    assertEquals(error.exitCode, 1);
  }
});
