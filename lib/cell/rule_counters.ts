/**
 * What the kernel counted, by rule: the dump of a cell's table, taken at its end, summed up by
 * the names that rules and events share.
 *
 * A rule of ours says in its comment what it counts: `<rule> matched | logged | suppressed`,
 * a guard's with a reason after a colon. Several rules may carry one name (one for each range
 * of ports); their counters are added. Rules without such a comment are not about a decision.
 *
 * The kernel's word for the promise of `ruleset.ts`: matched = logged + suppressed, see
 * {@link isBalanced}.
 *
 * @module
 */
import type { NftRuleCounters, NftTable } from "#ffi/netlink/nftables/ruleset.ts";
import type { FlowCounterRow } from "#lib/events/mod.ts";
import { formatRule } from "./nft_text.ts";

/** The counters of one decision. */
export interface RuleCounterSummary {
  /** `egress[0]`, `egress-default`, … */
  readonly ruleRef: string;
  /** Packets that asked for the decision. */
  readonly matchedPackets: bigint;
  /** Their bytes, IP headers included. */
  readonly matchedBytes: bigint;
  /** Packets handed to the listener's group. */
  readonly loggedPackets: bigint;
  /** Their bytes. */
  readonly loggedBytes: bigint;
  /** Packets of flows that had been logged before. */
  readonly suppressedPackets: bigint;
  /** Their bytes. */
  readonly suppressedBytes: bigint;
}

type Role = "matched" | "logged" | "suppressed";

const COMMENT = /^([a-z]+(?:-[a-z]+)*(?:\[[0-9]+\])?) (matched|logged|suppressed)(?:: .*)?$/;

/** Sums a dump by rule, in the order in which the rules first appear in it. */
export function summarizeCounters(
  rows: readonly NftRuleCounters[],
): readonly RuleCounterSummary[] {
  const sums = new Map<
    string,
    { -readonly [K in keyof RuleCounterSummary]: RuleCounterSummary[K] }
  >();
  for (const row of rows) {
    const found = COMMENT.exec(row.comment ?? "");
    if (found === null) continue;
    const [, ruleRef, role] = found as unknown as [string, string, Role];
    const sum = sums.get(ruleRef) ?? {
      ruleRef,
      matchedPackets: 0n,
      matchedBytes: 0n,
      loggedPackets: 0n,
      loggedBytes: 0n,
      suppressedPackets: 0n,
      suppressedBytes: 0n,
    };
    sum[`${role}Packets`] += row.packets ?? 0n;
    sum[`${role}Bytes`] += row.bytes ?? 0n;
    sums.set(ruleRef, sum);
  }
  return [...sums.values()];
}

/** Sums every rule of a dump that carries this comment, as `backstop` or `spoofed source`. */
export function countComment(
  rows: readonly NftRuleCounters[],
  comment: string,
): { readonly packets: bigint; readonly bytes: bigint } {
  let packets = 0n;
  let bytes = 0n;
  for (const row of rows) {
    if (row.comment !== comment) continue;
    packets += row.packets ?? 0n;
    bytes += row.bytes ?? 0n;
  }
  return { packets, bytes };
}

/** Whether every packet that matched was either logged or suppressed. */
export function isBalanced(summary: RuleCounterSummary): boolean {
  return summary.matchedPackets === summary.loggedPackets + summary.suppressedPackets;
}

/**
 * The counting rules of a table one by one, with their text: those that say when a decision
 * was asked for, never met ones too. A dump keeps a chain's rules in the order of its value.
 */
export function describeCounters(
  table: NftTable,
  rows: readonly NftRuleCounters[],
): readonly FlowCounterRow[] {
  return table.chains.flatMap((chain) => {
    const dumped = rows.filter((row) => row.chain === chain.name);
    return chain.rules.flatMap((rule, index) => {
      const row = dumped[index];
      if (row === undefined || COMMENT.exec(rule.comment ?? "")?.[2] !== "matched") return [];
      return [{
        family: "inet",
        table: table.name,
        chain: chain.name,
        handle: Number(row.handle),
        packetCount: Number(row.packets ?? 0n),
        byteCount: Number(row.bytes ?? 0n),
        ruleRepr: formatRule(rule),
      }];
    });
  });
}
