/**
 * The log: pages of events, and the WebSocket that follows.
 *
 * @module
 */
import { z } from "@hono/zod-openapi";
import { jsonAnswer } from "../answers.ts";
import { EVENT_FILTERS, type EventPredicate, eventPredicate, factsOf } from "../event_filter.ts";
import { frameText } from "../event_client.ts";
import { CLOSE, type EventHub } from "../event_hub.ts";
import { limitParameter, sinceParameter, wordParameter } from "../parameters.ts";
import type { EventReader } from "../ports.ts";
import { ProblemError } from "../problem.ts";
import { defineRoute, type Route } from "../route.ts";
import { EVENT_ENTRY_SCHEMA } from "../schemas.ts";

/** Events on a page where nobody says how many. */
const LIMIT_DEFAULT = 100;
/** Entries that one request looks through for those that its filter wants. */
const SCAN_MAX = 20_000;
const SCAN_PAGE = 1000;
/** A ping is sent when so much of it is over, and the socket closed when all of it is. */
const IDLE_TIMEOUT_SECONDS = 50;

/** Texts of the wanted entries after a cursor, and how far the log was looked through. */
async function readPage(
  events: EventReader,
  options: { readonly since: number; readonly limit: number; readonly matches?: EventPredicate },
): Promise<{ readonly texts: string[]; readonly cursor: number }> {
  const { limit, matches } = options;
  const texts: string[] = [];
  let cursor = options.since;
  for (let scanned = 0; scanned < SCAN_MAX && texts.length < limit;) {
    const wanted = matches === undefined ? limit - texts.length : SCAN_PAGE;
    const rows = await events.read({ since: cursor, limit: wanted });
    for (const row of rows) {
      cursor = row.seq;
      if (matches !== undefined && !matches(factsOf(row.event))) continue;
      texts.push(frameText(row));
      if (texts.length === limit) break;
    }
    scanned += rows.length;
    if (rows.length < wanted) break;
  }
  return { texts, cursor };
}

/** Where a reader without a cursor, or with one ahead of the log, begins. */
async function startOf(events: EventReader, since: number): Promise<number> {
  // 0 is the oldest that is left, whatever its number.
  if (since === 0) return await events.firstSeq() - 1;
  return Math.min(since, await events.lastSeq());
}

/** Who follows, as the request said. */
interface FollowOptions {
  readonly since: number;
  readonly matches: EventPredicate | undefined;
  readonly isBatch: boolean;
  /** Why the cursor cannot be used: told by the close. */
  readonly refusal?: string;
}

/** Makes the request a WebSocket and lets it follow. */
function follow(request: Request, hub: EventHub, options: FollowOptions): Response {
  const { socket, response } = Deno.upgradeWebSocket(request, {
    idleTimeout: IDLE_TIMEOUT_SECONDS,
  });
  let leave: (() => void) | undefined;
  socket.onopen = () => {
    if (options.refusal !== undefined) socket.close(CLOSE.cursor, options.refusal);
    else leave = joinHub(hub, socket, options);
  };
  // A ping that nobody answers closes twice; leaving twice does nothing.
  socket.onclose = () => leave?.();
  // The close that follows an error says everything that there is to say.
  socket.onerror = () => {};
  // What clients say is not asked for; a large message must not be kept.
  socket.onmessage = () => {};
  return response;
}

function joinHub(hub: EventHub, socket: WebSocket, options: FollowOptions): () => void {
  if (hub.isFull) {
    socket.close(CLOSE.tryAgain, "too many clients");
    return () => {};
  }
  return hub.join({
    ...options,
    socket: {
      get bufferedAmount() {
        return socket.bufferedAmount;
      },
      get isOpen() {
        return socket.readyState === WebSocket.OPEN;
      },
      send: (text) => socket.send(text),
      close: (code, reason) => socket.close(code, reason),
    },
  });
}

/** See the module. */
export const EVENT_ROUTES: readonly Route[] = [
  defineRoute({
    method: "get",
    path: "/v1/events",
    scope: "read",
    tag: "events",
    summary: "Events after a cursor, oldest first",
    query: z.object({ since: sinceParameter(), limit: limitParameter(), ...EVENT_FILTERS }),
    answers: {
      200: {
        description: "A page; go on with `since` = its `cursor`, past what the filter left out",
        schema: z.object({ events: z.array(EVENT_ENTRY_SCHEMA), cursor: z.int() }),
      },
    },
    problems: ["cursor-expired", "log-unavailable"],
    async handle({ query }, { plane }) {
      const matches = eventPredicate(query, plane);
      const since = await startOf(plane.events, query.since ?? 0);
      const { texts, cursor } = await readPage(plane.events, {
        since,
        limit: query.limit ?? LIMIT_DEFAULT,
        ...(matches === undefined ? {} : { matches }),
      });
      return jsonAnswer(`{"events":[${texts.join(",")}],"cursor":${cursor}}`);
    },
  }),
  defineRoute({
    method: "get",
    path: "/ws/events",
    scope: "read",
    tag: "events",
    summary: "Follows events by WebSocket: `{seq, event}` a frame, or several lines a frame",
    query: z.object({
      since: sinceParameter(),
      format: wordParameter("One event a frame, or up to 64 lines", ["json", "ndjson"]),
      ...EVENT_FILTERS,
    }),
    answers: { 101: { description: "Frames follow" } },
    problems: ["upgrade-required", "forbidden", "too-many-clients", "log-unavailable"],
    async handle({ request, query }, world) {
      if (request.headers.get("upgrade")?.toLowerCase() !== "websocket") {
        throw new ProblemError("upgrade-required", "Cannot follow without a WebSocket upgrade", {
          headers: { upgrade: "websocket" },
        });
      }
      if (world.hub.isFull) {
        throw new ProblemError("too-many-clients", "Cannot take another client: all places taken");
      }
      const matches = eventPredicate(query, world.plane);
      const { events } = world.plane;
      const [firstSeq, lastSeq] = await Promise.all([events.firstSeq(), events.lastSeq()]);
      // "From now on" is decided here: between the client's `onopen` and ours there may be events.
      const since = query.since === 0 ? firstSeq - 1 : query.since ?? world.hub.headSeq;
      const isAhead = query.since !== undefined && since > lastSeq;
      return follow(request, world.hub, {
        since,
        matches,
        isBatch: query.format === "ndjson",
        ...(isAhead ? { refusal: `cursor-ahead; last_seq=${lastSeq}` } : {}),
      });
    },
  }),
];
