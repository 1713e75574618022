/**
 * What a command may touch besides its ports: its streams, the terminal behind them, the
 * environment, signals. `main.ts` gives the process's own; a test gives buffers.
 *
 * Writing is synchronous: a reader that does not keep up slows the writer down, as in any
 * program of a pipeline, and nothing is lost when the process exits.
 *
 * @module
 */

/** The outside of a command. */
export interface CliIo {
  /** Writes all bytes, or throws {@link ReaderGoneError}. */
  writeOut(text: string | Uint8Array): void;
  /** As {@link CliIo.writeOut}, to stderr. */
  writeErr(text: string | Uint8Array): void;
  /** Whether stdout is a terminal. */
  readonly outIsTerminal: boolean;
  /** Whether stderr is a terminal. */
  readonly errIsTerminal: boolean;
  /** Characters of a terminal's line; absent where there is no terminal. */
  readonly width: number | undefined;
  /** The environment. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The text of a file; throws a `UsageError` that says what is wrong with it. */
  readFile(path: string): Promise<string>;
  /** The bytes of a file, or of stdin for `-`, as they are read; throws a `UsageError`. */
  readChunks(path: string): AsyncIterable<Uint8Array<ArrayBuffer>>;
  /** All of stdin as text, at most `sizeBytesMax`. */
  readStdin(sizeBytesMax: number): Promise<string>;
  /** Opens a file to append lines to; `write` throws when the disk refuses. */
  openAppend(path: string): { write(text: string): void; close(): void };
  /**
   * Calls back on each of these signals until the returned function is called.
   *
   * @param signals By default those that end a program: SIGINT, SIGTERM and SIGHUP.
   */
  onSignal(handle: (signal: string) => void, signals?: readonly Deno.Signal[]): () => void;
  /** Wall-clock milliseconds, for `--since 10m`. */
  nowMs(): number;
}

/** Whoever read our output closed it; the command stops quietly. */
export class ReaderGoneError extends Error {
  /** For logs. */
  override name = "ReaderGoneError";
  /** As a program ended by SIGPIPE. */
  readonly exitCode = 141;
}
