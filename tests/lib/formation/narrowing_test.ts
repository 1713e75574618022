/**
 * Whether an authority lies within another: examples, and a slow oracle that asks address by
 * address and port by port.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { cidrContains, parseCidr } from "#lib/base/mod.ts";
import { type AuthorityScope, type ScopeRule, widenings } from "#lib/formation/mod.ts";
import { campaign } from "#tests/support/campaign.ts";

function rule(host: string, protocol = "tcp", ...ports: (number | [number, number])[]): ScopeRule {
  const ranges = ports.map((port) =>
    typeof port === "number" ? { from: port, to: port } : { from: port[0], to: port[1] }
  );
  return { host, protocol, ports: ranges };
}

function scope(...egressRules: ScopeRule[]): AuthorityScope {
  return { mode: "enforce", secretRefs: [], egressRules };
}

function narrows(member: ScopeRule, guarded: readonly string[], ...above: ScopeRule[]): boolean {
  return widenings(scope(member), scope(...above), guarded).length === 0;
}

Deno.test("narrowing: addresses, ports and protocol must all be given", () => {
  const above = rule("10.0.0.0/8", "tcp", 443, [8000, 8100]);
  assertEquals(narrows(rule("10.1.0.0/16", "tcp", 443), [], above), true);
  assertEquals(narrows(rule("10.1.2.3/32", "tcp", [8010, 8020]), [], above), true);
  assertEquals(narrows(rule("11.0.0.0/16", "tcp", 443), [], above), false);
  assertEquals(narrows(rule("0.0.0.0/0", "tcp", 443), [], above), false);
  assertEquals(narrows(rule("10.0.0.0/8", "tcp", 444), [], above), false);
  assertEquals(narrows(rule("10.0.0.0/8", "tcp"), [], above), false);
  assertEquals(narrows(rule("10.0.0.0/8", "udp", 443), [], above), false);
});

Deno.test("narrowing: an empty list of ports is all of them", () => {
  assertEquals(narrows(rule("10.0.0.1/32", "tcp", 1), [], rule("10.0.0.0/8")), true);
  assertEquals(narrows(rule("10.0.0.1/32", "icmp"), [], rule("10.0.0.0/8", "icmp")), true);
});

Deno.test("narrowing: several rules together may cover one", () => {
  const halves = [rule("10.0.0.0/9", "tcp", 443), rule("10.128.0.0/9", "tcp", 443)];
  assertEquals(narrows(rule("10.0.0.0/8", "tcp", 443), [], ...halves), true);
  assertEquals(narrows(rule("10.0.0.0/8", "tcp", 443), [], halves[0]), false);
  const ports = [rule("10.0.0.0/8", "tcp", [1, 100]), rule("10.0.0.0/8", "tcp", [101, 200])];
  assertEquals(narrows(rule("10.0.0.0/8", "tcp", [50, 150]), [], ...ports), true);
  assertEquals(narrows(rule("10.0.0.0/8", "tcp", [50, 201]), [], ...ports), false);
});

Deno.test("narrowing: IPv4 gives nothing of IPv6, and the other way round", () => {
  assertEquals(narrows(rule("::/0"), [], rule("0.0.0.0/0")), false);
  assertEquals(narrows(rule("2001:db8::1/128"), [], rule("2001:db8::/32")), true);
  assertEquals(narrows(rule("10.0.0.0/8"), [], rule("::/0")), false);
});

Deno.test("narrowing: a guarded address is given only by a rule that names it", () => {
  const guarded = ["169.254.0.0/16", "10.213.0.0/16"];
  const metadata = rule("169.254.169.254/32", "tcp", 80);
  assertEquals(narrows(metadata, guarded, rule("0.0.0.0/0")), false);
  assertEquals(narrows(metadata, [], rule("0.0.0.0/0")), true);
  assertEquals(narrows(metadata, guarded, rule("169.254.169.254/32")), true);
  assertEquals(narrows(rule("192.0.2.1/32"), guarded, rule("0.0.0.0/0")), true);
  assertEquals(narrows(rule("10.0.0.0/8"), guarded, rule("0.0.0.0/0")), true);
});

Deno.test("narrowing: audit mode and secrets are authority too", () => {
  const above: AuthorityScope = { mode: "enforce", secretRefs: ["A"], egressRules: [] };
  const member: AuthorityScope = { mode: "audit", secretRefs: ["A", "B"], egressRules: [] };
  assertEquals(widenings(member, above, []), [
    'authority.mode: found "audit", which allows every destination',
    'authority.secretRefs: found "B"',
  ]);
  assertEquals(widenings({ ...member, secretRefs: [] }, { ...above, mode: "audit" }, []), []);
});

Deno.test("narrowing: a host that is no prefix is covered by nothing and covers nothing", () => {
  assertEquals(narrows(rule("example.org"), [], rule("0.0.0.0/0")), false);
  assertEquals(narrows(rule("10.0.0.1/32"), [], rule("example.org")), false);
  const found = widenings(scope(rule("x", "tcp", 1, [2, 3])), scope(), []);
  assertEquals(found, ['authority.egressRules[0]: found "x" tcp 1,2-3']);
});

/** Rules over sixteen addresses and eight ports, so that every point can be asked for. */
const smallRule = fc.record({
  host: fc.tuple(fc.nat(15), fc.integer({ min: 28, max: 32 })).map(([last, length]) => {
    const bits = last & (0xf << (32 - length)) & 0xf;
    return `192.0.2.${bits}/${length}`;
  }),
  protocol: fc.constantFrom("tcp", "udp"),
  ports: fc.array(
    fc.tuple(fc.integer({ min: 1, max: 8 }), fc.nat(3)).map(([from, more]) => ({
      from,
      to: Math.min(8, from + more),
    })),
    { minLength: 1, maxLength: 2 },
  ),
});

function allows(rules: readonly ScopeRule[], host: string, protocol: string, port: number) {
  return rules.some((rule) =>
    rule.protocol === protocol && cidrContains(parseCidr(rule.host)!, parseCidr(host)!) &&
    rule.ports.some(({ from, to }) => port >= from && port <= to)
  );
}

Deno.test("narrowing: agrees with asking each address and port", () => {
  const property = fc.property(
    smallRule,
    fc.array(smallRule, { maxLength: 6 }),
    (member, above) => {
      let isWithin = true;
      for (let last = 0; last < 16; last++) {
        for (let port = 1; port <= 8; port++) {
          const host = `192.0.2.${last}`;
          const isAsked = allows([member], host, member.protocol, port);
          if (isAsked && !allows(above, host, member.protocol, port)) isWithin = false;
        }
      }
      assertEquals(narrows(member, [], ...above), isWithin);
    },
  );
  fc.assert(property, { numRuns: campaign(1000, 100_000) });
});
