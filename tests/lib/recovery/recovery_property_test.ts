/**
 * The machine under random operations: what must hold whatever happens in whichever order.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { Prng } from "#lib/base/mod.ts";
import type { RecoveryPolicy } from "#lib/recovery/ladder.ts";
import { Recovery } from "#lib/recovery/recovery.ts";
import { SPAWNS_PER_WINDOW } from "#lib/recovery/storm.ts";
import { campaign } from "#tests/support/campaign.ts";
import { at, commandOf, stallOf } from "./support.ts";

const CAPACITY = 3;
const WINDOW_MS = 100;
const POLICY: RecoveryPolicy = {
  debounceMs: 50,
  timeoutMs: 120,
  killGraceMs: 40,
  calmMs: 300,
  backoff: { firstMs: 60, factor: 2, maxMs: 200, jitter: 0.5 },
  rungs: [
    { action: { kind: "signal", signal: 15 } },
    { action: commandOf("true"), attempts: 2 },
    { action: { kind: "webhook", url: "http://127.0.0.1/" } },
  ],
};

const OPERATION = fc.oneof(
  fc.record({
    kind: fc.constant("stall" as const),
    pid: fc.integer({ min: 1, max: 8 }),
    generation: fc.integer({ min: 1, max: 2 }),
    isNamed: fc.boolean(),
  }),
  fc.record({ kind: fc.constant("resume" as const), pid: fc.integer({ min: 1, max: 8 }) }),
  fc.record({ kind: fc.constant("exit" as const), pid: fc.integer({ min: 1, max: 8 }) }),
  fc.record({ kind: fc.constant("tick" as const), ms: fc.integer({ min: 0, max: 90 }) }),
  fc.record({ kind: fc.constant("end" as const), isFirst: fc.boolean() }),
);

Deno.test("recovery: no order of events breaks a bound or starts two commands for one process", () => {
  let fired = 0;
  fc.assert(
    fc.property(fc.array(OPERATION, { maxLength: 150 }), fc.nat(), (operations, seed) => {
      const prng = new Prng(seed);
      const generations = new Map<number, bigint>();
      const machine = new Recovery({
        debounceMs: POLICY.debounceMs,
        prng,
        policyOf: () => POLICY,
        probe: (pid) => ({ kind: "live", generation: generations.get(pid) ?? 1n }),
        outstandingCapacity: CAPACITY,
        ledgerCapacity: 4,
        windowMs: WINDOW_MS,
      });
      const running = new Map<number, string>();
      const starts: number[] = [];
      let ms = 0;
      let silence = 0n;
      const drain = () => {
        for (let it = machine.pollOutput(); it !== undefined; it = machine.pollOutput()) {
          if (it.kind === "signal" || it.kind === "webhook" || it.kind === "spawn") starts.push(ms);
          if (it.kind !== "spawn") continue;
          const lineage = `${it.facts.pid}:${it.facts.generation}`;
          assertEquals(generations.get(it.facts.pid) ?? 1n, it.facts.generation, "the one meant");
          assert(![...running.values()].includes(lineage), `two for ${lineage}`);
          if (prng.below(5) === 0) machine.spawnFailed(it.child, "spawn_failed", "no", at(ms));
          else {
            running.set(it.child, lineage);
            machine.spawned(it.child, 1000 + it.child, at(ms));
            fired++;
          }
        }
      };
      for (const operation of operations) {
        if (operation.kind === "stall") {
          const generation = BigInt(operation.generation);
          generations.set(operation.pid, generation);
          const name = operation.isNamed ? { name: "web" } : {};
          const facts = stallOf(operation.pid, { generation, lastNs: ++silence, ...name });
          machine.onStall(facts, at(ms));
        } else if (operation.kind === "tick") {
          ms += operation.ms;
          machine.onTick(at(ms));
        } else if (operation.kind === "end") {
          const ids = [...running.keys()];
          const id = operation.isFirst ? ids[0] : ids.at(-1);
          if (id === undefined) continue;
          running.delete(id);
          machine.childEnded(id, undefined, at(ms));
        } else {
          const generation = generations.get(operation.pid) ?? 1n;
          const facts = stallOf(operation.pid, { generation });
          if (operation.kind === "resume") machine.onResumed(facts, at(ms));
          else machine.onExit(facts, at(ms));
        }
        drain();
        assertEquals(machine.childCount, running.size);
        assert(machine.gate.outstandingCount <= CAPACITY);
        assert(running.size <= 2 * CAPACITY);
        assert(machine.gate.ledger.size <= 4);
        const recent = starts.filter((start) => start > ms - WINDOW_MS).length;
        assert(recent <= 2 * SPAWNS_PER_WINDOW, "a window's budget, at most two windows");
      }
      // Left alone, it comes to rest: every case is given up or forgotten, nothing waits for ever.
      const isBusy = () => running.size > 0 || machine.pollTimeout() !== undefined;
      for (let count = 0; count < 5000 && isBusy(); count++) {
        for (const id of [...running.keys()]) {
          running.delete(id);
          machine.childEnded(id, undefined, at(ms));
        }
        ms = Math.max(ms + 1, machine.pollTimeout() ?? ms);
        machine.onTick(at(ms));
        drain();
      }
      assertEquals([machine.waitingCount, machine.childCount, machine.caseCount], [0, 0, 0]);
    }),
    { numRuns: campaign(200, 5000) },
  );
  assert(fired > 0, "commands were started");
});
