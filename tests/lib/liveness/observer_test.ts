/**
 * The observer's rules without sockets: order of the checks, limits, transitions, thresholds.
 *
 * @module
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { encodeUtf8 } from "#lib/base/mod.ts";
import { validateEventData } from "#lib/events/mod.ts";
import { type AgentEvent, agentFact } from "#lib/liveness/agent_events.ts";
import type { Datagram, SenderFacts, UnixListener } from "#lib/liveness/listener.ts";
import { Observer } from "#lib/liveness/observer.ts";
import type { ObserverOptions } from "#lib/liveness/observer_options.ts";
import { ORIGIN } from "#lib/liveness/origin.ts";
import { encodeFrame, FRAME_BYTES, U32_MAX, VlpFrame } from "#lib/liveness/vlp_frame.ts";
import { campaign } from "#tests/support/campaign.ts";

const MS = 1e6;
const OWN_NS = 4_026_531_836;
const HOST: UnixListener = {
  kind: "host",
  uids: [{ first: 0, count: 1 }],
  takesNotifications: true,
};
const LAST_WORD = { nonceHi: U32_MAX, nonceLo: U32_MAX, status: 2 };

type Fields = Partial<Omit<VlpFrame, "isTerminal">>;

/** An observer with processes that the test makes up. */
class Stage {
  readonly events: AgentEvent[] = [];
  readonly facts = new Map<number, SenderFacts>();
  readonly identified: number[] = [];
  readonly observer: Observer;
  nonce = 0;

  constructor(options: Partial<ObserverOptions> = {}) {
    this.observer = new Observer(
      { thresholdNs: 1000 * MS, nsInode: OWN_NS, pidMax: 32_768, ...options },
      {
        identify: (pid) => {
          this.identified.push(pid);
          return this.facts.get(pid) ??
            { nsInode: OWN_NS, generation: 100 + pid, innermostPid: pid, name: `p${pid}` };
        },
        generationOf: (pid) => this.facts.get(pid)?.generation ?? 100 + pid,
        forget: () => {},
      },
      (event) => this.events.push(event),
    );
  }

  send(bytes: Uint8Array, nowNs: number, from: Partial<Datagram> = {}): void {
    this.observer.handle({
      listener: HOST,
      bytes,
      offset: 0,
      length: bytes.length,
      isTruncated: false,
      isControlTruncated: false,
      pid: 50,
      uid: 0,
      address: 0,
      nowNs,
      ...from,
    });
  }

  beat(nowNs: number, fields: Fields = {}, from: Partial<Datagram> = {}): void {
    const bytes = new Uint8Array(FRAME_BYTES);
    const pid = from.pid ?? 50;
    this.nonce += 1;
    encodeFrame(Object.assign(new VlpFrame(), { pid, nonceLo: this.nonce }, fields), bytes);
    this.send(bytes, nowNs, from);
  }

  notify(text: string, nowNs: number, from: Partial<Datagram> = {}): void {
    this.send(encodeUtf8(text), nowNs, from);
  }

  kinds(): string[] {
    return this.events.splice(0).map((event) => {
      if (event.kind === "conflict" || event.kind === "gone") {
        return `${event.kind}:${event.reason}`;
      }
      return event.kind;
    });
  }
}

Deno.test("observer: the checks come in their order, and what fails early costs no look at /proc", () => {
  const stage = new Stage();
  const { counters } = stage.observer;
  const bytes = new Uint8Array(FRAME_BYTES);
  // Everything is wrong at once; each repair uncovers the next check.
  const from: Partial<Datagram> = { isControlTruncated: true, length: 31, uid: -1, pid: 51 };
  stage.send(bytes, 0, from);
  stage.send(bytes, 0, { ...from, isControlTruncated: false });
  stage.send(bytes, 0, { uid: -1, pid: 51 });
  stage.send(bytes, 0, { uid: 9, pid: 51 });
  stage.send(bytes, 0, { pid: 51 });
  stage.beat(0, { pid: 40_000 }, { pid: 51 });
  stage.beat(0, { pid: 50 }, { pid: 51 });
  assertEquals(
    [counters.ctrlTruncated, counters.truncated, counters.ioErrors, counters.uidRefused],
    [1, 1, 2, 1],
  );
  assertEquals(
    [counters.decodeErrors[1], counters.pidAboveMax, counters.authFailures],
    [1, 1, 1],
  );
  assertEquals(stage.identified, []);
  assertEquals(stage.kinds(), ["conflict:uid", "conflict:pid"]);
  stage.facts.set(51, { nsInode: 7, generation: 1, innermostPid: 2 });
  stage.beat(0, {}, { pid: 51 });
  assertEquals([stage.identified, stage.kinds()], [[51], ["conflict:namespace"]]);
});

Deno.test("observer: an agent's life is seen, stalled, resumed, gone; each told once", () => {
  const stage = new Stage();
  stage.beat(0);
  stage.beat(500 * MS);
  assertEquals(stage.kinds(), ["seen"]);
  assert(stage.observer.nextDeadlineNs()! <= 1500 * MS);
  stage.observer.tick(1499 * MS);
  assertEquals(stage.kinds(), []);
  stage.observer.tick(1500 * MS);
  stage.observer.tick(9000 * MS);
  assertEquals(stage.kinds(), ["stalled"]);
  stage.beat(9001 * MS);
  assertEquals(stage.kinds(), ["resumed"]);
  stage.observer.processEnded(50, 9002 * MS);
  stage.observer.processEnded(50, 9003 * MS);
  stage.observer.tick(90_000 * MS);
  assertEquals(stage.kinds(), ["gone:exit"]);
});

Deno.test("observer: a beat too soon is dropped; a changed status and a last word never are", () => {
  const stage = new Stage();
  const { counters } = stage.observer;
  stage.beat(0);
  stage.beat(9 * MS);
  assertEquals(counters.limitedPerPid, 1);
  stage.beat(9 * MS, { status: 2 });
  stage.beat(9 * MS, { ...LAST_WORD, timestampLo: 5 });
  assertEquals([counters.limitedPerPid, counters.beats], [1, 3]);
  stage.beat(9 * MS, { ...LAST_WORD, timestampLo: 6 });
  assertEquals(counters.limitedPerPid, 2, "the second last word is one too many");
  assertEquals(stage.kinds(), ["seen", "critical", "critical"]);
  stage.beat(19 * MS);
  assertEquals(counters.beats, 4);
});

Deno.test("observer: with the common limit used up a changed status still comes through", () => {
  const stage = new Stage({ globalLimits: { ratePerSecond: 1, burst: 2 } });
  stage.beat(0);
  stage.beat(20 * MS);
  stage.beat(40 * MS);
  stage.beat(60 * MS, {}, { pid: 60 });
  assertEquals(stage.observer.counters.limitedGlobal, 2);
  stage.beat(80 * MS, { status: 1 });
  assertEquals(stage.kinds(), ["seen", "status"]);
  assertEquals(stage.identified, [50, 50, 50], "nothing is read for what is dropped");
});

Deno.test("observer: a status that flips is told at most ten times a second, the last one always", () => {
  const stage = new Stage();
  stage.beat(0);
  for (let step = 1; step <= 1001; step++) stage.beat(step * MS, { status: step % 2 });
  stage.observer.tick(1200 * MS);
  const told = stage.events.flatMap((event) => event.kind === "status" ? [event.agent.status] : []);
  assert(told.length <= 13, `${told.length} changes in a second`);
  assertEquals([told.at(-1), stage.observer.rows(0)[0]!.status], ["degraded", "degraded"]);
});

Deno.test("observer: thresholds are by name, cell, label and uid, the first rule that fits", () => {
  const cell: UnixListener = { ...HOST, kind: "cell", cell: "demo", labels: { tier: "db" } };
  const stage = new Stage({
    thresholds: [
      { match: { name: "p60" }, thresholdNs: 60 * MS },
      { match: { label: { key: "tier", value: "db" } }, thresholdNs: 70 * MS },
      { match: { uid: 0 }, thresholdNs: 80 * MS },
    ],
  });
  stage.beat(0, {}, { pid: 60, listener: cell });
  stage.beat(0, {}, { pid: 61, listener: cell });
  stage.beat(0, {}, { pid: 62 });
  const told = (nowNs: number) => {
    stage.observer.tick(nowNs);
    const stalled = stage.events.splice(0).filter(({ kind }) => kind === "stalled");
    return stalled.map((event) => "agent" in event ? event.agent.hostPid : 0);
  };
  assertEquals([told(59 * MS), told(60 * MS), told(70 * MS), told(80 * MS)], [[], [60], [61], [
    62,
  ]]);
  assertThrows(() => new Stage({ thresholdNs: 1 }), RangeError, "at least 10 ms");
});

Deno.test("observer: an expected agent that does not come is told once; one that came is not", () => {
  const stage = new Stage({
    expected: [
      { match: { name: "p50" }, withinNs: 100 * MS },
      { match: { name: "p51" }, withinNs: 200 * MS },
    ],
  });
  stage.beat(0);
  assertEquals(stage.observer.nextDeadlineNs(), 200 * MS);
  stage.observer.tick(199 * MS);
  stage.observer.tick(200 * MS);
  stage.observer.tick(300 * MS);
  assertEquals(stage.kinds(), ["seen", "missing"]);
});

Deno.test("observer: a recycled pid is another agent, told as the old one's end and the new one's start", () => {
  const stage = new Stage();
  stage.beat(0);
  stage.facts.set(50, { nsInode: OWN_NS, generation: 999, innermostPid: 50, name: "other" });
  stage.beat(20 * MS, { nonceLo: 1 });
  assertEquals(stage.kinds(), ["seen", "gone:recycled", "seen"]);
  assertEquals(stage.observer.rows(20 * MS)[0]!.name, "other");
});

Deno.test("observer: a full table gives away who is long silent, and tells who went", () => {
  const stage = new Stage({ capacity: 1 });
  stage.beat(0);
  stage.beat(1, {}, { pid: 51 });
  assertEquals(stage.observer.tracker.counters.capacityExceeded, 1);
  stage.observer.tick(1000 * MS);
  stage.beat(11_000 * MS, {}, { pid: 51 });
  assertEquals(stage.kinds(), ["seen", "stalled", "gone:evicted", "seen"]);
});

Deno.test("observer: a sender that the kernel cannot name is taken for what it is worth", () => {
  const stage = new Stage();
  stage.beat(0, { pid: 70 }, { pid: 0 });
  assertEquals(stage.observer.rows(0)[0]!.origin, "socket_mode_only");
  stage.facts.set(71, { nsInode: 0, generation: 0, innermostPid: 0 });
  stage.beat(0, {}, { pid: 71 });
  assertEquals(stage.observer.rows(0)[1]!.origin, "socket_mode_only");
  // Better attested later: it takes the slot over.
  stage.beat(20 * MS, {}, { pid: 70 });
  assertEquals(stage.observer.rows(0)[0]!.origin, "kernel_attested");
  // And a network that names it is refused.
  const udp = { kind: "udp", origin: ORIGIN.networkUnverified } as const;
  stage.beat(40 * MS, { pid: 70 }, { listener: udp });
  assertEquals(stage.kinds().at(-1), "conflict:origin");
});

Deno.test("observer: conflicts without end are told a bounded number of times, and counted", () => {
  const stage = new Stage();
  for (let count = 0; count < 5000; count++) stage.beat(0, { pid: 4 }, { pid: 51 });
  assertEquals(stage.observer.counters.authFailures, 5000);
  assertEquals(stage.kinds().length, 100);
  stage.beat(1e9, { pid: 4 }, { pid: 51 });
  const [event] = stage.events;
  assertEquals(event!.kind === "conflict" && event!.suppressed, 4900);
});

Deno.test("observer: notifications live by their own rules: watchdog, stopping, trigger, errno", () => {
  const stage = new Stage();
  stage.notify("READY=1\nSTATUS=up", 0);
  stage.observer.tick(1e15);
  assertEquals(stage.kinds(), ["seen"], "no watchdog: no stall");
  let now = 1e15;
  const later = () => now += 50 * MS;
  stage.notify("WATCHDOG=1", later());
  stage.observer.tick(now + 1000 * MS);
  assertEquals(stage.kinds(), ["stalled"]);
  now += 2000 * MS;
  stage.notify("WATCHDOG=1\nWATCHDOG_USEC=50000", later());
  stage.observer.tick(now + 50 * MS);
  assertEquals(stage.kinds(), ["resumed", "stalled"]);
  now += 2000 * MS;
  stage.notify("WATCHDOG=trigger", later());
  assertEquals(stage.kinds(), ["resumed", "critical"]);
  now += 2000 * MS;
  stage.notify("ERRNO=5\nREADY=1", later());
  stage.notify("STOPPING=1", now + 1);
  stage.observer.tick(now + 1e13);
  stage.observer.processEnded(50, now + 1e13);
  assertEquals(stage.kinds(), ["status", "gone:stopped"]);
});

Deno.test("observer: every transition is an event that its schema accepts", () => {
  const stage = new Stage({ expected: [{ match: { cell: "c" }, withinNs: 1 }] });
  stage.beat(0, { status: 2 });
  stage.notify("WATCHDOG=1\nSTATUS=fine", 0, { pid: 60 });
  stage.beat(0, {}, { pid: 61, uid: 5 });
  stage.beat(500 * MS, { status: 1 });
  stage.observer.tick(3000 * MS);
  stage.beat(3001 * MS);
  stage.observer.processEnded(50, 3002 * MS);
  const facts = stage.events.map(agentFact);
  assertEquals(new Set(facts.map(({ type }) => type.split(".").at(-1))).size, 8);
  for (const { type, data } of facts) assertEquals(validateEventData(type, data), [], type);
});

Deno.test("observer: whatever comes, nothing throws and no more agents are kept than there is room for", () => {
  const datagram = fc.record({
    bytes: fc.uint8Array({ maxLength: 64 }),
    pid: fc.integer({ min: 0, max: 40 }),
    uid: fc.constantFrom(-1, 0, 5),
    kind: fc.nat(4),
    status: fc.nat(3),
    isCell: fc.boolean(),
    waitNs: fc.nat(400 * MS),
  });
  fc.assert(
    fc.property(fc.array(datagram, { maxLength: 60 }), (list) => {
      const stage = new Stage({ capacity: 8 });
      let nowNs = 0;
      for (const { bytes, pid, uid, kind, status, isCell, waitNs } of list) {
        nowNs += waitNs;
        const listener: UnixListener = isCell ? { ...HOST, kind: "cell", cell: "c" } : HOST;
        const from = { pid, uid, listener };
        if (kind === 0) stage.send(bytes, nowNs, from);
        else if (kind === 1) stage.notify(`READY=1\nMAINPID=${status + 30}`, nowNs, from);
        else stage.beat(nowNs, { pid: pid + Math.max(0, kind - 3), status }, from);
        if (kind === 4) stage.observer.processEnded(pid, nowNs);
        stage.observer.tick(nowNs);
      }
      assert(stage.observer.rows(nowNs).length <= 8);
      const balance = new Map<number, number>();
      for (const event of stage.events) {
        if (event.kind !== "seen" && event.kind !== "gone") continue;
        const { hostPid } = event.agent;
        balance.set(hostPid, (balance.get(hostPid) ?? 0) + (event.kind === "seen" ? 1 : -1));
      }
      const live = [...balance.values()].reduce((sum, one) => sum + Math.max(0, one), 0);
      assert(live >= stage.observer.rows(nowNs).length);
    }),
    { numRuns: campaign(200, 10_000) },
  );
});
