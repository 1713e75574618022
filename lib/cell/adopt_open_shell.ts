/**
 * Opens again what a killed celld had open of a living cell. Nothing of the cell is changed, and
 * where it cannot be had, nothing stays open.
 *
 * @module
 */
import {
  type Cgroup,
  type CgroupLayout,
  type Fd,
  NetlinkConn,
  openCgroup,
  openNetns,
  signalPidfd,
  withNetns,
} from "#ffi/mod.ts";
import type { CellRecordFile, ProcessIdentity } from "./adopt.ts";
import { findInit, openProcess } from "./adopt_shell.ts";
import { cellCgroupPath, type RuntimePaths } from "./paths.ts";
import { tryClaimDeadCell } from "./runtime_shell.ts";

/** What is open of a cell. */
export interface ReopenedCell {
  /** Says that the cell has an owner. */
  readonly lock: Fd;
  readonly cgroup: Cgroup;
  readonly init: ProcessIdentity;
  readonly pidfd: Fd;
  readonly netns: Fd;
  /** In the cell's namespace. */
  readonly nft: NetlinkConn;
}

/** Where to look for a cell. */
export interface ReopenContext {
  readonly paths: RuntimePaths;
  readonly cgroups: CgroupLayout;
  readonly cgroupParent: string;
}

/** See the module. Throws where another celld has the cell, or its init has ended. */
export function reopenCell(context: ReopenContext, record: CellRecordFile): ReopenedCell {
  const cannot = `Cannot adopt cell ${JSON.stringify(record.cellId)}`;
  using opened = new DisposableStack();
  const lock = tryClaimDeadCell(context.paths, record.cellId);
  if (lock === undefined) throw new Error(`${cannot}: another celld has it`);
  opened.use(lock);
  const path = cellCgroupPath(context.cgroupParent, record.cellId);
  const cgroup = openCgroup(context.cgroups, path);
  if (cgroup === undefined) throw new Error(`${cannot}: its cgroup is gone`);
  opened.use(cgroup);
  const init = record.init ?? findInit(cgroup);
  const pidfd = init === undefined ? undefined : openProcess(init);
  if (init === undefined || pidfd === undefined) throw new Error(`${cannot}: it has ended`);
  opened.use(pidfd);
  const netns = opened.use(openNetns(`/proc/${init.pid}/ns/net`));
  // The number may have come to mean another process, but only after ours had ended.
  if (!signalPidfd(pidfd, 0)) throw new Error(`${cannot}: it has ended`);
  const nft = opened.use(withNetns(netns, () => NetlinkConn.open("netfilter")));
  opened.move();
  return { lock, cgroup, init, pidfd, netns, nft };
}
