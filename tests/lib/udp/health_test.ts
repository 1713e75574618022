/**
 * Health: thresholds, hold-off, jitter, and what answers are good.
 *
 * @module
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { encodeUtf8 } from "#lib/base/mod.ts";
import {
  HEALTH_DEFAULTS,
  HealthMachine,
  type HealthOutput,
  type HealthSettings,
} from "#lib/udp/health.ts";
import { compileProbe, HealthCheckError, type HealthProbe } from "#lib/udp/health_check.ts";
import { campaign } from "#tests/support/campaign.ts";

const SETTINGS: HealthSettings = { ...HEALTH_DEFAULTS, jitter: 0 };
const PASSIVE = { errors: 3, unanswered: 10, holdMs: 10_000 };

function drain(machine: HealthMachine): HealthOutput[] {
  const outputs: HealthOutput[] = [];
  for (let next = machine.pollOutput(); next !== undefined; next = machine.pollOutput()) {
    outputs.push(next);
  }
  return outputs;
}

/** Runs the machine up to `untilMs`, answering each probe at once. */
function run(
  machine: HealthMachine,
  untilMs: number,
  answer: (backend: number, nowMs: number) => string | undefined,
): { atMs: number; output: HealthOutput }[] {
  const seen: { atMs: number; output: HealthOutput }[] = [];
  for (;;) {
    const atMs = machine.pollTimeout();
    if (atMs === undefined || atMs > untilMs) return seen;
    machine.handleTimeout(atMs);
    for (const output of drain(machine)) {
      seen.push({ atMs, output });
      if (output.type !== "probe") continue;
      machine.handleResult(output.probe, answer(output.backend, atMs), atMs);
      seen.push(...drain(machine).map((later) => ({ atMs, output: later })));
    }
  }
}

function changesOf(seen: readonly { atMs: number; output: HealthOutput }[]): [number, boolean][] {
  return seen.flatMap(({ atMs, output }) =>
    output.type === "changed" ? [[atMs, output.isUp] as [number, boolean]] : []
  );
}

Deno.test("health: fall bad results in a row make a backend down, rise good ones up", () => {
  const machine = new HealthMachine(1);
  machine.add(7, SETTINGS, 0);
  const seen = run(machine, 60_000, (_, now) => now < 30_000 ? "refused" : undefined);
  // Probes at 0, 5000 …: the third bad one is at 10 s; good from 30 s on, the second at 35 s.
  assertEquals(changesOf(seen), [[10_000, false], [35_000, true]]);
  assertEquals(machine.view(7)?.isUp, true);
});

Deno.test("health: a result between two of the other kind changes nothing", () => {
  const machine = new HealthMachine(1);
  machine.add(7, SETTINGS, 0);
  let asked = 0;
  const seen = run(machine, 100_000, () => ++asked % 3 === 0 ? undefined : "refused");
  assertEquals(changesOf(seen), []);
  assert(asked >= 20);
});

Deno.test("health: a probe that is not answered in time is bad, and its late answer nothing", () => {
  const machine = new HealthMachine(1);
  machine.add(7, { ...SETTINGS, fall: 1 }, 0);
  machine.handleTimeout(0);
  const [first] = drain(machine);
  assert(first.type === "probe");
  assertEquals(machine.pollTimeout(), 2000);
  machine.handleTimeout(1999);
  assertEquals(drain(machine), []);
  machine.handleTimeout(2000);
  assertEquals(drain(machine), [
    { type: "cancel", backend: 7, probe: first.probe },
    { type: "changed", backend: 7, isUp: false, reason: "no answer in time" },
  ]);
  machine.handleResult(first.probe, undefined, 2001);
  assertEquals(machine.view(7)?.streak, -1);
});

Deno.test("health: ICMP without a reply between makes a backend down at once", () => {
  const machine = new HealthMachine(1);
  machine.add(7, { ...SETTINGS, passive: PASSIVE }, 0);
  machine.handleIcmp(7, "ECONNREFUSED", 1);
  machine.handleIcmp(7, "ECONNREFUSED", 2);
  machine.handleTraffic(7, 5, 1, 3);
  machine.handleIcmp(7, "ECONNREFUSED", 4);
  machine.handleIcmp(7, "ECONNREFUSED", 5);
  assertEquals(drain(machine), []);
  machine.handleIcmp(7, "ECONNREFUSED", 6);
  assertEquals(drain(machine), [
    { type: "changed", backend: 7, isUp: false, reason: "ECONNREFUSED" },
  ]);
});

Deno.test("health: what traffic condemned, good probes save only after the hold-off", () => {
  const machine = new HealthMachine(1);
  machine.add(7, { ...SETTINGS, passive: PASSIVE }, 0);
  for (let at = 0; at < 3; at++) machine.handleIcmp(7, "ECONNREFUSED", 100);
  drain(machine);
  const seen = run(machine, 60_000, () => undefined);
  // Held until 10.1 s: the probes at 15 s and 20 s are the two that count.
  assertEquals(changesOf(seen), [[20_000, true]]);
});

Deno.test("health: silence counts datagrams until a reply comes", () => {
  const machine = new HealthMachine(1);
  machine.add(7, { ...SETTINGS, isProbed: false, passive: PASSIVE }, 0);
  machine.handleTraffic(7, 9, 0, 1);
  machine.handleTraffic(7, 9, 1, 2);
  machine.handleTraffic(7, 9, 0, 3);
  assertEquals(drain(machine), []);
  machine.handleTraffic(7, 1, 0, 4);
  assertEquals(drain(machine), [
    { type: "changed", backend: 7, isUp: false, reason: "10 datagrams without a reply" },
  ]);
  // Nobody probes it: it is tried again after the hold-off.
  assertEquals(machine.pollTimeout(), 10_004);
  machine.handleTimeout(10_003);
  assertEquals(drain(machine), []);
  machine.handleTimeout(10_004);
  assertEquals(drain(machine), [
    { type: "changed", backend: 7, isUp: true, reason: "tried again" },
  ]);
});

Deno.test("health: a backend that is no longer judged is up", () => {
  const machine = new HealthMachine(1);
  machine.add(7, { ...SETTINGS, fall: 1 }, 0);
  run(machine, 100, () => "refused");
  assertEquals(machine.view(7)?.isUp, false);
  machine.update(7, { ...SETTINGS, isProbed: false }, 200);
  assertEquals(drain(machine).map(({ type }) => type), ["changed"]);
  assertEquals([machine.view(7)?.isUp, machine.pollTimeout()], [true, undefined]);
});

Deno.test("health: a shorter interval takes effect at once, and a removed backend is silent", () => {
  const machine = new HealthMachine(1);
  machine.add(7, { ...SETTINGS, intervalMs: 1_000_000 }, 0);
  run(machine, 10, () => undefined);
  machine.update(7, { ...SETTINGS, intervalMs: 100 }, 50);
  assertEquals(machine.pollTimeout(), 150);
  machine.handleTimeout(150);
  drain(machine);
  machine.remove(7);
  assertEquals(drain(machine).map(({ type }) => type), ["cancel"]);
  assertEquals([machine.view(7), machine.pollTimeout()], [undefined, undefined]);
});

Deno.test("health: probes of many backends are spread, the same way for one seed", () => {
  const starts = (seed: number) => {
    const machine = new HealthMachine(seed);
    for (let backend = 0; backend < 100; backend++) {
      machine.add(backend, { ...SETTINGS, jitter: 0.5 }, 0);
    }
    return run(machine, 20_000, () => undefined).map(({ atMs }) => atMs);
  };
  const one = starts(3);
  assertEquals(one, starts(3));
  assert(new Set(one).size > 250, `${new Set(one).size} different times`);
});

Deno.test("health: whatever comes in whatever order, states alternate and thresholds hold", () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant("tick" as const), ms: fc.nat(4000) }),
    fc.record({ kind: fc.constant("result" as const), good: fc.boolean() }),
    fc.record({ kind: fc.constant("icmp" as const) }),
    fc.record({ kind: fc.constant("traffic" as const), sent: fc.nat(6), received: fc.nat(1) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const machine = new HealthMachine(5);
      machine.add(1, { ...SETTINGS, passive: PASSIVE }, 0);
      let nowMs = 0;
      let isUp = true;
      let running = 0;
      for (const one of steps) {
        if (one.kind === "tick") nowMs += one.ms;
        if (one.kind === "result" && running !== 0) {
          machine.handleResult(running, one.good ? undefined : "bad", nowMs);
        }
        if (one.kind === "icmp") machine.handleIcmp(1, "ECONNREFUSED", nowMs);
        if (one.kind === "traffic") machine.handleTraffic(1, one.sent, one.received, nowMs);
        machine.handleTimeout(nowMs);
        for (const output of drain(machine)) {
          if (output.type === "probe") running = output.probe;
          if (output.type !== "changed") continue;
          assertEquals(output.isUp, !isUp, "a change that is none");
          isUp = output.isUp;
        }
        assertEquals(machine.view(1)?.isUp, isUp);
        const dueMs = machine.pollTimeout();
        assert(dueMs !== undefined && dueMs > nowMs, "something due was left");
      }
    }),
    { numRuns: campaign(300, 20_000) },
  );
});

/** The judgement of an answer to a probe. */
function judge(probe: HealthProbe, answer: Uint8Array, nonce = 1): string | undefined {
  const compiled = compileProbe(probe);
  assert(compiled.by === "udp");
  return compiled.judge(answer, nonce);
}

Deno.test("health check: answers are expected as text, hex or a regular expression", () => {
  const send = { text: "ping" };
  const pong = encodeUtf8("PONG 17\r\n");
  const by = "udp";
  assertEquals(judge({ by, send, expect: { any: true } }, new Uint8Array(0)), undefined);
  assertEquals(judge({ by, send, expect: { contains: { text: "ONG" } } }, pong), undefined);
  assertEquals(
    judge({ by, send, expect: { contains: { text: "ping" } } }, pong),
    "the answer lacks what is expected",
  );
  assertEquals(
    judge({ by, send, expect: { equals: { hex: "50 4f:4e47" } } }, encodeUtf8("PONG")),
    undefined,
  );
  assertEquals(
    judge({ by, send, expect: { equals: { hex: "504f4e47" } } }, pong),
    "another answer than expected",
  );
  assertEquals(judge({ by, send, expect: { matches: "^PONG \\d+" } }, pong), undefined);
  assertEquals(
    judge({ by, send, expect: { matches: "^\\xff\\x00" } }, new Uint8Array([255, 0])),
    undefined,
  );
  assertEquals(judge({ by, send, expect: { matches: "^$" } }, pong), "the answer does not match");
});

Deno.test("health check: what cannot be sent or expected is refused with the reason", () => {
  const cases: [HealthProbe, string][] = [
    [{ by: "udp", send: { hex: "5" }, expect: { any: true } }, 'Cannot send "5": it is not hex'],
    [
      { by: "udp", send: { text: "" }, expect: { matches: "(" } },
      'Cannot expect "(": it is no regular expression',
    ],
    [
      { by: "udp", send: { text: "x".repeat(1201) }, expect: { any: true } },
      "Cannot probe with 1201 bytes: want at most 1200",
    ],
    [
      { by: "dns", name: `${"a".repeat(64)}.test` },
      `Cannot ask for "${"a".repeat(64)}.test": a label is longer than 63 bytes`,
    ],
    [
      { by: "dns", name: Array(60).fill("abcd").join(".") },
      `Cannot ask for "${Array(60).fill("abcd").join(".")}": it is longer than 255 bytes`,
    ],
  ];
  for (const [probe, message] of cases) {
    assertThrows(() => compileProbe(probe), HealthCheckError, message);
  }
});

Deno.test("health check: a DNS query has the bytes of the RFC, and its answer is judged", () => {
  const probe: HealthProbe = { by: "dns", name: "a.Test", type: "A" };
  const compiled = compileProbe(probe);
  assert(compiled.by === "udp");
  const query = compiled.request(0x1234);
  const header = [0x12, 0x34, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0];
  const question = [1, 0x61, 4, 0x54, 0x65, 0x73, 0x74, 0, 0, 1, 0, 1];
  assertEquals(Array.from(query), [...header, ...question]);
  const answer = (change: (bytes: Uint8Array) => void) => {
    const bytes = query.slice();
    bytes[2] = 0x81;
    change(bytes);
    return compiled.judge(bytes, 0x1234);
  };
  assertEquals(answer(() => {}), undefined);
  assertEquals(answer((bytes) => bytes[15] = 0x74), undefined, "case of names does not matter");
  assertEquals(answer((bytes) => bytes[3] = 3), undefined);
  assertEquals(answer((bytes) => bytes[3] = 2), "the answer is SERVFAIL");
  assertEquals(answer((bytes) => bytes[3] = 9), "the answer is code 9");
  assertEquals(answer((bytes) => bytes[0] = 0), "the answer has another id");
  assertEquals(answer((bytes) => bytes[2] = 1), "the answer is a query");
  assertEquals(answer((bytes) => bytes[13] = 0x62), "the answer is to another question");
  assertEquals(compiled.judge(new Uint8Array(11), 0x1234), "the answer is no DNS message");
  assertEquals(judge({ by: "dns", codes: ["REFUSED"] }, answerRefused(), 1), undefined);
});

function answerRefused(): Uint8Array {
  return new Uint8Array([0, 1, 0x80, 5, 0, 0, 0, 0, 0, 0, 0, 0]);
}

Deno.test("health check: no answer makes the judge throw", () => {
  const compiled = compileProbe({ by: "dns", name: "x.test" });
  assert(compiled.by === "udp");
  const wrong = (bytes: Uint8Array) => typeof compiled.judge(bytes, 0xbeef);
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 64 }),
      (bytes) => assert(["string", "undefined"].includes(wrong(bytes))),
    ),
    { numRuns: campaign(500, 50_000) },
  );
});

Deno.test("health: what the server before knew holds until the first results", () => {
  const machine = new HealthMachine(1);
  machine.add(1, SETTINGS, 0, false);
  machine.add(2, { ...SETTINGS, startsUp: false }, 0, true);
  machine.add(3, { ...SETTINGS, startsUp: false }, 0);
  const reason = "as the server before knew it";
  assertEquals([1, 2, 3].map((backend) => machine.view(backend)), [
    { isUp: false, streak: 0, reason, sinceMs: 0 },
    { isUp: true, streak: 0, reason, sinceMs: 0 },
    { isUp: false, streak: 0, reason: "not asked yet", sinceMs: 0 },
  ]);
  // It says nothing of one that is judged here already.
  machine.update(1, SETTINGS, 0, true);
  assertEquals(machine.view(1)?.isUp, false);
  assertEquals(changesOf(run(machine, 5000, () => undefined)), [[5000, true], [5000, true]]);
});

Deno.test("health: a backend that was down and that nobody asks comes back", () => {
  const machine = new HealthMachine(1);
  const unasked = { ...SETTINGS, isProbed: false };
  machine.add(1, { ...unasked, passive: PASSIVE }, 100, false);
  machine.add(2, unasked, 100, false);
  // Nobody judges the second: then it is what it starts as.
  assertEquals([machine.view(1)?.isUp, machine.view(2)?.isUp], [false, true]);
  assertEquals(changesOf(run(machine, 60_000, () => undefined)), [[10_100, true]]);
});
