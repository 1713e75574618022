import { assertEquals } from "@std/assert";
import fc from "fast-check";
import {
  CELL_RECORD_SCHEMA,
  type CellRecordFile,
  type CellRemains,
  fateOf,
  isDeadState,
  isFirstOfNamespace,
  parseCellRecord,
  parseProcessStat,
} from "#lib/cell/adopt.ts";
import { readCellSpec } from "#lib/cell/spec.ts";

const SPEC = readCellSpec({
  apiVersion: "cellos.io/v1",
  kind: "ExecutionCell",
  spec: { id: "demo", run: { argv: ["true"] } },
});

function recordAt(stage: CellRecordFile["stage"]): CellRecordFile {
  return {
    schema: CELL_RECORD_SCHEMA,
    bootId: "b",
    stage,
    cellId: "demo-1",
    runId: "r",
    spec: SPEC,
    index: 3,
    bornAtMs: 1,
  };
}

const NOTHING: CellRemains = {
  isInitAlive: false,
  hasExitRecord: false,
  oomKills: 0,
  hasProcesses: false,
  isOtherBoot: false,
};

const REMAINS: fc.Arbitrary<CellRemains> = fc.record({
  isInitAlive: fc.boolean(),
  hasExitRecord: fc.boolean(),
  oomKills: fc.nat(2),
  hasProcesses: fc.boolean(),
  isOtherBoot: fc.boolean(),
});

Deno.test("fate: a cell that was being made is made again, whatever is left of it", () => {
  fc.assert(fc.property(REMAINS, (remains) => {
    assertEquals(fateOf(recordAt("making"), remains), "unmade");
  }));
});

Deno.test("fate: a living init is adopted, in this boot only", () => {
  for (const stage of ["launching", "running"] as const) {
    const alive = { ...NOTHING, isInitAlive: true, hasProcesses: true };
    assertEquals(fateOf(recordAt(stage), alive), "adopt");
    assertEquals(fateOf(recordAt(stage), { ...alive, isOtherBoot: true }), "ended");
  }
});

Deno.test("fate: what ran is never made again", () => {
  fc.assert(fc.property(REMAINS, (remains) => {
    const fate = fateOf(recordAt("running"), remains);
    assertEquals(fate, remains.isInitAlive && !remains.isOtherBoot ? "adopt" : "ended");
  }));
});

Deno.test("fate: a launch under way is waited for, and one that came to nothing is undone", () => {
  const launching = recordAt("launching");
  assertEquals(fateOf(launching, { ...NOTHING, hasProcesses: true }), "wait");
  assertEquals(fateOf(launching, NOTHING), "unmade");
  assertEquals(fateOf(launching, { ...NOTHING, hasExitRecord: true }), "ended");
  assertEquals(fateOf(launching, { ...NOTHING, oomKills: 1 }), "ended");
});

Deno.test("record: it survives its text, and what is not one is none", () => {
  const record = { ...recordAt("running"), init: { pid: 7, startTicks: 99 } };
  assertEquals(parseCellRecord(JSON.stringify(record)), record);
  for (const text of ["", "null", "[]", "{", '{"schema":2}', '{"schema":1,"stage":"running"}']) {
    assertEquals(parseCellRecord(text), undefined, text);
  }
  fc.assert(fc.property(fc.json(), (text) => {
    parseCellRecord(text);
  }));
});

Deno.test("process: state and start are read past any name", () => {
  const tail = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
  assertEquals(parseProcessStat(`7 (a) b) (c) S ${tail}`), {
    state: "S",
    parentPid: 1,
    startTicks: 4242,
  });
  assertEquals(parseProcessStat(""), undefined);
  assertEquals(parseProcessStat("7 (x) Z"), undefined);
  assertEquals(["Z", "X", "R"].map(isDeadState), [true, true, false]);
});

Deno.test("process: only the first of a namespace below ours is an init", () => {
  assertEquals(isFirstOfNamespace("Name:\tx\nNSpid:\t4711\t1\n"), true);
  assertEquals(isFirstOfNamespace("NSpid:\t4711\t2\t1\n"), true);
  assertEquals(isFirstOfNamespace("NSpid:\t1\n"), false);
  assertEquals(isFirstOfNamespace("NSpid:\t4711\t2\n"), false);
  assertEquals(isFirstOfNamespace(""), false);
});
