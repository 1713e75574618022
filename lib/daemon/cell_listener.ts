/**
 * The flow audit of one cell's life: bound before the ruleset is there, drained after the workload
 * has ended, and bound again where a cell is adopted.
 *
 * @module
 */
import {
  acceptMarks,
  type CellSpec,
  describeCounters,
  makePolicy,
  planNetwork,
  policyDigest,
  type RuleCounterSummary,
  summarizeCounters,
} from "#lib/cell/mod.ts";
import type { CellCounters, HostClient } from "#lib/cell/mod_shell.ts";
import type { CloudEvent, FlowRuleCounters } from "#lib/events/mod.ts";
import {
  type EarlierAudit,
  earlierFlowKey,
  EMPTY_LISTENER_STATS,
  type FlowAudit,
  type FlowListenerStats,
  FlowSession,
  joinProgramCounters,
  type ProgramsOrder,
} from "#lib/flow/mod.ts";
import type { Settings } from "./config.ts";

/** What a listener works with and whom it tells. */
export interface CellListenerOptions {
  readonly spec: CellSpec;
  readonly cellId: string;
  readonly runId: string;
  readonly settings: Settings;
  /** CloudEvents source: `/celld/<host>`. */
  readonly source: string;
  readonly host: HostClient;
  readonly flow: FlowAudit;
  readonly clock: { nowMs(): number; nextId(): string };
  /** Takes facts, in order. */
  push(events: readonly CloudEvent[]): void;
  onWarning(text: string): void;
}

/** Where the cell is in the kernel. */
export interface CellPlace {
  /** The number that the flow listener knows it by. */
  readonly index: number;
  readonly netnsFd: number;
  /** Of its cgroup in v2; absent without. */
  readonly cgroupFd: number | undefined;
}

/** What the log tells of a cell that is adopted. */
export interface EarlierLife {
  /** When its start was told, milliseconds since 1970; absent where it was not. */
  readonly startedAtMs?: number;
  /** Since when nothing of it was told, milliseconds since 1970. */
  readonly silentSinceMs: number;
  readonly audit: EarlierAudit;
}

/** See the module. */
export class CellListener {
  readonly #options: CellListenerOptions;
  /** The rules whose accepted flows a program tells of; none where the log tells of all. */
  #markedRefs: readonly string[] = [];
  #session: FlowSession | undefined;
  #index = -1;

  /** Listens to nothing yet. */
  constructor(options: CellListenerOptions) {
    this.#options = options;
  }

  /** Makes events of the cell's flow records; there while it listens. */
  get session(): FlowSession | undefined {
    return this.#session;
  }

  /** Who tells of what egress rules accept. */
  get acceptsToldBy(): "log" | "marks" {
    return this.#markedRefs.length > 0 ? "marks" : "log";
  }

  /** Listens; when it resolves, nothing that is logged is missed. */
  async start(place: CellPlace): Promise<void> {
    const wantsPrograms = this.#options.settings.flowBackend === "ebpf";
    await this.#watch(place, this.#makeSession(place.index), { wantsPrograms, knownOpen: [] });
  }

  /** Hears an adopted cell's flows again, and tells what nobody heard meanwhile. */
  async resume(
    place: CellPlace,
    earlier: EarlierLife & { readonly acceptsToldBy: "log" | "marks" },
  ): Promise<void> {
    const { host, cellId, clock } = this.#options;
    // Before it listens: what is logged from here on is either heard, or missed by the counters.
    const { rules } = await host.request("counters", { cellId });
    const loggedPackets = summarizeCounters(rules)
      .reduce((sum, rule) => sum + Number(rule.loggedPackets), 0);
    const [fromMs, nowMs] = [earlier.silentSinceMs, clock.nowMs()];
    const session = this.#makeSession(place.index);
    const gaps = session.resume(earlier.audit, { loggedPackets, fromMs, nowMs }, clock.nextId);
    const wantsPrograms = earlier.acceptsToldBy === "marks";
    if (wantsPrograms) {
      // Its program's counters went with the celld that had loaded it.
      const gap = { lost: 0, isCountUnknown: true, fromMs, toMs: nowMs, cause: "unwatched" };
      gaps.push(session.noteGap(gap, clock.nextId));
    }
    this.#options.push(gaps);
    const knownOpen = earlier.audit.flows.filter(({ decision }) => decision === "allow")
      .map(earlierFlowKey).filter((key) => key !== undefined);
    await this.#watch(place, session, { wantsPrograms, knownOpen });
  }

  /** Drains the listener, reads the rules' counters, and tells the last of the flows. */
  async end(): Promise<void> {
    const session = this.#session;
    if (session === undefined) return;
    const { flow, host, cellId, clock } = this.#options;
    let stats: FlowListenerStats = EMPTY_LISTENER_STATS;
    let counters: CellCounters = { rules: [], backstopDrops: 0, table: undefined };
    let failure: unknown;
    try {
      stats = await flow.unwatch(this.#index);
    } catch (error) {
      failure = error;
    }
    try {
      counters = await host.request("counters", { cellId });
    } catch (error) {
      failure ??= error;
    }
    const counted = summarizeCounters(counters.rules).map(toRuleCounters);
    const rules = joinProgramCounters(counted, this.#markedRefs, stats.programs);
    const { table, backstopDrops } = counters;
    const rows = table === undefined ? [] : describeCounters(table, counters.rules);
    const end = { stats, rules, rows, backstopDrops, nowMs: clock.nowMs() };
    this.#options.push(session.finish(end, clock.nextId));
    this.#session = undefined;
    if (failure !== undefined) throw failure;
  }

  async #watch(
    place: CellPlace,
    session: FlowSession,
    { wantsPrograms, knownOpen }: { wantsPrograms: boolean; knownOpen: readonly Uint8Array[] },
  ): Promise<void> {
    const { flow, settings } = this.#options;
    const { index, netnsFd } = place;
    this.#session = session;
    this.#index = index;
    try {
      const programs = wantsPrograms ? this.#programsOrder(place.cgroupFd) : undefined;
      const { programsRefused } = await flow.watch({
        cell: index,
        netnsFd,
        group: settings.nflogGroup,
        conntrack: true,
        knownOpen,
        ...(programs === undefined ? {} : { programs }),
      });
      if (programsRefused === undefined) this.#markedRefs = programs?.acceptRefs ?? [];
      else this.#warnWithoutPrograms(programsRefused);
    } catch (error) {
      // Nothing is watched, or nobody knows: either way nothing is afterwards.
      await flow.unwatch(index).catch(() => undefined);
      this.#session = undefined;
      throw error;
    }
  }

  #makeSession(index: number): FlowSession {
    const { settings, cellId, runId, source, spec } = this.#options;
    const plan = planNetwork(index, { ipv4: settings.ipv4Pool, ipv6: settings.ipv6Pool });
    return new FlowSession({
      cell: index,
      cellId,
      runId,
      source,
      policyDigest: policyDigest(makePolicy(spec)),
      cellAddresses: [plan.cellIpv4, plan.cellIpv6],
    });
  }

  /** What the flow program needs, where it is wanted and this host has a place for it. */
  #programsOrder(cgroupFd: number | undefined): ProgramsOrder | undefined {
    const acceptRefs = acceptMarks(makePolicy(this.#options.spec));
    if (acceptRefs.length === 0) return undefined;
    if (cgroupFd === undefined) {
      this.#warnWithoutPrograms("this host has no cgroup v2");
      return undefined;
    }
    return { cgroupFd, acceptRefs };
  }

  #warnWithoutPrograms(reason: string): void {
    const { cellId } = this.#options;
    this.#options.onWarning(
      `Cannot use the flow backend ebpf for cell ${
        JSON.stringify(cellId)
      }, nflog tells its flows: ` +
        reason,
    );
  }
}

function toRuleCounters(summary: RuleCounterSummary): FlowRuleCounters {
  const { ruleRef } = summary;
  const denies = /-(default|guard)$/.test(ruleRef);
  return {
    ruleRef,
    verdict: denies ? "drop" : "accept",
    matchedPackets: Number(summary.matchedPackets),
    matchedBytes: Number(summary.matchedBytes),
    loggedPackets: Number(summary.loggedPackets),
    suppressedPackets: Number(summary.suppressedPackets),
  };
}
