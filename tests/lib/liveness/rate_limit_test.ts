/**
 * Token buckets: rates kept to the thousandth, however often they are asked.
 *
 * @module
 */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import fc from "fast-check";
import {
  ADDRESS_BUCKETS_MAX,
  AddressBuckets,
  addressKey,
  TokenBucket,
} from "#lib/liveness/rate_limit.ts";
import { encodeSockaddr, inetSocketAddress } from "#ffi/mod.ts";
import { campaign } from "#tests/support/campaign.ts";

const SECOND = 1e9;

function takeAll(bucket: TokenBucket, nowNs: number): number {
  let taken = 0;
  while (taken < 1_000_000 && bucket.take(nowNs)) taken += 1;
  return taken;
}

Deno.test("bucket: starts full, fills at its rate, and never past its burst", () => {
  const bucket = new TokenBucket({ ratePerSecond: 5000, burst: 10_000 });
  assertEquals(takeAll(bucket, 0), 10_000);
  assertEquals(takeAll(bucket, SECOND / 1000), 5);
  assertEquals(takeAll(bucket, SECOND + SECOND / 1000), 5000);
  assertEquals(takeAll(bucket, 3600 * SECOND), 10_000);
});

Deno.test("bucket: a limit of 0 is no limit", () => {
  for (const limits of [{ ratePerSecond: 0, burst: 1 }, { ratePerSecond: 1, burst: 0 }]) {
    const bucket = new TokenBucket(limits);
    for (let count = 0; count < 100; count++) assert(bucket.take(0));
  }
});

Deno.test("bucket: a clock that goes back gives nothing and takes nothing", () => {
  const bucket = new TokenBucket({ ratePerSecond: 1, burst: 1 }, 10 * SECOND);
  assertEquals(takeAll(bucket, 10 * SECOND), 1);
  assertEquals(takeAll(bucket, 0), 0);
  assertEquals(takeAll(bucket, 11 * SECOND), 1);
});

Deno.test("bucket: asked at any moments, it gives what rate and burst allow, to one token", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 9999 }),
      fc.integer({ min: 1, max: 500 }),
      fc.array(fc.nat(40_000_000), { maxLength: 200 }),
      (ratePerSecond, burst, waits) => {
        const bucket = new TokenBucket({ ratePerSecond, burst });
        let nowNs = 0;
        let taken = takeAll(bucket, 0);
        let wasFull = false;
        for (const wait of waits) {
          nowNs += wait;
          wasFull ||= wait * ratePerSecond >= burst * SECOND;
          taken += takeAll(bucket, nowNs);
        }
        const most = burst + nowNs * ratePerSecond / SECOND;
        assert(taken <= most + 1e-6, `${taken} of at most ${most}`);
        // Where it never ran full, a long sum of short waits loses nothing.
        if (!wasFull && waits.every((wait) => wait * ratePerSecond / SECOND < burst - 1)) {
          assert(taken >= Math.floor(most) - 1, `${taken} of ${most}`);
        }
      },
    ),
    { numRuns: campaign(200, 5000) },
  );
});

Deno.test("buckets by address: each has its own, and the table is bounded", () => {
  const buckets = new AddressBuckets({ ratePerSecond: 1, burst: 2 });
  assertEquals([buckets.take(1, 0), buckets.take(1, 0), buckets.take(1, 0)], [true, true, false]);
  assert(buckets.take(2, 0));
  for (let address = 10; address < 10 + ADDRESS_BUCKETS_MAX; address++) buckets.take(address, 0);
  assertEquals(buckets.size, ADDRESS_BUCKETS_MAX);
  assert(buckets.take(1, 0), "the oldest made room and starts anew");
});

Deno.test("buckets by address: an IPv4 host is one, an IPv6 site is one, ports do not matter", () => {
  const key = (text: string, port: number) =>
    addressKey(encodeSockaddr(inetSocketAddress(text, port)));
  assertEquals(key("192.0.2.1", 1), key("192.0.2.1", 2));
  assertNotEquals(key("192.0.2.1", 1), key("192.0.2.2", 1));
  assertEquals(key("2001:db8::1", 1), key("2001:db8::2", 9));
  assertNotEquals(key("2001:db8::1", 1), key("2001:db8:0:1::1", 1));
  assertEquals(typeof addressKey(new Uint8Array(0)), "string", "an empty address has a key too");
});
