/**
 * Limits on new flows: how many at one time and how many a second, of each listener, cluster and
 * backend (`prefix_limits.ts` has those of source prefixes).
 *
 * A flow must pass all of its scopes before any of them counts it, so that a refusal by one costs
 * the others nothing.
 *
 * @module
 */
import { DROP, type DropReason, type FlowLimit } from "./contract.ts";

/** The flow may come in. */
export const ADMITTED = -1;

/** The numbers of one kind of scope, by the scope's index. They grow as indexes are used. */
export class ScopeLimits {
  #counts = new Int32Array(8);
  #flowsMax = new Float64Array(8).fill(Infinity);
  /** Tokens a millisecond; infinite: no limit on the rate. */
  #rates = new Float64Array(8).fill(Infinity);
  #bursts = new Float64Array(8);
  #tokens = new Float64Array(8);
  #refilledAt = new Float64Array(8);

  /** Sets a scope's limit. A lower one closes nothing. */
  setLimit(scope: number, limit: FlowLimit, now: number): void {
    this.#reach(scope);
    const perSecond = limit.newFlowsPerSecond ?? Infinity;
    const burst = limit.burst ?? Math.max(1, perSecond);
    this.#flowsMax[scope] = limit.maxFlows ?? Infinity;
    // The same limit again does not fill the bucket again.
    if (this.#rates[scope] === perSecond / 1000 && this.#bursts[scope] === burst) return;
    this.#rates[scope] = perSecond / 1000;
    this.#bursts[scope] = burst;
    this.#tokens[scope] = this.#bursts[scope];
    this.#refilledAt[scope] = now;
  }

  /** Flows of a scope. */
  count(scope: number): number {
    return this.#counts[scope] ?? 0;
  }

  /** {@link ADMITTED}, or why a flow of this scope is refused. */
  judge(scope: number, now: number): DropReason | typeof ADMITTED {
    this.#reach(scope);
    if (this.#counts[scope] >= this.#flowsMax[scope]) return DROP.flowLimit;
    if (this.#rates[scope] === Infinity) return ADMITTED;
    this.#refill(scope, now);
    return this.#tokens[scope] >= 1 ? ADMITTED : DROP.rateLimit;
  }

  /** Gives the token of a flow that was admitted before, elsewhere. */
  grant(scope: number): void {
    this.#reach(scope);
    if (this.#rates[scope] !== Infinity) this.#tokens[scope] += 1;
  }

  /** Counts a flow in and takes its token. */
  enter(scope: number): void {
    this.#reach(scope);
    this.#counts[scope] += 1;
    if (this.#rates[scope] !== Infinity) this.#tokens[scope] -= 1;
  }

  /** Counts a flow out. */
  leave(scope: number): void {
    this.#counts[scope] -= 1;
  }

  #refill(scope: number, now: number): void {
    const elapsed = now - this.#refilledAt[scope];
    if (elapsed <= 0) return;
    const tokens = this.#tokens[scope] + elapsed * this.#rates[scope];
    this.#tokens[scope] = Math.min(this.#bursts[scope], tokens);
    this.#refilledAt[scope] = now;
  }

  #reach(scope: number): void {
    const size = this.#counts.length;
    if (scope < size) return;
    const wanted = Math.max(scope + 1, size * 2);
    this.#counts = copyTo(this.#counts, new Int32Array(wanted));
    this.#flowsMax = copyTo(this.#flowsMax, new Float64Array(wanted).fill(Infinity));
    this.#rates = copyTo(this.#rates, new Float64Array(wanted).fill(Infinity));
    this.#bursts = copyTo(this.#bursts, new Float64Array(wanted));
    this.#tokens = copyTo(this.#tokens, new Float64Array(wanted));
    this.#refilledAt = copyTo(this.#refilledAt, new Float64Array(wanted));
  }
}

function copyTo<T extends { set(from: T): void }>(from: T, to: T): T {
  to.set(from);
  return to;
}
