/**
 * A server's log, read as a local one is: so that what reads logs need not know where they are.
 *
 * @module
 */
import type { ApiClient } from "./client_shell.ts";
import { ApiError, EventsExpiredError } from "./errors.ts";
import type { EventRow } from "./records.ts";

const LIMIT_MAX = 1000;
const NEVER = new AbortController().signal;

/** See the module. It owns its client. */
export class RemoteLog {
  readonly #client: ApiClient;

  /** The client is closed with the log. */
  constructor(client: ApiClient) {
    this.#client = client;
  }

  /** Entries after `since`, ascending, at most `limit`. Rejects with {@link EventsExpiredError}. */
  async read(
    { since = 0, limit = LIMIT_MAX }: { since?: number; limit?: number } = {},
  ): Promise<EventRow[]> {
    try {
      return Array.from((await this.#client.events({ since, limit })).events);
    } catch (error) {
      if (!(error instanceof ApiError) || error.problem.kind !== "cursor-expired") throw error;
      const { firstSeq } = error.problem.members;
      throw new EventsExpiredError(since, typeof firstSeq === "number" ? firstSeq : since + 1);
    }
  }

  /** Replays the entries after `since`, then follows. */
  subscribe(
    { since = 0, signal = NEVER }: { since?: number; signal?: AbortSignal } = {},
  ): AsyncIterable<EventRow> {
    return this.#client.followEvents({ since, signal });
  }

  /** The first sequence that is left; of an empty log, the next one. */
  async firstSeq(): Promise<number> {
    const { events: [first], cursor } = await this.#client.events({ since: 0, limit: 1 });
    return first?.seq ?? cursor + 1;
  }

  /** The last sequence; 0 of an empty log. */
  lastSeq(): Promise<number> {
    return this.#client.lastSeq();
  }

  /** Lets go of the server. */
  close(): Promise<void> {
    this.#client.close();
    return Promise.resolve();
  }
}
