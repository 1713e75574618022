/**
 * One who follows the log by WebSocket: a socket, a wish, and how far it has come.
 *
 * @module
 */
import { type EventPredicate, factsOf } from "./event_filter.ts";
import type { Frame, FrameRing } from "./frame_ring.ts";
import type { LogRow } from "./ports.ts";

/** A WebSocket, as far as the hub cares. */
export interface FrameSocket {
  readonly bufferedAmount: number;
  readonly isOpen: boolean;
  send(text: string): void;
  close(code: number, reason: string): void;
}

/** Who follows what. */
export interface JoinOptions {
  readonly socket: FrameSocket;
  /** Events after it; absent: what comes from now on. */
  readonly since?: number | undefined;
  readonly matches?: EventPredicate | undefined;
  /** Several events a frame, one a line. */
  readonly isBatch: boolean;
}

/** See the module. */
export interface Client extends JoinOptions {
  /** The last sequence handed to the socket or skipped. */
  cursor: number;
  /** Where it is in the ring; `undefined`: behind it. */
  place: number | undefined;
  page: readonly Frame[];
  pageAt: number;
  isReading: boolean;
  isClosing: boolean;
  blockedSinceMs: number | undefined;
  blockedBytes: number;
}

/** A client that has been handed nothing yet. */
export function newClient(options: JoinOptions, ring: FrameRing): Client {
  const cursor = options.since ?? ring.headSeq;
  return {
    ...options,
    cursor,
    place: ring.placeAfter(cursor),
    page: [],
    pageAt: 0,
    isReading: false,
    isClosing: false,
    blockedSinceMs: undefined,
    blockedBytes: 0,
  };
}

/** The text of an entry of the log. */
export function frameText(row: LogRow): string {
  return `{"seq":${row.seq},"event":${JSON.stringify(row.event)}}`;
}

/** An entry of the log as a frame. */
export function frameOf(row: LogRow): Frame {
  return { seq: row.seq, text: frameText(row), facts: factsOf(row.event) };
}

/** Where a client resumes. */
export function resumeText(client: { readonly cursor: number }): string {
  return `resume since=${client.cursor}`;
}
