/**
 * One cell as the host worker holds it: what each step makes, and how it is undone.
 *
 *   lease ─▶ netns ─▶ network ─▶ cgroup ─▶ ruleset ─▶ secrets ─▶ launch
 *     ◀─ undo in reverse; each undo may be asked for again, and for a step never done
 *
 * It decides nothing: order, retries and what a failure means are the lifecycle's. It runs
 * on the host worker's thread, whose network namespace is the host's.
 *
 * A served cell writes down how far it has come, so that another celld can go on with it:
 * {@link HostCell.adopt} opens again what that had open, and changes nothing that holds the cell.
 *
 * @module
 */
import {
  type Cgroup,
  type CgroupLayout,
  createCgroup,
  createNetns,
  encodeTable,
  type Fd,
  NetlinkConn,
  NftConn,
  type NftTable,
  withNetns,
} from "#ffi/mod.ts";
import type { CellRecordFile } from "./adopt.ts";
import { RecordKeeper } from "./adopt_record_shell.ts";
import { reopenCell } from "./adopt_open_shell.ts";
import { archiveCell, noteEnd, readCellRecord } from "./adopt_shell.ts";
import { configureCellNetns } from "./cell_netns_shell.ts";
import type { HostNetwork } from "./host_network_shell.ts";
import type {
  AdoptedCell,
  CellCounters,
  CellExit,
  CellOrder,
  ExecOrder,
  HostSettings,
  HostStep,
  StepFacts,
  StepOrder,
} from "./host_protocol.ts";
import { chooseLease, leaseUid } from "./lease.ts";
import { networkIndexMax, type NetworkPlan, planNetwork } from "./network_plan.ts";
import { cellCgroupPath, type CellPaths, cellPaths, type RuntimePaths } from "./paths.ts";
import { type ExecNotices, ExecShell } from "./exec_shell.ts";
import { endAbandonedTrees } from "./exec_tree_shell.ts";
import { makePolicy, needsNetwork, type Policy } from "./policy.ts";
import { type ProcessNotices, type ProcessOptions, ProcessShell } from "./process_shell.ts";
import { cellTable, cellTableName } from "./ruleset.ts";
import {
  claimCellDirectory,
  lastLeased,
  leasedIndexes,
  removeCellDirectory,
  removeLease,
  withRuntimeLock,
  writeLease,
} from "./runtime_shell.ts";
import { removeSecrets, writeSecrets } from "./secrets_shell.ts";
import type { Watcher } from "./watcher_shell.ts";

/** What all cells of a worker share. */
export interface HostContext {
  readonly settings: HostSettings;
  readonly paths: RuntimePaths;
  readonly network: HostNetwork;
  readonly cgroups: CgroupLayout;
  readonly watcher: Watcher;
}

/** See the module. */
export class HostCell {
  readonly order: CellOrder;
  readonly #context: HostContext;
  readonly #paths: CellPaths;
  readonly #policy: Policy;
  readonly #notices: ProcessNotices;
  #lock: Fd | undefined;
  #plan: NetworkPlan | undefined;
  #netns: Fd | undefined;
  #nft: NetlinkConn | undefined;
  #cgroup: Cgroup | undefined;
  #table: NftTable | undefined;
  #process: ProcessShell | undefined;
  #hasLeftovers = false;
  /** Commands that run in the cell beside its workload, by id. */
  readonly execs: Map<string, ExecShell> = new Map();
  /** Only of a served cell. */
  #keeper: RecordKeeper | undefined;
  /** Limits that a served cell ran into, read before its cgroup goes. */
  #lastFacts: Pick<CellExit, "oomKills" | "pidsMaxHits"> = { oomKills: 0, pidsMaxHits: 0 };
  /** What the host side had dropped when its rules were removed. */
  #finalDrops: number | undefined;

  /** Makes nothing yet. */
  constructor(context: HostContext, order: CellOrder, notices: ProcessNotices) {
    this.#context = context;
    this.order = order;
    this.#paths = cellPaths(context.settings.runtimeDir, order.cellId);
    this.#policy = makePolicy(order.spec);
    this.#notices = notices;
  }

  /** The running process, once launched. */
  get process(): ProcessShell | undefined {
    return this.#process;
  }

  /** Runs a command in the cell. Throws `LaunchError` by step. */
  exec(order: ExecOrder, notices: ExecNotices): null {
    const [run, cellInit] = [this.order.spec.run, this.#process?.initPidfd];
    if (run === undefined || cellInit === undefined || this.#cgroup === undefined) {
      throw new TypeError("Cannot run a command: the cell does not run");
    }
    const { watcher } = this.#context;
    const [cgroup, uid] = [this.#cgroup, leaseUid(this.#index())];
    const exec = ExecShell.start({ order, run, cellInit, cgroup, uid, watcher, notices });
    this.execs.set(order.execId, exec);
    return null;
  }

  /** Does one step. Throws what the kernel or the file system answered. */
  async do(order: Pick<StepOrder, "step" | "acceptsToldBy">): Promise<StepFacts> {
    switch (order.step) {
      case "lease":
        return await this.#lease();
      case "netns":
        return this.#makeNetns();
      case "network":
        return this.#makeNetwork();
      case "ruleset":
        return await this.#installRulesets(order.acceptsToldBy ?? "log");
      case "cgroup":
        return this.#makeCgroup();
      case "secrets":
        writeSecrets(this.#paths.secrets, this.order, leaseUid(this.#index()));
        return {};
      case "launch":
        return this.#launch();
    }
  }

  /**
   * Undoes one step; a step that was never done needs nothing. When one cannot be undone, the
   * lease is not returned either: it is what the next start finds the rest by.
   */
  async undo(step: HostStep): Promise<void> {
    try {
      await this.#undo(step);
    } catch (cause) {
      this.#hasLeftovers = true;
      throw cause;
    }
  }

  async #undo(step: HostStep): Promise<void> {
    switch (step) {
      case "launch":
        await this.#process?.end(() => this.#cgroup?.kill());
        this.execs.forEach((exec) => exec.end());
        this.#process = undefined;
        return;
      case "secrets":
        return removeSecrets(this.#paths.secrets);
      case "cgroup":
        this.exitFacts();
        await this.#cgroup?.remove();
        this.#cgroup = undefined;
        return;
      case "ruleset":
        return await this.#removeHostRuleset();
      case "network":
        // The pair goes with the namespace, which takes less time than removing it by hand.
        return;
      case "netns":
        return await this.#removeNetns();
      case "lease":
        return await this.#returnLease();
    }
  }

  /** Counters of the cell's table and of what the host side dropped. */
  counters(): CellCounters {
    if (this.#nft === undefined || this.#table === undefined) {
      return { rules: [], table: undefined, backstopDrops: 0 };
    }
    const rules = new NftConn(this.#nft).ruleCounters(cellTableName(this.order.cellId));
    return { rules, table: this.#table, backstopDrops: this.#finalDrops ?? this.#hostDrops() };
  }

  #hostDrops(): number {
    if (this.#plan === undefined || !needsNetwork(this.#policy)) return 0;
    return this.#context.network.backstopDrops(this.#plan.index);
  }

  /** Kills every process of the cell at once. */
  kill(): void {
    this.#cgroup?.kill();
  }

  /** Closes what is open, the lock last: the cell goes on, for another celld to adopt. */
  letGo(): void {
    this.#process?.letGo();
    for (const held of [this.#nft, this.#cgroup, this.#netns, this.#lock]) held?.close();
  }

  /** What the kernel and the init know of how the workload ended. */
  exitFacts(): Pick<CellExit, "oomKills" | "pidsMaxHits"> {
    if (this.#cgroup !== undefined) this.#lastFacts = this.#cgroup.events();
    // Written down too: the cgroup may be gone before the end is told.
    if (this.#keeper?.wasLaunched) noteEnd(this.#paths, this.#lastFacts);
    return this.#lastFacts;
  }

  /**
   * Takes over a served cell that runs on without its celld: opens again what that had open, and
   * watches its process. Policy, limits, network and files are not touched. Throws where another
   * celld has it, or its process has ended meanwhile: then recovery is to look at it again.
   */
  static async adopt(
    context: HostContext,
    cellId: string,
    notices: ProcessNotices,
  ): Promise<{ cell: HostCell; facts: AdoptedCell }> {
    return await withRuntimeLock(context.paths, () => {
      const paths = cellPaths(context.settings.runtimeDir, cellId);
      const record = readCellRecord(paths.record);
      if (record === undefined) throw new TypeError(`Cannot adopt: no record of ${cellId}`);
      const { runId, spec } = record;
      const order = { cellId, runId, spec, secrets: {}, stdinFd: -1, isServed: true };
      const cell = new HostCell(context, order, notices);
      return { cell, facts: cell.#reopen(record) };
    });
  }

  #reopen(record: CellRecordFile): AdoptedCell {
    const { settings, paths, cgroups } = this.#context;
    const { cgroupParent, pools } = settings;
    const opened = reopenCell({ paths, cgroups, cgroupParent }, record);
    const { lock, cgroup, netns, nft, init, pidfd } = opened;
    [this.#lock, this.#cgroup, this.#netns, this.#nft] = [lock, cgroup, netns, nft];
    this.#plan = planNetwork(record.index, pools);
    const { acceptsToldBy = "log", hostAddresses = [] } = record.ruleset ?? {};
    this.#table = this.#tableWith(acceptsToldBy, hostAddresses);
    this.#keeper = RecordKeeper.goOn(this.#paths.record, record, init);
    endAbandonedTrees(cgroup);
    this.#process = ProcessShell.adopt(this.#processOptions(), init.pid, pidfd);
    return this.#adoptedFacts(this.#keeper.record, acceptsToldBy);
  }

  #adoptedFacts(record: CellRecordFile, acceptsToldBy: "log" | "marks"): AdoptedCell {
    const { cellId, runId, spec, index, bornAtMs, launchedAtMs = bornAtMs } = record;
    const [pid, netnsFd, v2] = [this.#process!.pid, this.#netns!.number, this.#cgroup?.v2];
    const cgroup = v2 === undefined ? {} : { cgroupFd: v2.number };
    const times = { bornAtMs, launchedAtMs };
    return { cellId, runId, spec, index, pid, netnsFd, ...cgroup, ...times, acceptsToldBy };
  }

  #index(): number {
    if (this.#plan === undefined) throw new TypeError("Cannot go on: the cell has no lease");
    return this.#plan.index;
  }

  async #lease(): Promise<StepFacts> {
    const { paths, settings } = this.#context;
    const index = await withRuntimeLock(paths, () => {
      this.#lock = claimCellDirectory(paths, this.order.cellId);
      const last = lastLeased(paths);
      const index = chooseLease({
        taken: leasedIndexes(paths),
        indexMax: networkIndexMax(settings.pools),
        ...(last === undefined ? {} : { last }),
      });
      // Before the lease: what has one has a record, if it is to have one at all.
      if (this.order.isServed === true) {
        this.#keeper = RecordKeeper.begin(this.#paths.record, this.order, index);
      }
      writeLease(paths, index, this.order.cellId);
      return index;
    });
    this.#plan = planNetwork(index, settings.pools);
    return { index };
  }

  async #returnLease(): Promise<void> {
    if (this.#lock === undefined) return;
    if (this.#hasLeftovers) {
      this.#lock.close();
      return void (this.#lock = undefined);
    }
    const { paths } = this.#context;
    const index = this.#plan?.index;
    const { cellId } = this.order;
    await withRuntimeLock(paths, () => {
      if (this.#keeper?.wasLaunched) archiveCell(paths, this.#paths, cellId);
      else removeCellDirectory(paths, cellId);
      if (index !== undefined) removeLease(paths, index);
      this.#lock?.close();
    });
    this.#lock = undefined;
    this.#plan = undefined;
  }

  #makeNetns(): StepFacts {
    this.#netns = createNetns();
    configureCellNetns(this.#netns, leaseUid(this.#index()));
    this.#nft = withNetns(this.#netns, () => NetlinkConn.open("netfilter"));
    return { netnsFd: this.#netns.number };
  }

  #makeNetwork(): StepFacts {
    const { network } = this.#context;
    if (needsNetwork(this.#policy)) network.attach(this.#plan!, this.#netns!);
    else network.attachNowhere(this.#plan!, this.#netns!);
    return {};
  }

  async #removeNetns(): Promise<void> {
    this.#nft?.close();
    this.#nft = undefined;
    this.#netns?.close();
    this.#netns = undefined;
    if (this.#plan === undefined || !needsNetwork(this.#policy)) return;
    await this.#context.network.detach(this.#plan.index);
  }

  #tableWith(acceptsToldBy: "log" | "marks", hostAddresses: readonly string[]): NftTable {
    const { settings } = this.#context;
    return cellTable(this.#policy, {
      cellId: this.order.cellId,
      nflogGroup: settings.nflogGroup,
      hostAddresses,
      pools: settings.pools,
      linkAddresses: [this.#plan!.hostIpv4, this.#plan!.hostIpv6],
      cellAddresses: [this.#plan!.cellIpv4, this.#plan!.cellIpv6],
      acceptsToldBy,
    });
  }

  async #installRulesets(acceptsToldBy: "log" | "marks"): Promise<StepFacts> {
    const { network } = this.#context;
    const hostAddresses = network.hostAddresses();
    const table = this.#tableWith(acceptsToldBy, hostAddresses);
    this.#keeper?.noteRuleset({ hostAddresses, acceptsToldBy });
    new NftConn(this.#nft!).commit(encodeTable(table));
    this.#table = table;
    if (needsNetwork(this.#policy)) await network.admit(this.#plan!, this.#policy);
    return {};
  }

  async #removeHostRuleset(): Promise<void> {
    if (this.#plan === undefined || !needsNetwork(this.#policy)) return;
    // The host's counters go with its rules; the cell's own stay until its namespace goes.
    if (this.#table !== undefined) this.#finalDrops ??= this.#hostDrops();
    await this.#context.network.expel(this.#plan.index);
  }

  #makeCgroup(): StepFacts {
    const limits = this.order.spec.run?.limits;
    const path = cellCgroupPath(this.#context.settings.cgroupParent, this.order.cellId);
    this.#cgroup = createCgroup(this.#context.cgroups, path, {
      ...(limits ? { memoryMaxBytes: limits.memoryMaxBytes, pidsMax: limits.pidsMax } : {}),
      ...(limits?.cpuMax
        ? {
          cpuQuotaMicros: limits.cpuMax.quotaMicros,
          cpuPeriodMicros: limits.cpuMax.periodMicros,
        }
        : {}),
    });
    const { v2 } = this.#cgroup;
    return v2 === undefined ? {} : { cgroupFd: v2.number };
  }

  #launch(): StepFacts {
    this.#keeper?.noteLaunching();
    try {
      this.#process = ProcessShell.launch(this.#processOptions());
    } catch (cause) {
      this.#keeper?.noteNotLaunched();
      throw cause;
    }
    this.#keeper?.noteInit(this.#process.pid);
    return { pid: this.#process.pid };
  }

  #processOptions(): ProcessOptions {
    return {
      order: this.order,
      paths: this.#paths,
      settings: this.#context.settings,
      netns: this.#netns!,
      cgroup: this.#cgroup!,
      uid: leaseUid(this.#index()),
      watcher: this.#context.watcher,
      notices: this.#notices,
    };
  }
}
