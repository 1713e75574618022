/**
 * Programs that take what they can get: processes, memory, disk. Each runs in a cell of its own
 * with small limits; what counts is that the host has what it had.
 *
 * @module
 */
import { assert, assertEquals, assertLess } from "@std/assert";
import { securityTest } from "./register.ts";
import {
  cellDirectories,
  type CellOutcome,
  type RunningCell,
  runningCells,
  Stage,
  until,
  USERS,
} from "./support.ts";

const MIB = 1024 * 1024;
/** More of a bounded file than its bound: what is written while the follower takes its turn. */
const SLACK_BYTES = 48 * MIB;

securityTest("a fork bomb is held by the limit of processes, and ends with the cell", async () => {
  // Says how far it came, then all of its processes go on for ever, deaf to requests to stop.
  const bomb = '$SIG{TERM} = "IGNORE"; $| = 1; my $count = 0; ' +
    "while (defined(my $pid = fork)) { if (!$pid) { sleep 1; last } $count++ } " +
    'print "made $count: $!\\n" if $count; 1 while 1 + (fork // 0)';
  await using stage = await Stage.start();
  for (const user of USERS) {
    const limits = { pidsMax: 24, timeoutSeconds: 2, gracefulShutdownSeconds: 0 };
    const cell = start(stage, `bomb-${user}`, { argv: perl(bomb), user, limits });
    const made = await cell.waitFor(/made (\d+): Resource temporarily unavailable/);
    // The init and the program are two of them.
    assertLess(Number(made), 23);
    const startedAt = performance.now();
    const { success } = await new Deno.Command("/bin/true").output();
    assert(success, "the host starts programs");
    assertLess(performance.now() - startedAt, 1000, "and at once");
    const processes = descendantsOf(cell.pid);
    assertLess(processes.length, 25);
    const namespace = processes.map(pidNamespaceOf).find((it) => it !== undefined);
    assert(namespace !== undefined);
    const { code, reason } = await cell.end();
    assertEquals([code, reason], [124, "timeout"], user);
    assertEquals(allProcesses().filter((pid) => pidNamespaceOf(pid) === namespace), []);
  }
});

securityTest("a program that takes all memory is killed, and the run says why", async () => {
  await using stage = await Stage.start();
  for (const user of USERS) {
    const limits = { memoryMaxBytes: 48 * MIB, timeoutSeconds: 20 };
    const hog = 'my @all; push @all, "x" x (1 << 20) for 1 .. 4096; print "got it\\n"';
    const { code, reason, stdout } = await run(stage, `memory-${user}`, {
      argv: perl(hog),
      user,
      limits,
    });
    assertEquals([code, reason, stdout], [137, "oom", ""], user);
  }
});

securityTest("private file systems count as the cell's memory", async () => {
  const hog = 'for my $directory ("/tmp", "/var/tmp", "/dev/shm", "/run", "/work") { ' +
    'open my $file, ">", "$directory/fill" or next; ' +
    'for (1 .. 60) { syswrite($file, "x" x (1 << 20)) or last } } print "got it\\n"';
  await using stage = await Stage.start();
  const limits = { memoryMaxBytes: 96 * MIB, timeoutSeconds: 20 };
  const { code, reason, stdout } = await run(stage, "tmpfs", {
    argv: perl(hog),
    workingDirectory: "/work",
    limits,
  });
  assertEquals([code, reason, stdout], [137, "oom", ""]);
});

securityTest("a flood of empty files counts as the cell's memory", async () => {
  const flood = 'for my $at (1 .. 2_000_000) { open my $file, ">", "/tmp/$at" or die "$!\n" } ' +
    'print "got them\n"';
  await using stage = await Stage.start();
  const limits = { memoryMaxBytes: 32 * MIB, timeoutSeconds: 20 };
  const { code, reason, stdout } = await run(stage, "files", { argv: perl(flood), limits });
  assertEquals(stdout, "");
  // The kernel kills, or refuses one more: which of the two depends on what it counts first.
  assert(reason === "oom" && code === 137 || reason === "exited" && code > 0, `${code} ${reason}`);
});

securityTest("a full private file system is the cell's problem alone", async () => {
  const fill = "for my $directory (@ARGV) { my $bytes = 0; " +
    'open my $file, ">", "$directory/fill" or die "$directory: $!"; ' +
    'while (my $count = syswrite($file, "x" x 65536)) { $bytes += $count } ' +
    'print "$directory: $!, ", $bytes >> 20, "\\n"; close $file; unlink "$directory/fill" }';
  await using stage = await Stage.start();
  for (const user of USERS) {
    const { code, stdout } = await run(stage, `full-${user}`, {
      argv: [...perl(fill), "/work", "/tmp", "/var/tmp", "/run", "/dev/shm", "/data"],
      user,
      workingDirectory: "/work",
      mounts: [{ target: "/data", type: "tmpfs", sizeBytes: 2 * MIB }],
      limits: { workspaceMaxBytes: 4 * MIB, memoryMaxBytes: 256 * MIB, timeoutSeconds: 20 },
    });
    const full = "No space left on device";
    assertEquals(stdout.split("\n").filter((line) => line !== ""), [
      `/work: ${full}, 4`,
      `/tmp: ${full}, 64`,
      `/var/tmp: ${full}, 64`,
      `/run: ${full}, 64`,
      `/dev/shm: ${full}, 64`,
      `/data: ${full}, 2`,
    ], user);
    assertEquals(code, 0);
  }
});

securityTest("output without end takes a bounded part of the disk, read or not", async () => {
  await using stage = await Stage.start();
  // A pause in each mebibyte: the bound is celld's to keep, not the scheduler's to show.
  const pour = 'my $part = "x" x (1 << 20); ' +
    "for (1 .. 200) { syswrite(STDOUT, $part); select undef, undef, undef, 0.02 } " +
    'syswrite(STDERR, "poured\\n"); ';
  const limits = { outputMaxBytes: MIB, timeoutSeconds: 30 };
  const cell = stage.run({
    id: "pour",
    isUnread: true,
    run: { argv: perl(pour), limits },
  });
  const most = await watchOutput(stage, "pour");
  await cell.discardOutput();
  const { code } = await cell.end();
  assertEquals(code, 0);
  assert(most.sizeBytes > 100 * MIB, `${most.sizeBytes} bytes were written`);
  assertLess(most.takenBytes, MIB + SLACK_BYTES);
});

securityTest(
  "a program cannot make its output file on a disk take space in other ways",
  async () => {
    await using stage = await Stage.start({ parent: "/var/lib" });
    await tryOutputTricks(stage, 42);
  },
);

securityTest(
  "a program cannot make its output file in memory take space in other ways",
  async () => {
    await using stage = await Stage.start({ parent: "/dev/shm" });
    await tryOutputTricks(stage, 62);
  },
);

/**
 * Lengthens the file to `1 << sizeBits`, takes off the flag that makes writes append, and fills
 * what lies before.
 */
async function tryOutputTricks(stage: Stage, sizeBits: number): Promise<void> {
  const trick = "use Fcntl; " +
    "fcntl(STDOUT, F_SETFL, 0) or die $!; truncate(STDOUT, 1 << $ARGV[0]) or die $!; " +
    'my $part = "x" x (1 << 20); for my $at (0 .. 127) { ' +
    "sysseek(STDOUT, $at << 22, 0) or die $!; syswrite(STDOUT, $part) or die $!; " +
    "select undef, undef, undef, 0.02 } " +
    // What is read begins anew where the reader has seen that the file is empty.
    "truncate(STDOUT, 0); sysseek(STDOUT, 0, 0); select undef, undef, undef, 1; " +
    'syswrite(STDOUT, "the end\n"); select undef, undef, undef, 0.3';
  const cell = start(stage, "trick", {
    argv: [...perl(trick), `${sizeBits}`],
    limits: { outputMaxBytes: MIB, timeoutSeconds: 30 },
  });
  const most = await watchOutput(stage, "trick");
  const { code, stdout } = await cell.end();
  assertEquals(code, 0);
  assertEquals(stdout.slice(-8), "the end\n");
  assertLess(most.takenBytes, MIB + SLACK_BYTES);
}

function perl(program: string): string[] {
  return ["/usr/bin/perl", "-e", program];
}

function start(
  stage: Stage,
  id: string,
  spec: Record<string, unknown>,
): RunningCell {
  return stage.run({ id, run: spec });
}

async function run(
  stage: Stage,
  id: string,
  spec: Record<string, unknown>,
): Promise<CellOutcome> {
  return await start(stage, id, spec).end();
}

/** Looks at a cell's output file until the program has ended; answers the most that it was. */
async function watchOutput(
  stage: Stage,
  id: string,
): Promise<{ sizeBytes: number; takenBytes: number }> {
  const { runtimeDir } = cellDirectories(stage.shared.path);
  const name = await until(() => {
    try {
      return runningCells(stage.shared.path).find((cell) => cell.startsWith(id));
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw error;
    }
  }, () => `no cell ${id}`);
  const most = { sizeBytes: 0, takenBytes: 0 };
  await until(() => {
    try {
      const { size, blocks } = Deno.statSync(`${runtimeDir}/cells/${name}/stdout`);
      most.sizeBytes = Math.max(most.sizeBytes, size);
      most.takenBytes = Math.max(most.takenBytes, (blocks ?? 0) * 512);
      return Deno.statSync(`${runtimeDir}/cells/${name}/exit`).size > 0;
    } catch (error) {
      // Before its start there is no file yet, after its end none any more.
      if (error instanceof Deno.errors.NotFound) return most.sizeBytes > 0;
      throw error;
    }
  }, () => `cell ${id} does not end`);
  return most;
}

function allProcesses(): number[] {
  return [...Deno.readDirSync("/proc")].map(({ name }) => Number(name)).filter(Number.isInteger);
}

/** Processes that a process has started, and theirs; a cell's stay below its init. */
function descendantsOf(root: number): number[] {
  const parents = new Map(
    allProcesses().map((pid) => {
      const status = readGone(() => Deno.readTextFileSync(`/proc/${pid}/status`)) ?? "";
      return [pid, Number(/^PPid:\s+(\d+)/m.exec(status)?.[1] ?? 0)];
    }),
  );
  const isBelow = (pid: number): boolean => {
    const parent = parents.get(pid) ?? 0;
    return parent === root || parent > 1 && isBelow(parent);
  };
  return [...parents.keys()].filter(isBelow);
}

function pidNamespaceOf(pid: number): string | undefined {
  return readGone(() => Deno.readLinkSync(`/proc/${pid}/ns/pid`));
}

/** `undefined` for a process that has ended in the meantime, or may not be looked at. */
function readGone<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    const isExpected = error instanceof Deno.errors.NotFound ||
      error instanceof Deno.errors.PermissionDenied || String(error).includes("os error 3");
    if (isExpected) return undefined;
    throw error;
  }
}
