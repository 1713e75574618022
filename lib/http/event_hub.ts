/**
 * Sends events to everyone who follows: one subscription, one ring of texts, a cursor a client.
 *
 * ```
 * log.subscribe ─▶ FrameRing ─┬─▶ client: cursor ─▶ socket while bufferedAmount < 256 KiB
 *                             └─▶ client behind the ring: pages of the log, then the ring
 * ```
 *
 * Old and new events go through the same loop, so there is no hand-over to get wrong, and a slow
 * client costs its cursor and its socket's buffer, nothing else. One that takes nothing for
 * {@link STALL_MS} is closed with 4008 and where to resume; one whose cursor retention has
 * overtaken with 4410. A close frame is behind everything that was sent, so the resume is exact.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import { type Client, frameOf, type JoinOptions, newClient, resumeText } from "./event_client.ts";
import { type Frame, FrameRing } from "./frame_ring.ts";
import type { EventReader } from "./ports.ts";
import { pause, Turnstile } from "./turnstile.ts";

/** A socket whose buffer holds more is not sent to. */
export const BUFFERED_BYTES_MAX = 256 * 1024;
/** Events of one frame in batch mode. */
export const BATCH_MAX = 64;
/** How long a socket may take nothing, in milliseconds. */
export const STALL_MS = 5000;
/** Clients at once. */
export const CLIENTS_MAX = 2048;
/** Close codes. */
export const CLOSE = {
  goingAway: 1001,
  tryAgain: 1013,
  lagging: 4008,
  cursor: 4410,
} as const;

/** Frames and skipped frames of one client in one turn. */
const TURN_FRAMES_MAX = 256;
/** How long all clients may take in one turn, in milliseconds. */
const TURN_MS = 8;
const PAGE_LIMIT = 256;
const PAGE_READS_MAX = 4;
const BLOCKED_POLL_MS = 20;
const RESTART_MS = 500;
/** How long clients may take to hear that the server ends, in milliseconds. */
const FAREWELL_MS = 1000;

/** How the hub is made. */
export interface EventHubOptions {
  readonly events: EventReader;
  readonly clientsMax?: number;
  readonly stallMs?: number;
  readonly framesMax?: number;
  /** Something that an operator should know; the hub goes on by itself. */
  onWarning(text: string): void;
  /** Counts. */
  onSent?(frames: number): void;
  onClosed?(code: number): void;
}

/** See the module. */
export class EventHub {
  readonly #options: EventHubOptions;
  readonly #ending = new AbortController();
  readonly #clients = new Set<Client>();
  readonly #batches = new Map<number, { readonly count: number; readonly text: string }>();
  /** Few at a time, so that a crowd cannot stop the rest. */
  readonly #reads = new Turnstile(PAGE_READS_MAX);
  #ring = new FrameRing(0);
  #isPumpDue = false;
  #turnStart = 0;
  #pollTimer: ReturnType<typeof setTimeout> | undefined;
  #onEmpty = () => {};
  #running: Promise<void> = Promise.resolve();

  constructor(options: EventHubOptions) {
    this.#options = options;
  }

  /** Begins to follow the log. Rejects where it cannot be read. */
  async start(): Promise<void> {
    this.#ring = new FrameRing(await this.#options.events.lastSeq(), this.#options.framesMax);
    this.#running = this.#follow();
  }

  /** Clients that are connected, those that are being closed included. */
  get clientCount(): number {
    return this.#clients.size;
  }

  /** Whether there is no place for one more. */
  get isFull(): boolean {
    return this.#clients.size >= (this.#options.clientsMax ?? CLIENTS_MAX);
  }

  /** The highest sequence that clients can have seen. */
  get headSeq(): number {
    return this.#ring.headSeq;
  }

  /** Adds a client; call the result once its socket is closed. */
  join(options: JoinOptions): () => void {
    const client = newClient(options, this.#ring);
    client.isClosing = this.#ending.signal.aborted;
    this.#clients.add(client);
    if (client.isClosing) options.socket.close(CLOSE.goingAway, resumeText(client));
    else this.#schedule();
    return () => {
      this.#clients.delete(client);
      if (this.#clients.size === 0) this.#onEmpty();
    };
  }

  /**
   * Tells every client where to resume, waits a moment for them to have heard it, and ends. Twice
   * does nothing.
   */
  async stop(): Promise<void> {
    this.#ending.abort();
    clearTimeout(this.#pollTimer);
    for (const client of this.#clients) this.#close(client, CLOSE.goingAway, resumeText(client));
    await this.#running;
    await this.#waitEmpty();
  }

  async #waitEmpty(): Promise<void> {
    if (this.#clients.size === 0) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    await new Promise<void>((resolve) => {
      this.#onEmpty = resolve;
      timer = setTimeout(resolve, FAREWELL_MS);
    });
    clearTimeout(timer);
  }

  async #follow(): Promise<void> {
    const { signal } = this.#ending;
    while (!signal.aborted) {
      try {
        const rows = this.#options.events.subscribe({ since: this.#ring.headSeq, signal });
        for await (const row of rows) {
          this.#ring.push(frameOf(row));
          this.#schedule();
        }
        if (signal.aborted) return;
      } catch (error) {
        if (signal.aborted) return;
        this.#options.onWarning(`Cannot follow the event log: ${messageOf(error)}`);
        this.#skipExpired(error);
      }
      await pause(RESTART_MS, signal);
    }
  }

  /** Retention overtook the hub itself: go on with what is left, the clients ask the log. */
  #skipExpired(error: unknown): void {
    const { firstSeq } = error as { firstSeq?: unknown };
    if (!isExpired(error) || typeof firstSeq !== "number") return;
    this.#ring = new FrameRing(Math.max(firstSeq - 1, 0), this.#options.framesMax);
    for (const client of this.#clients) client.place = this.#ring.placeAfter(client.cursor);
  }

  #schedule(): void {
    if (this.#isPumpDue || this.#clients.size === 0) return;
    this.#isPumpDue = true;
    setImmediate(() => {
      this.#isPumpDue = false;
      this.#pumpAll();
    });
  }

  #pumpAll(): void {
    if (this.#ending.signal.aborted) return;
    this.#batches.clear();
    const clients = Array.from(this.#clients);
    const startMs = performance.now();
    let hasMore = false;
    let isAnyBlocked = false;
    let sent = 0;
    for (let count = 0; count < clients.length; count++) {
      const client = clients[(this.#turnStart + count) % clients.length];
      if (client.isClosing || client.isReading || !client.socket.isOpen) continue;
      sent += this.#pump(client);
      const isBehind = client.cursor < this.#ring.headSeq && !client.isReading;
      if (this.#isBlocked(client, isBehind, startMs)) isAnyBlocked = true;
      else hasMore ||= isBehind;
      if (performance.now() - startMs <= TURN_MS) continue;
      // The others come first next time.
      this.#turnStart = (this.#turnStart + count + 1) % clients.length;
      hasMore = true;
      break;
    }
    if (sent > 0) this.#options.onSent?.(sent);
    if (hasMore) this.#schedule();
    if (isAnyBlocked) this.#pollLater();
  }

  /** There is no event for a buffer that drains: it is looked at again. */
  #pollLater(): void {
    if (this.#pollTimer !== undefined) return;
    this.#pollTimer = setTimeout(() => {
      this.#pollTimer = undefined;
      this.#schedule();
    }, BLOCKED_POLL_MS);
  }

  #isBlocked(client: Client, isBehind: boolean, nowMs: number): boolean {
    const { bufferedAmount } = client.socket;
    if (!isBehind || bufferedAmount < BUFFERED_BYTES_MAX) {
      client.blockedSinceMs = undefined;
      return false;
    }
    const isDraining = bufferedAmount < client.blockedBytes;
    if (client.blockedSinceMs === undefined || isDraining) client.blockedSinceMs = nowMs;
    client.blockedBytes = bufferedAmount;
    if (nowMs - client.blockedSinceMs >= (this.#options.stallMs ?? STALL_MS)) {
      this.#close(client, CLOSE.lagging, resumeText(client));
    }
    return true;
  }

  /** Hands a client what its socket takes; returns how many frames of the socket that were. */
  #pump(client: Client): number {
    let sent = 0;
    let lines: string[] = [];
    for (let budget = TURN_FRAMES_MAX; budget > 0; budget--) {
      if (client.socket.bufferedAmount >= BUFFERED_BYTES_MAX) break;
      if (lines.length === BATCH_MAX) {
        sent += this.#send(client, lines.join("\n"));
        lines = [];
        continue;
      }
      const shared = this.#sharedBatch(client, lines.length);
      if (shared !== undefined) {
        sent += this.#send(client, shared);
        continue;
      }
      const frame = this.#next(client);
      if (frame === undefined) break;
      if (client.matches !== undefined && !client.matches(frame.facts)) continue;
      if (client.isBatch) lines.push(frame.text);
      else sent += this.#send(client, frame.text);
    }
    if (lines.length > 0) sent += this.#send(client, lines.join("\n"));
    return sent;
  }

  /** The batch that any client without filter gets at a place, joined once a turn. */
  #sharedBatch(client: Client, pendingLines: number): string | undefined {
    if (!client.isBatch || client.matches !== undefined || pendingLines > 0) return undefined;
    const { place } = client;
    if (place === undefined || client.pageAt < client.page.length) return undefined;
    const first = this.#ring.at(place);
    // The cursor may be ahead of the ring, where the client knows the log better than we do.
    if (first === undefined || first.seq <= client.cursor) return undefined;
    let batch = this.#batches.get(place);
    if (batch === undefined) {
      const lines: string[] = [];
      for (let at = place; at < place + BATCH_MAX; at++) {
        const frame = this.#ring.at(at);
        if (frame === undefined) break;
        lines.push(frame.text);
      }
      batch = { count: lines.length, text: lines.join("\n") };
      this.#batches.set(place, batch);
    }
    client.place = place + batch.count;
    client.cursor = this.#ring.at(client.place - 1)!.seq;
    return batch.text;
  }

  /** The next frame of a client, and its cursor moved past it. */
  #next(client: Client): Frame | undefined {
    while (client.pageAt < client.page.length) {
      const frame = client.page[client.pageAt++];
      if (frame.seq <= client.cursor) continue;
      client.cursor = frame.seq;
      return frame;
    }
    if (client.page.length > 0) {
      client.page = [];
      client.pageAt = 0;
      client.place = this.#ring.placeAfter(client.cursor);
    }
    // What the client was about to read may have left the ring.
    if (client.place !== undefined && this.#hasLeft(client.place)) client.place = undefined;
    if (client.place === undefined) {
      this.#readPage(client);
      return undefined;
    }
    for (;;) {
      const frame = this.#ring.at(client.place);
      if (frame === undefined) return undefined;
      client.place += 1;
      if (frame.seq <= client.cursor) continue;
      client.cursor = frame.seq;
      return frame;
    }
  }

  #hasLeft(place: number): boolean {
    return place < this.#ring.end && this.#ring.at(place) === undefined;
  }

  /** Reads what is older than the ring. */
  async #readPage(client: Client): Promise<void> {
    client.isReading = true;
    try {
      await this.#reads.run(async () => {
        if (client.isClosing || !client.socket.isOpen) return;
        const { floorSeq } = this.#ring;
        const rows = await this.#options.events.read({ since: client.cursor, limit: PAGE_LIMIT });
        client.page = rows.map(frameOf);
        client.pageAt = 0;
        // Sequences may have holes: nothing before the ring means that the ring is next.
        if (rows.length > 0) return;
        client.cursor = Math.max(client.cursor, floorSeq);
        client.place = this.#ring.placeAfter(client.cursor);
      });
    } catch (error) {
      this.#closeFor(client, error);
    } finally {
      client.isReading = false;
      this.#schedule();
    }
  }

  #closeFor(client: Client, error: unknown): void {
    if (isExpired(error)) {
      const { firstSeq } = error as { firstSeq?: number };
      this.#close(client, CLOSE.cursor, `cursor-expired; first_seq=${firstSeq}`);
      return;
    }
    this.#options.onWarning(`Cannot read the event log: ${messageOf(error)}`);
    this.#close(client, CLOSE.tryAgain, `log unavailable; ${resumeText(client)}`);
  }

  #send(client: Client, text: string): number {
    if (!client.socket.isOpen || client.isClosing) return 0;
    client.socket.send(text);
    return 1;
  }

  #close(client: Client, code: number, reason: string): void {
    if (client.isClosing) return;
    client.isClosing = true;
    client.page = [];
    this.#options.onClosed?.(code);
    client.socket.close(code, reason);
  }
}

function isExpired(error: unknown): boolean {
  return error instanceof Error && error.name === "CursorExpiredError";
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
