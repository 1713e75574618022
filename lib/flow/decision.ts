/**
 * Builds the data of a `network_flow_decision` from what the packet and its log prefix say.
 *
 * An unknown verdict is told as a denial, so that nobody overlooks it. Real-time decisions
 * have reason codes that start with `nft_log_`; `bpf_accept` is an accepted flow that the flow
 * program told of, not the log. What is not known is left out, never null.
 *
 * @module
 */
import type { FlowDecisionData, FlowProtocol } from "#lib/events/mod.ts";
import type { FlowIdentity } from "./activation.ts";
import { decodeAttribution, type FlowAttribution } from "./packet.ts";
import { type LogPrefix, parseLogPrefix, VERDICT, type VerdictCode } from "./prefix.ts";
import { DECISION_SOURCE, type DecisionSource } from "./record.ts";

/** Version of the data's shape. */
export const DECISION_SCHEMA_VERSION = "1.0.0";

/** Given from outside, since cores have neither clock nor randomness. */
export interface DecisionStamp {
  /** UUID of this decision. */
  readonly decisionId: string;
  /** RFC 3339. */
  readonly observedAt: string;
}

const OUTCOMES: Record<VerdictCode, Pick<FlowDecisionData, "decision" | "reasonCode">> = {
  [VERDICT.accept]: { decision: "allow", reasonCode: "nft_log_accept" },
  [VERDICT.drop]: { decision: "deny", reasonCode: "nft_log_drop" },
  [VERDICT.unknown]: { decision: "deny", reasonCode: "nft_log_unknown" },
};

/** What an accepted flow's decision says when the flow program told of it. */
const PROGRAM_ACCEPT = { decision: "allow", reasonCode: "bpf_accept" } as const;

/** Builds a decision from one captured packet and the text of its log prefix. */
export function buildDecision(
  identity: FlowIdentity,
  prefix: string,
  payload: Uint8Array,
  stamp: DecisionStamp,
): FlowDecisionData {
  const parsed = parseLogPrefix(prefix) ?? { verdict: VERDICT.unknown };
  return composeDecision(identity, parsed, decodeAttribution(payload), stamp);
}

/** As {@link buildDecision}, from parts that are already decoded. */
export function composeDecision(
  identity: FlowIdentity,
  prefix: LogPrefix,
  flow: FlowAttribution,
  stamp: DecisionStamp,
  source: DecisionSource = DECISION_SOURCE.log,
): FlowDecisionData {
  const isProgramAccept = source === DECISION_SOURCE.program && prefix.verdict === VERDICT.accept;
  return {
    schemaVersion: DECISION_SCHEMA_VERSION,
    cellId: identity.cellId,
    runId: identity.runId,
    decisionId: stamp.decisionId,
    direction: directionOf(prefix.ruleRef),
    ...(isProgramAccept ? PROGRAM_ACCEPT : OUTCOMES[prefix.verdict]),
    ...present("nftRuleRef", prefix.ruleRef),
    ...present("srcAddr", flow.srcAddr),
    ...present("srcPort", flow.srcPort),
    ...present("dstAddr", flow.dstAddr),
    ...present("dstPort", flow.dstPort),
    ...present("protocol", flow.protocol as FlowProtocol | undefined),
    ...present("policyDigest", identity.policyDigest),
    ...present("keysetId", identity.keysetId),
    ...present("issuerKid", identity.issuerKid),
    ...present("correlationId", identity.correlationId),
    observedAt: stamp.observedAt,
  };
}

/** Seen from the cell: rules for connections to it are named `ingress…`. */
export function directionOf(ruleRef: string | undefined): "egress" | "ingress" {
  return ruleRef?.startsWith("ingress") ? "ingress" : "egress";
}

function present<K extends string, T>(
  name: K,
  value: T | undefined,
): { [P in K]?: Exclude<T, undefined> } {
  return (value === undefined ? {} : { [name]: value }) as { [P in K]?: Exclude<T, undefined> };
}
