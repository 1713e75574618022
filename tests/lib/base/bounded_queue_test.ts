/**
 * The bounded queue against an array.
 *
 * @module
 */
import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { BoundedQueue } from "#lib/base/mod.ts";

Deno.test("BoundedQueue does what an array with a bound does", () => {
  const operation = fc.oneof(
    fc.record({ kind: fc.constant("push"), value: fc.nat() }),
    fc.record({ kind: fc.constant("shift") }),
    fc.record({ kind: fc.constant("take"), count: fc.nat(6) }),
  );
  fc.assert(fc.property(fc.integer({ min: 1, max: 5 }), fc.array(operation), (capacity, steps) => {
    const queue = new BoundedQueue<number>(capacity);
    const model: number[] = [];
    let refused = 0;
    for (const step of steps) {
      if ("value" in step) {
        const fits = model.length < capacity;
        if (fits) model.push(step.value);
        else refused++;
        assertEquals(queue.push(step.value), fits);
      } else if ("count" in step) {
        assertEquals(queue.take(step.count), model.splice(0, step.count));
      } else {
        assertEquals(queue.shift(), model.shift());
      }
      assertEquals([queue.size, queue.peek(), queue.refused], [model.length, model[0], refused]);
    }
  }));
});

Deno.test("BoundedQueue needs room for one", () => {
  assertThrows(() => new BoundedQueue(0), RangeError, "want at least 1");
});
