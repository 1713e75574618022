/**
 * What celld wants of its JetStream stream, and how a stream that is there differs from it.
 *
 * A stream that is there is never changed: others may rely on it. The differences are told.
 *
 * @module
 */

/** The stream's name. */
export const STREAM_NAME = "CELLOS_EVENTS";
/** Every subject that it takes. */
export const STREAM_SUBJECTS = "cellos.events.>";
/** How long events are kept: 90 days. */
export const MAX_AGE_MS: number = 90 * 24 * 3_600_000;
/** How long the broker remembers ids to tell what it has already. */
export const DUPLICATE_WINDOW_MS = 3_600_000;
/** Copies in a cluster that has as many nodes. */
export const REPLICAS_MAX = 3;

const NANOS_PER_MS = 1_000_000;

/** The members of a stream's configuration that matter here, named and measured as NATS does. */
export interface StreamShape {
  /** Its name. */
  readonly name: string;
  /** Subjects that it takes. */
  readonly subjects?: readonly string[];
  /** `file` or `memory`. */
  readonly storage: string;
  /** `limits`, `interest` or `workqueue`. */
  readonly retention: string;
  /** Age at which messages go, in nanoseconds; 0 never. */
  readonly max_age: number;
  /** How long ids are remembered, in nanoseconds. */
  readonly duplicate_window: number;
  /** Copies. */
  readonly num_replicas: number;
  /** Which messages go when it is full: `old` or `new`. */
  readonly discard: string;
  /** Most messages, where limited; -1 or absent: no limit. */
  readonly max_msgs?: number;
  /** Most bytes. */
  readonly max_bytes?: number;
  /** Most messages of one subject. */
  readonly max_msgs_per_subject?: number;
  /** Largest message in bytes. */
  readonly max_msg_size?: number;
  /** Whether publishing is not acknowledged. */
  readonly no_ack?: boolean;
  /** Whether nothing can be added any more. */
  readonly sealed?: boolean;
}

/** The stream as celld makes it. */
export function wantedStream(replicas: number, name: string = STREAM_NAME): StreamShape {
  return {
    name,
    subjects: [STREAM_SUBJECTS],
    storage: "file",
    retention: "limits",
    max_age: MAX_AGE_MS * NANOS_PER_MS,
    duplicate_window: DUPLICATE_WINDOW_MS * NANOS_PER_MS,
    num_replicas: replicas,
    discard: "old",
  };
}

/** How a stream that is there differs from the one wanted; empty where it does not. */
export function streamDrift(found: StreamShape, wanted: StreamShape): string[] {
  const drift: string[] = [];
  const compare = (name: string, has: unknown, wants: unknown) => {
    if (has !== wants) {
      drift.push(`${name}: found ${JSON.stringify(has)}, want ${JSON.stringify(wants)}`);
    }
  };
  const subjects = found.subjects ?? [];
  if (!subjects.includes(STREAM_SUBJECTS)) compare("subjects", subjects, [STREAM_SUBJECTS]);
  for (const name of ["storage", "retention", "discard"] as const) {
    compare(name, found[name], wanted[name]);
  }
  compare("max_age", seconds(found.max_age), seconds(wanted.max_age));
  compare("duplicate_window", seconds(found.duplicate_window), seconds(wanted.duplicate_window));
  compare("num_replicas", found.num_replicas, wanted.num_replicas);
  for (
    const name of ["max_msgs", "max_bytes", "max_msgs_per_subject", "max_msg_size"] as const
  ) {
    const limit = found[name] ?? -1;
    if (limit > 0) compare(name, limit, -1);
  }
  compare("no_ack", found.no_ack ?? false, false);
  compare("sealed", found.sealed ?? false, false);
  return drift;
}

function seconds(nanos: number): string {
  return `${nanos / 1e9} s`;
}

/** Where a message came from, told by the subject on which it would be acknowledged. */
export interface MessagePlace {
  /** Its number in the stream. */
  readonly streamSeq: number;
  /** Its number in its consumer, without holes as long as nothing was lost on the way. */
  readonly consumerSeq: number;
}

/** Reads `$JS.ACK.…`; `undefined` where it is none. */
export function parseAckSubject(subject: string): MessagePlace | undefined {
  const tokens = subject.split(".");
  if (tokens[0] !== "$JS" || tokens[1] !== "ACK") return undefined;
  // The longer form has the domain and the account before the stream.
  const start = tokens.length >= 11 ? 5 : 3;
  if (tokens.length < start + 6) return undefined;
  const streamSeq = Number(tokens[start + 2]);
  const consumerSeq = Number(tokens[start + 3]);
  const isPlace = Number.isSafeInteger(streamSeq) && Number.isSafeInteger(consumerSeq);
  return isPlace ? { streamSeq, consumerSeq } : undefined;
}

/** What the broker answered to a publication. */
export type PublishAnswer =
  | { readonly kind: "stored"; readonly seq: number; readonly duplicate: boolean }
  | { readonly kind: "refused"; readonly code: number; readonly reason: string };

/** Reads the answer of a stream to a publication. Never throws. */
export function parsePublishAnswer(text: string, wanted: string = STREAM_NAME): PublishAnswer {
  try {
    const { stream, seq, duplicate, error } = JSON.parse(text);
    if (error !== undefined && error !== null) {
      const reason = String(error.description ?? "no reason given");
      return { kind: "refused", code: Number(error.err_code ?? error.code), reason };
    }
    if (stream === wanted && Number.isSafeInteger(seq) && seq > 0) {
      return { kind: "stored", seq, duplicate: duplicate === true };
    }
    return { kind: "refused", code: 0, reason: `stored elsewhere: ${text.slice(0, 200)}` };
  } catch {
    // Not JSON, or null: no answer of a stream.
    return { kind: "refused", code: 0, reason: `no answer of a stream: ${text.slice(0, 200)}` };
  }
}

/**
 * Codes by which a broker says that there is no room: for its store, for the account, and where
 * the stream discards new messages (messages, bytes). Source: the server's `errors.json`.
 */
export const FULL_CODES: ReadonlySet<number> = new Set([10_023, 10_047, 10_077, 10_028]);
/** The code by which a stream says that a message is larger than it takes. */
export const MESSAGE_TOO_LARGE_CODE = 10_054;

/** How many events may be on their way at once: few after a failure, more with each success. */
export class PublishWindow {
  readonly #max: number;
  #size: number;

  /** Starts with all of it. */
  constructor(max: number) {
    this.#max = max;
    this.#size = max;
  }

  /** How many may be on their way now. */
  get size(): number {
    return this.#size;
  }

  /** All that were on their way are stored. */
  succeed(): void {
    this.#size = Math.min(this.#max, 4 * this.#size);
  }

  /**
   * One was not: go on with a single one. A burst into a broker that is just coming back could
   * lose its first event and store its second, which would turn their order round.
   */
  fail(): void {
    this.#size = 1;
  }
}

/** How long to wait before another attempt: doubled each time, up to a bound, less up to a half by chance. */
export function backoffMs(failures: number, random: number): number {
  const longest = Math.min(5000, 50 * 2 ** Math.min(failures, 10));
  return longest * (1 - random / 2);
}
