/**
 * Addresses as the runtime tells them.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { isSameAddress, writeAddressText } from "#lib/udp/portable_address.ts";
import { formatAddress, makeTuple } from "#lib/udp/tuple.ts";
import { campaign } from "#tests/support/campaign.ts";

const OTHER = { address: "::", port: 0 };

Deno.test("portable address: any address is read as the one reader of texts reads it", () => {
  const address = fc.oneof(fc.ipV4(), fc.ipV6(), fc.constantFrom("::ffff:192.0.2.1", "0.0.0.0"));
  fc.assert(
    fc.property(address, (text) => {
      const words = new Uint32Array(5).fill(7);
      let expected: Uint32Array | undefined;
      try {
        expected = makeTuple({ address: text, port: 0 }, OTHER).subarray(0, 4);
      } catch {
        // Not every text that fast-check makes is one for us: zeros before a number.
      }
      assertEquals(writeAddressText(words, 1, text), expected !== undefined);
      if (expected !== undefined) assertEquals([...words], [7, ...expected]);
    }),
    { numRuns: campaign(500, 20_000) },
  );
});

Deno.test("portable address: what is no address is none, and a zone is left out", () => {
  const words = new Uint32Array(4);
  const wrong = ["", ".", "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.2.3.4", "1.2.3.4 ", "1..2.3", "x"];
  for (const text of wrong) assertEquals(writeAddressText(words, 0, text), false, text);
  assertEquals(writeAddressText(words, 0, "fe80::1%2"), true);
  assertEquals(formatAddress(words, 0), "fe80::1");
});

Deno.test("portable address: the same address is the same however it is written", () => {
  for (
    const [one, other, isSame] of [
      ["::1", "0:0:0:0:0:0:0:1", true],
      ["::ffff:192.0.2.1", "192.0.2.1", true],
      ["192.0.2.1", "192.0.2.2", false],
      ["fe80::1%3", "fe80::1", true],
      ["x", "y", false],
    ] as const
  ) assertEquals(isSameAddress(one, other), isSame, `${one} ${other}`);
});
