/**
 * Recovery with real processes: commands and their trees, output, time, signals.
 *
 * @module
 */
import { assert, assertEquals, assertLess, assertStringIncludes } from "@std/assert";
import { kernelTest } from "#tests/support/kernel.ts";
import { agentOf, eventually, ghost, isAlive, once, ServiceBench, shell } from "./support.ts";

kernelTest("recovery: a command runs, gets the pid, and its end is told", ["root"], async () => {
  await using bench = await ServiceBench.start(once(shell('test "$1" = 42 && echo hi', "{pid}")));
  bench.stall(ghost(42));
  const [end] = await bench.until("reaped");
  assertEquals([end!.exitCode, end!.stdout, end!.outcome], [0, "hi\n", "reaped"]);
  assertEquals(bench.service.samples().find((it) => it.label?.[1] === "reaped_zero")?.value, 1);
});

kernelTest(
  "recovery: a command's environment is what was given, its stdin is empty, it leads a session",
  ["root"],
  async () => {
    const script = 'test -z "$HOME" && test "$E1" = a && test -z "$(cat)" && ' +
      "read -r _ _ _ _ _ session _ < /proc/self/stat && " +
      'cut -d" " -f6 /proc/$$/stat && echo $$ && ls /proc/$$/fd';
    await using bench = await ServiceBench.start(once(shell(script)), {
      environment: { PATH: "/usr/bin:/bin", E1: "a" },
    });
    bench.stall(ghost(1));
    const [end] = await bench.until("reaped");
    assertEquals(end!.exitCode, 0, end!.stderr);
    const [session, pid, ...fds] = end!.stdout.trim().split("\n");
    assertEquals(session, pid);
    assertEquals(fds.slice(0, 3), ["0", "1", "2"]);
    // A shell may keep one of its own, far up.
    assert(fds.length === 3 || fds[3] === "255", `no descriptor of ours: ${fds}`);
  },
);

for (const usesCgroups of [true, false]) {
  const how = usesCgroups ? "its cgroup" : "its group and its mark";
  kernelTest(
    `recovery: a command that runs too long is killed with its whole tree, by ${how}`,
    ["root"],
    async () => {
      // One child in a session of its own, whose parent is gone; one that ignores SIGTERM.
      const script =
        "(setsid sleep 1000 & echo $!) & (trap '' TERM; sleep 1001 & echo $!; wait) & " +
        "wait_a_bit() { sleep 1002; }; wait_a_bit";
      const policy = once(shell(script), { timeoutMs: 400, killGraceMs: 200 });
      await using bench = await ServiceBench.start(policy, { usesCgroups });
      bench.stall(ghost(1));
      const [end] = await bench.until("reaped");
      assertEquals(end!.outcome, "killed");
      const pids = end!.stdout.trim().split("\n").map(Number);
      assertEquals(pids.length, 2, end!.stdout);
      await eventually(() => !pids.some(isAlive), () => `${pids.filter(isAlive)} live`);
      assertLess(end!.durationMs, 20_000);
    },
  );
}

kernelTest(
  "recovery: what a command leaves behind when it ends well is left alone",
  ["root"],
  async () => {
    let pid = 0;
    try {
      await using bench = await ServiceBench.start(once(shell("sleep 1000 & echo $!")));
      bench.stall(ghost(1));
      const [end] = await bench.until("reaped");
      pid = Number(end!.stdout);
      assertEquals(end!.exitCode, 0);
      assertLess(end!.durationMs, 15_000, "its end is not waited for");
      assert(isAlive(pid));
    } finally {
      if (pid > 1) Deno.kill(pid, "SIGKILL");
    }
  },
);

kernelTest("recovery: output is kept up to the cap, its length is told", ["root"], async () => {
  const script = "printf start; head -c 100000 /dev/zero | tr '\\0' X; printf end; printf oops >&2";
  await using bench = await ServiceBench.start(once(shell(script)), { captureBytes: 64 });
  bench.stall(ghost(8));
  const [end] = await bench.until("reaped");
  assertEquals([end!.stdoutLength, end!.stderrLength, end!.truncated], [100_008, 4, true]);
  assert(end!.stdout.startsWith("startX") && end!.stdout.endsWith("Xend"), end!.stdout);
  assertStringIncludes(end!.stdout, "99976 bytes left out");
  assertEquals(end!.stderr, "oops");
});

kernelTest(
  "recovery: a program that is not there is told, and nothing stays",
  ["root"],
  async () => {
    const missing = { program: "no-such-program", args: [] };
    const action = { kind: "command", command: missing, source: "inline" } as const;
    await using bench = await ServiceBench.start(once(action));
    bench.stall(ghost(1));
    const [refused] = await bench.until("refused");
    assertEquals(refused!.reason, "spawn_failed");
    assertStringIncludes(refused!.detail!, "no-such-program");
    assertEquals(bench.service.commandCount, 0);
  },
);

kernelTest(
  "recovery: at the end running commands are killed within the grace",
  ["root"],
  async () => {
    let pid = 0;
    {
      await using bench = await ServiceBench.start(once(shell("trap '' TERM; sleep 1000")));
      bench.stall(ghost(1));
      const [spawned] = await bench.until("spawned");
      pid = spawned!.childPid;
      assert(isAlive(pid));
    }
    assert(!isAlive(pid));
  },
);

kernelTest(
  "recovery: a signal reaches the agent, and a recycled pid is never touched",
  ["root"],
  async () => {
    const agent = new Deno.Command("sleep", { args: ["1000"] }).spawn();
    const bystander = new Deno.Command("sleep", { args: ["1000"] }).spawn();
    try {
      await using bench = await ServiceBench.start(once({ kind: "signal", signal: 15 }));
      const other = agentOf(bystander.pid);
      bench.stall({ ...other, generation: BigInt(other.generation) - 1n });
      const [refused] = await bench.until("refused");
      assertEquals(refused!.reason, "skipped_pid_recycled");
      bench.stall(agentOf(agent.pid));
      assertEquals((await agent.status).signal, "SIGTERM");
      assert(isAlive(bystander.pid));
    } finally {
      bystander.kill("SIGKILL");
      await bystander.status;
      await agent.status;
    }
  },
);

kernelTest(
  "recovery: 10 000 stalls at once hold the budget, and every one is told",
  ["root"],
  async () => {
    const action = {
      kind: "command",
      command: { program: "true", args: [] },
      source: "x",
    } as const;
    await using bench = await ServiceBench.start(once(action), { windowMs: 100 });
    const startedMs = performance.now();
    const stalled = Array.from({ length: 10_000 }, (_, index) => ghost(1_000_000 + index));
    bench.service.observe({ stalled });
    await bench.until("spawned", 40);
    // The others beat again: they are told as such when their turn comes.
    const waiting = bench.service.machine.waitingCount;
    assert(waiting > 9000, `${waiting} wait`);
    bench.service.observe({ resumed: stalled.map(({ pid, generation }) => ({ pid, generation })) });
    await eventually(() => bench.of("refused").length + bench.of("spawned").length >= 10_000);
    const windows = Math.ceil((performance.now() - startedMs) / 100) + 1;
    assertLess(bench.of("spawned").length, 16 * windows + 1);
    const told = new Set([...bench.of("refused"), ...bench.of("spawned")].map(({ pid }) => pid));
    assertEquals(told.size, 10_000);
    assert(bench.of("refused").every(({ reason }) => reason === "skipped_agent_resumed"));
    assertEquals(bench.service.machine.waitingCount, 0);
  },
);
