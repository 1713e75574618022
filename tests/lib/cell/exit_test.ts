import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { classifyExit, type ExitEvidence, isSuccess } from "#lib/cell/exit.ts";

const evidence = (given: Partial<ExitEvidence>): ExitEvidence => ({
  record: { kind: "exited", code: 0 },
  oomKills: 0,
  pidsMaxHits: 0,
  timedOut: false,
  stopRequested: false,
  ...given,
});
const exited = (code: number) => ({ kind: "exited", code } as const);
const signaled = (signal: number) => ({ kind: "signaled", signal } as const);
const lost = { kind: "lost" } as const;

const CASES: readonly [string, Partial<ExitEvidence>, ReturnType<typeof classifyExit>][] = [
  ["success", {}, { reason: "exited", exitCode: 0 }],
  ["a code of its own", { record: exited(7) }, { reason: "exited", exitCode: 7 }],
  ["a signal", { record: signaled(11) }, { reason: "signaled", exitCode: 139, signal: 11 }],
  ["a timeout that it obeyed", { record: exited(0), timedOut: true }, {
    reason: "timeout",
    exitCode: 124,
  }],
  ["a timeout that killed it", { record: signaled(9), timedOut: true }, {
    reason: "timeout",
    exitCode: 124,
    signal: 9,
  }],
  ["a timeout with the memory full too", { record: lost, timedOut: true, oomKills: 1 }, {
    reason: "timeout",
    exitCode: 124,
    signal: 9,
  }],
  ["out of memory", { record: signaled(9), oomKills: 1 }, {
    reason: "oom",
    exitCode: 137,
    signal: 9,
  }],
  ["out of memory in a child of a shell", { record: exited(137), oomKills: 2 }, {
    reason: "oom",
    exitCode: 137,
  }],
  ["out of memory that took the init", { record: lost, oomKills: 1 }, {
    reason: "oom",
    exitCode: 137,
    signal: 9,
  }],
  ["a child lost to memory, coped with", { record: exited(0), oomKills: 1 }, {
    reason: "exited",
    exitCode: 0,
  }],
  ["another signal while memory was full", { record: signaled(6), oomKills: 1 }, {
    reason: "signaled",
    exitCode: 134,
    signal: 6,
  }],
  ["no more processes", { record: exited(2), pidsMaxHits: 3 }, { reason: "pids", exitCode: 2 }],
  ["no more processes, coped with", { pidsMaxHits: 3 }, { reason: "exited", exitCode: 0 }],
  ["a stop that it obeyed", { record: exited(0), stopRequested: true }, {
    reason: "stopped",
    exitCode: 0,
  }],
  ["a stop after a stall", { record: exited(0), stopRequested: true, stalled: true }, {
    reason: "stalled",
    exitCode: 0,
  }],
  ["a kill after a stall", { record: lost, stopRequested: true, stalled: true }, {
    reason: "stalled",
    exitCode: 137,
    signal: 9,
  }],
  ["a signal after a stall", { record: signaled(15), stopRequested: true, stalled: true }, {
    reason: "stalled",
    exitCode: 143,
    signal: 15,
  }],
  ["a stop by signal", { record: signaled(15), stopRequested: true }, {
    reason: "stopped",
    exitCode: 143,
    signal: 15,
  }],
  ["a stop by kill", { record: lost, stopRequested: true }, {
    reason: "stopped",
    exitCode: 137,
    signal: 9,
  }],
  ["not found", { record: { kind: "execFailed", errno: 2 } }, {
    reason: "execFailed",
    exitCode: 127,
    errno: 2,
  }],
  ["not executable", { record: { kind: "execFailed", errno: 13 } }, {
    reason: "execFailed",
    exitCode: 126,
    errno: 13,
  }],
  ["not a program", { record: { kind: "execFailed", errno: 8 } }, {
    reason: "execFailed",
    exitCode: 126,
    errno: 8,
  }],
  ["nothing known", { record: lost }, { reason: "lost", exitCode: 125 }],
];

for (const [name, given, expected] of CASES) {
  Deno.test(`classifyExit() tells ${name}`, () => {
    assertEquals(classifyExit(evidence(given)), expected);
  });
}

Deno.test("isSuccess() is code 0 by itself, and nothing else", () => {
  assertEquals(isSuccess({ reason: "exited", exitCode: 0 }), true);
  assertEquals(isSuccess({ reason: "exited", exitCode: 1 }), false);
  assertEquals(isSuccess({ reason: "stopped", exitCode: 0 }), false);
});

Deno.test("classifyExit() always gives a code that a shell can report", () => {
  const record = fc.oneof(
    fc.record({ kind: fc.constant("exited" as const), code: fc.nat(255) }),
    fc.record({ kind: fc.constant("signaled" as const), signal: fc.integer({ min: 1, max: 64 }) }),
    fc.record({ kind: fc.constant("execFailed" as const), errno: fc.nat(133) }),
    fc.constant(lost),
  );
  const any = fc.record({
    record,
    oomKills: fc.nat(2),
    pidsMaxHits: fc.nat(2),
    timedOut: fc.boolean(),
    stopRequested: fc.boolean(),
  });
  fc.assert(fc.property(any, (given) => {
    const { exitCode, reason } = classifyExit(given);
    assertEquals(exitCode >= 0 && exitCode <= 255, true);
    // Only a program that ended by itself, or when asked, may look like a success.
    if (exitCode === 0) assertEquals(["exited", "stopped"].includes(reason), true);
  }));
});
