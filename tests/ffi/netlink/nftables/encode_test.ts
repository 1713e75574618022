import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { AttributeReader } from "#ffi/netlink/attribute.ts";
import {
  encodeAddMapElements,
  encodeAddRules,
  encodeDeleteChains,
  encodeDeleteMapElements,
  encodeDeleteTable,
  encodeTable,
  type NftMessage,
  type NftStatement,
  type NftTable,
} from "#ffi/netlink/nftables/mod.ts";
import { campaign } from "#tests/support/campaign.ts";
import { REPRESENTATIVE } from "../../../golden/nftables/representative.ts";
import { bytesOf, readGolden } from "../golden.ts";

const NEW_CHAIN = 0xa03;
const NEW_RULE = 0xa06;
const NEW_SET = 0xa09;
const NEW_ELEMENT = 0xa0c;

type Node = readonly [type: number, value: string | readonly Node[]];

/** The attributes of a message as a tree; a nested one is known by its flag. */
function treeOf(body: Uint8Array, reader = new AttributeReader(body, 4)): Node[] {
  const nodes: Node[] = [];
  while (reader.next()) {
    const isNested = (body[reader.start - 1] & 0x80) !== 0;
    nodes.push([
      reader.type,
      isNested ? treeOf(body, reader.nested()) : reader.bytes().toHex(),
    ]);
  }
  assertEquals(reader.error, undefined);
  return nodes;
}

/** Leaves out what refers to sets by their number in the batch: we refer by name. */
function withoutSetNumbers(type: number, nodes: readonly Node[]): Node[] {
  if (type === NEW_SET) return nodes.filter(([attribute]) => attribute !== 10);
  if (type === NEW_ELEMENT) {
    // nft numbers the elements of a list, which the kernel does not look at.
    return nodes.filter(([attribute]) => attribute !== 4).map(([attribute, value]): Node =>
      typeof value === "string" ? [attribute, value] : [attribute, value.map(([, one]) => [1, one])]
    );
  }
  return nodes.map(([attribute, value]): Node =>
    attribute === 4 && typeof value !== "string"
      ? [4, value.map(([element, expression]) => [element, withoutSetId(expression)])]
      : [attribute, value]
  );
}

function withoutSetId(expression: Node[1]): Node[1] {
  if (typeof expression === "string") return expression;
  const idOf: Readonly<Record<string, number>> = { lookup: 4, dynset: 2 };
  const name = new TextDecoder().decode(bytesOf(String(expression[0][1]))).replace("\0", "");
  const data = expression[1][1];
  if (!(name in idOf) || typeof data === "string") return expression;
  return [expression[0], [2, data.filter(([attribute]) => attribute !== idOf[name])]];
}

/** All messages of a kind that `nft -f representative.nft` sent. */
function sentByNft(type: number): Node[][] {
  return readGolden("nftables/representative_by_nft.hex").trim().split("\n")
    .map((line) => line.split(" "))
    .filter(([hex]) => parseInt(hex, 16) === type)
    .map(([, , body]) => withoutSetNumbers(type, treeOf(bytesOf(body))));
}

function sentByUs(type: number): Node[][] {
  return encodeTable(REPRESENTATIVE)
    .filter((message) => message.type === type)
    .map((message) => withoutSetNumbers(type, treeOf(message.body)));
}

/** The only rule of a table with these statements, as a tree. */
function ruleOf(...statements: NftStatement[]): NftMessage {
  return encodeAddRules("t", "c", [{ statements }])[0];
}

Deno.test("encodeTable() writes chains, sets and rules as nft does", () => {
  for (const type of [NEW_CHAIN, NEW_RULE, NEW_SET]) {
    const wanted = sentByNft(type);
    assert(wanted.length > 0);
    assertEquals(sentByUs(type), wanted);
  }
});

Deno.test("encodeTable() writes map elements as nft does", () => {
  assertEquals(sentByUs(NEW_ELEMENT), sentByNft(NEW_ELEMENT));
});

Deno.test("encodeTable() orders messages so that names exist before they are used", () => {
  const types = encodeTable(REPRESENTATIVE, { replace: true }).map((message) => message.type);
  const order = [0xa00, 0xa02, 0xa00, NEW_CHAIN, NEW_SET, NEW_RULE, NEW_ELEMENT];
  assertEquals(types.filter((type, index) => type !== types[index - 1]), order);
});

Deno.test("messages say what they do", () => {
  const table: NftTable = { ...REPRESENTATIVE, sets: [], maps: [] };
  assertEquals(encodeTable(table)[0].what, 'create table "cellos_golden"');
  assertEquals(ruleOf({ kind: "counter" }).what, 'add rule 0 of chain "c"');
  assertEquals(encodeDeleteTable("t")[0].what, 'delete table "t"');
  assertEquals(encodeDeleteChains("t", ["a", "b"]).map((message) => message.what), [
    'flush chain "a"',
    'flush chain "b"',
    'delete chain "a"',
    'delete chain "b"',
  ]);
});

Deno.test("map elements are split into messages below 64 KiB", () => {
  const elements = Array.from(
    { length: 600 },
    (_, index) => ({ key: [`ce${index}`, "eth0"], verdict: "goto", chain: "c" }) as const,
  );
  const key = ["meta iifname", "meta oifname"] as const;
  assertEquals(encodeAddMapElements("t", "m", key, elements).length, 3);
  assertEquals(encodeDeleteMapElements("t", "m", key, elements).length, 3);
  assertEquals(encodeAddMapElements("t", "m", key, []), []);
});

Deno.test("a protocol that a rule has matched is not compared again", () => {
  const count = (message: NftMessage) => {
    const expressions = treeOf(message.body).find(([type]) => type === 4)?.[1];
    return typeof expressions === "string" ? 0 : expressions?.length;
  };
  const port = { kind: "match", field: "tcp dport", value: 80 } as const;
  const address = { kind: "match", field: "ip daddr", value: "192.0.2.1" } as const;
  const tcp = { kind: "match", field: "meta l4proto", value: "tcp" } as const;
  assertEquals(count(ruleOf(port)), 4);
  assertEquals(count(ruleOf(tcp, port)), 4);
  assertEquals(count(ruleOf(address, port, address)), 10);
  assertEquals(count(ruleOf({ kind: "reject", with: "tcp reset" })), 3);
  assertEquals(count(ruleOf(port, { kind: "reject", with: "tcp reset" })), 5);
});

Deno.test("a rule that contradicts itself is refused", () => {
  const udp = { kind: "match", field: "udp dport", value: 53 } as const;
  const tcp = { kind: "match", field: "tcp dport", value: 53 } as const;
  assertThrows(
    () => ruleOf(tcp, udp),
    TypeError,
    "Cannot encode a rule: it wants meta l4proto udp after tcp",
  );
  assertThrows(
    () =>
      ruleOf(
        { kind: "match", field: "ip daddr", value: "192.0.2.1" },
        { kind: "match", field: "ip6 daddr", value: "::1" },
      ),
    TypeError,
    "Cannot encode a rule: it wants meta nfproto ipv6 after ipv4",
  );
});

Deno.test("values that a field cannot have are refused, and the next message is whole", () => {
  const whole = ruleOf({ kind: "counter" }).body;
  const bad: NftStatement[] = [
    { kind: "match", field: "tcp dport", value: 65_536 },
    { kind: "match", field: "tcp dport", value: "https" },
    { kind: "match", field: "tcp dport", value: { from: 9, to: 8 } },
    { kind: "match", field: "ip daddr", value: "::1" },
    { kind: "match", field: "ip6 daddr", value: "10.0.0.1" },
    { kind: "match", field: "ip daddr", value: "10.0.0.0/33" },
    { kind: "match", field: "ip daddr", value: { from: 1, to: 2 } },
    { kind: "match", field: "meta oifname", value: "a-name-of-16-byte" },
    { kind: "match", field: "meta oifname", value: "" },
    { kind: "match", field: "meta l4proto", value: "sctp" },
    { kind: "match", field: "meta nfproto", value: "arp" },
    { kind: "match", field: "fib daddr type", value: { from: 1, to: 2 } },
    { kind: "match", field: "icmp type", value: 256 },
    { kind: "log", group: 65_536, prefix: "x" },
    { kind: "log", group: 1, prefix: "x".repeat(128) },
    { kind: "lookup", key: ["ip6 saddr", "meta oifname"], set: "a\0b" },
  ];
  for (const statement of bad) {
    assertThrows(() => ruleOf(statement), Error, "Cannot ", JSON.stringify(statement));
    assertEquals(ruleOf({ kind: "counter" }).body, whole);
  }
});

Deno.test("keys above five fields or 64 bytes, over-long comments, unbounded sets are refused", () => {
  const set = { name: "s", key: ["ip saddr", "meta oifname"] } as const;
  const table = { name: "t", maps: [], chains: [], sets: [] };
  const six = Array(6).fill("tcp dport");
  assertThrows(() => encodeTable({ ...table, sets: [{ ...set, key: six }] }), RangeError);
  assertThrows(
    () => encodeTable({ ...table, sets: [{ ...set, dynamic: true, sizeMax: 5 }] }),
    TypeError,
    'Cannot encode dynamic set "s" without bounds',
  );
  assertThrows(
    () => ruleOf({ kind: "lookup", key: Array(5).fill("meta iifname"), set: "s" }),
    RangeError,
  );
  assertThrows(
    () => encodeAddRules("t", "c", [{ statements: [], comment: "x".repeat(129) }]),
    RangeError,
  );
  assertEquals(encodeAddRules("t", "c", [{ statements: [], comment: "x".repeat(128) }]).length, 1);
});

Deno.test("any address prefix compares exactly its leading bits", () => {
  fc.assert(
    fc.property(fc.nat(0xffff_ffff), fc.nat(32), (bits, length) => {
      const dotted = [24, 16, 8, 0].map((shift) => bits >>> shift & 0xff).join(".");
      const body = ruleOf({
        kind: "match",
        field: "ip daddr",
        value: `${dotted}/${length}`,
      }).body;
      const expressions = treeOf(body).find(([type]) => type === 4)?.[1];
      assert(Array.isArray(expressions));
      const isWholeBytes = length % 8 === 0 && length > 0;
      assertEquals(expressions.length, isWholeBytes ? 4 : 5);
      const compared = JSON.stringify(expressions.at(-1)).match(/"([0-9a-f]*)"\]\]\]\]\]\]/)?.[1];
      const masked = length === 0 ? 0 : (bits >>> (32 - length) << (32 - length)) >>> 0;
      const whole = masked.toString(16).padStart(8, "0");
      assertEquals(compared, isWholeBytes ? whole.slice(0, length / 4) : whole);
    }),
    { numRuns: campaign(100, 10_000) },
  );
});
