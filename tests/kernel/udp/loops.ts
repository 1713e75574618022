/**
 * The loops of workers in this process, found by what they watch: for tests that break one.
 *
 * @module
 */

/** Descriptors of this process, by number, that are epoll instances. */
export function epollFds(): number[] {
  return Array.from(Deno.readDirSync("/proc/self/fd"), ({ name }) => Number(name)).filter((fd) => {
    try {
      return Deno.readLinkSync(`/proc/self/fd/${fd}`) === "anon_inode:[eventpoll]";
    } catch {
      // It was the one that the folder was read by.
      return false;
    }
  });
}

/** Whether an epoll instance watches a UDP socket with a local port. */
export function isWorkers(epoll: number, port: number): boolean {
  const inodes = Deno.readTextFileSync("/proc/self/net/udp").split("\n")
    .filter((line) => line.includes(`:${port.toString(16).toUpperCase().padStart(4, "0")} `))
    .map((line) => line.trim().split(/\s+/)[9]);
  const info = Deno.readTextFileSync(`/proc/self/fdinfo/${epoll}`);
  return Array.from(info.matchAll(/^tfd:\s+(\d+)/gm), ([, fd]) => fd).some((fd) => {
    try {
      const link = Deno.readLinkSync(`/proc/self/fd/${fd}`);
      return inodes.some((inode) => link === `socket:[${inode}]`);
    } catch {
      // Closed since.
      return false;
    }
  });
}
