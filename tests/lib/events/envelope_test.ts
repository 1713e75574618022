/**
 * The CloudEvents envelope: what is made, what is taken, and agreement with the CloudEvents SDK.
 *
 * @module
 */
import { assert, assertEquals, assertInstanceOf, assertThrows } from "@std/assert";
import { CloudEvent as SdkEvent } from "cloudevents";
import fc from "fast-check";
import { campaign } from "#tests/support/campaign.ts";
import {
  canonicalEventBytes,
  type CloudEvent,
  EVENT_TYPES,
  EventError,
  extensionOf,
  isEventOf,
  isTimestamp,
  makeEvent,
  parseEvent,
  parseEventText,
} from "#lib/events/mod.ts";

const BASE = { specversion: "1.0", id: "a-1", source: "/celld/host", type: "dev.celld.test" };

function problemsOf(json: unknown): readonly string[] {
  const parsed = parseEvent(json);
  return parsed instanceof EventError ? parsed.problems : [];
}

Deno.test("makeEvent() makes what parseEvent() takes, and leaves out an absent subject", () => {
  const event = makeEvent({
    id: "a-1",
    source: "/celld/host",
    type: EVENT_TYPES.cellStarted,
    time: "2026-05-16T00:00:00Z",
    data: { cellId: "c", specId: "s" },
  });
  assertEquals(Object.keys(event), [
    "specversion",
    "id",
    "source",
    "type",
    "time",
    "datacontenttype",
    "data",
  ]);
  assertEquals(parseEvent(JSON.parse(JSON.stringify(event))), event);
  assertEquals(makeEvent({ ...event, time: event.time!, subject: "cell:c" }).subject, "cell:c");
});

Deno.test("parseEvent() keeps extensions and data as they are, and drops unset attributes", () => {
  const event = {
    ...BASE,
    subject: null,
    traceparent: "00-a-b-01",
    flag: true,
    count: 7,
    data: null,
  };
  const parsed = parseEvent(event) as CloudEvent;
  assertEquals(
    { ...parsed },
    { ...BASE, traceparent: "00-a-b-01", flag: true, count: 7, data: null } as never,
  );
  assertEquals(extensionOf(parsed, "traceparent"), "00-a-b-01");
  assertEquals([extensionOf(parsed, "id"), extensionOf(parsed, "none")], [undefined, undefined]);
});

Deno.test("parseEvent() lists everything that is wrong", () => {
  const problems = problemsOf({ specversion: "0.3", id: "", source: "a b", time: "today", BAD: 1 });
  assertEquals(problems, [
    'specversion: found "0.3", want "1.0"',
    'id: found "", want text',
    "type: found nothing, want text",
    'source: found "a b", want a URI reference',
    'time: found "today", want an RFC 3339 time',
    '"BAD": attribute names are of a-z and 0-9',
  ]);
});

Deno.test("parseEvent() refuses what is no object", () => {
  for (const json of [null, undefined, 1, "x", [], true]) {
    assertInstanceOf(parseEvent(json), EventError);
  }
  assertInstanceOf(parseEventText("{"), EventError);
  assertEquals((parseEventText(JSON.stringify(BASE)) as CloudEvent).id, "a-1");
});

Deno.test("parseEvent() refuses each attribute that breaks its rule", () => {
  const cases: Record<string, unknown>[] = [
    { id: 7 },
    { id: "a\nb" },
    { id: "\ud800" },
    { source: "" },
    { source: "%zz" },
    { type: null },
    { subject: "" },
    { datacontenttype: "" },
    { dataschema: "relative/path" },
    { time: 7 },
    { ext: { nested: true } },
    { ext: 1.5 },
    { ext: 2 ** 31 },
    { ext: "a\u0007" },
    { data: 1, data_base64: "AAAA" },
    { data_base64: "A" },
    { data_base64: 7 },
  ];
  for (const change of cases) {
    assertEquals(problemsOf({ ...BASE, ...change }).length, 1, JSON.stringify(change));
  }
});

Deno.test("parseEvent() never throws, and what it takes it takes again", () => {
  const member = fc.oneof(
    fc.constantFrom("specversion", "id", "source", "type", "time", "subject", "data", "__proto__"),
    fc.string({ maxLength: 8 }),
  );
  const value = fc.oneof(fc.constantFrom("1.0", "/x", "a", null), fc.jsonValue());
  const object = fc.dictionary(member, value).map((change) => ({ ...BASE, ...change }));
  fc.assert(fc.property(fc.oneof(object, fc.jsonValue(), fc.anything()), (json) => {
    const parsed = parseEvent(json);
    if (!(parsed instanceof EventError)) assertEquals(parseEvent(parsed), parsed);
  }));
});

Deno.test("parseEventText() never throws on any text, cut anywhere", () => {
  const text = JSON.stringify({ ...BASE, data: { a: [1, "\u20ac"] } });
  for (let length = 0; length < text.length; length++) {
    assertInstanceOf(parseEventText(text.slice(0, length)), EventError);
  }
  fc.assert(fc.property(fc.string(), (any) => {
    parseEventText(any);
  }));
});

Deno.test("isTimestamp() takes RFC 3339 on days that exist", () => {
  const good = [
    "2026-05-16T00:00:00Z",
    "2026-05-16t00:00:00.123456z",
    "2024-02-29T23:59:60+23:59",
    "2000-02-29T00:00:00-00:00",
  ];
  const bad = [
    "2026-05-16",
    "2026-05-16T00:00:00",
    "2026-05-16 00:00:00Z",
    "2026-02-29T00:00:00Z",
    "1900-02-29T00:00:00Z",
    "2026-13-01T00:00:00Z",
    "2026-00-01T00:00:00Z",
    "2026-04-31T00:00:00Z",
    "2026-05-16T24:00:00Z",
    "2026-05-16T00:60:00Z",
    "2026-05-16T00:00:00+24:00",
    "2026-05-16T00:00:00.Z",
    7,
  ];
  for (const text of good) assert(isTimestamp(text), text);
  for (const text of bad) assert(!isTimestamp(text), String(text));
});

Deno.test("isEventOf() tells types apart", () => {
  const event = { ...BASE, type: EVENT_TYPES.flowGap, data: {} } as unknown as CloudEvent;
  assert(isEventOf(event, EVENT_TYPES.flowGap) && !isEventOf(event, EVENT_TYPES.flowClosed));
});

Deno.test("canonicalEventBytes() does not depend on the order of members", () => {
  const event = { ...BASE, data: { b: 1, a: 2 } } as unknown as CloudEvent;
  const other = Object.fromEntries(Object.entries(event).reverse()) as unknown as CloudEvent;
  assertEquals(canonicalEventBytes(event), canonicalEventBytes(other));
  assertThrows(() => canonicalEventBytes({ ...event, data: NaN }), TypeError);
});

/**
 * Where the SDK and we differ on purpose: it fills in a missing id, and takes any specversion,
 * objects as extensions, control characters, an empty source, data beside data_base64, and
 * colons in a source where RFC 3986 forbids them. So the comparison leaves those out.
 */
Deno.test("parseEvent() agrees with the CloudEvents SDK on what an event is", () => {
  const uri = fc.tuple(
    fc.constantFrom("", "urn:", "http:"),
    fc.stringMatching(/^[a-z\/.%#? -]{1,12}$/),
  ).map((parts) => parts.join(""));
  const word = fc.stringMatching(/^[A-Za-z0-9 ._-]{1,8}$/);
  const time = fc.oneof(
    fc.date({ noInvalidDate: true, min: new Date(0), max: new Date("2099-12-31") })
      .map((date) => date.toISOString()),
    fc.stringMatching(/^20[0-9]{2}-[0-3][0-9]-[0-9]{2}T[0-2][0-9]:[0-9]{2}:[0-5][0-9]Z$/),
    word,
  );
  const change = fc.record({
    id: word,
    source: fc.oneof(fc.constant("/celld/host"), uri),
    type: word,
    time,
    subject: fc.oneof(word, fc.constant("")),
    datacontenttype: fc.constantFrom("application/json", "text/plain", ""),
    data: fc.jsonValue().filter((value) => value !== null),
  }, { requiredKeys: [] });
  const name = fc.oneof(
    { weight: 30, arbitrary: fc.stringMatching(/^[a-z0-9]{1,8}$/) },
    { weight: 1, arbitrary: fc.stringMatching(/^[a-zA-Z0-9_]{1,8}$/) },
  );
  const extension = fc.dictionary(name, fc.oneof(word, fc.boolean()), { maxKeys: 3 });
  const taken = { both: 0, neither: 0 };
  fc.assert(
    fc.property(change, extension, (attributes, extensions) => {
      const json = { ...extensions, ...BASE, ...attributes };
      const ours = !(parseEvent(json) instanceof EventError);
      taken[ours ? "both" : "neither"]++;
      assertEquals(ours, sdkTakes(json), JSON.stringify(json));
    }),
    { numRuns: campaign(500, 20_000) },
  );
  assert(taken.both > 20 && taken.neither > 20, JSON.stringify(taken));
});

function sdkTakes(json: Record<string, unknown>): boolean {
  try {
    new SdkEvent(structuredClone(json), true);
    return true;
  } catch {
    // Its errors have no common class; any of them means refused.
    return false;
  }
}
