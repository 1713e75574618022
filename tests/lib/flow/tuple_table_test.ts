import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { FLOW_KEY_BYTES } from "#lib/flow/flow_key.ts";
import { TupleTable } from "#lib/flow/tuple_table.ts";

function key(number: number): Uint8Array {
  const bytes = new Uint8Array(FLOW_KEY_BYTES);
  new DataView(bytes.buffer).setUint32(8, number);
  return bytes;
}

Deno.test("TupleTable finds what was added, and only that", () => {
  const table = new TupleTable({ max: 1000, evicts: false });
  for (let n = 0; n < 500; n++) assertEquals(table.insert(key(n), 0), "added");
  for (let n = 0; n < 500; n++) assertEquals(table.find(key(n), 0), n);
  assertEquals([table.find(key(500), 0), table.count], [-1, 500]);
  assertEquals(table.insert(key(7), 0), "present");
});

Deno.test("TupleTable refuses more than its bound when it does not evict", () => {
  const table = new TupleTable({ max: 2, evicts: false });
  assertEquals([1, 2, 3, 1].map((n) => table.insert(key(n), 0)), [
    "added",
    "added",
    "full",
    "present",
  ]);
});

Deno.test("TupleTable behaves as a queue of keys when it evicts", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 9 }), fc.array(fc.nat(20)), (max, numbers) => {
      const table = new TupleTable({ max, evicts: true });
      const model: number[] = [];
      for (const n of numbers) {
        const outcome = table.insert(key(n), 0);
        if (model.includes(n)) assertEquals(outcome, "present");
        else {
          assertEquals(outcome, model.length < max ? "added" : "evicted");
          if (model.length === max) model.shift();
          model.push(n);
        }
        for (let m = 0; m <= 20; m++) assertEquals(table.find(key(m), 0) >= 0, model.includes(m));
      }
    }),
    { numRuns: 200 },
  );
});
