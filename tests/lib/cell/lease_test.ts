import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { chooseLease, LeaseExhaustedError, leaseUid } from "#lib/cell/lease.ts";

Deno.test("chooseLease() starts at 1, and goes on after the index given last", () => {
  assertEquals(chooseLease({ taken: new Set(), indexMax: 5 }), 1);
  assertEquals(chooseLease({ taken: new Set(), indexMax: 5, last: 3 }), 4);
  assertEquals(chooseLease({ taken: new Set([4]), indexMax: 5, last: 3 }), 5);
});

Deno.test("chooseLease() comes round at the end of the pool", () => {
  assertEquals(chooseLease({ taken: new Set([1]), indexMax: 5, last: 5 }), 2);
  assertEquals(chooseLease({ taken: new Set(), indexMax: 5, last: 99 }), 5);
});

Deno.test("chooseLease() says how many there are when all are taken", () => {
  const error = assertThrows(
    () => chooseLease({ taken: new Set([1, 2]), indexMax: 2 }),
    LeaseExhaustedError,
    "all 2 of the pool are taken",
  );
  assertEquals((error as LeaseExhaustedError).capacity, 2);
  assertThrows(() => chooseLease({ taken: new Set(), indexMax: 0 }), LeaseExhaustedError);
});

Deno.test("chooseLease() finds a free index whenever there is one", () => {
  const taken = fc.uniqueArray(fc.integer({ min: 1, max: 20 }), { maxLength: 19 });
  fc.assert(fc.property(taken, fc.option(fc.integer({ min: 0, max: 25 })), (list, last) => {
    const index = chooseLease({
      taken: new Set(list),
      indexMax: 20,
      ...(last === null ? {} : { last }),
    });
    assert(index >= 1 && index <= 20 && !list.includes(index));
  }));
});

Deno.test("leaseUid() is the base and the index", () => {
  assertEquals(leaseUid(7), 1_900_000_007);
});
