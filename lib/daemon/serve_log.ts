/**
 * The log of a server, wherever it is: for commands, for facts, and how far behind it is.
 *
 * ```
 * commands ─▶ append ─▶ broker                          away: refused with the reason
 * facts ────▶ record ─▶ broker, or the spool on disk     away: spooled, stored when it is back
 * ```
 *
 * With SQLite both are one, and nothing is ever behind. With JetStream a command that the broker
 * did not confirm is not kept anywhere: it fails, and who asked is told so.
 *
 * @module
 */
import type { EventLog, LogAwayError } from "#lib/eventlog/mod.ts";
import type { JetStreamEventLog } from "#lib/eventlog/mod_shell.ts";
import type { LogStanding } from "#lib/http/mod.ts";
import { reasonOf, RunError } from "./cell_order.ts";
import type { Settings } from "./config.ts";
import { cannotOpen, openBrokerLog, openEventLog } from "./log_store.ts";

/** How often the stream is asked for its end, in milliseconds. */
const LOOK_MS = 1000;
/** Looks at a stream that ends before the state until that is believed. */
const SHORT_LOOKS = 3;
/** How often a wait for the broker looks again, in milliseconds. */
const WAIT_MS = 50;

/** Where facts go: they are durable when it resolves, in the log or on their way there. */
export type FactLog = Pick<EventLog, "append">;

/** Whether an append failed because a broker is away. */
export function isAway(error: unknown): error is LogAwayError {
  return error instanceof Error && error.name === "LogAwayError";
}

/** Whether a command that failed may be in the log all the same. */
export function isUnconfirmed(error: unknown): boolean {
  return isAway(error) && error.isUnconfirmed;
}

/** See the module. */
export class ServeLog {
  /** For commands and for reading. */
  readonly log: EventLog;
  /** For facts. Numbers are 0 where they are not known yet. */
  readonly facts: FactLog;
  readonly #broker: JetStreamEventLog | undefined;
  readonly #onWarning: (text: string) => void;
  #cursor: () => number = () => 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isClosed = false;
  #lastSeq: number | undefined;
  #wasAway: boolean | undefined;
  #toldDrift = "";
  #shortLooks = 0;

  /** Opens the log; a broker may be away. Rejects with {@link RunError}. */
  static async open(
    settings: Settings,
    source: string,
    onWarning: (text: string) => void,
  ): Promise<ServeLog> {
    if (settings.log === undefined) {
      return new ServeLog(await openEventLog(settings), undefined, onWarning);
    }
    const { spoolDir, spoolBytes } = settings.log;
    try {
      Deno.mkdirSync(spoolDir, { recursive: true, mode: 0o700 });
      const broker = await openBrokerLog(settings.log, {
        source,
        spoolPath: `${spoolDir}/spool`,
        spoolBytes,
        mayBeAway: true,
        onUnreadable: (seq, problems) =>
          onWarning(`Message ${seq} of the stream is no event, and is skipped: ${problems[0]}`),
      });
      return new ServeLog(broker, broker, onWarning);
    } catch (cause) {
      throw cannotOpen(settings, cause);
    }
  }

  private constructor(
    log: EventLog,
    broker: JetStreamEventLog | undefined,
    onWarning: (text: string) => void,
  ) {
    this.log = log;
    this.#broker = broker;
    this.#onWarning = onWarning;
    this.facts = broker === undefined ? log : { append: (events) => record(broker, events) };
    if (broker !== undefined) void this.#look();
  }

  /** Whether the state can be read: the broker is there, and nothing waits on the disk. */
  get isReady(): boolean {
    const behind = this.#broker?.behind();
    return behind === undefined || behind.connected && behind.spooled + behind.lost === 0;
  }

  /** Why commands are not taken; `undefined` where they are. */
  get failure(): Error | undefined {
    const broker = this.#broker;
    if (broker === undefined) return undefined;
    const { connected, lastError } = broker.behind();
    if (!connected) return new Error(`the broker is away (${lastError ?? "connecting"})`);
    if (this.#shortLooks < SHORT_LOOKS) return undefined;
    return new Error("the stream ends before what the state has: it is another, or was set back");
  }

  /** Events that wait on this host's disk. */
  get spooled(): number {
    return this.#broker?.behind().spooled ?? 0;
  }

  /** How the log stands to its broker; `undefined` where it has none. */
  get standing(): LogStanding | undefined {
    const broker = this.#broker;
    if (broker === undefined) return undefined;
    const behind = broker.behind();
    const lag = this.#lastSeq === undefined ? 0 : Math.max(0, this.#lastSeq - this.#cursor());
    return {
      connected: behind.connected,
      spooledEvents: behind.spooled,
      spooledBytes: behind.spooledBytes,
      spoolCapacityBytes: behind.spoolCapacityBytes,
      lostEvents: behind.lost,
      lagEvents: lag,
      drift: broker.drift(),
      ...(behind.lastError === undefined ? {} : { error: behind.lastError }),
    };
  }

  /** From now on the state's cursor is compared with the stream's end. */
  watch(cursor: () => number): void {
    this.#cursor = cursor;
  }

  /**
   * Waits until {@link ServeLog.isReady}. Ends early with the signal, and rejects with
   * {@link RunError} where the broker refuses our credentials.
   */
  async ready(signal: AbortSignal): Promise<void> {
    while (!this.isReady && !signal.aborted) {
      const { isRefused, lastError } = this.#broker!.behind();
      if (isRefused) throw new RunError(`Cannot open the event log: ${lastError}`);
      await pause(WAIT_MS);
    }
  }

  /** Ends looking, and closes the log. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    await this.log.close();
  }

  /** Asks the stream for its end now and then, and tells what has changed. */
  async #look(): Promise<void> {
    const broker = this.#broker!;
    this.#tell(broker);
    if (broker.behind().connected) {
      // Before asking: the state may go on while the answer is on its way.
      const cursor = this.#cursor();
      try {
        const lastSeq = await broker.lastSeq();
        this.#lastSeq = lastSeq;
        this.#noteEnd(lastSeq, cursor);
      } catch (error) {
        // Gone in the meantime: that is told by the next look.
        if (!isAway(error) && !this.#isClosed) this.#onWarning(reasonOf(error));
      }
    }
    if (!this.#isClosed) this.#timer = setTimeout(() => void this.#look(), LOOK_MS);
  }

  /** A stream that is too short once may be one that is just being led anew. */
  #noteEnd(lastSeq: number, cursor: number): void {
    if (this.#shortLooks >= SHORT_LOOKS) return;
    this.#shortLooks = lastSeq < cursor ? this.#shortLooks + 1 : 0;
    if (this.#shortLooks === SHORT_LOOKS) {
      this.#onWarning(
        `The stream ends at ${lastSeq}, and the state is at ${cursor}: ` +
          "commands are refused until celld is started again, which reads the stream anew",
      );
    }
  }

  #tell(broker: JetStreamEventLog): void {
    const { connected, spooled, lost, lastError } = broker.behind();
    const waiting = `${spooled} events wait on this host's disk, ${lost} did not fit`;
    if (!connected && this.#wasAway === false) {
      this.#onWarning(`The event log is away (${lastError ?? "connecting"}); ${waiting}`);
    } else if (connected && this.#wasAway === true) {
      this.#onWarning(`The event log is back; ${waiting}`);
    }
    if (connected || this.#wasAway !== undefined) this.#wasAway = !connected;
    const drift = broker.drift().join("; ");
    if (drift !== this.#toldDrift && connected) {
      this.#toldDrift = drift;
      if (drift !== "") this.#onWarning(`The stream is not as celld would make it: ${drift}`);
    }
  }
}

async function record(
  broker: JetStreamEventLog,
  events: Parameters<EventLog["append"]>[0],
): Promise<number[]> {
  await broker.record(events);
  return events.map(() => 0);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
