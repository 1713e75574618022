/**
 * Decides which backends are up, from probes and from what traffic shows.
 *
 *   settings, time, probes' results, traffic ──▶ machine ──▶ probes to make, changes to tell
 *
 * A backend changes state after `rise` good or `fall` bad results in a row. Traffic counts too: an
 * ICMP message, or many datagrams without a reply. What traffic declared dead comes back by
 * probes, but not before a hold-off, or after it by itself where there are no probes. Probes of
 * many backends are spread by a seeded jitter.
 *
 * Pure: times are milliseconds of one clock; after any call the shell drains
 * {@link HealthMachine.pollOutput} and arms its timer from {@link HealthMachine.pollTimeout}.
 *
 * @module
 */
import { Prng } from "#lib/base/mod.ts";

/** How a backend's results are judged. Times in milliseconds. */
export interface HealthSettings {
  /** Whether it is asked at all. */
  readonly isProbed: boolean;
  /** From one probe's start to the next one's. At least 1. @default {5000} */
  readonly intervalMs: number;
  /** A probe without a result fails after this. At least 1. @default {2000} */
  readonly timeoutMs: number;
  /** Good results in a row that make it up. @default {2} */
  readonly rise: number;
  /** Bad results in a row that make it down. @default {3} */
  readonly fall: number;
  /** The interval varies by this part of it, each way. 0 to 1. @default {0.1} */
  readonly jitter: number;
  /** What it is before the first result. @default {true} */
  readonly startsUp: boolean;
  /** What traffic says; absent: it says nothing. */
  readonly passive?: PassiveSettings;
}

/** How traffic is judged. */
export interface PassiveSettings {
  /** ICMP messages without a reply between them that make it down; 0: they do not. @default {3} */
  readonly errors: number;
  /** Datagrams without any reply that make it down; 0: silence does not. @default {0} */
  readonly unanswered: number;
  /** It stays down at least so long. @default {10000} */
  readonly holdMs: number;
}

/** Settings where nothing else is said. */
export const HEALTH_DEFAULTS: HealthSettings = {
  isProbed: true,
  intervalMs: 5000,
  timeoutMs: 2000,
  rise: 2,
  fall: 3,
  jitter: 0.1,
  startsUp: true,
};

/** What the machine wants done or known. */
export type HealthOutput =
  /** Make a probe; its result, or its timeout, ends it. */
  | { readonly type: "probe"; readonly backend: number; readonly probe: number }
  /** Nobody waits for this probe any more. */
  | { readonly type: "cancel"; readonly backend: number; readonly probe: number }
  | {
    readonly type: "changed";
    readonly backend: number;
    readonly isUp: boolean;
    readonly reason: string;
  };

/** What is known of a backend. */
export interface HealthView {
  /** Whether new flows may go there. */
  readonly isUp: boolean;
  /** Results in a row of the last one's kind; negative for bad ones. */
  readonly streak: number;
  /** Why it is as it is. */
  readonly reason: string;
  /** Since when. */
  readonly sinceMs: number;
  /** Of the last good probe. */
  readonly latencyMs?: number;
}

interface Backend {
  settings: HealthSettings;
  isUp: boolean;
  streak: number;
  reason: string;
  sinceMs: number;
  latencyMs: number | undefined;
  nextProbeMs: number;
  /** The running probe; 0 for none. */
  probe: number;
  probeStartedMs: number;
  icmpErrors: number;
  unanswered: number;
  /** Down by traffic until then at least; 0 where probes alone decide. */
  heldUntilMs: number;
}

/** See the module. */
export class HealthMachine {
  readonly #random: Prng;
  readonly #backends = new Map<number, Backend>();
  readonly #outputs: HealthOutput[] = [];
  #lastProbe = 0;

  /**
   * Starts without backends.
   *
   * @param seed Of the jitter.
   */
  constructor(seed: number) {
    this.#random = new Prng(seed);
  }

  /**
   * Begins to judge a backend. The first probe comes within the interval's jitter.
   *
   * @param knownUp What it is known to be, in place of `startsUp`.
   */
  add(backend: number, settings: HealthSettings, nowMs: number, knownUp?: boolean): void {
    if (this.#backends.has(backend)) return this.update(backend, settings, nowMs);
    const { isProbed, passive } = settings;
    // What is not asked comes back by time alone.
    const holdMs = knownUp === false && !isProbed ? passive?.holdMs : undefined;
    const known = isProbed || passive !== undefined ? knownUp : undefined;
    this.#backends.set(backend, {
      settings,
      isUp: known ?? settings.startsUp,
      streak: 0,
      reason: known === undefined ? "not asked yet" : "as the server before knew it",
      sinceMs: nowMs,
      latencyMs: undefined,
      nextProbeMs: nowMs + settings.intervalMs * settings.jitter * this.#random.fraction(),
      probe: 0,
      probeStartedMs: 0,
      icmpErrors: 0,
      unanswered: 0,
      heldUntilMs: holdMs === undefined ? 0 : nowMs + Math.max(1, holdMs),
    });
  }

  /** Changes how a backend is judged; what it is stays. `knownUp` is for a new one. */
  update(backend: number, settings: HealthSettings, nowMs: number, knownUp?: boolean): void {
    const state = this.#backends.get(backend);
    if (state === undefined) return this.add(backend, settings, nowMs, knownUp);
    const wasProbed = state.settings.isProbed;
    state.settings = settings;
    if (!settings.isProbed) this.#cancel(backend, state);
    if (settings.isProbed && !wasProbed) state.nextProbeMs = nowMs;
    state.nextProbeMs = Math.min(state.nextProbeMs, nowMs + settings.intervalMs);
    const isJudged = settings.isProbed || settings.passive !== undefined;
    if (!isJudged && !state.isUp) this.#change(backend, state, true, "no longer judged", nowMs);
  }

  /** Forgets a backend. */
  remove(backend: number): void {
    const state = this.#backends.get(backend);
    if (state === undefined) return;
    this.#cancel(backend, state);
    this.#backends.delete(backend);
  }

  /** What is known of a backend; `undefined` for one that is not judged. */
  view(backend: number): HealthView | undefined {
    const state = this.#backends.get(backend);
    if (state === undefined) return undefined;
    const { isUp, streak, reason, sinceMs, latencyMs } = state;
    const base = { isUp, streak, reason, sinceMs };
    return latencyMs === undefined ? base : { ...base, latencyMs };
  }

  /** A probe ended. Results of probes that nobody waits for are ignored. */
  handleResult(probe: number, failure: string | undefined, nowMs: number): void {
    for (const [backend, state] of this.#backends) {
      if (state.probe !== probe) continue;
      if (failure === undefined) state.latencyMs = nowMs - state.probeStartedMs;
      state.probe = 0;
      this.#judge(backend, state, failure, nowMs);
      return;
    }
  }

  /** The kernel reported an ICMP message about a datagram to this backend. */
  handleIcmp(backend: number, code: string, nowMs: number): void {
    const state = this.#backends.get(backend);
    const bound = state?.settings.passive?.errors ?? 0;
    if (state === undefined || bound === 0) return;
    state.icmpErrors += 1;
    if (state.icmpErrors >= bound) this.#condemn(backend, state, code, nowMs);
  }

  /** Traffic since the last call: datagrams to the backend, and from it. */
  handleTraffic(backend: number, sent: number, received: number, nowMs: number): void {
    const state = this.#backends.get(backend);
    const passive = state?.settings.passive;
    if (state === undefined || passive === undefined) return;
    if (received > 0) {
      state.icmpErrors = 0;
      state.unanswered = 0;
      return;
    }
    state.unanswered += sent;
    if (passive.unanswered === 0 || state.unanswered < passive.unanswered) return;
    this.#condemn(backend, state, `${state.unanswered} datagrams without a reply`, nowMs);
  }

  /** Starts the probes that are due and fails those that took too long. */
  handleTimeout(nowMs: number): void {
    for (const [backend, state] of this.#backends) {
      const { settings } = state;
      if (state.probe !== 0 && nowMs >= state.probeStartedMs + settings.timeoutMs) {
        this.#cancel(backend, state);
        this.#judge(backend, state, "no answer in time", nowMs);
      }
      if (!settings.isProbed) {
        const isServed = state.heldUntilMs > 0 && nowMs >= state.heldUntilMs;
        if (isServed) this.#change(backend, state, true, "tried again", nowMs);
        continue;
      }
      if (state.probe === 0 && nowMs >= state.nextProbeMs) this.#startProbe(backend, state, nowMs);
    }
  }

  /** When {@link HealthMachine.handleTimeout} has something to do; nothing: when asked again. */
  pollTimeout(): number | undefined {
    let dueMs = Infinity;
    for (
      const { settings, probe, probeStartedMs, nextProbeMs, heldUntilMs } of this.#backends.values()
    ) {
      if (probe !== 0) dueMs = Math.min(dueMs, probeStartedMs + settings.timeoutMs);
      else if (settings.isProbed) dueMs = Math.min(dueMs, nextProbeMs);
      else if (heldUntilMs > 0) dueMs = Math.min(dueMs, heldUntilMs);
    }
    return dueMs === Infinity ? undefined : dueMs;
  }

  /** The next thing to do. */
  pollOutput(): HealthOutput | undefined {
    return this.#outputs.shift();
  }

  #startProbe(backend: number, state: Backend, nowMs: number): void {
    const { intervalMs, jitter } = state.settings;
    const factor = 1 + jitter * (2 * this.#random.fraction() - 1);
    state.nextProbeMs = nowMs + Math.max(1, intervalMs * factor);
    this.#lastProbe += 1;
    state.probe = this.#lastProbe;
    state.probeStartedMs = nowMs;
    this.#outputs.push({ type: "probe", backend, probe: state.probe });
  }

  #judge(backend: number, state: Backend, failure: string | undefined, nowMs: number): void {
    if (failure === undefined) {
      // A companion probe may be good while the datagrams vanish.
      if (nowMs < state.heldUntilMs) return;
      state.streak = Math.max(1, state.streak + 1);
      if (!state.isUp && state.streak >= state.settings.rise) {
        this.#change(backend, state, true, "probes are answered", nowMs);
      } else if (state.isUp) state.reason = "probes are answered";
      return;
    }
    state.streak = Math.min(-1, state.streak - 1);
    if (state.isUp && -state.streak >= state.settings.fall) {
      this.#change(backend, state, false, failure, nowMs);
    } else if (!state.isUp) state.reason = failure;
  }

  #condemn(backend: number, state: Backend, reason: string, nowMs: number): void {
    state.heldUntilMs = nowMs + (state.settings.passive?.holdMs ?? 0);
    state.streak = Math.min(-1, state.streak);
    state.icmpErrors = 0;
    state.unanswered = 0;
    if (state.isUp) this.#change(backend, state, false, reason, nowMs);
  }

  #change(backend: number, state: Backend, isUp: boolean, reason: string, nowMs: number): void {
    state.isUp = isUp;
    state.reason = reason;
    state.sinceMs = nowMs;
    if (isUp) {
      state.heldUntilMs = 0;
      state.icmpErrors = 0;
      state.unanswered = 0;
    }
    this.#outputs.push({ type: "changed", backend, isUp, reason });
  }

  #cancel(backend: number, state: Backend): void {
    if (state.probe === 0) return;
    this.#outputs.push({ type: "cancel", backend, probe: state.probe });
    state.probe = 0;
  }
}
