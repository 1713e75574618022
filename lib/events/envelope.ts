/**
 * The envelope of every fact: a CloudEvents 1.0 event in its JSON format.
 *
 * {@link makeEvent} builds ours, typed by the catalogue; {@link parseEvent} judges what came
 * from outside and never throws: it answers with an event or with an {@link EventError} that
 * lists everything wrong. Extension attributes (such as `traceparent`) are kept as they are.
 *
 * Where we are stricter than some readers: `data` and `data_base64` exclude each other, an
 * extension holds a string, a boolean or a 32-bit integer, and text holds no control characters
 * (specification §3.1, "Type System").
 *
 * Source: CloudEvents 1.0.2, core specification and JSON event format.
 *
 * @module
 */
import type { EventDataByType, EventType } from "./catalogue.ts";

/** One CloudEvent. Extension attributes stand beside these members; read them by {@link extensionOf}. */
export interface CloudEvent<T = unknown> {
  /** The only version that there is. */
  readonly specversion: "1.0";
  /** Unique for ever and stable over retries: the log keeps one event for one id. */
  readonly id: string;
  /** Who says so, a URI reference: `/celld/<host>`. */
  readonly source: string;
  /** What happened, by name and version; see `EVENT_TYPES`. */
  readonly type: string;
  /** What it happened to: `cell:<id>`, `formation:<id>`, `agent:<pid>`. */
  readonly subject?: string;
  /** When it happened, RFC 3339. Ours always carry it; a foreign event may not. */
  readonly time?: string;
  /** Media type of the data; absent means JSON. */
  readonly datacontenttype?: string;
  /** URI of the data's schema. */
  readonly dataschema?: string;
  /** The fact itself. A foreign event may have none. */
  readonly data: T;
}

/** What {@link makeEvent} takes; `data` is checked against the catalogue where it knows the type. */
export interface NewEvent<K extends string> {
  /** See {@link CloudEvent.id}. */
  readonly id: string;
  /** See {@link CloudEvent.source}. */
  readonly source: string;
  /** See {@link CloudEvent.type}. */
  readonly type: K;
  /** See {@link CloudEvent.subject}. */
  readonly subject?: string;
  /** See {@link CloudEvent.time}. */
  readonly time: string;
  /** See {@link CloudEvent.data}. */
  readonly data: DataOf<K>;
}

/** The data that belongs to a type: known for the catalogue's types, anything for others. */
export type DataOf<K extends string> = K extends EventType ? EventDataByType[K] : unknown;

/** Outside input is not an event; `problems` lists everything wrong with it. */
export class EventError extends Error {
  /** For logs. */
  override name = "EventError";
  /** One sentence a problem, each starting with the attribute it is about. */
  readonly problems: readonly string[];

  /**
   * Builds the message from the problems.
   *
   * @param problems At least one.
   */
  constructor(problems: readonly string[]) {
    super(`Cannot read event: ${problems.join("; ")}`);
    this.problems = problems;
  }
}

/** Builds one of our events. */
export function makeEvent<K extends string>(options: NewEvent<K>): CloudEvent<DataOf<K>> {
  return {
    specversion: "1.0",
    id: options.id,
    source: options.source,
    type: options.type,
    ...(options.subject === undefined ? {} : { subject: options.subject }),
    time: options.time,
    datacontenttype: "application/json",
    data: options.data,
  };
}

/** Whether an event is of a type of the catalogue, whose data the log checked when it took it. */
export function isEventOf<K extends EventType>(
  event: CloudEvent,
  type: K,
): event is CloudEvent<EventDataByType[K]> {
  return event.type === type;
}

/** An extension attribute, such as `traceparent`; `undefined` where the event has none. */
export function extensionOf(event: CloudEvent, name: string): unknown {
  return KNOWN.has(name) ? undefined : (event as unknown as Record<string, unknown>)[name];
}

const KNOWN = new Set([
  "specversion",
  "id",
  "source",
  "type",
  "subject",
  "time",
  "datacontenttype",
  "dataschema",
  "data",
  "data_base64",
]);
const REQUIRED = ["id", "source", "type"] as const;
const OPTIONAL = ["subject", "datacontenttype", "dataschema"] as const;

/**
 * Judges a parsed JSON value. Answers the event itself (a `null` attribute counts as absent and
 * is left out), or an {@link EventError}. Never throws.
 */
export function parseEvent(json: unknown): CloudEvent | EventError {
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    return new EventError([`event: found ${describe(json)}, want a JSON object`]);
  }
  const event = withoutNulls(json as Record<string, unknown>);
  const problems = [
    ...judgeAttributes(event),
    ...judgeExtensions(event),
    ...judgeData(event),
  ];
  return problems.length > 0 ? new EventError(problems) : event as unknown as CloudEvent;
}

/** As {@link parseEvent}, from JSON text. Never throws. */
export function parseEventText(text: string): CloudEvent | EventError {
  try {
    return parseEvent(JSON.parse(text));
  } catch (error) {
    return new EventError([`event: not JSON (${(error as Error).message})`]);
  }
}

/** The members that are set: the object itself where all are, which is the common case. */
function withoutNulls(json: Record<string, unknown>): Record<string, unknown> {
  // The data itself may be null; an attribute that is null is unset (JSON format §2.2).
  const isSet = (name: string) =>
    json[name] !== undefined && (json[name] !== null || name === "data");
  const names = Object.keys(json);
  if (names.every(isSet)) return json;
  return Object.fromEntries(names.filter(isSet).map((name) => [name, json[name]]));
}

function judgeAttributes(event: Record<string, unknown>): string[] {
  const problems: string[] = [];
  if (event.specversion !== "1.0") {
    problems.push(`specversion: found ${describe(event.specversion)}, want "1.0"`);
  }
  for (const name of REQUIRED) {
    if (!isText(event[name])) problems.push(`${name}: found ${describe(event[name])}, want text`);
  }
  for (const name of OPTIONAL) {
    if (event[name] === undefined || isText(event[name])) continue;
    problems.push(`${name}: found ${describe(event[name])}, want text or nothing`);
  }
  if (isText(event.source) && !isUriReference(event.source)) {
    problems.push(`source: found ${describe(event.source)}, want a URI reference`);
  }
  if (
    isText(event.dataschema) &&
    !(isUriReference(event.dataschema) && SCHEME.test(event.dataschema))
  ) {
    problems.push(`dataschema: found ${describe(event.dataschema)}, want an absolute URI`);
  }
  if (event.time !== undefined && !isTimestamp(event.time)) {
    problems.push(`time: found ${describe(event.time)}, want an RFC 3339 time`);
  }
  return problems;
}

function judgeExtensions(event: Record<string, unknown>): string[] {
  const problems: string[] = [];
  for (const [name, value] of Object.entries(event)) {
    if (KNOWN.has(name)) continue;
    if (!/^[a-z0-9]+$/.test(name)) {
      problems.push(`${clip(JSON.stringify(name))}: attribute names are of a-z and 0-9`);
    } else if (!isExtensionValue(value)) {
      problems.push(
        `${name}: found ${describe(value)}, want text, a boolean or a 32-bit integer`,
      );
    }
  }
  return problems;
}

function judgeData(event: Record<string, unknown>): string[] {
  if (event.data_base64 === undefined) return [];
  if (Object.hasOwn(event, "data")) return ["data_base64: an event has data or it, not both"];
  const base64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;
  return typeof event.data_base64 === "string" && base64.test(event.data_base64)
    ? []
    : [`data_base64: found ${describe(event.data_base64)}, want base 64 text`];
}

const SCHEME = /^[A-Za-z][A-Za-z0-9+.-]*:/;
const URI_REFERENCE = uriReference();
// deno-lint-ignore no-control-regex -- control characters are what it is looking for
const FORBIDDEN_TEXT = /[\u0000-\u001f\u007f-\u009f]/;
const TIMESTAMP =
  /^(\d{4})-(\d{2})-(\d{2})[Tt](\d{2}):(\d{2}):(\d{2})(?:\.\d+)?(?:[Zz]|[+-](\d{2}):(\d{2}))$/;

/** Whether a value is an RFC 3339 time with a zone, on a day that exists. */
export function isTimestamp(value: unknown): value is string {
  const match = typeof value === "string" ? TIMESTAMP.exec(value) : null;
  if (match === null) return false;
  const [year, month, day, hour, minute, second, zoneHour, zoneMinute] = match.slice(1).map((
    text,
  ) => Number(text ?? 0));
  const leap = (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0;
  const days = [31, leap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
  // Second 60 is a leap second, which RFC 3339 allows.
  return month >= 1 && month <= 12 && day >= 1 && day <= days[month - 1] && hour < 24 &&
    minute < 60 && second <= 60 && zoneHour < 24 && zoneMinute < 60;
}

function isText(value: unknown): value is string {
  return typeof value === "string" && value.length > 0 && value.isWellFormed() &&
    !FORBIDDEN_TEXT.test(value);
}

function isUriReference(text: string): boolean {
  return URI_REFERENCE.test(text);
}

/** The grammar of RFC 3986 §4.1, put together from its parts. */
function uriReference(): RegExp {
  const escaped = "%[0-9A-Fa-f]{2}";
  const plain = "A-Za-z0-9\\-._~!$&'()*+,;=";
  const segment = `(?:[${plain}:@]|${escaped})*`;
  const host = `(?:\\[[0-9A-Fa-fvV:.${plain}]+\\]|(?:[${plain}]|${escaped})*)`;
  const authority = `//(?:(?:[${plain}:]|${escaped})*@)?${host}(?::[0-9]*)?`;
  const slashed = `(?:/${segment})*`;
  // Without a scheme, a colon in the first segment would look like one.
  const rootless = (first: string) => `(?:${first}+${slashed})?`;
  const rooted = `/(?:(?:[${plain}:@]|${escaped})+${slashed})?`;
  const absolute = `[A-Za-z][A-Za-z0-9+.\\-]*:(?:${authority}${slashed}|${rooted}|` +
    `${rootless(`(?:[${plain}:@]|${escaped})`)})`;
  const relative = `(?:${authority}${slashed}|${rooted}|${rootless(`(?:[${plain}@]|${escaped})`)})`;
  const rest = `(?:[${plain}:@/?]|${escaped})*`;
  return new RegExp(`^(?:${absolute}|${relative})(?:\\?${rest})?(?:#${rest})?$`);
}

function isExtensionValue(value: unknown): boolean {
  if (typeof value === "string") return value.isWellFormed() && !FORBIDDEN_TEXT.test(value);
  if (typeof value === "number") return Number.isInteger(value) && (value | 0) === value;
  return typeof value === "boolean";
}

function describe(value: unknown): string {
  if (value === undefined) return "nothing";
  if (typeof value === "object" && value !== null) {
    return Array.isArray(value) ? "an array" : "an object";
  }
  return clip(JSON.stringify(value));
}

function clip(text: string): string {
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
