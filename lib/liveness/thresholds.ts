/**
 * How long an agent may be silent, by who it is; and who is expected at all.
 *
 * Pure. The first rule that fits says the threshold; where none fits, the default does. A rule fits
 * where everything that it names agrees: a name, a cell, a label, a uid.
 *
 * @module
 */

/** The least threshold, as for the reference. */
export const THRESHOLD_NS_MIN = 10e6;
/** Rules, and expected agents, that are looked at. */
export const RULES_MAX = 1024;

/** What rules look at. */
export interface AgentIdentity {
  /** The name of its program, or the one that its cell gives it. */
  readonly name?: string;
  /** The cell that it lives in. */
  readonly cell?: string;
  /** Who it runs as; absent over a network. */
  readonly uid?: number;
  /** Labels of its cell. */
  readonly labels?: Readonly<Record<string, string>>;
}

/** Whom a rule is about; what is absent is not looked at. */
export interface AgentMatch {
  /** An exact name. */
  readonly name?: string;
  /** An exact cell. */
  readonly cell?: string;
  /** An exact uid. */
  readonly uid?: number;
  /** A label that must have this value. */
  readonly label?: { readonly key: string; readonly value: string };
}

/** A threshold for some agents. */
export interface ThresholdRule {
  /** Whom it is for. */
  readonly match: AgentMatch;
  /** Nanoseconds, at least {@link THRESHOLD_NS_MIN}. */
  readonly thresholdNs: number;
}

/** An agent that must come. */
export interface ExpectedAgent {
  /** Whom; the first agent that fits meets it. */
  readonly match: AgentMatch;
  /** How long after the observer's start it may take, in nanoseconds. */
  readonly withinNs: number;
}

/** Whether everything that a match names agrees with an agent. */
export function matches(match: AgentMatch, agent: AgentIdentity): boolean {
  if (match.name !== undefined && match.name !== agent.name) return false;
  if (match.cell !== undefined && match.cell !== agent.cell) return false;
  if (match.uid !== undefined && match.uid !== agent.uid) return false;
  return match.label === undefined || agent.labels?.[match.label.key] === match.label.value;
}

/** The threshold of an agent. */
export function thresholdOf(
  agent: AgentIdentity,
  rules: readonly ThresholdRule[],
  defaultNs: number,
): number {
  return rules.find((rule) => matches(rule.match, agent))?.thresholdNs ?? defaultNs;
}

/** Checks rules before they are used. Throws `RangeError`. */
export function checkThresholds(rules: readonly ThresholdRule[], defaultNs: number): void {
  if (rules.length > RULES_MAX) {
    throw new RangeError(`Cannot use ${rules.length} thresholds: want at most ${RULES_MAX}`);
  }
  for (const thresholdNs of [defaultNs, ...rules.map((rule) => rule.thresholdNs)]) {
    if (!(thresholdNs >= THRESHOLD_NS_MIN)) {
      throw new RangeError(
        `Cannot use a threshold of ${thresholdNs / 1e6} ms: want at least ${
          THRESHOLD_NS_MIN / 1e6
        } ms`,
      );
    }
  }
}

/** Who is expected and has not come. */
export class Expectations {
  #open: ExpectedAgent[];

  /** All are open at first. Throws `RangeError` beyond {@link RULES_MAX}. */
  constructor(expected: readonly ExpectedAgent[]) {
    if (expected.length > RULES_MAX) {
      throw new RangeError(`Cannot expect ${expected.length} agents: want at most ${RULES_MAX}`);
    }
    this.#open = [...expected];
  }

  /** Notes that an agent came: it meets the first expectation that fits it. */
  meet(agent: AgentIdentity): void {
    const at = this.#open.findIndex((one) => matches(one.match, agent));
    if (at >= 0) this.#open.splice(at, 1);
  }

  /** Adds one, for a cell that has just been made. Throws `RangeError` beyond {@link RULES_MAX}. */
  add(expected: ExpectedAgent): void {
    if (this.#open.length >= RULES_MAX) {
      throw new RangeError(`Cannot expect another agent: want at most ${RULES_MAX}`);
    }
    this.#open.push(expected);
  }

  /** Takes those whose time is over; each is told once. */
  takeMissing(nowNs: number): ExpectedAgent[] {
    const missing = this.#open.filter((one) => one.withinNs <= nowNs);
    if (missing.length > 0) this.#open = this.#open.filter((one) => one.withinNs > nowNs);
    return missing;
  }

  /** When the next one is due; `undefined` where none is open. */
  nextDeadlineNs(): number | undefined {
    if (this.#open.length === 0) return undefined;
    return this.#open.reduce((least, one) => Math.min(least, one.withinNs), Infinity);
  }

  /** Forgets those of a cell that has ended. */
  forgetCell(cell: string): void {
    this.#open = this.#open.filter((one) => one.match.cell !== cell);
  }
}
