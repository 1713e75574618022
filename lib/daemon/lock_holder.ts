/**
 * Which process holds a lock on a file, as the kernel tells (proc_locks(5)), and whether it would
 * hear a signal. A number written into the file could be a dead process's, and by now another one's.
 *
 * @module
 */

/** Processes that hold a file exclusively by flock(2), from the text of `/proc/locks`. Pure. */
export function lockHolders(locks: string, inode: number): number[] {
  return locks.split("\n").flatMap((line) => {
    // 1: FLOCK  ADVISORY  WRITE 4711 08:01:131 0 EOF
    const [, kind, , mode, pid, place] = line.trim().split(/\s+/);
    const isOurs = kind === "FLOCK" && mode === "WRITE" && place?.split(":")[2] === `${inode}`;
    // Of another process namespace: it has no number here.
    return isOurs && Number(pid) > 0 ? [Number(pid)] : [];
  });
}

/** Whether a process has a handler for a signal, from the text of its `/proc/<pid>/status`. Pure. */
export function catchesSignal(status: string, signal: number): boolean {
  const mask = /^SigCgt:\s*([0-9a-f]+)$/m.exec(status)?.[1];
  return mask !== undefined && ((BigInt(`0x${mask}`) >> BigInt(signal - 1)) & 1n) === 1n;
}

/** The process that holds a file exclusively; `undefined` where none that we can see does. */
export function findLockHolder(path: string): number | undefined {
  const file = statOf(path);
  if (file?.ino == null) return undefined;
  const holders = lockHolders(Deno.readTextFileSync("/proc/locks"), file.ino);
  // Files of two file systems may have one number.
  return holders.find((pid) => hasOpen(pid, file));
}

function hasOpen(pid: number, file: Deno.FileInfo): boolean {
  const directory = `/proc/${pid}/fd`;
  try {
    return [...Deno.readDirSync(directory)].some(({ name }) => {
      const open = statOf(`${directory}/${name}`);
      return open?.ino === file.ino && open.dev === file.dev;
    });
  } catch {
    // It has ended, or is not ours to look at.
    return false;
  }
}

function statOf(path: string): Deno.FileInfo | undefined {
  try {
    return Deno.statSync(path);
  } catch {
    // It is gone.
    return undefined;
  }
}
