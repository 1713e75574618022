/**
 * Lets the host forward between the cells and the interfaces that lead to what their rules
 * allow, and puts everything back when the last cell leaves.
 *
 * Only the interfaces concerned are switched on: `net.ipv4.conf.<if>.forwarding`, and for
 * IPv6 `net.ipv6.conf.<if>.force_forwarding` (Linux 6.17), or the global switch where a
 * kernel lacks it. What was there before is kept in `host.json` of the runtime directory,
 * so that another process can undo it after a crash. Call all of it with the runtime lock
 * held, on a thread that is in the host's network namespace.
 *
 * @module
 */
import { readFileIn, SyscallError, writeFileIn } from "#ffi/mod.ts";
import type { RuntimePaths } from "./paths.ts";

/** One changed setting and its former value. */
export interface HostChange {
  readonly path: string;
  readonly before: string;
}

const IPV6_GLOBAL = "/proc/sys/net/ipv6/conf/all/forwarding";

/**
 * Switches forwarding on for the interfaces named. What was off before is remembered, but for
 * the cell's own interface, whose settings go with it.
 */
export function enableForwarding(
  paths: RuntimePaths,
  interfaces: { readonly own: string; readonly uplinks: readonly string[] },
): void {
  const changes = [...readHostChanges(paths)];
  for (const name of [interfaces.own, ...interfaces.uplinks]) {
    const remember = (change: HostChange) => {
      if (name === interfaces.own && change.path !== IPV6_GLOBAL) return;
      changes.push(change);
      writeHostChanges(paths, changes);
    };
    switchOn(`/proc/sys/net/ipv4/conf/${name}/forwarding`, remember);
    const ipv6 = `/proc/sys/net/ipv6/conf/${name}/force_forwarding`;
    if (!switchOn(ipv6, remember)) switchOn(IPV6_GLOBAL, remember);
  }
}

/** Puts every changed setting back; an interface that is gone needs nothing. */
export function restoreForwarding(paths: RuntimePaths): void {
  for (const change of [...readHostChanges(paths)].reverse()) {
    try {
      writeFileIn(change.path, change.before);
    } catch (cause) {
      if (!isMissing(cause)) throw cause;
    }
  }
  for (const path of [paths.hostState, nextHostState(paths)]) {
    try {
      Deno.removeSync(path);
    } catch (cause) {
      if (!(cause instanceof Deno.errors.NotFound)) throw cause;
    }
  }
}

/** What celld has changed on this host; empty when no cell uses the network. */
export function readHostChanges(paths: RuntimePaths): readonly HostChange[] {
  let text: string;
  try {
    text = Deno.readTextFileSync(paths.hostState);
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) return [];
    throw cause;
  }
  return JSON.parse(text) as HostChange[];
}

/** Whole or not at all, so that a crash leaves nothing that cannot be read. */
function writeHostChanges(paths: RuntimePaths, changes: readonly HostChange[]): void {
  const next = nextHostState(paths);
  Deno.writeTextFileSync(next, JSON.stringify(changes));
  Deno.renameSync(next, paths.hostState);
}

function nextHostState(paths: RuntimePaths): string {
  return `${paths.hostState}.next`;
}

/** False when the kernel has no such setting. */
function switchOn(path: string, remember: (change: HostChange) => void): boolean {
  let before: string;
  try {
    before = readFileIn(path).trim();
  } catch (cause) {
    if (isMissing(cause)) return false;
    throw cause;
  }
  if (before !== "0") return true;
  // Remembered before it is done: a crash in between only restores what already is.
  remember({ path, before });
  writeFileIn(path, "1");
  return true;
}

function isMissing(cause: unknown): boolean {
  return cause instanceof SyscallError && cause.code === "ENOENT";
}
