/**
 * systemd's notify protocol on the host's socket: the stock client, and what its lines mean.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { kernelTest } from "#tests/support/kernel.ts";
import { Beaters, Watched } from "./support.ts";

kernelTest(
  "liveness: a shell script that says READY=1 by systemd-notify is tracked, and its end is told",
  ["root", "command:systemd-notify"],
  async () => {
    await using watched = await Watched.start({ thresholdNs: 300e6 });
    // The stock client names its caller as the sender, as root may, and waits until it was read.
    const script = "systemd-notify --ready --status='half way'; echo; read line; " +
      "systemd-notify STOPPING=1";
    const process = new Deno.Command("sh", {
      args: ["-c", script],
      env: { NOTIFY_SOCKET: watched.path },
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    await watched.until("it is seen", () => watched.of("seen", process.pid).length === 1);
    const reader = process.stdout.getReader();
    await reader.read();
    reader.releaseLock();
    const [agent] = await watched.observer.agents();
    assertEquals([agent!.hostPid, agent!.name, agent!.statusText], [process.pid, "sh", "half way"]);
    assertEquals(agent!.thresholdNs, undefined, "no watchdog: its silence means nothing");
    await new Promise((resolve) => setTimeout(resolve, 600));
    assertEquals(watched.of("stalled", process.pid).length, 0);
    const writer = process.stdin.getWriter();
    await writer.write(new TextEncoder().encode("\n"));
    await writer.close();
    await watched.until("it is gone", () => watched.of("gone", process.pid).length === 1);
    assertEquals(watched.of("gone", process.pid)[0]!.reason, "stopped");
    await process.stdout.cancel();
    await process.status;
  },
);

kernelTest(
  "liveness: after WATCHDOG=1 silence is a stall, and a ping ends it",
  ["root", "command:perl"],
  async () => {
    await using watched = await Watched.start({ thresholdNs: 300e6 });
    await using beaters = await Beaters.start({
      path: watched.path,
      periodMs: 50,
      extra: ["text=WATCHDOG=1\nWATCHDOG_USEC=400000\n"],
    });
    const pid = beaters.pids[0]!;
    await watched.until("it is seen", () => watched.of("seen", pid).length === 1);
    Deno.kill(pid, "SIGSTOP");
    await watched.until("it is silent", () => watched.of("stalled", pid).length === 1);
    assertEquals(watched.of("stalled", pid)[0]!.agent.thresholdNs, 400e6, "what it asked for");
    Deno.kill(pid, "SIGCONT");
    await watched.until("it goes on", () => watched.of("resumed", pid).length === 1);
  },
);

kernelTest(
  "liveness: MAINPID names the agent for root, and is refused to a stranger",
  ["root", "command:perl", "command:setpriv"],
  async () => {
    await using watched = await Watched.start({
      thresholdNs: 60e9,
      socket: { path: "", allowedUids: [65534] },
    });
    const mainPid = Deno.pid;
    await using _helper = await Beaters.start({
      path: watched.path,
      extra: [`text=READY=1\nMAINPID=${mainPid}\n`],
    });
    await watched.until("the main process is seen", () => watched.of("seen", mainPid).length === 1);
    assertEquals(watched.of("seen").length, 1, "and its helper is nobody");
    await using thief = await Beaters.start({
      path: watched.path,
      within: ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"],
      extra: ["text=READY=1\nMAINPID=1048573\n"],
    });
    await watched.counted("varta_observer_main_pid_refused_total", 1);
    await watched.until(
      "it stands for itself",
      () => watched.of("seen", thief.pids[0]!).length > 0,
    );
    assert(watched.of("conflict").every(({ reason }) => reason === "mainPid"));
  },
);
