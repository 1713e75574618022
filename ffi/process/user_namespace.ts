/**
 * User namespaces, made beforehand and held by a descriptor (user_namespaces(7)).
 *
 * A process with several threads, as ours, may neither make nor enter one itself. So a
 * helper is born in it, stands still while its maps are written and its namespace is
 * opened, and is killed.
 *
 * @module
 */
import { SyscallError } from "../errno.ts";
import type { Fd } from "../fd.ts";
import { openFile, writeFileIn } from "../file.ts";
import { createPipe } from "../pipe.ts";
import { signalPidfd, SIGNALS, waitPidfdBlocking } from "./pidfd.ts";
import { CLONE, SpawnTable } from "./spawn_table.ts";

/** A run of ids that are the same user inside and outside. */
export interface IdRange {
  /** First id inside. */
  readonly inside: number;
  /** First id in our own namespace. */
  readonly outside: number;
  /** How many. */
  readonly count: number;
}

/** The maps of a new user namespace. */
export interface UserNamespaceOptions {
  /** At least one range; ids outside all ranges are shown as the overflow id. */
  readonly uidMap: readonly IdRange[];
  /** As the uid map. */
  readonly gidMap: readonly IdRange[];
}

/**
 * Makes a user namespace below our own; `setgroups` is refused in it for good. It lives as
 * long as the descriptor or a process in it. Throws `SyscallError`: `EPERM` without
 * `CAP_SETUID` and `CAP_SETGID`, `ENOSPC` at the limit of namespaces.
 */
export function createUserNamespace(options: UserNamespaceOptions): Fd {
  const pipe = createPipe();
  using pipeRead = pipe.read;
  using pipeWrite = pipe.write;
  const table = new SpawnTable(4096);
  // The helper ends by itself when we end: then nobody holds the writing end.
  table.step("close", "close", [pipeWrite.number]);
  table.step("wait", "read", [pipeRead.number, table.arena.address(table.arena.alloc(16)), 1]);
  table.step("end", "exit_group", [0]);
  const helper = table.run(CLONE.VM | CLONE.NEWUSER | CLONE.CLEAR_SIGHAND);
  using pidfd = helper.pidfd;
  try {
    writeFileIn(`/proc/${helper.pid}/setgroups`, "deny");
    writeFileIn(`/proc/${helper.pid}/uid_map`, formatIdMap(options.uidMap));
    writeFileIn(`/proc/${helper.pid}/gid_map`, formatIdMap(options.gidMap));
    return openFile(`/proc/${helper.pid}/ns/user`);
  } catch (cause) {
    if (!(cause instanceof SyscallError)) throw cause;
    throw new SyscallError("make a user namespace", cause.errno, { cause });
  } finally {
    signalPidfd(pidfd, SIGNALS.SIGKILL);
    // The helper shares our memory: the table must outlive it.
    waitPidfdBlocking(pidfd);
  }
}

/** The text of `/proc/<pid>/uid_map`. */
export function formatIdMap(ranges: readonly IdRange[]): string {
  return ranges.map((range) => `${range.inside} ${range.outside} ${range.count}\n`).join("");
}
