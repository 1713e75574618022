/**
 * Notifications as beats: what a line of systemd's protocol means to the observer.
 *
 * - The agent is the process that the kernel names as the sender; or the one of `MAINPID`, where the
 *   sender is root or lives in the same cgroup, and both live in the observer's pid namespace. On a cell's
 *   socket `MAINPID` can only name the sender itself: the cell's numbers mean nothing outside.
 * - `READY`, `RELOADING` and `WATCHDOG` are signs of life. `WATCHDOG=trigger` is critical, an `ERRNO` is
 *   degraded. `STATUS` is kept as text.
 * - Silence means something only after the first `WATCHDOG`, or `WATCHDOG_USEC`, which is then the
 *   threshold; and no more after `STOPPING`.
 * - An agent that sends frames as well is judged by its frames.
 *
 * Pure.
 *
 * @module
 */
import type { AgentRecord } from "./agent_directory.ts";
import type { Datagram, ProcessPort, SenderFacts, UnixListener } from "./listener.ts";
import type { Notification } from "./notify.ts";
import type { ObserverCounters } from "./observer_counters.ts";
import { ORIGIN } from "./origin.ts";
import { THRESHOLD_NS_MIN } from "./thresholds.ts";
import { MAX_THRESHOLD_NS, type Tracker } from "./tracker.ts";
import type { BeatInput } from "./tracker_rules.ts";
import { STATUS } from "./vlp_frame.ts";

/** Who a notification is about. */
export interface NotifiedAgent {
  /** The agent. */
  readonly pid: number;
  /** What is known of it. */
  readonly facts: SenderFacts;
  /** It named a main process that it may not speak for. */
  readonly isRefused: boolean;
}

/** Fills a beat from a notification; the counter of the agent's notifications is its nonce. */
export function fillBeat(
  beat: BeatInput,
  said: Notification,
  pid: number,
  record: Readonly<AgentRecord> | undefined,
  tracker: Tracker,
): void {
  const slot = tracker.slotOf(pid);
  const nonce = (record?.notifications ?? 0) + 1;
  beat.pid = pid;
  beat.status = statusOf(said, slot < 0 ? STATUS.ok : tracker.slots.status(slot));
  beat.nonceHi = 0;
  beat.nonceLo = nonce;
  beat.timestampHi = 0;
  beat.timestampLo = nonce;
  beat.payload = 0;
  beat.origin = ORIGIN.kernelAttested;
  beat.namespaceInode = 0;
  beat.generation = 0;
}

/** Whether a notification is a sign of life. */
export function isSignOfLife(said: Notification): boolean {
  return said.ready === true || said.reloading === true || said.watchdog !== undefined;
}

/** Whether it says more than that the agent lives, and so is not dropped for coming too soon. */
export function saysMore(said: Notification): boolean {
  return said.watchdog !== "ping" || said.stopping === true || said.status !== undefined ||
    said.mainPid !== undefined || said.watchdogUsec !== undefined;
}

/** The agent that a notification is about. */
export function agentOf(
  said: Notification,
  datagram: Readonly<Datagram>,
  listener: UnixListener,
  ownNsInode: number,
  processes: ProcessPort,
): NotifiedAgent {
  const { pid, uid } = datagram;
  const facts = processes.identify(pid);
  const isSelf = said.mainPid === undefined ||
    said.mainPid === (listener.kind === "cell" ? facts.innermostPid : pid);
  if (isSelf) return { pid, facts, isRefused: false };
  if (listener.kind === "host") {
    const main = processes.identify(said.mainPid!);
    const isOurs = main.nsInode !== 0 && main.nsInode === ownNsInode &&
      facts.nsInode === ownNsInode;
    const isTrusted = uid === 0 || (main.cgroup !== undefined && main.cgroup === facts.cgroup);
    if (isOurs && isTrusted) return { pid: said.mainPid!, facts: main, isRefused: false };
  }
  return { pid, facts, isRefused: true };
}

/** Keeps what a notification says beside the beat, and sets the agent's threshold by it. */
export function noteNotification(
  record: AgentRecord,
  said: Notification,
  tracker: Tracker,
  ruleNs: number,
  counters: ObserverCounters,
): void {
  if (said.status !== undefined) {
    if (said.status === "") delete record.statusText;
    else record.statusText = said.status;
  }
  if (said.stopping === true) record.isStopping = true;
  if (said.watchdog !== undefined) record.isSupervised = true;
  if (said.watchdogUsec !== undefined) {
    record.isSupervised = said.watchdogUsec > 0;
    const wantedNs = said.watchdogUsec * 1000;
    record.ownThresholdNs = Math.min(MAX_THRESHOLD_NS, Math.max(THRESHOLD_NS_MIN, wantedNs));
  }
  tracker.setThreshold(record.hostPid, effectiveThreshold(record, ruleNs));
  if (said.fdStore === true) counters.notifyFdStores += 1;
}

/** The threshold in effect, where the rules say `ruleNs`. */
export function effectiveThreshold(record: Readonly<AgentRecord>, ruleNs: number): number {
  if (!record.isSupervised || record.isStopping) return MAX_THRESHOLD_NS;
  return record.ownThresholdNs ?? ruleNs;
}

function statusOf(said: Notification, current: number): number {
  if (said.watchdog === "trigger") return STATUS.critical;
  if (said.errno !== undefined && said.errno > 0) return STATUS.degraded;
  return isSignOfLife(said) ? STATUS.ok : current;
}
