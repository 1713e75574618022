/**
 * The sockets that beats come by, and one received datagram. Plain values; the shell fills them.
 *
 * @module
 */
import type { Origin } from "./origin.ts";
import type { SecureReceiver } from "./secure_receiver.ts";

/** Users that may send: `count` of them from `first` on. */
export interface UidRange {
  /** The first uid. */
  readonly first: number;
  /** How many from there on. */
  readonly count: number;
}

/** A Unix socket. On the host's, pids are the observer's; on a cell's, those of the cell. */
export interface UnixListener {
  /** Whose socket. */
  readonly kind: "host" | "cell";
  /** The cell whose socket it is. */
  readonly cell?: string;
  /** Labels that its agents get. */
  readonly labels?: Readonly<Record<string, string>>;
  /** Who may send. */
  readonly uids: readonly UidRange[];
  /** Whether systemd's notifications are taken as well. */
  readonly takesNotifications: boolean;
}

/** A UDP socket. */
export interface NetworkListener {
  /** A network. */
  readonly kind: "udp";
  /** The class that its beats get. */
  readonly origin: Origin;
  /** Opens its packets; absent where frames come in the open. */
  readonly receiver?: SecureReceiver;
}

/** Where a datagram came by. */
export type Listener = UnixListener | NetworkListener;

/** What the kernel told about a datagram; one object is filled again and again. */
export interface Datagram {
  /** Where it came by. */
  listener: Listener;
  /** The memory that it stands in. */
  bytes: Uint8Array;
  /** Where it begins. */
  offset: number;
  /** Its length, as far as there was room. */
  length: number;
  /** It was longer. */
  isTruncated: boolean;
  /** More was attached than there was room for. */
  isControlTruncated: boolean;
  /** The sender's pid in our namespace; 0 where the kernel cannot say. */
  pid: number;
  /** The sender's uid; -1 where the kernel told none. */
  uid: number;
  /** Key of the sender's address, on a network; see `addressKey`. */
  address: number | string;
  /** When it was received. */
  nowNs: number;
}

/** What is known of a process; 0 is not known. */
export interface SenderFacts {
  /** Inode of its pid namespace. */
  readonly nsInode: number;
  /** Its start time. */
  readonly generation: number;
  /** Its pid as it sees itself. */
  readonly innermostPid: number;
  /** The name of its program. */
  readonly name?: string;
  /** Its cgroup. */
  readonly cgroup?: string;
}

/** The observer's questions about processes; asked only after the rate limits. */
export interface ProcessPort {
  /** What is known of the process; held until it ends where that can be told. */
  identify(pid: number): SenderFacts;
  /** The start time of whoever has the pid now; 0 where it cannot be read. */
  generationOf(pid: number): number;
  /** The agent is tracked no more: what is held of it may go. */
  forget(pid: number): void;
}

/** Whether an uid may send by a socket. */
export function maySend(listener: UnixListener, uid: number): boolean {
  const unsigned = uid >>> 0;
  for (const { first, count } of listener.uids) {
    if (unsigned >= first && unsigned - first < count) return true;
  }
  return false;
}
