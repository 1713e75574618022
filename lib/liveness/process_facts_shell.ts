/**
 * What `/proc` says about a process: its pid namespace, its start, its pids inside, its name.
 *
 * Everything is read of a pid, so it is true of whoever has that pid at the moment: the caller makes
 * sure by a pidfd, before and after, that this is who it means. A process that is gone, or hidden, has
 * no facts; nothing here throws.
 *
 * @module
 */

/** What is known of a process. */
export interface ProcessFacts {
  /** Inode of its pid namespace; absent where it may not be read. */
  readonly nsInode?: number;
  /** Clock ticks between boot and its start: with the pid it is unique. */
  readonly generation?: number;
  /** Its pid as it sees itself: the last of `NSpid`. */
  readonly innermostPid?: number;
  /** The name of its program, 15 bytes. */
  readonly name?: string;
  /** Its cgroup in v2, or in the first hierarchy. */
  readonly cgroup?: string;
}

/** Reads what may be read of a process. */
export function readProcessFacts(pid: number | "self"): ProcessFacts {
  const nsInode = namespaceInode(pid);
  const stat = readText(`/proc/${pid}/stat`);
  const generation = stat === undefined ? undefined : startTimeOf(stat);
  const innermostPid = innermostOf(readText(`/proc/${pid}/status`) ?? "");
  const name = stat === undefined ? undefined : nameOf(stat);
  const cgroup = cgroupOf(readText(`/proc/${pid}/cgroup`) ?? "");
  return {
    ...(nsInode === undefined ? {} : { nsInode }),
    ...(generation === undefined ? {} : { generation }),
    ...(innermostPid === undefined ? {} : { innermostPid }),
    ...(name === undefined ? {} : { name }),
    ...(cgroup === undefined ? {} : { cgroup }),
  };
}

/** When a process started, in clock ticks since boot; `undefined` where it is gone. */
export function readGeneration(pid: number): number | undefined {
  const stat = readText(`/proc/${pid}/stat`);
  return stat === undefined ? undefined : startTimeOf(stat);
}

/** The highest pid that the kernel gives; the largest number where it does not say. */
export function readPidMax(): number {
  const text = readText("/proc/sys/kernel/pid_max");
  const value = Number(text?.trim());
  return text !== undefined && Number.isInteger(value) && value > 0 ? value : 0xffff_ffff;
}

function namespaceInode(pid: number | "self"): number | undefined {
  try {
    const match = /^pid:\[(\d+)\]$/.exec(Deno.readLinkSync(`/proc/${pid}/ns/pid`));
    return match === null ? undefined : Number(match[1]);
  } catch {
    // Gone, or another user's: not known.
    return undefined;
  }
}

function readText(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    // Gone, or hidden: not known.
    return undefined;
  }
}

/** Field 22; the second field is a name in parentheses that may hold anything. */
function startTimeOf(stat: string): number | undefined {
  const rest = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const ticks = Number(rest[19]);
  return Number.isInteger(ticks) ? ticks : undefined;
}

function nameOf(stat: string): string | undefined {
  const name = stat.slice(stat.indexOf("(") + 1, stat.lastIndexOf(")"));
  return name === "" ? undefined : name;
}

function innermostOf(status: string): number | undefined {
  const match = /^NSpid:\s*(?:\d+\s+)*(\d+)\s*$/m.exec(status);
  return match === null ? undefined : Number(match[1]);
}

function cgroupOf(text: string): string | undefined {
  const lines = text.split("\n").filter((line) => line !== "");
  const line = lines.find((one) => one.startsWith("0::")) ?? lines[0];
  return line?.split(":").slice(2).join(":");
}
