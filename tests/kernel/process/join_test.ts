/**
 * Joining a cell: what joins is shut in as the workload is, ends with the cell, and cannot hold up
 * who starts it.
 *
 * @module
 */
import {
  createMemoryFile,
  createPipe,
  createUserNamespace,
  decodeExitRecord,
  defaultFilter,
  Epoll,
  EXIT_RECORD_BYTES,
  type ExitRecord,
  type Fd,
  joinCell,
  type JoinOptions,
  LaunchError,
  OPEN,
  openFile,
  readFdAt,
  readToEnd,
  RLIMIT,
  signalPidfd,
  SIGNALS,
} from "#ffi/mod.ts";
import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { campaign } from "#tests/support/campaign.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { openDescriptors, TEST_UID, TestWorkload } from "./support.ts";

const WAIT_MS = 20_000;
const FACTS =
  "id -u; grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups|SigBlk|SigIgn)' /proc/self/status; " +
  "for n in mnt pid net uts ipc user cgroup; do readlink /proc/self/ns/$n; done; hostname; " +
  "umask; ls /proc/self/fd | head -3; ulimit -n";

/** A command that runs in the cell of a workload. */
class Joined implements Disposable {
  readonly pidfd: Fd;
  readonly #output: Fd;
  readonly #status: Fd;

  constructor(cell: TestWorkload, script: string, options: Partial<JoinOptions> = {}) {
    const output = createPipe();
    using write = output.write;
    using nothing = openFile("/dev/null", { flags: OPEN.READ_WRITE });
    this.#output = output.read;
    this.#status = createMemoryFile("celld-test-status");
    try {
      this.pidfd = joinCell({
        cellInit: cell.pidfd,
        hasUserNamespace: false,
        cgroupTasks: [],
        executableCandidates: ["/usr/bin/sh", "/bin/sh"],
        argv: ["sh", "-c", script],
        env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C" },
        workingDirectory: "/",
        uid: TEST_UID,
        gid: TEST_UID,
        stdin: nothing,
        stdout: write,
        stderr: write,
        rlimits: [],
        seccomp: defaultFilter(),
        statusFile: this.#status,
        ready: nothing,
        ...options,
      });
    } catch (error) {
      this.#output.close();
      this.#status.close();
      throw error;
    }
  }

  /** Blocks until the last writer is gone. */
  output(): string {
    return new TextDecoder().decode(readToEnd(this.#output));
  }

  /** Blocks until its init has ended; what that wrote. */
  wait(): ExitRecord | undefined {
    using epoll = new Epoll();
    epoll.add(this.pidfd, 0);
    assertEquals(epoll.wait(WAIT_MS).length, 1, "it ends");
    const bytes = new Uint8Array(EXIT_RECORD_BYTES);
    return decodeExitRecord(bytes.subarray(0, readFdAt(this.#status, bytes, 0)));
  }

  [Symbol.dispose](): void {
    for (const fd of [this.pidfd, this.#output, this.#status]) fd.close();
  }
}

function ownNamespaces(): string[] {
  return ["pid", "pid_for_children", "net", "mnt"].map((kind) =>
    Deno.readLinkSync(`/proc/thread-self/ns/${kind}`)
  );
}

kernelTest("join: a command is what the workload is, in all that can be read of it", "root", () => {
  const before = ownNamespaces();
  const rlimits = [{ resource: RLIMIT.NOFILE, soft: 64n, hard: 64n }];
  using cell = new TestWorkload(`${FACTS}; exec sleep 600`, { rlimits });
  let own = "";
  while (!own.endsWith("\n64\n")) own += cell.readSome();
  using command = new Joined(cell, FACTS, { rlimits });
  assertEquals(command.output(), own);
  assertEquals(command.wait(), { kind: "exited", code: 0 });
  assertEquals(ownNamespaces(), before);
  assert(new Deno.Command("true").outputSync().success, "our children are born here again");
});

kernelTest(
  "join: it is a process of the cell beside the workload, which cannot look into its init",
  "root",
  () => {
    using cell = new TestWorkload("exec sleep 600");
    assertEquals(cell.ready(), 0);
    using command = new Joined(
      cell,
      "cat /proc/2/cmdline | tr '\\0' ' '; ls /proc/$PPID/fd 2>&1; kill -0 2 && echo same user",
    );
    const output = command.output();
    assertStringIncludes(output, "sleep 600");
    assertStringIncludes(output, "Permission denied");
    assertStringIncludes(output, "same user");
  },
);

kernelTest("join: uid 0 of the cell's own user namespace is its uid 0", "root", () => {
  const range = { inside: 0, outside: TEST_UID, count: 1 };
  using userNamespace = createUserNamespace({ uidMap: [range], gidMap: [range] });
  using cell = new TestWorkload("exec sleep 600", { userNamespace, uid: 0, gid: 0 });
  assertEquals(cell.ready(), 0);
  using command = new Joined(
    cell,
    "id -u; cat /proc/self/uid_map; grep CapBnd /proc/self/status",
    { hasUserNamespace: true, uid: 0, gid: 0 },
  );
  const output = command.output();
  assertStringIncludes(output, `${TEST_UID}`);
  assert(output.startsWith("0\n"), output);
  assertStringIncludes(output, "CapBnd:\t0000000000000000");
});

kernelTest("join: codes, signals and programs that are not there are told", "root", () => {
  using cell = new TestWorkload("exec sleep 600");
  assertEquals(cell.ready(), 0);
  const endOf = (script: string, options: Partial<JoinOptions> = {}) => {
    using command = new Joined(cell, script, options);
    return command.wait();
  };
  assertEquals(endOf("exit 7"), { kind: "exited", code: 7 });
  assertEquals(endOf("kill -9 $$"), { kind: "signaled", signal: 9 });
  const nowhere = { executableCandidates: ["/nowhere/a"] };
  assertEquals(endOf("", nowhere), { kind: "execFailed", errno: 2 });
  const error = assertThrows(() => endOf("", { workingDirectory: "/nowhere" }));
  assertInstanceOf(error, LaunchError);
  assertEquals(error.step, 'go to the working directory "/nowhere"');
});

kernelTest("join: it ends with the cell, whoever its parent is", "root", () => {
  const cell = new TestWorkload("exec sleep 600");
  assertEquals(cell.ready(), 0);
  using command = new Joined(cell, "sleep 600 & setsid sleep 600 & exec sleep 600");
  signalPidfd(cell.pidfd, SIGNALS.SIGKILL);
  assertEquals(command.wait(), undefined, "nobody was left to write how");
  assertEquals(command.output(), "");
  assertEquals(cell.wait().kind, "signaled");
  assertThrows(() => new Joined(cell, "true"));
  cell[Symbol.dispose]();
});

kernelTest("join: a cell that stops whatever it can does not stop us", "root", () => {
  using cell = new TestWorkload("echo go; while :; do kill -STOP -1 2>/dev/null; done");
  assertEquals(cell.readSome(), "go\n");
  const descriptors = openDescriptors();
  for (let count = 0; count < campaign(5, 60); count++) {
    const startMs = performance.now();
    try {
      using command = new Joined(cell, "true");
      signalPidfd(command.pidfd, SIGNALS.SIGKILL);
      command.wait();
    } catch (error) {
      assertInstanceOf(error, LaunchError);
    }
    assert(performance.now() - startMs < 10_000, "it is bounded");
  }
  assertEquals(openDescriptors(), descriptors);
});
