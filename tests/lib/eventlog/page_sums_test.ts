/**
 * Page sums: the codec, and the states of a page while a copy is under way.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { concatBytes } from "#lib/base/mod.ts";
import {
  decodePageSums,
  encodePageSums,
  isCopying,
  judgePage,
  pageSum,
  type PageSums,
  settle,
  settledPages,
} from "#lib/eventlog/page_sums.ts";

const PAGE_SIZE = 64;
const page = (fill: number) => new Uint8Array(PAGE_SIZE).fill(fill);

/** Pages 1 and 2 filled with their number; a copy makes page 2 nines, page 4 fours, 3 a hole. */
const COPYING: PageSums = {
  pageSize: PAGE_SIZE,
  settled: concatBytes(pageSum(page(1)), pageSum(page(2))),
  nextPages: 4,
  next: new Map([[2, pageSum(page(9))], [4, pageSum(page(4))]]),
};

Deno.test("page sums: come back as they were written, copying or settled", () => {
  for (const sums of [COPYING, settle(COPYING)]) {
    const decoded = decodePageSums(encodePageSums(sums));
    assert(decoded !== undefined);
    assertEquals([...decoded.next.keys()], [...sums.next.keys()]);
    assertEquals(encodePageSums(decoded), encodePageSums(sums));
  }
});

Deno.test("page sums: every flipped byte and every cut is noticed", () => {
  const bytes = encodePageSums(COPYING);
  for (let offset = 0; offset < bytes.length; offset++) {
    bytes[offset] ^= 1 << (offset % 8);
    assertEquals(decodePageSums(bytes), undefined, `offset ${offset}`);
    bytes[offset] ^= 1 << (offset % 8);
    assertEquals(decodePageSums(bytes.subarray(0, offset)), undefined, `length ${offset}`);
  }
});

Deno.test("page sums: arbitrary bytes are none", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
    assertEquals(decodePageSums(bytes), undefined);
  }));
});

Deno.test("a page that a copy changes may be old or new, every other page only one thing", () => {
  const cases: [number, Uint8Array, string][] = [
    [1, page(1), "next"],
    [1, page(9), "wrong"],
    [2, page(2), "settled"],
    [2, page(9), "next"],
    [2, page(1), "wrong"],
    [3, page(0), "next"],
    [3, page(3), "wrong"],
    [4, page(4), "next"],
    // Not copied yet, and a later page is: a hole.
    [4, page(0), "settled"],
    [4, page(2), "wrong"],
    [5, page(0), "wrong"],
  ];
  for (const [number, content, state] of cases) {
    assertEquals(judgePage(COPYING, number, content), state, `page ${number}`);
  }
});

Deno.test("settling takes what the copy announced, and holes as zeros", () => {
  const settled = settle(COPYING);
  assertEquals([isCopying(COPYING), isCopying(settled), settledPages(settled)], [true, false, 4]);
  const contents = [page(1), page(9), page(0), page(4)];
  contents.forEach((content, index) => {
    assertEquals(judgePage(settled, index + 1, content), "next");
  });
  assertEquals(judgePage(settled, 2, page(2)), "wrong");
});
