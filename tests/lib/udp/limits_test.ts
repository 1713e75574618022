/**
 * Limits of prefixes, sets of prefixes, and QUIC's connection ids, each against a plain model.
 *
 * @module
 */
import fc from "fast-check";
import { assert, assertEquals } from "@std/assert";
import { cidr, cidrContains, parseIp } from "#lib/base/mod.ts";
import { AccessList, CidrSet, DROP, makeTuple } from "#lib/udp/mod.ts";
import { ADMITTED } from "#lib/udp/admission.ts";
import { NO_ENTRY, PrefixLimits } from "#lib/udp/prefix_limits.ts";
import { connectionIdLength, QuicRouter } from "#lib/udp/quic.ts";
import { campaign } from "#tests/support/campaign.ts";

const RUNS = campaign(100, 2000);
const LOCAL = { address: "192.0.2.1", port: 53 };

function source(address: string): Uint32Array {
  return makeTuple({ address, port: 1 }, LOCAL);
}

const anyIp = fc.oneof(
  fc.nat({ max: 0xffffff }).map((low) => ({ family: 4 as const, bits: BigInt(low) })),
  fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }).map((bits) => ({ family: 6 as const, bits })),
  fc.bigInt({ min: 0n, max: 0xffffn }).map((bits) => ({ family: 6 as const, bits })),
);
const anyCidr = fc.tuple(anyIp, fc.nat()).map(([ip, bits]) =>
  cidr(ip, bits % (ip.family === 4 ? 33 : 129))
);

Deno.test("a set of prefixes holds an address exactly if one of them does", () => {
  fc.assert(
    fc.property(fc.array(anyCidr, { maxLength: 12 }), fc.array(anyIp), (prefixes, ips) => {
      const set = new CidrSet(prefixes);
      assertEquals(set.isEmpty, prefixes.length === 0);
      for (const ip of [...ips, ...prefixes.map(({ family, bits }) => ({ family, bits }))]) {
        const words = new Uint32Array(4);
        // As tuples have it: IPv4 is mapped, and then an IPv6 prefix may hold it too.
        const mapped = ip.family === 4
          ? { family: 6 as const, bits: 0xffff00000000n | ip.bits }
          : ip;
        for (let at = 0; at < 4; at++) {
          words[at] = Number((mapped.bits >> BigInt(96 - 32 * at)) & 0xffffffffn);
        }
        const plain = (mapped.bits >> 32n) === 0xffffn
          ? { family: 4 as const, bits: mapped.bits & 0xffffffffn }
          : mapped;
        const expected = prefixes.some((one) =>
          cidrContains(one, mapped) || cidrContains(one, plain)
        );
        assertEquals(set.has(words, 0), expected);
      }
    }),
    { numRuns: RUNS },
  );
});

Deno.test("denied wins over allowed, and without rules everyone may", () => {
  const net = (text: string, bits: number) => cidr(parseIp(text)!, bits);
  const list = new AccessList({ allow: [net("10.0.0.0", 8)], deny: [net("10.1.0.0", 16)] });
  assert(list.permits(source("10.2.0.1"), 0));
  assert(!list.permits(source("10.1.0.1"), 0));
  assert(!list.permits(source("11.0.0.1"), 0));
  assert(new AccessList().permits(source("2001:db8::1"), 0));
});

Deno.test("limits of prefixes count as a map would, through growth, reuse and refills", () => {
  const step = fc.record({ host: fc.nat({ max: 90 }), enters: fc.boolean(), after: fc.nat(40) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), fc.nat(), (steps, seed) => {
      const limits = new PrefixLimits(1000, seed);
      limits.setLimit({ maxFlows: 3, newFlowsPerSecond: 10, burst: 2 });
      const model = new Map<number, { entries: number[]; tokens: number; at: number }>();
      let now = 0;
      for (const { host, enters, after } of steps) {
        now += after;
        const words = source(`10.0.0.${host}`);
        const known = model.get(host) ?? { entries: [], tokens: 2, at: now };
        known.tokens = Math.min(2, known.tokens + (now - known.at) / 100);
        known.at = now;
        model.set(host, known);
        if (!enters && known.entries.length > 0) {
          limits.leave(known.entries.pop()!, now);
          continue;
        }
        const isClose = Math.abs(known.tokens - 1) < 1e-6;
        const expected = known.entries.length >= 3
          ? DROP.flowLimit
          : known.tokens >= 1
          ? ADMITTED
          : DROP.rateLimit;
        const verdict = limits.judge(words, 0, now);
        if (!isClose) assertEquals(verdict, expected);
        if (verdict !== ADMITTED) continue;
        known.entries.push(limits.enter(words, 0, now));
        known.tokens -= 1;
        assertEquals(limits.count(known.entries[0]), known.entries.length);
      }
    }),
    { numRuns: RUNS },
  );
});

Deno.test("entries of prefixes are bounded; at the bound flows come in uncounted", () => {
  const limits = new PrefixLimits(8, 1);
  limits.setLimit({ maxFlows: 1 });
  const entries = Array.from({ length: 10 }, (_, host) => {
    const words = source(`2001:db8:0:${host}::1`);
    assertEquals(limits.judge(words, 0, 0), ADMITTED);
    return limits.enter(words, 0, 0);
  });
  assertEquals(limits.size, 8);
  assertEquals(entries.slice(8), [NO_ENTRY, NO_ENTRY]);
  assertEquals(limits.judge(source("2001:db8:0:3::9"), 0, 0), DROP.flowLimit);
  for (const entry of entries) limits.leave(entry, 0);
  assertEquals(limits.size, 0);
});

Deno.test("idle entries of a past flood are used again", () => {
  const limits = new PrefixLimits(64, 1);
  limits.setLimit({ newFlowsPerSecond: 1, burst: 1 });
  for (let host = 0; host < 64; host++) {
    limits.leave(limits.enter(source(`10.0.0.${host}`), 0, 0), 0);
  }
  assertEquals(limits.size, 64);
  for (let host = 0; host < 64; host++) {
    const entry = limits.enter(source(`10.1.0.${host}`), 0, 5000);
    assert(entry !== NO_ENTRY, `host ${host} found no entry`);
  }
});

Deno.test("connection ids are found in any bytes without reading past them", () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 40 }),
      fc.integer({ min: 1, max: 20 }),
      (bytes, short) => {
        const length = connectionIdLength(bytes, 0, bytes.length, short);
        assert(length >= -1 && length <= 20 && length < bytes.length + 1);
        if (length >= 0) {
          const start = (bytes[0] & 0x80) !== 0 ? 6 : 1;
          assert(start + length <= bytes.length);
        }
        const router = new QuicRouter(2);
        router.learn(bytes, 0, bytes.length, 1);
        assert(router.size <= 1);
      },
    ),
    { numRuns: RUNS },
  );
});

Deno.test("a connection id that ends past its datagram is not learned", () => {
  const router = new QuicRouter(2);
  const reply = Uint8Array.of(0xc0, 0, 0, 0, 1, 0, 4, 65, 66, 67, 68);
  for (let length = 0; length < reply.length; length++) router.learn(reply, 0, length, 1);
  assertEquals(router.size, 0);
  router.learn(reply, 0, reply.length, 1);
  assertEquals(router.size, 1);
});

Deno.test("learned connection ids are bounded, the oldest is forgotten", () => {
  const router = new QuicRouter(2);
  const reply = (id: number) => Uint8Array.of(0xc0, 0, 0, 0, 1, 0, 1, id);
  for (const id of [1, 2, 1, 3]) router.learn(reply(id), 0, 8, id);
  const owners = [1, 2, 3].map((id) => router.backendOf(Uint8Array.of(id), 0, 1, 0));
  assertEquals(owners, [1, -1, 3]);
  router.forget(3);
  assertEquals(router.backendOf(Uint8Array.of(3), 0, 1, 0), -1);
});
