/**
 * What a cell's network may do, in the order in which it is decided: `authority` of a spec with
 * every prefix made canonical and every rule given the name that events call it by.
 *
 *   loopback → flows already allowed → exact rules → guards → wide rules → the default
 *
 * Rules that name one address come first, in the order of the spec, then rules of wider
 * prefixes, in the order of the spec. The first that matches decides, and gives the decision
 * its name. Between the two stand the guards (see `guards.ts`): what a wide rule never opens.
 *
 * A rule is named by its place in the spec, `egress[1]`, and keeps that name however it is
 * ordered. Two policies with the same digest decide the same.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { canonicalJson, formatCidr, type IpFamily, isHostCidr, parseCidr } from "#lib/base/mod.ts";
import { STATIC_GUARDS } from "./guards.ts";
import type {
  AuthorityMode,
  CellSpec,
  DenyAnswer,
  FlowAudit,
  PortRange,
  RuleProtocol,
} from "./spec_types.ts";

/** The name of the decision that no rule was made for, going out. */
export const EGRESS_DEFAULT_REF = "egress-default";
/** The same where the mode is `audit`: it allows, and says by its name why. */
export const EGRESS_AUDIT_REF = "egress-audit";
/** The name of the decision that a wide rule does not open a guarded destination. */
export const EGRESS_GUARD_REF = "egress-guard";
/** The name of the decision that no rule was made for, coming in. */
export const INGRESS_DEFAULT_REF = "ingress-default";
/** The name of the decision that a wide rule does not let another cell in. */
export const INGRESS_GUARD_REF = "ingress-guard";

/** One rule, going out or coming in. */
export interface PolicyRule {
  /** `egress[0]`, `ingress[2]`: its place in the spec. */
  readonly ref: string;
  /** The destination (going out) or source (coming in), with its length. */
  readonly prefix: string;
  /** Of the prefix. */
  readonly family: IpFamily;
  /** Whether the prefix is one single address. */
  readonly exact: boolean;
  /** What of the traffic to or from there. */
  readonly protocol: RuleProtocol;
  /** The destination's ports; empty means every port, and is always so for `icmp`. */
  readonly ports: readonly PortRange[];
}

/** A cell's whole network policy. */
export interface Policy {
  /** Of what goes out. What comes in is always enforced. */
  readonly mode: AuthorityMode;
  /** Of what goes out. What comes in is always dropped. */
  readonly deny: DenyAnswer;
  /** Whether the cell may run unrecorded. */
  readonly flowAudit: FlowAudit;
  /** In the order of the spec; see {@link rulesInOrder}. */
  readonly egress: readonly PolicyRule[];
  /** In the order of the spec. */
  readonly ingress: readonly PolicyRule[];
  /** UDP ports that the host's load balancer brings datagrams to; absent: none. */
  readonly balancedPorts?: readonly number[];
}

/** The policy of a checked spec. */
export function makePolicy(spec: Pick<CellSpec, "authority" | "ingress">): Policy {
  const { mode, deny, audit, egressRules, ingress } = spec.authority;
  const ports = spec.ingress?.udp.map(({ port }) => port) ?? [];
  return {
    mode,
    deny,
    flowAudit: audit.flow,
    egress: egressRules.map((rule, index) => makeRule(`egress[${index}]`, rule.host, rule)),
    ingress: ingress.map((rule, index) => makeRule(`ingress[${index}]`, rule.from, rule)),
    ...(ports.length === 0 ? {} : { balancedPorts: [...new Set(ports)] }),
  };
}

/**
 * Whether the cell gets a way out of its namespace at all. Without one it has `lo` and nothing
 * else, and its table still refuses, and records, whatever is tried.
 */
export function needsNetwork(policy: Policy): boolean {
  return policy.egress.length > 0 || policy.ingress.length > 0 || policy.mode === "audit" ||
    policy.balancedPorts !== undefined;
}

/**
 * The rules that let the host's load balancer in: from the host's ends of the cell's link alone,
 * which nobody else can send from.
 */
export function balancedRules(
  { balancedPorts = [] }: Policy,
  linkAddresses: readonly string[],
): readonly PolicyRule[] {
  return balancedPorts.flatMap((port, index) =>
    linkAddresses.map((address) => {
      const family = address.includes(":") ? "v6" : "v4";
      const ports = [{ from: port, to: port }];
      return makeRule(`ingress.udp[${index}].${family}`, address, { protocol: "udp", ports });
    })
  );
}

/** Rules as they are asked: exact ones, then wide ones, each in the order of the spec. */
export function rulesInOrder(
  rules: readonly PolicyRule[],
): { readonly exact: readonly PolicyRule[]; readonly wide: readonly PolicyRule[] } {
  return { exact: rules.filter((it) => it.exact), wide: rules.filter((it) => !it.exact) };
}

/**
 * `sha256:` and 64 hex digits of the policy's canonical JSON (RFC 8785), the static guards
 * included. `flowAudit` is part of it: a cell that may run unrecorded has another policy.
 */
export function policyDigest(policy: Policy): string {
  const text = canonicalJson({ version: 1, ...policy, guards: STATIC_GUARDS });
  return `sha256:${createHash("sha256").update(text, "utf8").digest("hex")}`;
}

function makeRule(
  ref: string,
  host: string,
  rule: { readonly protocol: RuleProtocol; readonly ports: readonly PortRange[] },
): PolicyRule {
  const prefix = parseCidr(host);
  // A checked spec holds only prefixes; a value made by hand may not.
  if (prefix === undefined) {
    throw new TypeError(`Cannot make rule ${ref}: ${JSON.stringify(host)} is not a prefix`);
  }
  return {
    ref,
    prefix: formatCidr(prefix),
    family: prefix.family,
    exact: isHostCidr(prefix),
    protocol: rule.protocol,
    ports: rule.ports,
  };
}
