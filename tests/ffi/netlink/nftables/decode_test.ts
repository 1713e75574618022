import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { decodeRule } from "#ffi/netlink/nftables/mod.ts";
import { decodeRuleComment, encodeRuleComment } from "#ffi/netlink/nftables/userdata.ts";
import { campaign } from "#tests/support/campaign.ts";
import { bytesOf, type GoldenMessage, messageOf, readGolden } from "../golden.ts";

const golden: GoldenMessage[] = JSON.parse(readGolden("netlink/nftables_rules.json"));

Deno.test("decodeRule() reads chain, handle and counter from a captured dump", () => {
  const [counted, logged] = golden.map((each) => decodeRule(messageOf(each)));
  assertEquals(counted.table, "l");
  assertEquals([counted.counters.chain, counted.counters.handle], ["o", 2n]);
  assertEquals([counted.counters.packets, counted.counters.bytes], [3n, 344n]);
  assertEquals([logged.counters.packets, logged.counters.bytes], [undefined, undefined]);
});

Deno.test("decodeRule() stands truncation at every length and flipped bytes", () => {
  const whole = messageOf(golden[0]);
  for (let length = 0; length < whole.body.length; length++) {
    decodeRule({ ...whole, body: whole.body.subarray(0, length) });
  }
  fc.assert(
    fc.property(fc.nat(whole.body.length - 1), fc.nat(255), (at, value) => {
      const body = whole.body.slice();
      body[at] = value;
      decodeRule({ ...whole, body });
    }),
    { numRuns: campaign(300, 30_000) },
  );
});

Deno.test("a comment is kept as nft keeps it", () => {
  assertEquals(encodeRuleComment("backstop"), bytesOf("00096261636b73746f7000"));
  assertEquals(decodeRuleComment(bytesOf("00096261636b73746f7000")), "backstop");
});

Deno.test("any comment up to 128 bytes reads back", () => {
  const comments = fc.string({ unit: "grapheme", maxLength: 40 })
    .filter((text) => !text.includes("\0") && new TextEncoder().encode(text).length <= 128);
  fc.assert(
    fc.property(comments, (comment) => {
      assertEquals(decodeRuleComment(encodeRuleComment(comment)), comment);
    }),
    { numRuns: campaign(100, 10_000) },
  );
});

Deno.test("decodeRuleComment() skips other records and stands any bytes", () => {
  assertEquals(decodeRuleComment(bytesOf("0102ffff00026900")), "i");
  assertEquals(decodeRuleComment(bytesOf("0009ff")), undefined);
  assertEquals(decodeRuleComment(new Uint8Array()), undefined);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
      decodeRuleComment(bytes);
    }),
    { numRuns: campaign(200, 20_000) },
  );
});
