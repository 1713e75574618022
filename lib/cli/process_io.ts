/**
 * The process's own streams, terminal, environment and signals as a `CliIo`.
 *
 * @module
 */
import { UsageError } from "./exit_codes.ts";
import { type CliIo, ReaderGoneError } from "./io.ts";

const ENDING_SIGNALS: readonly Deno.Signal[] = ["SIGINT", "SIGTERM", "SIGHUP"];
const RETRY_MS = 5;

interface SyncWriter {
  writeSync(bytes: Uint8Array): number;
}

/** The io of this process; see {@link CliIo}. */
export function processIo(): CliIo {
  return {
    writeOut: (text) => writeAll(Deno.stdout, text),
    writeErr: (text) => writeAll(Deno.stderr, text),
    outIsTerminal: Deno.stdout.isTerminal(),
    errIsTerminal: Deno.stderr.isTerminal(),
    width: terminalWidth(),
    env: Deno.env.toObject(),
    readFile: readSpecFile,
    readChunks,
    readStdin,
    openAppend,
    onSignal,
    nowMs: () => Date.now(),
  };
}

function terminalWidth(): number | undefined {
  if (!Deno.stdout.isTerminal() && !Deno.stderr.isTerminal()) return undefined;
  try {
    const { columns } = Deno.consoleSize();
    return columns > 0 ? columns : undefined;
  } catch {
    // A terminal that does not tell its size: nothing is cut.
    return undefined;
  }
}

function writeAll(writer: SyncWriter, text: string | Uint8Array): void {
  let bytes = typeof text === "string" ? new TextEncoder().encode(text) : text;
  while (bytes.length > 0) {
    try {
      bytes = bytes.subarray(writer.writeSync(bytes));
    } catch (error) {
      if (error instanceof Deno.errors.BrokenPipe) {
        throw new ReaderGoneError("Cannot write: the reader closed the pipe", { cause: error });
      }
      // Somebody who shares the stream made it non-blocking: wait for its reader.
      if (!(error instanceof Deno.errors.WouldBlock)) throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
    }
  }
}

async function readSpecFile(path: string): Promise<string> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    throw unreadable(path, error);
  }
}

async function* readChunks(path: string): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
  if (path === "-") {
    yield* Deno.stdin.readable;
    return;
  }
  let file: Deno.FsFile;
  try {
    file = await Deno.open(path);
  } catch (error) {
    throw unreadable(path, error);
  }
  // The stream closes the file, whether it ends or is left.
  yield* file.readable;
}

function unreadable(path: string, error: unknown): UsageError {
  const why = error instanceof Deno.errors.NotFound
    ? "no such file"
    : error instanceof Deno.errors.PermissionDenied
    ? "permission denied"
    : error instanceof Error
    ? error.message
    : String(error);
  return new UsageError(`Cannot read ${JSON.stringify(path)}: ${why}`);
}

async function readStdin(sizeBytesMax: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of Deno.stdin.readable) {
    sizeBytes += chunk.length;
    if (sizeBytes > sizeBytesMax) {
      throw new UsageError(`Cannot read stdin: more than ${sizeBytesMax} bytes`);
    }
    chunks.push(chunk);
  }
  const all = new Uint8Array(sizeBytes);
  let offset = 0;
  for (const chunk of chunks) {
    all.set(chunk, offset);
    offset += chunk.length;
  }
  return new TextDecoder().decode(all);
}

function openAppend(path: string): { write(text: string): void; close(): void } {
  try {
    const file = Deno.openSync(path, { append: true, create: true, mode: 0o600 });
    return { write: (text) => writeAll(file, text), close: () => file.close() };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new UsageError(`Cannot open ${JSON.stringify(path)} for events: ${why}`);
  }
}

function onSignal(
  handle: (signal: string) => void,
  signals: readonly Deno.Signal[] = ENDING_SIGNALS,
): () => void {
  const handlers = signals.map((signal) => {
    const handler = () => handle(signal);
    Deno.addSignalListener(signal, handler);
    return { signal, handler };
  });
  return () => {
    for (const { signal, handler } of handlers) Deno.removeSignalListener(signal, handler);
  };
}
