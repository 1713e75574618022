/**
 * The bounded tables and the small parts of recovery, with the reference's tests of them.
 *
 * @module
 */
import { assert, assertEquals, assertGreaterOrEqual, assertThrows } from "@std/assert";
import fc from "fast-check";
import { Prng } from "#lib/base/mod.ts";
import { OutputCapture } from "#lib/recovery/capture.ts";
import { DebounceLedger, LEDGER_CAPACITY_DEFAULT } from "#lib/recovery/debounce_ledger.ts";
import { recoveryEnvironment, RecoveryEnvironmentError } from "#lib/recovery/environment.ts";
import { Ladder, type RecoveryPolicy } from "#lib/recovery/ladder.ts";
import { OUTCOME_LABELS, RecoveryCounters } from "#lib/recovery/metrics.ts";
import { OutstandingTable } from "#lib/recovery/outstanding.ts";
import { choosePolicy, longestDebounceMs } from "#lib/recovery/policies.ts";
import { startTicksIn } from "#lib/recovery/process_probe_shell.ts";
import { ReapBudget } from "#lib/recovery/reap_budget.ts";
import {
  makeCommand,
  parseCommandText,
  RecoveryCommandError,
  substitutePid,
  templateLength,
} from "#lib/recovery/template.ts";
import { campaign } from "#tests/support/campaign.ts";
import { commandOf, trueOnce } from "./support.ts";

function insert(ledger: DebounceLedger, pid: number, nowMs: number, generation = 1n): string {
  const place = ledger.reserve(pid, generation, nowMs);
  if (place.kind === "refused") return "refused";
  ledger.commit(place.slot, pid, generation, nowMs);
  return place.evictedPid === undefined ? "inserted" : `evicted ${place.evictedPid}`;
}

Deno.test("ledger: full of fresh entries, it refuses", () => {
  const ledger = new DebounceLedger({ capacity: 4, debounceMs: 10_000 });
  for (const pid of [10, 11, 12, 13]) assertEquals(insert(ledger, pid, 0), "inserted");
  assertEquals(insert(ledger, 99, 1), "refused");
  assertEquals(ledger.get(99, 1n), undefined);
  assertEquals(ledger.size, 4);
});

Deno.test("ledger: full, it gives up the oldest entry that is a debounce old", () => {
  const ledger = new DebounceLedger({ capacity: 4, debounceMs: 100 });
  [10, 11, 12, 13].forEach((pid, index) => insert(ledger, pid, index * 10));
  assertEquals(insert(ledger, 99, 200), "evicted 10");
  assertEquals([10, 99, 11, 12, 13].map((pid) => ledger.get(pid, 1n)), [
    undefined,
    200,
    10,
    20,
    30,
  ]);
  assertEquals(ledger.evictions, 1);
});

Deno.test("ledger: a refusal leaves no entry, and the window of nobody is burnt", () => {
  const ledger = new DebounceLedger({ capacity: 2, debounceMs: 100 });
  insert(ledger, 1, 0);
  insert(ledger, 2, 0);
  assertEquals(insert(ledger, 99, 50), "refused");
  assertEquals(insert(ledger, 99, 200), "evicted 1");
  assertEquals(ledger.get(99, 1n), 200);
});

Deno.test("ledger: what is ten debounces old is forgotten, a full ledger at once", () => {
  const ledger = new DebounceLedger({ debounceMs: 100 });
  for (let pid = 0; pid < LEDGER_CAPACITY_DEFAULT; pid++) insert(ledger, pid + 2, 0);
  ledger.prune(999);
  assertEquals(ledger.size, LEDGER_CAPACITY_DEFAULT);
  ledger.prune(1000);
  assertEquals(ledger.size, 0);
});

Deno.test("ledger: another process of a pid has no entry, and takes the old one's place", () => {
  const ledger = new DebounceLedger({ capacity: 1, debounceMs: 100 });
  insert(ledger, 5, 0, 1n);
  assertEquals(ledger.get(5, 2n), undefined);
  assertEquals(insert(ledger, 5, 1, 2n), "inserted");
  assertEquals([ledger.get(5, 1n), ledger.get(5, 2n)], [undefined, 1]);
  assertEquals(ledger.recycleResets, 1);
});

Deno.test("ledger: a place that was given back was never taken", () => {
  const ledger = new DebounceLedger({ capacity: 1, debounceMs: 100 });
  const place = ledger.reserve(5, 1n, 0);
  assert(place.kind === "reserved");
  assertEquals(ledger.reserve(6, 1n, 0).kind, "refused");
  ledger.release(place.slot);
  assertEquals(insert(ledger, 6, 0), "inserted");
});

Deno.test("ledger: agrees with the reference's linear scan", () => {
  const step = fc.record({
    pid: fc.integer({ min: 1, max: 12 }),
    wait: fc.integer({ max: 60, min: 0 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const ledger = new DebounceLedger({ capacity: 6, debounceMs: 50 });
      const slow: { pid: number; at: number }[] = [];
      let now = 0;
      for (const { pid, wait } of steps) {
        now += wait;
        ledger.prune(now);
        for (let i = slow.length; i-- > 0;) if (now - slow[i]!.at >= 500) slow.splice(i, 1);
        const found = slow.find((entry) => entry.pid === pid);
        assertEquals(ledger.get(pid, 1n), found?.at);
        if (found !== undefined && now - found.at < 50) continue;
        let expected = "inserted";
        if (found !== undefined) slow.splice(slow.indexOf(found), 1);
        else if (slow.length === 6) {
          const oldest = slow.reduce((a, b) => b.at < a.at ? b : a);
          if (now - oldest.at < 50) expected = "refused";
          else {
            expected = "evicted";
            slow.splice(slow.indexOf(oldest), 1);
          }
        }
        assertEquals(insert(ledger, pid, now).split(" ")[0], expected);
        if (expected !== "refused") slow.push({ pid, at: now });
        assertEquals(ledger.size, slow.length);
      }
    }),
    { numRuns: campaign(200, 5000) },
  );
});

Deno.test("outstanding: reserve, commit, release; full and present are told apart", () => {
  const table = new OutstandingTable<string>(2);
  const first = table.reserve(1);
  assert(first.kind === "reserved");
  assertEquals(table.reserve(1).kind, "present");
  assertEquals(table.get(1), undefined);
  table.commit(first.slot, "a");
  assertThrows(() => table.commit(first.slot, "b"), RangeError);
  assertEquals(table.reserve(2).kind, "reserved");
  assertEquals(table.reserve(3).kind, "full");
  assertEquals(table.remove(1), "a");
  assertEquals(table.reserve(3).kind, "reserved");
  assertEquals([table.size, table.has(2), table.values()], [2, true, []]);
});

Deno.test("ladder: never more attempts than allowed, waits never below the debounce nor above the bound", () => {
  const rung = fc.record({ attempts: fc.integer({ min: 1, max: 4 }) });
  const policies = fc.record({
    rungs: fc.array(rung, { minLength: 1, maxLength: 4 }),
    attemptsMax: fc.integer({ min: 1, max: 12 }),
    jitter: fc.double({ min: 0, max: 1, noNaN: true }),
    seed: fc.nat(),
  });
  fc.assert(
    fc.property(policies, ({ rungs, attemptsMax, jitter, seed }) => {
      const policy: RecoveryPolicy = {
        debounceMs: 10,
        attemptsMax,
        backoff: { firstMs: 20, factor: 3, maxMs: 500, jitter },
        rungs: rungs.map(({ attempts }) => ({ action: commandOf("true"), attempts })),
      };
      const ladder = new Ladder(policy, new Prng(seed));
      let lastRung = 0;
      let attempts = 0;
      for (let step = ladder.next(); step.kind === "act"; step = ladder.next()) {
        assertGreaterOrEqual(step.rung, lastRung);
        assertEquals(step.attempt, attempts + 1);
        assertEquals(step.isEscalation, attempts > 0 && step.rung !== lastRung);
        lastRung = step.rung;
        const wait = ladder.attempted();
        assert(wait >= 10 && wait <= 500, `${wait}`);
        attempts++;
      }
      const all = rungs.reduce((sum, it) => sum + it.attempts, 0);
      assertEquals(attempts, Math.min(all, attemptsMax));
      assert(ladder.hasGivenUp);
    }),
    { numRuns: campaign(200, 5000) },
  );
});

Deno.test("ladder: the same seed waits the same times, another one others", () => {
  const waits = (seed: number) => {
    const ladder = new Ladder(trueOnce({ debounceMs: 1 }), new Prng(seed));
    return Array.from({ length: 4 }, () => ladder.attempted());
  };
  assertEquals(waits(1), waits(1));
  assert(waits(1).join() !== waits(2).join());
});

Deno.test("ladder: begins anew after a calm time, and only then", () => {
  const ladder = new Ladder(trueOnce({ calmMs: 100 }), new Prng(1));
  ladder.attempted();
  ladder.resumed(0);
  ladder.stalled(99);
  assertEquals(ladder.next().kind, "give_up");
  ladder.resumed(100);
  ladder.stalled(200);
  assertEquals(ladder.next().kind, "act");
});

Deno.test("template: white space splits, {pid} stands in arguments only, each time", () => {
  const command = parseCommandText("  /bin/x-{pid}  a{pid}{pid}\t{pid}\n'b c' ");
  assertEquals(substitutePid(command, 42), ["/bin/x-{pid}", "a4242", "42", "'b", "c'"]);
  assertEquals(templateLength(["ab", "é", ""]), 2 + 2 + 0 + 2);
  assertThrows(() => parseCommandText(" \n"), RecoveryCommandError);
  assertThrows(() => makeCommand(["a", "\0"]), RecoveryCommandError);
});

Deno.test("environment: cleared, then PATH, then what the operator adds", () => {
  assertEquals(recoveryEnvironment(), { PATH: "/usr/bin:/bin" });
  const entries = ["E1=a=b", "PATH=/x", "E1=c"];
  assertEquals(recoveryEnvironment({ entries }), { PATH: "/x", E1: "c" });
  const inherited = { HOME: "/root" };
  assertEquals(recoveryEnvironment({ inherited, entries: ["E=1"] }), { HOME: "/root", E: "1" });
  for (const entry of ["", "=x", "novalue", "A=\0"]) {
    assertThrows(() => recoveryEnvironment({ entries: [entry] }), RecoveryEnvironmentError);
  }
});

Deno.test("policies: the first rule that fits", () => {
  const [a, b] = [trueOnce({ debounceMs: 1 }), trueOnce({ debounceMs: 2 })];
  const rules = [{ cell: "c", name: "web", policy: a }, { label: "x", policy: b }];
  const agent = { pid: 1, generation: 1 };
  assertEquals(choosePolicy(rules, { ...agent, cell: "c", name: "web", label: "x" }), a);
  assertEquals(choosePolicy(rules, { ...agent, cell: "d", name: "web", label: "x" }), b);
  assertEquals(choosePolicy(rules, agent), undefined);
  assertEquals(longestDebounceMs(rules), 2);
});

Deno.test("capture: all that fits, else the beginning and the end with what is missing", () => {
  const bytes = fc.uint8Array({ maxLength: 40 });
  fc.assert(
    fc.property(
      fc.array(bytes, { maxLength: 12 }),
      fc.integer({ min: 1, max: 60 }),
      (parts, cap) => {
        const ascii = parts.map((part) => part.map((byte) => 97 + byte % 26));
        const capture = new OutputCapture(cap);
        for (const part of ascii) capture.push("stdout", part);
        const whole = ascii.map((part) => new TextDecoder().decode(part)).join("");
        const { stdout, stdoutLength, isTruncated, stderrLength } = capture.take();
        assertEquals([stdoutLength, stderrLength], [whole.length, 0]);
        const half = Math.max(1, Math.floor(cap / 2));
        assertEquals(isTruncated, whole.length > half);
        if (!isTruncated) return assertEquals(stdout, whole);
        const [head, , tail] = stdout.split("\n") as [string, string, string];
        assert(whole.startsWith(head) && whole.endsWith(tail));
        assertEquals(head.length + tail.length, half);
      },
    ),
    { numRuns: campaign(200, 5000) },
  );
});

Deno.test("reap budget: all within the cap, nothing is truncated", () => {
  const budget = new ReapBudget();
  assertEquals(budget.turn([1, 2, 3]), [1, 2, 3]);
  assertEquals(budget.truncated, 0);
});

Deno.test("reap budget: over the cap, the cursor goes round and each truncated turn counts", () => {
  const budget = new ReapBudget(2);
  const left = new Set([1, 2, 3, 4, 5]);
  let turns = 0;
  for (; left.size > 0; turns++) budget.turn([...left]).forEach((it) => left.delete(it));
  assertEquals([turns, budget.truncated], [3, 2]);
  const fair = new ReapBudget(2);
  const all = [1, 2, 3];
  assertEquals([fair.turn(all), fair.turn(all), fair.turn(all)], [[1, 2], [3, 1], [2, 3]]);
});

Deno.test("metrics: every label is there from the first time on, under the reference's names", () => {
  const counters = new RecoveryCounters();
  counters.countRefusal("socket_mode_only");
  counters.countEnd(0, 1.5);
  const samples = counters.samples({
    evictions: 1,
    debounceRecycleResets: 2,
    outstandingRecycleResets: 3,
    spawnBudgetExceeded: 4,
    reapTruncated: 5,
    auditDropped: 6,
    auditFlushBudgetExceeded: 7,
    auditFsyncBudgetExceeded: 8,
    auditRotationBudgetExceeded: 9,
    auditWarnings: 10,
    auditCriticals: 11,
  });
  const value = (name: string, label?: string) =>
    samples.find((it) => it.name === name && it.label?.[1] === label)?.value;
  for (const label of OUTCOME_LABELS) {
    const expected = label === "refused_socket_mode_only" || label === "reaped_zero" ? 1 : 0;
    assertEquals(value("varta_recovery_outcomes_total", label), expected, label);
  }
  assertEquals(value("varta_recovery_refused_total", "socket_mode_only"), 1);
  assertEquals(value("varta_recovery_duration_ns_sum"), 1_500_000);
  assertEquals(value("varta_audit_ring_watermark_total", "critical"), 11);
  assertEquals(value("varta_recovery_reap_truncated_total"), 5);
});

Deno.test("probe: the start time behind a name with parentheses; none of a zombie", () => {
  const rest = Array.from({ length: 18 }, (_, index) => index).join(" ");
  assertEquals(startTicksIn(`5 (a) b) S ${rest} 777 0`), 777n);
  assertEquals(startTicksIn(`5 (a) Z ${rest} 777 0`), undefined);
  assertEquals(startTicksIn("garbage"), undefined);
});
