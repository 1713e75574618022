/**
 * Checks a run of the demo from four sides that do not know of each other: what the program
 * inside the cell said, what celld decided and wrote down, what the servers on the far side saw,
 * and what the kernels on both sides counted.
 *
 * Pure: facts in, one `Check` for each claim out. A claim without facts fails; nothing passes
 * because there was nothing to compare.
 *
 * @module
 */
import {
  type ClosedView,
  type CountersView,
  type DecisionView,
  endpointText,
  type GapView,
  pad,
} from "#lib/cli/mod.ts";
import { type Attempt, destinationKey } from "./attempt.ts";
import type { Arrival } from "./lab.ts";
import type { ServerObservation } from "./observation.ts";
import { keyOfDecision } from "./table.ts";

/** All that is known of one run. */
export interface RunFacts {
  /** In the order in which the program printed them. */
  readonly attempts: readonly Attempt[];
  /** As they were shown live, in order. */
  readonly decisions: readonly DecisionView[];
  /** As they were read back from the durable log, in order. */
  readonly loggedDecisions: readonly DecisionView[];
  /** Closing summaries of flows. */
  readonly closed: readonly ClosedView[];
  /** The kernel's counters at the end of the run. */
  readonly counters: readonly CountersView[];
  /** What was told of decisions that were lost. */
  readonly gaps: readonly GapView[];
  /** What is wrong with the log's hash chain; undefined when it is whole. */
  readonly logFault?: string;
  /** What the servers saw. */
  readonly observations: readonly ServerObservation[];
  /** Packets that the far side's kernel counted, by destination. */
  readonly arrivals: readonly Arrival[];
  /** Addresses of the machine's uplink, behind which the cell is masqueraded. */
  readonly uplinkAddresses: readonly string[];
  /** Of `celld run`. */
  readonly exitCode: number;
  /** The signal that ended celld itself; absent where it ended on its own. */
  readonly signal?: string;
  /** What of the cell is still there after the run. */
  readonly leftovers: readonly string[];
}

/** One claim, and whether the facts bear it out. */
export interface Check {
  /** What must be so. */
  readonly claim: string;
  /** Whether it is. */
  readonly ok: boolean;
  /** How much was compared, or what does not fit. */
  readonly detail: string;
}

/** Bytes of headers that a TCP packet carries: IP and TCP, without and with all options. */
const HEADER_BYTES_MIN = 40;
const HEADER_BYTES_MAX = 120;
/**
 * The kernel counts what is sent twice, twice: on a busy machine the probe for a lost tail
 * repeats segments of up to 64 KiB that were not lost (RFC 8985). More than half is no probe.
 */
const REPEATED_SHARE_MAX = 0.5;

/** Checks all claims; the order is that of the summary. */
export function checkRun(facts: RunFacts): Check[] {
  return [
    checkOneDecisionEach(facts),
    checkProgramAgrees(facts),
    checkAllowedArrived(facts),
    checkDeniedUnseen(facts),
    checkNothingElseArrived(facts),
    checkRuleCounters(facts),
    checkNothingLost(facts),
    checkDecisionsPerRule(facts),
    checkBytes(facts),
    checkDurableLog(facts),
    checkLogChain(facts),
    checkExitCode(facts),
    checkLeftovers(facts),
  ];
}

function conclude(claim: string, compared: number, unit: string, faults: string[]): Check {
  if (faults.length > 0) return { claim, ok: false, detail: faults.join("; ") };
  if (compared === 0) return { claim, ok: false, detail: `no ${unit} to compare` };
  return { claim, ok: true, detail: `${compared} ${unit}` };
}

function countBy<T>(items: readonly T[], keyOf: (item: T) => string): Map<string, number> {
  const counts = new Map<string, number>();
  for (const item of items) counts.set(keyOf(item), (counts.get(keyOf(item)) ?? 0) + 1);
  return counts;
}

/** The keys of either side whose numbers differ, each as a sentence. */
function differences(
  left: ReadonlyMap<string, number>,
  right: ReadonlyMap<string, number>,
  say: (key: string, left: number, right: number) => string,
): string[] {
  return [...new Set([...left.keys(), ...right.keys()])]
    .filter((key) => (left.get(key) ?? 0) !== (right.get(key) ?? 0))
    .map((key) => say(key, left.get(key) ?? 0, right.get(key) ?? 0));
}

function checkOneDecisionEach({ attempts, decisions }: RunFacts): Check {
  return conclude(
    "each attempt has exactly one decision",
    attempts.length,
    "attempts",
    differences(
      countBy(attempts, destinationKey),
      countBy(decisions, keyOfDecision),
      (key, tried, decided) => `${key}: ${tried} attempts, ${decided} decisions`,
    ),
  );
}

function checkProgramAgrees({ attempts, decisions }: RunFacts): Check {
  const answered = attempts.filter((attempt) => attempt.outcome === "answered");
  const silent = attempts.filter((attempt) => attempt.outcome === "silent");
  return conclude(
    "the program was answered where allowed, refused at once where denied",
    attempts.length,
    "attempts",
    [
      ...differences(
        countBy(answered, destinationKey),
        countBy(allowed(decisions), keyOfDecision),
        (key, got, allows) => `${key}: answered ${got} times, allowed ${allows} times`,
      ),
      ...silent.map((attempt) => `${destinationKey(attempt)}: neither answered nor refused`),
    ],
  );
}

/** Connections and datagrams at servers; echo requests as the far side's kernel counted them. */
function arrivedByKey({ observations, arrivals }: RunFacts): Map<string, number> {
  const seen = countBy(observations, keyOfObservation);
  for (const { protocol, address, packets } of arrivals) {
    if (protocol === "icmp" && packets > 0) {
      seen.set(destinationKey({ protocol, address }), packets);
    }
  }
  return seen;
}

function keyOfObservation({ protocol, local }: ServerObservation): string {
  return destinationKey({ protocol, address: local.address, port: local.port });
}

function checkAllowedArrived(facts: RunFacts): Check {
  const allows = countBy(allowed(facts.decisions), keyOfDecision);
  const arrived = arrivedByKey(facts);
  const faults = [...allows]
    .filter(([key, count]) => (arrived.get(key) ?? 0) !== count)
    .map(([key, count]) =>
      `${key}: allowed ${count} times, arrived ${arrived.get(key) ?? 0} times`
    );
  for (const { peer, ...observation } of facts.observations) {
    if (facts.uplinkAddresses.includes(peer.address)) continue;
    faults.push(`${keyOfObservation({ peer, ...observation })}: came from ${peer.address}`);
  }
  return conclude(
    "each allow has its connection at the server",
    allowed(facts.decisions).length,
    "allowed flows",
    faults,
  );
}

function checkDeniedUnseen({ decisions, observations, arrivals }: RunFacts): Check {
  const allows = countBy(allowed(decisions), keyOfDecision);
  const denied = new Set(
    decisions.filter((one) => one.decision !== "allow").map(keyOfDecision)
      .filter((key) => !allows.has(key)),
  );
  const watched = new Map(arrivals.map((arrival) => [destinationKey(arrival), arrival.packets]));
  const faults = [
    ...observations.map(keyOfObservation).filter((key) => denied.has(key))
      .map((key) => `${key}: denied, but a server saw it`),
    ...[...denied].filter((key) => watched.get(key) !== 0).map((key) =>
      watched.has(key)
        ? `${key}: denied, but ${watched.get(key)} packets reached the far side`
        : `${key}: denied, but not watched on the far side`
    ),
  ];
  return conclude(
    "no packet to a denied destination left the machine",
    denied.size,
    "denied destinations",
    faults,
  );
}

function checkNothingElseArrived(facts: RunFacts): Check {
  const allows = countBy(allowed(facts.decisions), keyOfDecision);
  const arrived = arrivedByKey(facts);
  return conclude(
    "the servers saw nothing that celld did not decide",
    [...arrived.values()].reduce((sum, count) => sum + count, 0),
    "arrivals",
    [...arrived.keys()].filter((key) => !allows.has(key)).map((key) => `${key}: no allow for it`),
  );
}

function checkRuleCounters({ counters }: RunFacts): Check {
  const rules = counters.flatMap((one) => one.rules);
  return conclude(
    "the kernel counted, for each rule: matched = logged + suppressed",
    rules.length,
    "rules",
    rules
      .filter((rule) => rule.matchedPackets !== rule.loggedPackets + rule.suppressedPackets)
      .map((rule) =>
        `${rule.ruleRef}: ${rule.matchedPackets} matched, ${rule.loggedPackets} logged, ` +
        `${rule.suppressedPackets} suppressed`
      ),
  );
}

function checkNothingLost({ counters, gaps }: RunFacts): Check {
  const logged = sum(counters, (one) => sum(one.rules, (rule) => rule.loggedPackets));
  const seen = sum(counters, (one) => one.seen);
  const lost = sum(counters, (one) => one.lost);
  const faults: string[] = [];
  if (logged !== seen + lost) faults.push(`${logged} logged, ${seen} seen, ${lost} lost`);
  const told = sum(gaps, (gap) => gap.lost);
  if (told !== lost) faults.push(`${lost} lost, but gaps tell of ${told}`);
  return conclude(
    `the listener saw what the kernel logged: logged = seen + lost (${lost})`,
    logged,
    "packets logged",
    faults,
  );
}

function checkDecisionsPerRule({ decisions, counters }: RunFacts): Check {
  const logged = new Map<string, number>();
  for (const rule of counters.flatMap((one) => one.rules)) {
    logged.set(rule.ruleRef, (logged.get(rule.ruleRef) ?? 0) + rule.loggedPackets);
  }
  return conclude(
    "each rule logged as many packets as it has decisions",
    decisions.length,
    "decisions",
    differences(
      logged,
      countBy(decisions, (one) => one.ruleRef ?? "?"),
      (rule, packets, decided) => `${rule}: ${packets} packets, ${decided} decisions`,
    ),
  );
}

/** Payload at the server plus headers is what conntrack counted; each way, for each connection. */
function checkBytes({ closed, observations }: RunFacts): Check {
  const connections = observations.filter((one) => one.protocol === "tcp");
  const faults: string[] = [];
  let bytes = 0;
  for (const connection of connections) {
    const { local, peer, bytesSent, bytesReceived, open } = connection;
    const name = keyOfObservation(connection);
    // Masquerading keeps the source port where it is free, and here it is.
    const summary = closed.find((one) =>
      one.protocol === "tcp" && one.dstAddr === local.address && one.dstPort === local.port &&
      one.srcPort === peer.port
    );
    if (summary === undefined || open) {
      faults.push(`${name}: ${open ? "still open at the server" : "no closing summary"}`);
      continue;
    }
    bytes += bytesSent + bytesReceived;
    if (!bears(summary.bytesIn, summary.packetsIn, bytesSent)) {
      faults.push(`${name}: server sent ${bytesSent}, kernel counted ${summary.bytesIn} in`);
    }
    if (!bears(summary.bytesOut, summary.packetsOut, bytesReceived)) {
      faults.push(
        `${name}: server received ${bytesReceived}, kernel counted ${summary.bytesOut} out`,
      );
    }
  }
  return conclude(
    `each connection's closing summary carries the server's bytes (${connections.length})`,
    bytes,
    "payload bytes",
    faults,
  );
}

function bears(counted: number, packets: number, payload: number): boolean {
  return counted >= payload + packets * HEADER_BYTES_MIN &&
    counted <= payload * (1 + REPEATED_SHARE_MAX) + packets * HEADER_BYTES_MAX;
}

function checkDurableLog({ decisions, loggedDecisions }: RunFacts): Check {
  const live = decisions.map((one) => one.decisionId);
  const durable = loggedDecisions.map((one) => one.decisionId);
  const first = live.findIndex((id, at) => durable[at] !== id);
  const faults: string[] = [];
  if (live.length !== durable.length) {
    faults.push(`${live.length} shown, ${durable.length} in the log`);
  } else if (first >= 0) faults.push(`decision ${first + 1} differs`);
  return conclude(
    "the durable log holds the same decisions in the same order",
    durable.length,
    "decisions",
    faults,
  );
}

function checkLogChain({ logFault, loggedDecisions }: RunFacts): Check {
  return conclude(
    "the log's hash chain is whole",
    loggedDecisions.length,
    "decisions in it",
    logFault === undefined ? [] : [logFault],
  );
}

function checkExitCode({ exitCode, signal }: RunFacts): Check {
  return {
    claim: "celld ended with the workload's exit code",
    ok: exitCode === 0 && signal === undefined,
    detail: signal === undefined ? String(exitCode) : `celld itself was ended by ${signal}`,
  };
}

function checkLeftovers({ leftovers }: RunFacts): Check {
  return {
    claim: "nothing of the cell is left on the machine",
    ok: leftovers.length === 0,
    detail: leftovers.length === 0 ? "links, tables, cgroups, files" : leftovers.join("; "),
  };
}

function allowed(decisions: readonly DecisionView[]): DecisionView[] {
  return decisions.filter((one) => one.decision === "allow");
}

function sum<T>(items: readonly T[], valueOf: (item: T) => number): number {
  return items.reduce((total, item) => total + valueOf(item), 0);
}

/** The summary as lines: `ok` or `FAILED` before each claim. */
export function formatChecks(
  checks: readonly Check[],
  paint: (tone: "good" | "bad" | "dim", text: string) => string,
): string {
  return checks.map(({ claim, ok, detail }) =>
    `  ${ok ? paint("good", "ok    ") : paint("bad", "FAILED")}  ${claim}  ${
      paint(ok ? "dim" : "bad", `(${detail})`)
    }\n`
  ).join("");
}

/** What went through each flow, as its closing summary told it; one line each. */
export function formatTraffic({ closed }: Pick<RunFacts, "closed">): string {
  if (closed.length === 0) return "  nothing\n";
  return closed.map((flow) => {
    const destination = `${flow.protocol} ${endpointText(flow.dstAddr, flow.dstPort)}`;
    return `  ${pad(destination, 32)}  ${traffic(flow.packetsOut, flow.bytesOut)} out  ${
      traffic(flow.packetsIn, flow.bytesIn)
    } in\n`;
  }).join("");
}

function traffic(packets: number, bytes: number): string {
  return `${pad(String(packets), 4, "right")} packets ${pad(String(bytes), 8, "right")} bytes`;
}
