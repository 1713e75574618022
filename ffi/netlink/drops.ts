/**
 * Reads how many messages the kernel could not deliver to a netlink socket, from the text of
 * `/proc/thread-self/net/netlink` (to be read inside the socket's network namespace).
 *
 * Pure. A row counts datagrams: of nflog each may hold many packets.
 *
 * @module
 */

/** Drops by the socket's inode. Rows that are not understood are left out. */
export function parseNetlinkDrops(text: string): Map<number, number> {
  const drops = new Map<number, number>();
  const [header, ...rows] = text.split("\n");
  const names = header.trim().split(/\s+/);
  const dropsColumn = names.indexOf("Drops");
  const inodeColumn = names.indexOf("Inode");
  if (dropsColumn < 0 || inodeColumn < 0) return drops;
  for (const row of rows) {
    const cells = row.trim().split(/\s+/);
    const [count, inode] = [Number(cells[dropsColumn]), Number(cells[inodeColumn])];
    if (Number.isSafeInteger(count) && Number.isSafeInteger(inode)) drops.set(inode, count);
  }
  return drops;
}

/** Drops of one socket; `undefined` when the text does not have it. */
export function readNetlinkDrops(text: string, inode: number): number | undefined {
  return parseNetlinkDrops(text).get(inode);
}
