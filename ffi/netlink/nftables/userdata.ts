/**
 * What `nft` keeps beside rules and sets in the kernel, which the kernel does not read: comments,
 * and how the key of a set was written (`typeof ip saddr . icmp id`).
 *
 * A list of type (one byte), length (one byte), value; without padding. Decoding never throws.
 *
 * Source: libnftnl `include/libnftnl/udata.h`, nftables `src/netlink.c`, `src/payload.c`; the
 * golden bytes in `tests/golden/nftables/`.
 *
 * @module
 */
import { encodeUtf8 } from "#lib/base/mod.ts";
import { DATA_TYPE_INTEGER, NFT_FIELDS } from "./field.ts";
import type { NftField } from "./ruleset.ts";

const NFTNL_UDATA_RULE_COMMENT = 0;
const NFTNL_UDATA_SET_KEYBYTEORDER = 0;
const NFTNL_UDATA_SET_DATABYTEORDER = 1;
const NFTNL_UDATA_SET_KEY_TYPEOF = 3;
const NFTNL_UDATA_SET_DATA_TYPEOF = 4;
const NFTNL_UDATA_SET_DATA_INTERVAL = 6;
const NFTNL_UDATA_SET_TYPEOF_EXPR = 0;
const NFTNL_UDATA_SET_TYPEOF_DATA = 1;

/** Kinds of expression (`enum expr_types` of nftables). */
const EXPR_VERDICT = 1;
const EXPR_PAYLOAD = 7;
const EXPR_META = 9;
const EXPR_CONCAT = 13;
const EXPR_FIB = 26;

const BYTEORDER_UNSET = 0;
const BYTEORDER_HOST = 1;
const BYTEORDER_BIG = 2;

/** The longest comment, in bytes without the NUL (`NFTNL_UDATA_COMMENT_MAXLEN`). */
export const COMMENT_BYTES_MAX = 128;

function record(type: number, value: readonly number[]): number[] {
  return [type, value.length, ...value];
}

function word(type: number, value: number): number[] {
  return record(type, [value & 0xff, value >>> 8 & 0xff, value >>> 16 & 0xff, value >>> 24]);
}

/** The user data of a rule with a comment. Throws `RangeError` when it is too long. */
export function encodeRuleComment(comment: string): Uint8Array<ArrayBuffer> {
  const encoded = encodeUtf8(comment);
  if (encoded.length > COMMENT_BYTES_MAX || comment.includes("\0")) {
    throw new RangeError(
      `Cannot keep comment ${JSON.stringify(comment)}: want at most ${COMMENT_BYTES_MAX} bytes`,
    );
  }
  return new Uint8Array(record(NFTNL_UDATA_RULE_COMMENT, [...encoded, 0]));
}

/** The comment in a rule's user data; `undefined` when it has none or is malformed. */
export function decodeRuleComment(userdata: Uint8Array): string | undefined {
  for (let at = 0; at + 2 <= userdata.length;) {
    const end = at + 2 + userdata[at + 1];
    if (end > userdata.length) return undefined;
    if (userdata[at] === NFTNL_UDATA_RULE_COMMENT) {
      const value = userdata.subarray(at + 2, end);
      const nul = value.indexOf(0);
      const text = new TextDecoder("utf-8", { ignoreBOM: true });
      return text.decode(nul < 0 ? value : value.subarray(0, nul));
    }
    at = end;
  }
  return undefined;
}

/** The user data of a set or verdict map, so that `nft` prints its key as `typeof …`. */
export function encodeSetUserdata(
  key: readonly NftField[],
  isVerdictMap: boolean,
): Uint8Array<ArrayBuffer> {
  const order = key.length === 1 ? byteOrder(key[0]) : BYTEORDER_UNSET;
  return new Uint8Array([
    ...word(NFTNL_UDATA_SET_KEYBYTEORDER, order),
    ...(isVerdictMap ? word(NFTNL_UDATA_SET_DATABYTEORDER, BYTEORDER_UNSET) : []),
    ...record(NFTNL_UDATA_SET_KEY_TYPEOF, typeofKey(key)),
    ...(isVerdictMap
      ? [
        ...record(NFTNL_UDATA_SET_DATA_TYPEOF, typeofExpr(EXPR_VERDICT, [])),
        ...word(NFTNL_UDATA_SET_DATA_INTERVAL, 0),
      ]
      : []),
  ]);
}

function byteOrder(field: NftField): number {
  return NFT_FIELDS[field].load.kind === "payload" ? BYTEORDER_BIG : BYTEORDER_HOST;
}

function typeofExpr(kind: number, data: readonly number[]): number[] {
  return [
    ...word(NFTNL_UDATA_SET_TYPEOF_EXPR, kind),
    ...record(NFTNL_UDATA_SET_TYPEOF_DATA, data),
  ];
}

function typeofKey(key: readonly NftField[]): number[] {
  if (key.length === 1) return typeofField(key[0]);
  const parts = key.flatMap((field, index) => record(index, typeofField(field)));
  return typeofExpr(EXPR_CONCAT, parts);
}

function typeofField(field: NftField): number[] {
  const { load, udata, dataType, sizeBytes } = NFT_FIELDS[field];
  if (load.kind === "meta") return typeofExpr(EXPR_META, word(0, load.key));
  // The result is "address type" (3), asked of the destination (2).
  if (load.kind === "fib") return typeofExpr(EXPR_FIB, [...word(0, 3), ...word(1, 2)]);
  return typeofExpr(EXPR_PAYLOAD, [
    ...word(0, udata?.header ?? 0),
    ...word(1, udata?.field ?? 0),
    ...(dataType === DATA_TYPE_INTEGER ? word(4, sizeBytes * 8) : []),
  ]);
}
