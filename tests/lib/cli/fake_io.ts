/**
 * A command line in memory: buffers for streams, functions for ports.
 *
 * @module
 */
import { type CliIo, ReaderGoneError, runCli, UsageError } from "#lib/cli/mod.ts";
import { type CliPorts, composePorts, type LogReader, type LogRow } from "#lib/daemon/mod.ts";
import { type CloudEvent, EVENT_TYPES } from "#lib/events/mod.ts";

/** The io with what was written to it. */
export interface FakeIo extends CliIo {
  readonly out: () => string;
  readonly err: () => string;
  /** Sends a signal as the operator would. */
  raise(signal: string): void;
  /** How many listeners are left. */
  readonly listenerCount: () => number;
}

/** What differs from a plain pipe. */
export interface FakeIoOptions {
  readonly isTerminal?: boolean;
  readonly width?: number;
  readonly env?: Record<string, string>;
  readonly files?: Record<string, string>;
  readonly stdin?: string;
  readonly nowMs?: number;
  /** Writes to stdout after so many bytes find nobody reading. */
  readonly readerGoneAfterBytes?: number;
}

/** Makes an io of buffers. */
export function fakeIo(options: FakeIoOptions = {}): FakeIo & { appended: Map<string, string> } {
  const decoder = new TextDecoder();
  const streams = { out: "", err: "" };
  const ending: Deno.Signal[] = ["SIGINT", "SIGTERM", "SIGHUP"];
  const handlers = new Map<(signal: string) => void, readonly string[]>();
  const appended = new Map<string, string>();
  const textOf = (chunk: string | Uint8Array) =>
    typeof chunk === "string" ? chunk : decoder.decode(chunk);
  return {
    appended,
    out: () => streams.out,
    err: () => streams.err,
    listenerCount: () => handlers.size,
    raise: (signal) =>
      handlers.forEach((signals, handle) => {
        if (signals.includes(signal)) handle(signal);
      }),
    writeOut(chunk) {
      if (streams.out.length >= (options.readerGoneAfterBytes ?? Infinity)) {
        throw new ReaderGoneError("Cannot write: the reader closed the pipe");
      }
      streams.out += textOf(chunk);
    },
    writeErr(chunk) {
      streams.err += textOf(chunk);
    },
    outIsTerminal: options.isTerminal ?? false,
    errIsTerminal: options.isTerminal ?? false,
    width: options.width,
    env: options.env ?? {},
    readFile(path) {
      const text = options.files?.[path];
      return text === undefined
        ? Promise.reject(new UsageError(`Cannot read ${JSON.stringify(path)}: no such file`))
        : Promise.resolve(text);
    },
    async *readChunks(path) {
      const text = path === "-" ? options.stdin ?? "" : await this.readFile(path);
      yield new TextEncoder().encode(text);
    },
    readStdin: () => Promise.resolve(options.stdin ?? ""),
    openAppend(path) {
      appended.set(path, "");
      return {
        write: (text) => appended.set(path, appended.get(path) + text),
        close: () => {},
      };
    },
    onSignal(handle, signals = ending) {
      handlers.set(handle, signals);
      return () => handlers.delete(handle);
    },
    nowMs: () => options.nowMs ?? 0,
  };
}

/** Runs a command line with some ports replaced; the others refuse to be used. */
export async function run(
  args: readonly string[],
  ports: Partial<CliPorts> = {},
  options: FakeIoOptions | FakeIo = {},
): Promise<{ code: number; out: string; err: string }> {
  const io = "writeOut" in options ? options : fakeIo(options);
  const unused = () => {
    throw new Error("Cannot use this port: the test gave none");
  };
  const code = await runCli(args, {
    io,
    connect: () => ({
      parseSpec: unused,
      runCell: unused,
      showPolicy: unused,
      openLog: unused,
      verifyLog: unused,
      importLog: unused,
      backupLog: unused,
      openApi: unused,
      serve: unused,
      tokens: { create: unused, list: unused, revoke: unused },
      beat: unused,
      watch: unused,
      doctor: unused,
      version: composePorts({} as never).version,
      ...ports,
    }),
  });
  return { code, out: io.out(), err: io.err() };
}

/** A decision event. */
export function decisionEvent(data: Record<string, unknown> = {}): CloudEvent {
  return {
    specversion: "1.0",
    id: "e-1",
    source: "/celld/test",
    type: EVENT_TYPES.flowDecision,
    subject: "cell:demo",
    time: "2026-05-16T14:02:11.532Z",
    data: {
      schemaVersion: "1.0.0",
      cellId: "demo",
      runId: "run-1",
      decisionId: "d-1",
      direction: "egress",
      decision: "deny",
      reasonCode: "nft_log_drop",
      nftRuleRef: "egress-default",
      srcAddr: "10.213.0.3",
      srcPort: 40000,
      dstAddr: "203.0.113.9",
      dstPort: 443,
      protocol: "tcp",
      observedAt: "2026-05-16T14:02:11.532Z",
      ...data,
    },
  };
}

/** An event of any type. */
export function eventOf(type: string, data: unknown, rest: Partial<CloudEvent> = {}): CloudEvent {
  return {
    specversion: "1.0",
    id: "e-2",
    source: "/celld/test",
    type,
    subject: "cell:demo",
    time: "2026-05-16T14:02:12Z",
    data,
    ...rest,
  };
}

/** A log of some entries; `live` come after the replay, then it waits for the abort. */
export function fakeLog(rows: readonly LogRow[], live: readonly LogRow[] = []): LogReader & {
  isClosed: () => boolean;
} {
  let closed = false;
  return {
    isClosed: () => closed,
    read: ({ since = 0, limit = Infinity }) =>
      Promise.resolve(rows.filter((row) => row.seq > since).slice(0, limit)),
    async *subscribe({ since = 0, signal }) {
      yield* [...rows, ...live].filter((row) => row.seq > since);
      await new Promise<void>((resolve) => {
        if (signal?.aborted === true) resolve();
        else signal?.addEventListener("abort", () => resolve(), { once: true });
      });
    },
    firstSeq: () => Promise.resolve(rows[0]?.seq ?? 0),
    lastSeq: () => Promise.resolve(rows.at(-1)?.seq ?? 0),
    close: () => {
      closed = true;
      return Promise.resolve();
    },
  };
}
