/**
 * The calls that every process of a cell makes on its way to its init, whether it starts the cell
 * (`launch.ts`) or joins it later (`join.ts`): descriptors, limits, user, the last locks. One
 * place, so that what joins is never less shut in than what was there.
 *
 * @module
 */
import { ERRNO } from "../errno.ts";
import type { Fd } from "../fd.ts";
import { appendBoundingSetDrop, appendCapabilityDrop } from "./capabilities.ts";
import { INIT_READY_FD, INIT_STATUS_FD, initArguments } from "./init.ts";
import type { ResourceLimit } from "./rlimits.ts";
import { CLONE, type SpawnTable } from "./spawn_table.ts";

const SIG_SETMASK = 2;
const PR_SET_NO_NEW_PRIVS = 38;
const SECCOMP_SET_MODE_FILTER = 1;
const AT_EMPTY_PATH = 0x1000;
const KEYCTL_JOIN_SESSION_KEYRING = 1;
const CLOSE_RANGE_CLOEXEC = 4;
const FD_MAX = 0xffff_ffff;

/** What is executed, as whom, and with what. Descriptors stay the caller's. */
export interface ExecutionOptions {
  /** Absolute paths inside the view, tried in order as execvp(3) does; at most 64. */
  readonly executableCandidates: readonly string[];
  /** The workload's arguments, its name first. */
  readonly argv: readonly string[];
  /** All of its environment. */
  readonly env: Readonly<Record<string, string>>;
  /** Absolute, inside the view. */
  readonly workingDirectory: string;
  /** Its user in the host's terms; inside {@link ExecutionOptions.userNamespace} where that is. */
  readonly uid: number;
  /** As the uid. */
  readonly gid: number;
  /** A namespace of `createUserNamespace` that is entered before the user changes. */
  readonly userNamespace?: Fd;
  /** Its descriptors 0, 1 and 2. */
  readonly stdin: Fd;
  /** See {@link ExecutionOptions.stdin}. */
  readonly stdout: Fd;
  /** See {@link ExecutionOptions.stdin}. */
  readonly stderr: Fd;
  /** Limits of the init and all it starts. */
  readonly rlimits: readonly ResourceLimit[];
  /** A filter program, of `defaultFilter`. */
  readonly seccomp: Uint8Array;
  /** A file open for writing, where the init leaves its exit record (`decodeExitRecord`). */
  readonly statusFile: Fd;
  /** The writing end of a pipe, told whether the workload ran (`decodeReadyRecord`). */
  readonly ready: Fd;
}

/** Descriptors 0, 1 and 2. */
export function appendStdio(
  table: SpawnTable,
  { stdin, stdout, stderr }: Pick<ExecutionOptions, "stdin" | "stdout" | "stderr">,
): void {
  [stdin, stdout, stderr].forEach((fd, number) =>
    table.step(`place descriptor ${number}`, "dup3", [fd.number, number, 0])
  );
}

/** No descriptor of ours but the two that the init expects. */
export function appendInitDescriptors(
  table: SpawnTable,
  { statusFile, ready }: Pick<ExecutionOptions, "statusFile" | "ready">,
): void {
  const range = [INIT_STATUS_FD, FD_MAX, CLOSE_RANGE_CLOEXEC];
  table.step("close descriptors on exec", "close_range", range);
  table.step("place the status file", "dup3", [statusFile.number, INIT_STATUS_FD, 0]);
  table.step("place the ready pipe", "dup3", [ready.number, INIT_READY_FD, 0]);
}

/** Who the process is, and all that it may never become. */
export function appendIdentity(table: SpawnTable, options: ExecutionOptions): void {
  const { arena } = table;
  for (const limit of options.rlimits) {
    const at = arena.alloc(16);
    arena.view.setBigUint64(at, limit.soft, true);
    arena.view.setBigUint64(at + 8, limit.hard, true);
    const args = [0, limit.resource, arena.address(at), 0];
    table.step(`set resource limit ${limit.resource}`, "prlimit64", args);
  }
  table.step("leave all groups", "setgroups", [0, 0]);
  if (options.userNamespace !== undefined) {
    const setns = [options.userNamespace.number, CLONE.NEWUSER];
    table.step("enter the user namespace", "setns", setns);
  }
  appendBoundingSetDrop(table);
  const { uid, gid } = options;
  table.step(`become group ${gid}`, "setresgid", [gid, gid, gid]);
  table.step(`become user ${uid}`, "setresuid", [uid, uid, uid]);
  appendCapabilityDrop(table);
}

/** The last locks, and the init. */
export function appendExecution(table: SpawnTable, options: ExecutionOptions, init: Fd): void {
  const { arena } = table;
  // Kernels without keyrings, and a user at its quota, have nothing to share either.
  const tolerated = [ERRNO.ENOSYS, ERRNO.EDQUOT];
  table.step("make a session keyring", "keyctl", [KEYCTL_JOIN_SESSION_KEYRING, 0], tolerated);
  table.step("set no_new_privs", "prctl", [PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0]);
  const allSignals = arena.alloc(8);
  arena.view.setBigUint64(allSignals, 0xffff_ffff_ffff_ffffn, true);
  const mask = [SIG_SETMASK, arena.address(allSignals), 0, 8];
  table.step("block signals", "rt_sigprocmask", mask);
  const program = arena.alloc(16); // struct sock_fprog
  arena.view.setUint16(program, options.seccomp.length / 8, true);
  arena.view.setBigUint64(program + 8, arena.copy(options.seccomp), true);
  const filter = [SECCOMP_SET_MODE_FILTER, 0, arena.address(program)];
  table.step("load the seccomp filter", "seccomp", filter);
  const argv = table.stringArray(initArguments(options.executableCandidates, options.argv));
  const env = Object.entries(options.env).map(([name, value]) => `${name}=${value}`);
  const path = arena.cstring("");
  const args = [init.number, path, argv, table.stringArray(env), AT_EMPTY_PATH];
  table.step("execute the init", "execveat", args);
}

/** An upper bound of what these steps copy into the table's memory. */
export function executionBytes(options: ExecutionOptions): number {
  const texts = [
    ...options.executableCandidates,
    ...options.argv,
    ...Object.entries(options.env).map(([name, value]) => `${name}=${value}`),
    options.workingDirectory,
  ];
  // A UTF-16 unit takes at most three bytes of UTF-8; each text also takes an address.
  const textBytes = texts.reduce((sum, text) => sum + text.length * 3 + 32, 0);
  return textBytes + options.seccomp.length + 64 * options.rlimits.length;
}
