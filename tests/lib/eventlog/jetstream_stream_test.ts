/**
 * What celld wants of its stream, and the texts of NATS that it reads: pure functions.
 *
 * @module
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  backoffMs,
  parseAckSubject,
  parsePublishAnswer,
  PublishWindow,
  streamDrift,
  wantedStream,
} from "#lib/eventlog/jetstream_stream.ts";
import { parseServers, ServerUrlError, subjectOf } from "#lib/eventlog/jetstream_subject.ts";
import { someEvent } from "./log_fixture.ts";

Deno.test("streamDrift() is silent about a stream as celld makes it, unlimited in any spelling", () => {
  const wanted = wantedStream(3);
  assertEquals(streamDrift(wanted, wanted), []);
  const server = { max_msgs: -1, max_bytes: -1, max_msgs_per_subject: -1, max_msg_size: 0 };
  assertEquals(streamDrift({ ...wanted, ...server, no_ack: false, sealed: false }, wanted), []);
  assertEquals(streamDrift({ ...wanted, subjects: ["x.>", "cellos.events.>"] }, wanted), []);
});

Deno.test("streamDrift() names each difference with what it found and what it wants", () => {
  const found = {
    ...wantedStream(1),
    subjects: ["cellos.>"],
    storage: "memory",
    max_age: 3600 * 1e9,
    duplicate_window: 120 * 1e9,
    max_bytes: 1000,
    no_ack: true,
  };
  assertEquals(streamDrift(found, wantedStream(3)), [
    'subjects: found ["cellos.>"], want ["cellos.events.>"]',
    'storage: found "memory", want "file"',
    'max_age: found "3600 s", want "7776000 s"',
    'duplicate_window: found "120 s", want "3600 s"',
    "num_replicas: found 1, want 3",
    "max_bytes: found 1000, want -1",
    "no_ack: found true, want false",
  ]);
});

Deno.test("parseAckSubject() reads both forms, and nothing else", () => {
  const short = "$JS.ACK.CELLOS_EVENTS.name.1.42.7.1700000000000000000.3";
  assertEquals(parseAckSubject(short), { streamSeq: 42, consumerSeq: 7 });
  const long = "$JS.ACK.hub.ACCOUNT.CELLOS_EVENTS.name.1.42.7.1700000000000000000.3.random";
  assertEquals(parseAckSubject(long), { streamSeq: 42, consumerSeq: 7 });
  for (const other of ["", "_INBOX.x", "$JS.ACK.a.b", "$JS.ACK.s.c.1.x.y.z.0"]) {
    assertEquals(parseAckSubject(other), undefined);
  }
});

Deno.test("parsePublishAnswer() tells what is stored from what is refused", () => {
  assertEquals(parsePublishAnswer('{"stream":"CELLOS_EVENTS","seq":5}'), {
    kind: "stored",
    seq: 5,
    duplicate: false,
  });
  const refused = parsePublishAnswer(
    '{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"}}',
  );
  assertEquals(refused, { kind: "refused", code: 10077, reason: "maximum messages exceeded" });
  // Stored in another stream, or not at all: no number of ours.
  for (const text of ['{"stream":"OTHER","seq":5}', '{"stream":"CELLOS_EVENTS","seq":0}']) {
    assertEquals(parsePublishAnswer(text).kind, "refused");
  }
  fc.assert(fc.property(fc.string(), fc.json(), (text, json) => {
    parsePublishAnswer(text);
    parsePublishAnswer(json);
  }));
});

Deno.test("PublishWindow: one at a time after a failure, then more and more", () => {
  const window = new PublishWindow(512);
  assertEquals(window.size, 512);
  window.fail();
  const sizes = Array.from({ length: 6 }, () => {
    window.succeed();
    return window.size;
  });
  assertEquals(sizes, [4, 16, 64, 256, 512, 512]);
});

Deno.test("backoffMs() doubles up to five seconds, and spreads", () => {
  assertEquals([0, 1, 2, 20].map((failures) => backoffMs(failures, 0)), [50, 100, 200, 5000]);
  assertEquals(backoffMs(20, 1), 2500);
});

Deno.test("subjectOf() names entity, id and phase, in safe tokens", () => {
  const of = (
    subject: string | undefined,
    type = "dev.cellos.events.cell.lifecycle.v1.started",
  ) => {
    const { subject: _, ...event } = { ...someEvent("a"), type };
    return subjectOf(subject === undefined ? event : { ...event, subject });
  };
  assertEquals(of("cell:demo"), "cellos.events.cell.demo.started");
  assertEquals(of("urn:cellos:cell:demo"), "cellos.events.cell.demo.started");
  assertEquals(
    of("formation:a.b *>", "io.cellos.formation.v1.created"),
    "cellos.events.formation.a_b___.created",
  );
  assertEquals(of(undefined), "cellos.events.host.test.started");
  fc.assert(fc.property(fc.string(), fc.string(), (subject, type) => {
    assert(/^cellos\.events(\.[A-Za-z0-9_-]{1,64}){3}$/.test(of(subject, type)));
  }));
});

Deno.test("parseServers() reads lists, ports, TLS and credentials", () => {
  assertEquals(parseServers("nats://a:1, nats://b"), { servers: ["a:1", "b:4222"], tls: false });
  assertEquals(parseServers("tls://[::1]:9"), { servers: ["[::1]:9"], tls: true });
  assertEquals(parseServers("nats://us%40er:p:w@a"), {
    servers: ["a:4222"],
    tls: false,
    user: "us@er",
    password: "p:w",
  });
  assertEquals(parseServers("nats://t0ken@a,nats://b"), {
    servers: ["a:4222", "b:4222"],
    tls: false,
    token: "t0ken",
  });
});

Deno.test("parseServers() refuses anything else without repeating a password", () => {
  for (const url of ["", "http://a", "nats://", "nats://a:0", "nats://a:70000", "nats://a/path"]) {
    assertThrows(() => parseServers(url), ServerUrlError, "want nats://host:port");
  }
  const error = assertThrows(() => parseServers("nats://me:secret@a:b"), ServerUrlError);
  assert(!error.message.includes("secret"));
});
