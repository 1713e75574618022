/**
 * Capabilities: their names, what this thread holds, and how a child gives up all of them
 * (capabilities(7)).
 *
 * @module
 */
import { ERRNO } from "../errno.ts";
import { call, withScratch } from "../syscall.ts";
import type { SpawnTable } from "./spawn_table.ts";

const VERSION_3 = 0x2008_0522;
const PR_CAPBSET_DROP = 24;
const PR_CAP_AMBIENT = 47;
const PR_CAP_AMBIENT_CLEAR_ALL = 4;
/** Bits that the kernel's structures have room for; it refuses those it has no name for. */
const CAPABILITY_BITS = 64;

/** Names in the order of their bits (`linux/capability.h`). */
export const CAPABILITIES = [
  "CAP_CHOWN",
  "CAP_DAC_OVERRIDE",
  "CAP_DAC_READ_SEARCH",
  "CAP_FOWNER",
  "CAP_FSETID",
  "CAP_KILL",
  "CAP_SETGID",
  "CAP_SETUID",
  "CAP_SETPCAP",
  "CAP_LINUX_IMMUTABLE",
  "CAP_NET_BIND_SERVICE",
  "CAP_NET_BROADCAST",
  "CAP_NET_ADMIN",
  "CAP_NET_RAW",
  "CAP_IPC_LOCK",
  "CAP_IPC_OWNER",
  "CAP_SYS_MODULE",
  "CAP_SYS_RAWIO",
  "CAP_SYS_CHROOT",
  "CAP_SYS_PTRACE",
  "CAP_SYS_PACCT",
  "CAP_SYS_ADMIN",
  "CAP_SYS_BOOT",
  "CAP_SYS_NICE",
  "CAP_SYS_RESOURCE",
  "CAP_SYS_TIME",
  "CAP_SYS_TTY_CONFIG",
  "CAP_MKNOD",
  "CAP_LEASE",
  "CAP_AUDIT_WRITE",
  "CAP_AUDIT_CONTROL",
  "CAP_SETFCAP",
  "CAP_MAC_OVERRIDE",
  "CAP_MAC_ADMIN",
  "CAP_SYSLOG",
  "CAP_WAKE_ALARM",
  "CAP_BLOCK_SUSPEND",
  "CAP_AUDIT_READ",
  "CAP_PERFMON",
  "CAP_BPF",
  "CAP_CHECKPOINT_RESTORE",
] as const;

/** A name of {@link CAPABILITIES}. */
export type CapabilityName = typeof CAPABILITIES[number];

/** The calling thread's effective set, one bit a capability. */
export function effectiveCapabilities(): bigint {
  return withScratch((arena) => {
    const header = arena.alloc(8);
    arena.view.setUint32(header, VERSION_3, true);
    const data = arena.alloc(24);
    call("capget", arena.address(header), arena.address(data));
    const low = BigInt(arena.view.getUint32(data, true));
    const high = BigInt(arena.view.getUint32(data + 12, true));
    return high << 32n | low;
  });
}

/** Whether the calling thread may use a capability now. */
export function hasCapability(name: CapabilityName): boolean {
  return (effectiveCapabilities() >> BigInt(CAPABILITIES.indexOf(name)) & 1n) === 1n;
}

/**
 * Appends the steps after which no later program can gain a capability: every bit leaves the
 * bounding set, the ambient set is cleared. Needs `CAP_SETPCAP`, so it comes before the
 * user changes, and after a user namespace is entered, which fills the bounding set again.
 */
export function appendBoundingSetDrop(table: SpawnTable): void {
  for (let bit = 0; bit < CAPABILITY_BITS; bit++) {
    const name = CAPABILITIES[bit] ?? `capability ${bit}`;
    const label = `drop ${name} from the bounding set`;
    table.step(label, "prctl", [PR_CAPBSET_DROP, bit, 0, 0, 0], [ERRNO.EINVAL]);
  }
  const args = [PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0];
  table.step("clear the ambient capabilities", "prctl", args);
}

/** Appends the step that empties the effective, permitted and inheritable sets. */
export function appendCapabilityDrop(table: SpawnTable): void {
  const header = table.arena.alloc(8);
  table.arena.view.setUint32(header, VERSION_3, true);
  const data = table.arena.alloc(24);
  const args = [table.arena.address(header), table.arena.address(data)];
  table.step("drop all capabilities", "capset", args);
}
