/**
 * The probes of `celld doctor` that enter the kernel: each does, in a namespace that it makes
 * and that is gone when it returns, what a cell would need.
 *
 * Nothing is sent anywhere: the only interfaces are those of the throw-away namespaces.
 * Synchronous; run it where a blocked thread hurts nobody.
 *
 * @module
 */
import {
  createNetns,
  type Fd,
  readFileIn,
  SyscallError,
  withNetns,
  writeFileIn,
} from "#ffi/mod.ts";
import {
  bindNflogGroup,
  createVeth,
  encodeDeleteTable,
  encodeTable,
  findLink,
  NetlinkConn,
  NftConn,
  type NftTable,
} from "#ffi/netlink/mod.ts";
import type { Probe } from "./doctor.ts";

const PROBE_TABLE = "celld_doctor";
const ACCOUNTING = "/proc/sys/net/netfilter/nf_conntrack_acct";
/** Numbers of the group that the probe binds; the namespace is its own. */
const NFLOG_DEFAULTS = {
  copyRangeBytes: 128,
  timeoutCentis: 1,
  queueThreshold: 32,
  bufferBytes: 65_536,
} as const;

/** What the probes of the network found. */
export interface NetworkProbes {
  readonly netns: Probe;
  readonly veth: Probe;
  readonly nftables: Probe;
  readonly nflog: Probe;
  readonly conntrackAccounting: Probe;
}

/** Tries one thing; an error becomes its message. */
export function tryProbe(use: () => string | void): Probe {
  try {
    const detail = use();
    return typeof detail === "string" ? { ok: true, detail } : { ok: true };
  } catch (error) {
    return { ok: false, error: error instanceof Error ? error.message : String(error) };
  }
}

/** Runs the network probes in one throw-away namespace. */
export function probeNetwork(nflogGroup: number): NetworkProbes {
  let netns: Fd;
  try {
    netns = createNetns();
  } catch (error) {
    const failed = tryProbe(() => {
      throw error;
    });
    return {
      netns: failed,
      veth: failed,
      nftables: failed,
      nflog: failed,
      conntrackAccounting: failed,
    };
  }
  try {
    return {
      netns: { ok: true },
      veth: tryProbe(() => withNetns(netns, () => probeVeth(netns))),
      nftables: tryProbe(() => withNetns(netns, probeNftables)),
      nflog: tryProbe(() => withNetns(netns, () => probeNflog(nflogGroup))),
      conntrackAccounting: tryProbe(() => withNetns(netns, probeAccounting)),
    };
  } finally {
    netns.close();
  }
}

function probeVeth(netns: Fd): void {
  using route = NetlinkConn.open("route");
  createVeth(route, { name: "doctor0", peerName: "doctor1", peerNetns: netns });
  if (findLink(route, "doctor1") === undefined) throw new Error("Cannot find the pair's other end");
}

/** A table with everything that a cell's table uses: conntrack, a set, a log, a reject. */
function probeTable(): NftTable {
  const key = ["ip saddr", "tcp sport", "ip daddr", "tcp dport"] as const;
  return {
    name: PROBE_TABLE,
    maps: [],
    sets: [{ name: "seen", key, dynamic: true, timeoutMs: 1000, sizeMax: 16 }],
    chains: [{
      name: "output",
      hook: { type: "filter", hook: "output", priority: 0, policy: "drop" },
      rules: [
        { statements: [{ kind: "ctState", states: ["new"] }, { kind: "counter" }], comment: "new" },
        {
          statements: [
            { kind: "match", field: "meta l4proto", value: "tcp" },
            { kind: "dynset", op: "add", key, set: "seen" },
            { kind: "log", group: 1, prefix: "doctor" },
            { kind: "reject", with: "tcp reset" },
          ],
        },
      ],
    }],
  };
}

function probeNftables(): void {
  using conn = NetlinkConn.open("netfilter");
  const nft = new NftConn(conn);
  nft.commit(encodeTable(probeTable()));
  const rows = nft.ruleCounters(PROBE_TABLE);
  nft.commit(encodeDeleteTable(PROBE_TABLE));
  if (!rows.some((row) => row.comment === "new" && row.packets !== undefined)) {
    throw new Error("Cannot read a rule's counter and comment back");
  }
}

function probeNflog(group: number): string {
  using conn = NetlinkConn.open("netfilter");
  bindNflogGroup(conn, { group, ...NFLOG_DEFAULTS });
  return `bound group ${group}`;
}

function probeAccounting(): void {
  // Conntrack registers its settings in a namespace once something there asks for it.
  using conn = NetlinkConn.open("netfilter");
  new NftConn(conn).commit(encodeTable(probeTable()));
  try {
    writeFileIn(ACCOUNTING, "1");
  } catch (error) {
    if (!(error instanceof SyscallError && error.code === "ENOENT")) throw error;
    throw new Error("Cannot find conntrack accounting: the kernel has no connection tracking", {
      cause: error,
    });
  }
  if (readFileIn(ACCOUNTING).trim() !== "1") throw new Error("Cannot switch accounting on");
}
