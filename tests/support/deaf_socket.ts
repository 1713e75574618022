/**
 * A WebSocket client that does not read: what the server does about one can only be seen by a
 * client that reads by hand, so this one opens the connection, waits, and reads it all later.
 *
 * @module
 */
import { assertStringIncludes } from "@std/assert";

const HEAD_END = "\r\n\r\n";

/** What came after all. */
export interface LateReading {
  /** Text frames, in order. */
  readonly texts: readonly string[];
  /** The close frame; absent where the connection ended without one. */
  readonly close?: { readonly code: number; readonly reason: string };
}

/** See the module. */
export class DeafSocket implements Disposable {
  readonly #connection: Deno.Conn;
  readonly #early: Uint8Array;

  private constructor(connection: Deno.Conn, early: Uint8Array) {
    this.#connection = connection;
    this.#early = early;
  }

  /** Opens a path over a Unix socket, and reads no more than the answer's head. */
  static async open(socketPath: string, path: string): Promise<DeafSocket> {
    const connection = await Deno.connect({ transport: "unix", path: socketPath });
    const head = [
      `GET ${path} HTTP/1.1`,
      "host: celld",
      "upgrade: websocket",
      "connection: upgrade",
      "sec-websocket-version: 13",
      "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    ].join("\r\n");
    await connection.write(new TextEncoder().encode(head + HEAD_END));
    const bytes = new Uint8Array(2048);
    const count = await connection.read(bytes) ?? 0;
    const text = new TextDecoder("latin1").decode(bytes.subarray(0, count));
    assertStringIncludes(text, "101 Switching");
    return new DeafSocket(connection, bytes.slice(text.indexOf(HEAD_END) + 4, count));
  }

  /** Reads all that there is, to the connection's end. */
  async readAll(): Promise<LateReading> {
    const chunks = [this.#early];
    const buffer = new Uint8Array(65_536);
    for (;;) {
      const count = await this.#connection.read(buffer);
      if (count === null) break;
      chunks.push(buffer.slice(0, count));
      // Whoever closes waits for our close; its frame is the last.
      if (isClosed(chunks)) break;
    }
    return readFrames(joined(chunks));
  }

  /** Ends the connection. */
  [Symbol.dispose](): void {
    this.#connection.close();
  }
}

function joined(chunks: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(chunks.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const chunk of chunks) {
    all.set(chunk, at);
    at += chunk.length;
  }
  return all;
}

/** Whether the last bytes are a whole close frame of ours: they carry the resume hint as text. */
function isClosed(chunks: readonly Uint8Array[]): boolean {
  const last = joined(chunks.slice(-2));
  const text = new TextDecoder("latin1").decode(last.subarray(Math.max(0, last.length - 64)));
  return /resume since=\d+$/.test(text) && readFrames(joined(chunks)).close !== undefined;
}

/** Reads unmasked, unfragmented frames, as servers send them. */
function readFrames(bytes: Uint8Array): LateReading {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const texts: string[] = [];
  for (let at = 0; at + 2 <= bytes.length;) {
    const opcode = bytes[at]! & 0x0f;
    const short = bytes[at + 1]! & 0x7f;
    const headBytes = short === 126 ? 4 : short === 127 ? 10 : 2;
    if (at + headBytes > bytes.length) break;
    const size = short === 126
      ? view.getUint16(at + 2)
      : short === 127
      ? Number(view.getBigUint64(at + 2))
      : short;
    const body = bytes.subarray(at + headBytes, at + headBytes + size);
    if (body.length < size) break;
    at += headBytes + size;
    if (opcode === 1) texts.push(new TextDecoder().decode(body));
    if (opcode !== 8) continue;
    const code = body[0]! << 8 | body[1]!;
    return { texts, close: { code, reason: new TextDecoder().decode(body.subarray(2)) } };
  }
  return { texts };
}
