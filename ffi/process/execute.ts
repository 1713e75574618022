/**
 * Puts another program into this process (execve(2)): it keeps its number, its children, its first
 * three descriptors and those that it is told to; threads, other descriptors and memory go.
 *
 * @module
 */
import { Arena } from "../arena.ts";
import { check, ERRNO } from "../errno.ts";
import { setCloseOnExec } from "../file.ts";
import { call, NR, syscall } from "../syscall.ts";

const CLOSE_RANGE_CLOEXEC = 4;
const FIRST_OWN_FD = 3;
const FD_MAX = 0xffff_ffff;
const ARENA_BYTES_MIN = 4096;
const ANY_CHILD = -1;
const WNOHANG = 1;

/** What to execute. */
export interface ExecuteOptions {
  /** Its path; not looked for anywhere. */
  readonly path: string;
  /** Its arguments, its name first. */
  readonly argv: readonly string[];
  /** All of its environment. */
  readonly env: Readonly<Record<string, string>>;
  /** Descriptors that stay open, with their numbers. @default {none but the first three} */
  readonly keep?: readonly number[];
}

/**
 * Executes a program in place of this one. Throws `SyscallError` where that cannot be: then all
 * but the first three descriptors close on exec, those to keep as well.
 */
export function executeProgram({ path, argv, env, keep = [] }: ExecuteOptions): never {
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  const texts = [path, ...argv, ...variables];
  // A UTF-16 unit takes at most three bytes of UTF-8; each text also takes an address.
  const sizeBytes = texts.reduce((sum, text) => sum + text.length * 3 + 32, ARENA_BYTES_MIN);
  const arena = new Arena(sizeBytes);
  const addresses = (list: readonly string[]) => {
    const pointers = list.map((text) => arena.cstring(text));
    const offset = arena.alloc(8 * (pointers.length + 1));
    pointers.forEach((pointer, at) => arena.view.setBigUint64(offset + 8 * at, pointer, true));
    return arena.address(offset);
  };
  const program = arena.cstring(path);
  const words = addresses(argv);
  const environment = addresses(variables);
  call("close_range", FIRST_OWN_FD, FD_MAX, CLOSE_RANGE_CLOEXEC);
  const kept: number[] = [];
  try {
    for (const fd of keep) {
      setCloseOnExec(fd, false);
      if (fd >= FIRST_OWN_FD) kept.push(fd);
    }
    call("execve", program, words, environment);
  } finally {
    // Here only where it failed: what another program is to get later is asked for anew.
    for (const fd of kept) setCloseOnExec(fd, true);
  }
  throw new Error("Cannot be: a program was executed and this one goes on");
}

/**
 * Reaps every child that has ended; answers how many. Right only where nothing else waits for
 * children: at the begin of a program that was executed in place of the one that had started them.
 */
export function reapChildren(): number {
  for (let reaped = 0;; reaped++) {
    const result = syscall(NR.wait4, ANY_CHILD, 0, WNOHANG, 0);
    // None has ended; or there is none.
    if (result === 0 || result === -ERRNO.ECHILD) return reaped;
    check(result, "wait4");
  }
}
