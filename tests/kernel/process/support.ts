/**
 * What the tests of this folder share: a workload launched with everything on, and what it
 * left.
 *
 * @module
 */
import {
  createMemoryFile,
  createNetns,
  createPipe,
  decodeExitRecord,
  decodeReadyRecord,
  defaultFilter,
  Epoll,
  EXIT_RECORD_BYTES,
  type ExitRecord,
  type Fd,
  launch,
  type LaunchOptions,
  type MountStep,
  OPEN,
  openFile,
  readFd,
  readFdAt,
  readToEnd,
  signalPidfd,
  SIGNALS,
  waitPidfdBlocking,
  type WaitResult,
} from "#ffi/mod.ts";

/** A user that no account and no pool has. */
export const TEST_UID = 1_899_999_990;

/** How long a workload of a test may take for one thing. */
const WAIT_MS_MAX = 20_000;

/** A mount namespace of its own with its own `/proc`, else the host's view. */
export const PROC_STEPS: readonly MountStep[] = [
  { kind: "makePrivate" },
  {
    kind: "mount",
    source: "proc",
    target: "/proc",
    fsType: "proc",
    attributes: ["nosuid", "nodev", "noexec"],
  },
];

/** A workload that runs, with what is needed to hear of it. */
export class TestWorkload implements Disposable {
  /** Its init. */
  readonly pidfd: Fd;
  /** Pid of its init on the host. */
  readonly pid: number;
  readonly #stack: DisposableStack;
  readonly #output: Fd;
  readonly #ready: Fd;
  readonly #status: Fd;
  #isReaped = false;

  /** Launches `/bin/sh -c script`, or what `options` say. Throws what `launch` throws. */
  constructor(script: string, options: Partial<LaunchOptions> = {}) {
    using stack = new DisposableStack();
    const ready = createPipe();
    const output = createPipe();
    [ready.read, output.read].forEach((fd) => stack.use(fd));
    using readyWrite = ready.write;
    using outputWrite = output.write;
    using netns = createNetns();
    using nothing = openFile("/dev/null", { flags: OPEN.READ_WRITE });
    this.#status = stack.use(createMemoryFile("celld-test-status"));
    const launched = launch({
      executableCandidates: ["/usr/bin/sh", "/bin/sh"],
      argv: ["sh", "-c", script],
      env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C" },
      workingDirectory: "/",
      hostname: "cell",
      netns,
      cgroupTasks: [],
      mountSteps: PROC_STEPS,
      uid: TEST_UID,
      gid: TEST_UID,
      stdin: nothing,
      stdout: outputWrite,
      stderr: outputWrite,
      rlimits: [],
      seccomp: defaultFilter(),
      statusFile: this.#status,
      ready: readyWrite,
      ...options,
    });
    this.pid = launched.pid;
    this.pidfd = stack.use(launched.pidfd);
    this.#output = output.read;
    this.#ready = ready.read;
    this.#stack = stack.move();
  }

  /** Blocks until the init told whether the workload was executed; 0 when it was. */
  ready(): number | undefined {
    waitReadable(this.#ready);
    return decodeReadyRecord(readToEnd(this.#ready));
  }

  /** Blocks until the last writer is gone. */
  output(): string {
    let text = "";
    for (let part = this.readSome(); part !== ""; part = this.readSome()) text += part;
    return text;
  }

  /** Blocks until there is output, and takes it. */
  readSome(): string {
    return new TextDecoder().decode(readOnce(this.#output));
  }

  /** Blocks until the init has ended, and reaps it. */
  wait(): WaitResult {
    waitReadable(this.pidfd);
    const result = waitPidfdBlocking(this.pidfd);
    this.#isReaped = true;
    return result;
  }

  /** What the init wrote. */
  record(): ExitRecord | undefined {
    const bytes = new Uint8Array(EXIT_RECORD_BYTES);
    return decodeExitRecord(bytes.subarray(0, readFdAt(this.#status, bytes, 0)));
  }

  /** Ends what still runs, and closes. */
  [Symbol.dispose](): void {
    if (!this.#isReaped) {
      signalPidfd(this.pidfd, SIGNALS.SIGKILL);
      waitPidfdBlocking(this.pidfd);
    }
    this.#stack.dispose();
  }
}

/** A test that waits for what never comes fails, rather than hang with its workload. */
function waitReadable(fd: Fd): void {
  using epoll = new Epoll();
  epoll.add(fd, 0);
  if (epoll.wait(WAIT_MS_MAX).length === 0) {
    throw new Error(`Cannot wait for the workload: nothing within ${WAIT_MS_MAX} ms`);
  }
}

function readOnce(fd: Fd): Uint8Array {
  waitReadable(fd);
  const bytes = new Uint8Array(4096);
  return bytes.subarray(0, readFd(fd, bytes) ?? 0);
}

/** Runs a script to its end. */
export function runScript(
  script: string,
  options: Partial<LaunchOptions> = {},
): { output: string; record: ExitRecord | undefined; wait: WaitResult } {
  using workload = new TestWorkload(script, options);
  const output = workload.output();
  const wait = workload.wait();
  return { output, record: workload.record(), wait };
}

/** How many descriptors this process holds. */
export function openDescriptors(): number {
  return [...Deno.readDirSync("/proc/self/fd")].length;
}
