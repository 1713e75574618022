/**
 * The observer: datagrams in, transitions of agents out.
 *
 *   control data whole ─▶ length ─▶ credentials ─▶ uid ─▶ decode ─▶ pid possible ─▶ pid as the kernel says
 *     ─▶ rate limits ─▶ who it is (/proc) ─▶ pid namespace ─▶ tracker ─▶ transitions
 *
 * On a cell's socket the frame's pid must be the sender's innermost one, which only `/proc` knows: there
 * that rule comes after the limits, which count by the kernel's pid.
 *
 * Pure: no clock, no I/O; what it must know of processes it asks of a {@link ProcessPort}. Times are
 * nanoseconds of the caller's clock. Nothing a sender does throws, and a flood of refusals is told
 * by a bounded number of events, the rest counted.
 *
 * @module
 */
import { AgentDirectory, type AgentRow, newRecord, type Sender } from "./agent_directory.ts";
import type { AgentEvent, GoneReason } from "./agent_events.ts";
import { BeatLimits } from "./beat_limits.ts";
import {
  type Datagram,
  maySend,
  type NetworkListener,
  type ProcessPort,
  type SenderFacts,
  type UnixListener,
} from "./listener.ts";
import { looksLikeNotification, parseNotification } from "./notify.ts";
import {
  agentOf,
  effectiveThreshold,
  fillBeat,
  isSignOfLife,
  noteNotification,
  saysMore,
} from "./notify_dialect.ts";
import { type CounterTable, counterTable, ObserverCounters } from "./observer_counters.ts";
import { type BeatSink, type ObserverOptions, STALLS_PER_TICK } from "./observer_options.ts";
import { ORIGIN, type Origin } from "./origin.ts";
import type { SecureReceiver } from "./secure_receiver.ts";
import { type AgentIdentity, checkThresholds, Expectations, thresholdOf } from "./thresholds.ts";
import { Tracker } from "./tracker.ts";
import { REMOVAL } from "./tracker_counters.ts";
import {
  type BeatInput,
  isAccepted,
  isNewAgent,
  isTerminalNonce,
  UPDATE,
  type UpdateCode,
} from "./tracker_rules.ts";
import { Transitions } from "./transitions.ts";
import { DECODE, decodeFrame, type DecodeResult, FRAME_BYTES, VlpFrame } from "./vlp_frame.ts";

/** The observer's rules. */
export class Observer {
  /** Counts since the start. */
  readonly counters: ObserverCounters = new ObserverCounters();
  /** The agents' slots. */
  readonly tracker: Tracker;
  /** Who is expected. */
  readonly expectations: Expectations;
  /** Called with each accepted beat. */
  onBeat: BeatSink | undefined;
  /** The highest pid that the kernel gives; to be read again now and then. */
  pidMax: number;

  readonly #options: ObserverOptions;
  readonly #processes: ProcessPort;
  readonly #directory: AgentDirectory;
  readonly #transitions: Transitions;
  readonly #limits: BeatLimits;
  readonly #receivers = new Set<SecureReceiver>();
  /** Thresholds that cells ask for; they come before every rule. */
  readonly #cellThresholds = new Map<string, number>();
  readonly #frame = new VlpFrame();
  readonly #beat: BeatInput = {
    pid: 0,
    status: 0,
    nonceHi: 0,
    nonceLo: 0,
    timestampHi: 0,
    timestampLo: 0,
    payload: 0,
    origin: ORIGIN.networkUnverified,
    namespaceInode: 0,
    generation: 0,
  };

  /** Tells `tell` of each transition. Throws `RangeError` for options out of range. */
  constructor(
    options: ObserverOptions,
    processes: ProcessPort,
    tell: (event: AgentEvent) => void,
  ) {
    checkThresholds(options.thresholds ?? [], options.thresholdNs);
    this.#options = options;
    this.#processes = processes;
    this.pidMax = options.pidMax;
    this.tracker = new Tracker(options);
    this.expectations = new Expectations(options.expected ?? []);
    this.#directory = new AgentDirectory(this.tracker);
    this.#transitions = new Transitions(this.tracker, this.#directory, this.counters, tell);
    this.#limits = new BeatLimits(options, this.tracker, this.counters);
  }

  /** Takes one datagram in. */
  handle(datagram: Readonly<Datagram>): void {
    const { listener } = datagram;
    if (listener.kind === "udp") this.#handleNetwork(datagram, listener);
    else this.#handleUnix(datagram, listener);
  }

  /** Tells what is due: stalls, at most `max`, delayed changes, expected agents that did not come. */
  tick(nowNs: number, max: number = STALLS_PER_TICK): void {
    this.tracker.drainStalled(
      nowNs,
      (slot) => this.#transitions.state("stalled", this.tracker.slots.pid(slot), nowNs),
      max,
      (pid) => this.#processes.generationOf(pid),
    );
    this.#transitions.flush(nowNs);
    for (const { match, withinNs } of this.expectations.takeMissing(nowNs)) {
      this.#transitions.missing(match, withinNs, nowNs);
    }
    this.#forgetRemoved(nowNs);
  }

  /** When {@link Observer.tick} should be called; `undefined` where nothing can become due. */
  nextDeadlineNs(): number | undefined {
    const least = Math.min(
      this.tracker.nextDeadlineNs() ?? Infinity,
      this.expectations.nextDeadlineNs() ?? Infinity,
      this.#transitions.dueNs,
    );
    return least === Infinity ? undefined : least;
  }

  /** The kernel says that a process has ended. */
  processEnded(hostPid: number, nowNs: number): void {
    const isStopping = this.#directory.get(hostPid)?.isStopping === true;
    this.#removeAgent(hostPid, nowNs, isStopping ? "stopped" : "exit");
  }

  /** The silence that is a stall for a cell's agents that come from now on. */
  setCellThreshold(cell: string, thresholdNs: number): void {
    this.#cellThresholds.set(cell, thresholdNs);
  }

  /** A cell is gone: nothing is expected of it any more. */
  removeCell(cell: string, nowNs: number): void {
    this.expectations.forgetCell(cell);
    this.#cellThresholds.delete(cell);
    for (const pid of this.#directory.pidsOfCell(cell)) {
      this.#removeAgent(pid, nowNs, "cellRemoved");
    }
  }

  /** All agents as they are now. */
  rows(nowNs: number): AgentRow[] {
    return this.#directory.rows(nowNs);
  }

  /** All counts by metric name. */
  counterTable(): CounterTable {
    const secure = [...this.#receivers].map((receiver) => receiver.counters);
    return counterTable(this.counters, this.tracker.counters, secure);
  }

  #handleNetwork(datagram: Readonly<Datagram>, listener: NetworkListener): void {
    const { bytes, offset, length, nowNs } = datagram;
    const { receiver, origin } = listener;
    let frame = this.#frame;
    if (receiver === undefined) {
      if (datagram.isTruncated || length !== FRAME_BYTES) {
        this.counters.truncated += 1;
        return;
      }
      if (!this.#isGood(decodeFrame(bytes, offset, frame), nowNs)) return;
    } else {
      this.#receivers.add(receiver);
      const packet = bytes.subarray(offset, offset + length);
      if (receiver.open(packet, datagram.address, nowNs, this.pidMax) !== "frame") return;
      if (!this.#isGood(receiver.decoded, nowNs)) return;
      frame = receiver.frame;
    }
    if (!this.#isPossible(frame.pid)) return;
    this.#fill(frame, frame.pid, origin);
    if (this.#limits.passes(this.#beat, nowNs)) {
      this.#take({ framePid: frame.pid, uid: -1 }, nowNs);
    }
  }

  #handleUnix(datagram: Readonly<Datagram>, listener: UnixListener): void {
    const { bytes, offset, length, nowNs, pid, uid } = datagram;
    if (datagram.isControlTruncated) {
      this.counters.ctrlTruncated += 1;
      return;
    }
    const isFrame = length === FRAME_BYTES && !datagram.isTruncated;
    const isNotification = listener.takesNotifications && (!isFrame || bytes[offset] !== 0x56) &&
      looksLikeNotification(bytes.subarray(offset, offset + length));
    if (!isFrame && !isNotification) {
      this.counters.truncated += 1;
      return;
    }
    if (!this.#isFromUser(datagram, listener)) return;
    if (isNotification) return this.#handleNotification(datagram, listener);
    const frame = this.#frame;
    if (!this.#isGood(decodeFrame(bytes, offset, frame), nowNs)) return;
    if (!this.#isPossible(frame.pid)) return;
    if (listener.kind === "host" && pid !== 0 && frame.pid !== pid) {
      return this.#refusePid(datagram);
    }
    const origin = pid === 0 ? ORIGIN.socketModeOnly : ORIGIN.kernelAttested;
    this.#fill(frame, pid === 0 ? frame.pid : pid, origin);
    if (!this.#limits.passes(this.#beat, nowNs)) return;
    const sender = { listener, framePid: frame.pid, uid };
    if (pid === 0) return this.#take(sender, nowNs);
    const facts = this.#processes.identify(pid);
    if (this.#isOfItsNamespace(datagram, listener, facts)) {
      this.#take({ ...sender, facts }, nowNs);
    }
  }

  #isFromUser(datagram: Readonly<Datagram>, listener: UnixListener): boolean {
    const { pid, uid } = datagram;
    // A cell's pids mean nothing outside it: without the kernel's word there is no agent.
    if (uid === -1 || (pid === 0 && listener.kind === "cell")) {
      this.counters.ioErrors += 1;
      return false;
    }
    if (maySend(listener, uid)) return true;
    this.counters.ioErrors += 1;
    this.counters.uidRefused += 1;
    this.#transitions.conflict("uid", pid, datagram, datagram.nowNs);
    return false;
  }

  /** The namespace rule of the host's socket; on a cell's, the pid rule. */
  #isOfItsNamespace(
    datagram: Readonly<Datagram>,
    listener: UnixListener,
    facts: SenderFacts,
  ): boolean {
    this.#beat.namespaceInode = facts.nsInode;
    this.#beat.generation = facts.generation;
    if (listener.kind === "cell") {
      // One that ended before it could be looked at cannot show who it was.
      if (facts.innermostPid === this.#frame.pid) return true;
      this.#refusePid(datagram);
      return false;
    }
    const own = this.#options.nsInode;
    if (this.#options.allowsCrossNamespace === true) return true;
    if (own === 0 || facts.nsInode === 0 || facts.nsInode === own) return true;
    this.counters.namespaceMismatches += 1;
    this.#transitions.conflict("namespace", this.#frame.pid, datagram, datagram.nowNs);
    return false;
  }

  #handleNotification(datagram: Readonly<Datagram>, listener: UnixListener): void {
    const { bytes, offset, length, nowNs, uid } = datagram;
    const said = datagram.isTruncated
      ? undefined
      : parseNotification(bytes.subarray(offset, offset + length));
    if (said === undefined) {
      this.counters.truncated += 1;
      return;
    }
    this.counters.notifications += 1;
    this.counters.notifyBadLines += said.badLines.length;
    if (datagram.pid === 0) {
      this.counters.ioErrors += 1;
      return;
    }
    const beat = this.#beat;
    fillBeat(beat, said, datagram.pid, this.#directory.get(datagram.pid), this.tracker);
    if (!this.#limits.passes(beat, nowNs, saysMore(said))) return;
    const { nsInode } = this.#options;
    const { pid, facts, isRefused } = agentOf(said, datagram, listener, nsInode, this.#processes);
    if (isRefused) {
      this.counters.mainPidRefused += 1;
      this.#transitions.conflict("mainPid", said.mainPid!, datagram, nowNs);
    }
    const before = this.#directory.get(pid);
    if (before === undefined || (!before.hasFrames && isSignOfLife(said))) {
      fillBeat(beat, said, pid, before, this.tracker);
      beat.namespaceInode = facts.nsInode;
      beat.generation = facts.generation;
      const framePid = facts.innermostPid === 0 ? pid : facts.innermostPid;
      this.#take({ listener, framePid, uid, facts, isSupervised: false }, nowNs);
    }
    const agent = this.#directory.get(pid);
    if (agent === undefined) return;
    agent.notifications = Math.max(agent.notifications, beat.nonceLo);
    noteNotification(agent, said, this.tracker, this.#ruleThreshold(agent), this.counters);
  }

  #fill(frame: Readonly<VlpFrame>, pid: number, origin: Origin): void {
    const beat = this.#beat;
    beat.pid = pid;
    beat.status = frame.status;
    beat.nonceHi = frame.nonceHi;
    beat.nonceLo = frame.nonceLo;
    beat.timestampHi = frame.timestampHi;
    beat.timestampLo = frame.timestampLo;
    beat.payload = frame.payload;
    beat.origin = origin;
    beat.namespaceInode = 0;
    beat.generation = 0;
  }

  /** Gives the beat to the tracker, and tells what comes of it. */
  #take(sender: Sender, nowNs: number): void {
    const beat = this.#beat;
    const { pid } = beat;
    const code = this.tracker.record(beat, nowNs);
    if (!isAccepted(code)) return this.#tellRefusal(code, sender, nowNs);
    if (isNewAgent(code)) {
      // A slot that starts anew for another process: the old one is gone, though nobody saw it go.
      const old = this.#directory.get(pid);
      this.#directory.delete(pid);
      if (code === UPDATE.recycled && old?.told !== undefined) {
        this.#transitions.goneAs(old.told, nowNs, "recycled");
      }
      this.#forgetRemoved(nowNs);
      this.#welcome(sender, nowNs);
    } else {
      if (this.tracker.wasStalled) this.#transitions.state("resumed", pid, nowNs);
      if (this.tracker.previousStatus !== beat.status) this.#transitions.changed(pid, nowNs);
      else if (isTerminalNonce(beat.nonceHi, beat.nonceLo)) this.#transitions.critical(pid, nowNs);
    }
    this.counters.beats += 1;
    this.onBeat?.(beat, nowNs);
  }

  #welcome(sender: Readonly<Sender>, nowNs: number): void {
    const record = newRecord(this.#beat.pid, sender, nowNs);
    this.#directory.set(record);
    this.expectations.meet(record);
    const ruleNs = this.#ruleThreshold(record);
    this.tracker.setThreshold(record.hostPid, effectiveThreshold(record, ruleNs));
    this.#transitions.seen(record.hostPid, nowNs);
  }

  #ruleThreshold(agent: AgentIdentity): number {
    const ofCell = this.#cellThresholds.get(agent.cell ?? "");
    return ofCell ?? thresholdOf(agent, this.#options.thresholds ?? [], this.#options.thresholdNs);
  }

  #tellRefusal(code: UpdateCode, { listener, uid }: Sender, nowNs: number): void {
    if (code !== UPDATE.originConflict && code !== UPDATE.namespaceConflict) return;
    const reason = code === UPDATE.originConflict ? "origin" : "namespace";
    const { pid, origin } = this.#beat;
    const hostPid = origin === ORIGIN.kernelAttested ? pid : 0;
    const from = listener === undefined ? {} : { listener };
    this.#transitions.conflict(reason, pid, { pid: hostPid, uid, ...from }, nowNs);
  }

  #refusePid(datagram: Readonly<Datagram>): void {
    this.counters.authFailures += 1;
    this.#limits.charge(datagram.nowNs);
    this.#transitions.conflict("pid", this.#frame.pid, datagram, datagram.nowNs);
  }

  #isGood(result: DecodeResult, nowNs: number): boolean {
    if (result === DECODE.ok) return true;
    this.counters.decodeErrors[result]! += 1;
    this.#limits.charge(nowNs);
    return false;
  }

  #isPossible(pid: number): boolean {
    if (pid <= this.pidMax) return true;
    this.counters.pidAboveMax += 1;
    return false;
  }

  /** Cleans up after agents that the tracker gave up by itself. */
  #forgetRemoved(nowNs: number): void {
    this.tracker.drainRemoved((pid, reason) => {
      if (reason === REMOVAL.removed || this.#directory.get(pid) === undefined) return;
      this.#transitions.gone(pid, nowNs, reason === REMOVAL.evicted ? "evicted" : "recycled");
      this.#directory.delete(pid);
      this.#processes.forget(pid);
    });
  }

  #removeAgent(hostPid: number, nowNs: number, reason: GoneReason): void {
    this.#transitions.gone(hostPid, nowNs, reason);
    this.tracker.remove(hostPid);
    this.#directory.delete(hostPid);
    this.#processes.forget(hostPid);
  }
}
