/**
 * One host as its own events tell it.
 *
 * @module
 */
import { countOf, type Fields, textOf, textsOf } from "./fields.ts";

/** celld on a host. What is not known is absent; never changed, an event makes a new object. */
export interface Host {
  /** Host name. */
  readonly id: string;
  /** Whether celld runs there, as far as it said. */
  readonly state: "up" | "down";
  /** celld's version. */
  readonly version?: string;
  /** Its process. */
  readonly pid?: number;
  /** When it started last. */
  readonly startedAt?: string;
  /** When it stopped last. */
  readonly stoppedAt?: string;
  /** Why it stopped. */
  readonly stopReason?: string;
  /** How often each worker died since celld started. */
  readonly workerRestarts: Readonly<Record<string, number>>;
  /** What its last start found. */
  readonly recovery?: {
    /** Cells that run on. */
    readonly adopted: readonly string[];
    /** Cells whose leftovers were removed. */
    readonly removed: readonly string[];
    /** When. */
    readonly at?: string;
  };
  /** Place of the last event that changed it. */
  readonly seq: number;
}

/** More workers than this are not told apart. */
const WORKERS_MAX = 64;

/** Which event about a host. */
export type HostFactKind = "started" | "stopped" | "workerRestarted" | "recovered";

/** An event about a host, taken apart. */
export interface HostFact {
  /** What happened. */
  readonly kind: HostFactKind;
  /** The event's data. */
  readonly data: Fields;
  /** The event's time. */
  readonly time: string | undefined;
  /** The event's place in the log. */
  readonly seq: number;
}

/** A host of which nothing is known but that an event names it. */
export function newHost(id: string, seq: number): Host {
  return { id, state: "up", workerRestarts: {}, seq };
}

/** The host after an event. */
export function evolveHost(host: Host, { kind, data, time, seq }: HostFact): Host {
  const pid = countOf(data, "pid");
  const known = { ...host, seq };
  switch (kind) {
    case "started": {
      const version = textOf(data, "version");
      return {
        ...known,
        state: "up",
        workerRestarts: {},
        ...(version === undefined ? {} : { version }),
        ...(pid === undefined ? {} : { pid }),
        ...(time === undefined ? {} : { startedAt: time }),
      };
    }
    case "stopped": {
      // Of two on one host, such as a `celld run` beside a server, only the known one counts.
      if (host.pid !== undefined && pid !== undefined && host.pid !== pid) return host;
      const stopReason = textOf(data, "reason");
      return {
        ...known,
        state: "down",
        ...(stopReason === undefined ? {} : { stopReason }),
        ...(time === undefined ? {} : { stoppedAt: time }),
      };
    }
    case "workerRestarted": {
      const worker = textOf(data, "worker") ?? "";
      const restarts = countOf(data, "restarts") ?? 0;
      const isKnown = Object.hasOwn(host.workerRestarts, worker);
      if (!isKnown && Object.keys(host.workerRestarts).length >= WORKERS_MAX) return known;
      return { ...known, workerRestarts: { ...host.workerRestarts, [worker]: restarts } };
    }
    case "recovered":
      return {
        ...known,
        recovery: {
          adopted: textsOf(data, "adopted"),
          removed: textsOf(data, "removed"),
          ...(time === undefined ? {} : { at: time }),
        },
      };
  }
}
