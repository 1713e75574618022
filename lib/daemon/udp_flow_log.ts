/**
 * Closed UDP flows as lines of JSON in a file, for tools that read logs.
 *
 * The file is appended to and never read here; past {@link FLOW_LOG_BYTES_MAX} it becomes `<path>.1`
 * and a new one begins. A disk that refuses costs lines, which are counted and told once, and
 * nothing else.
 *
 * @module
 */

/** The size at which the file is put aside, in bytes. */
export const FLOW_LOG_BYTES_MAX: number = 64 * 1024 * 1024;
/** Lines that wait to be written together. */
const LINES_MAX = 256;
const WAIT_MS = 200;

/** See the module. */
export class FlowLog {
  readonly #path: string;
  readonly #onWarning: (text: string) => void;
  #file: Deno.FsFile | undefined;
  #bytes = 0;
  #lines: string[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #lost = 0;

  /** Opens nothing before the first line. */
  constructor(path: string, onWarning: (text: string) => void) {
    this.#path = path;
    this.#onWarning = onWarning;
  }

  /** Lines that the disk refused. */
  get lost(): number {
    return this.#lost;
  }

  /** Takes a line without its end. */
  write(line: string): void {
    this.#lines.push(line);
    if (this.#lines.length >= LINES_MAX) this.#flush();
    else this.#timer ??= setTimeout(() => this.#flush(), WAIT_MS);
  }

  /** Writes what waits, and closes the file. */
  close(): void {
    this.#flush();
    this.#file?.close();
    this.#file = undefined;
  }

  #flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const lines = this.#lines.splice(0);
    if (lines.length === 0) return;
    try {
      const bytes = new TextEncoder().encode(`${lines.join("\n")}\n`);
      const file = this.#open();
      for (let at = 0; at < bytes.length;) at += file.writeSync(bytes.subarray(at));
      this.#bytes += bytes.length;
      if (this.#bytes >= FLOW_LOG_BYTES_MAX) this.#rotate();
    } catch (error) {
      if (this.#lost === 0) {
        this.#onWarning(`Cannot write ${this.#path}: ${(error as Error).message}; flows go on`);
      }
      this.#lost += lines.length;
    }
  }

  #open(): Deno.FsFile {
    if (this.#file === undefined) {
      this.#file = Deno.openSync(this.#path, { append: true, create: true, mode: 0o600 });
      this.#bytes = this.#file.statSync().size;
    }
    return this.#file;
  }

  #rotate(): void {
    this.#file?.close();
    this.#file = undefined;
    Deno.renameSync(this.#path, `${this.#path}.1`);
  }
}
