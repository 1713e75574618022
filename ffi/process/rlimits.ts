/**
 * Resource limits of a process (getrlimit(2)).
 *
 * @module
 */
import { call, withScratch } from "../syscall.ts";

/** Resource numbers, the same on x86-64 and aarch64 (`asm-generic/resource.h`). */
export const RLIMIT = {
  /** Processor time in seconds. */
  CPU: 0,
  /** Size of a file that is written, in bytes. */
  FSIZE: 1,
  /** Data segment in bytes. */
  DATA: 2,
  /** Stack in bytes. */
  STACK: 3,
  /** Core file in bytes. */
  CORE: 4,
  /** Processes and threads of the user. */
  NPROC: 6,
  /** Open descriptors, one more than the highest number. */
  NOFILE: 7,
  /** Locked memory in bytes. */
  MEMLOCK: 8,
  /** Address space in bytes. */
  AS: 9,
  /** Queued signals of the user. */
  SIGPENDING: 11,
  /** POSIX message queues of the user, in bytes. */
  MSGQUEUE: 12,
  /** How far the nice value may be lowered. */
  NICE: 13,
  /** Highest real-time priority. */
  RTPRIO: 14,
} as const;

/** No limit. */
export const RLIM_INFINITY = 0xffff_ffff_ffff_ffffn;

/** A limit to set. */
export interface ResourceLimit {
  /** A number of {@link RLIMIT}. */
  readonly resource: number;
  /** What is enforced. */
  readonly soft: bigint;
  /** How far the process may raise it. Raising this needs `CAP_SYS_RESOURCE`. */
  readonly hard: bigint;
}

/** The calling process's limit of a resource. */
export function getRlimit(resource: number): { soft: bigint; hard: bigint } {
  return withScratch((arena) => {
    const at = arena.alloc(16);
    call("prlimit64", 0, resource, 0, arena.address(at));
    return {
      soft: arena.view.getBigUint64(at, true),
      hard: arena.view.getBigUint64(at + 8, true),
    };
  });
}
