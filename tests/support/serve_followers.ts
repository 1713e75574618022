/**
 * Clients that follow a server's log through all its deaths, by polling and by WebSocket: each goes
 * on from the last entry that it has, and keeps every entry that it is given, so that one that is
 * missing or comes twice shows.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import type { Served, ServedEntry } from "./served.ts";

const PAGE = 1000;
const RETRY_MS = 30;

/** What all followers have in common. */
abstract class Follower {
  /** Entries as they came: `<seq> <event id>`. */
  protected readonly seen: string[] = [];
  /** The sequence of the last entry. */
  protected cursor = 0;
  #isEnded = false;

  constructor(protected readonly served: Served) {}

  /** How many entries it was given. */
  get count(): number {
    return this.seen.length;
  }

  /** Follows until {@link Follower.end}. */
  async run(): Promise<void> {
    while (!this.#isEnded) {
      await this.step();
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  /** Ends {@link Follower.run}. */
  end(): void {
    this.#isEnded = true;
  }

  /** It has each entry of the log up to its last one, once, in order, and no other. */
  assertExact(entries: readonly ServedEntry[], lastSeq: number): void {
    assertEquals(this.cursor, lastSeq, "it is behind");
    assertEquals(this.seen, entries.filter(({ seq }) => seq <= lastSeq).map(textOf));
  }

  /** Waits until it has an entry. */
  async reaches(seq: number): Promise<void> {
    const deadline = performance.now() + 30_000;
    while (this.cursor < seq) {
      if (performance.now() > deadline) {
        throw new Error(`Cannot go on: at ${this.cursor} of ${seq}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  protected abstract step(): Promise<void>;

  protected take(entry: ServedEntry): void {
    this.cursor = entry.seq;
    this.seen.push(textOf(entry));
  }
}

/** Asks for pages of `/v1/events`. */
export class PollingFollower extends Follower {
  protected override async step(): Promise<void> {
    const path = `/v1/events?since=${this.cursor}&limit=${PAGE}`;
    const answer = await this.served.tryAsk("GET", path);
    if (answer?.status !== 200) return;
    for (const entry of answer.json<{ events: ServedEntry[] }>().events) this.take(entry);
  }
}

/** Follows `/ws/events`; a connection that breaks is resumed by cursor. */
export class SocketFollower extends Follower {
  readonly #format: "json" | "ndjson";
  #socket: WebSocket | undefined;
  #connections = 0;

  /** `ndjson`: several entries a frame. */
  constructor(served: Served, format: "json" | "ndjson") {
    super(served);
    this.#format = format;
  }

  /** Connections that gave it at least one entry. */
  get connections(): number {
    return this.#connections;
  }

  override end(): void {
    super.end();
    this.#socket?.close();
  }

  protected override async step(): Promise<void> {
    const path = `/ws/events?since=${this.cursor}&format=${this.#format}`;
    const socket = this.#socket = this.served.socket(path);
    let isFirst = true;
    await new Promise<void>((resolve) => {
      socket.onmessage = ({ data }) => {
        if (isFirst) this.#connections += 1;
        isFirst = false;
        for (const line of String(data).split("\n")) this.take(JSON.parse(line));
      };
      // The close that follows says that it is over.
      socket.onerror = () => {};
      socket.onclose = () => resolve();
    });
  }
}

function textOf({ seq, event }: ServedEntry): string {
  return `${seq} ${event.id}`;
}
