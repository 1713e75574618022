/**
 * Statements of a ruleset as nf_tables expressions: the small programs that the kernel runs on
 * each packet, over sixteen 32-bit registers.
 *
 * Written so that `nft list` prints the statements back. As `nft` does, a field that takes a
 * protocol for granted first compares that protocol, unless an earlier statement of the
 * rule did. Unlike `nft`, `icmp id` does not also compare the ICMP type: the key of a packet
 * without an id is whatever stands in its place.
 *
 * Source: `linux/netfilter/nf_tables.h`; nftables `src/netlink_linearize.c`.
 *
 * @module
 */
import { encodeUtf8 } from "#lib/base/mod.ts";
import { align4, type AttributeWriter } from "../attribute.ts";
import { encodeValue, IPPROTO, NFPROTO, NFT_FIELDS } from "./field.ts";
import type {
  NftCtState,
  NftField,
  NftRange,
  NftReject,
  NftRule,
  NftStatement,
} from "./ruleset.ts";

const NFTA_LIST_ELEM = 1;
const NFTA_EXPR_NAME = 1;
const NFTA_EXPR_DATA = 2;
const NFTA_DATA_VALUE = 1;
/** A verdict as data (`NFTA_DATA_VERDICT`). */
const NFTA_DATA_VERDICT = 2;
const NFTA_VERDICT_CODE = 1;
const NFTA_VERDICT_CHAIN = 2;

const NFT_REG_VERDICT = 0;
const NFT_REG_1 = 1;
const NFT_REG32_00 = 8;
/** 32-bit registers. */
const REGISTERS_MAX = 16;

/** Comparisons (`enum nft_cmp_ops`). */
const CMP = { eq: 0, neq: 1, lte: 3, gte: 5 } as const;
const NFT_RANGE_NEQ = 1;
const NFT_LOOKUP_F_INV = 1;
const DYNSET_OPS = { add: 0, update: 1 } as const;

/** `NF_DROP`, `NF_ACCEPT`, `NFT_RETURN`, `NFT_JUMP`, `NFT_GOTO`. */
const VERDICTS = { drop: 0, accept: 1, return: -5, jump: -3, goto: -4 } as const;

/** Bits of `ct state`, in host order (`NF_CT_STATE_BIT`). */
const CT_STATES: Readonly<Record<NftCtState, number>> = {
  invalid: 1,
  established: 2,
  related: 4,
  new: 8,
  untracked: 64,
};

/** Type and code (`enum nft_reject_types`, `enum nft_reject_inet_code`). */
const REJECTS: Readonly<Record<NftReject, readonly [number, number]>> = {
  "tcp reset": [1, 0],
  "icmpx port-unreachable": [2, 1],
  "icmpx admin-prohibited": [2, 3],
};

/** `NFT_META_MARK`. */
const NFT_META_MARK = 3;
/** The longest log prefix in bytes, without its NUL (`NF_LOG_PREFIXLEN`). */
const LOG_PREFIX_BYTES_MAX = 127;

/** Writes all expressions of a rule, as the content of `NFTA_RULE_EXPRESSIONS`. */
export function writeRuleExpressions(writer: AttributeWriter, rule: NftRule): void {
  const expressions = new ExpressionWriter(writer);
  for (const statement of rule.statements) expressions.statement(statement);
}

/** Writes a verdict as the content of a data attribute. */
export function writeVerdict(
  writer: AttributeWriter,
  verdict: keyof typeof VERDICTS,
  chain?: string,
): void {
  writer.nest(NFTA_DATA_VERDICT, () => {
    writer.be32(NFTA_VERDICT_CODE, VERDICTS[verdict]);
    if (chain !== undefined) writer.string(NFTA_VERDICT_CHAIN, chain);
  });
}

/** The register that starts at a 32-bit word: the 128-bit names where they fit, as `nft` does. */
function registerAt(wordIndex: number): number {
  return wordIndex % 4 === 0 ? NFT_REG_1 + wordIndex / 4 : NFT_REG32_00 + wordIndex;
}

/** Writes statements one after the other and remembers what they made certain. */
class ExpressionWriter {
  readonly #writer: AttributeWriter;
  #nfproto: number | undefined;
  #l4proto: number | undefined;

  constructor(writer: AttributeWriter) {
    this.#writer = writer;
  }

  statement(statement: NftStatement): void {
    switch (statement.kind) {
      case "match":
        return this.#match(statement);
      case "ctState":
        return this.#ctState(statement.states);
      case "lookup":
        return this.#lookup(statement.key, statement.set, { negated: statement.negated ?? false });
      case "vmap":
        return this.#lookup(statement.key, statement.map, { isMap: true });
      case "dynset":
        return this.#dynset(statement);
      case "counter":
        return this.#expression("counter", () => {});
      case "log":
        return this.#log(statement);
      case "mark":
        return this.#mark(statement.value);
      case "reject":
        return this.#reject(statement.with);
      case "verdict":
        return this.#verdict(statement.verdict);
      case "jump":
      case "goto":
        return this.#verdict(statement.kind, statement.chain);
      case "masquerade":
        return this.#expression("masq", () => {});
    }
  }

  #match(statement: Extract<NftStatement, { kind: "match" }>): void {
    const { field, value } = statement;
    const negated = statement.negated ?? false;
    this.#require(NFT_FIELDS[field]);
    if (typeof value === "object") return this.#matchRange(field, value, negated);
    const { bytes, prefixBits } = encodeValue(field, value);
    const isWholeBytes = prefixBits % 8 === 0 && prefixBits > 0;
    // A prefix of whole bytes needs no mask: only those bytes are loaded.
    const compared = isWholeBytes ? bytes.subarray(0, prefixBits / 8) : bytes;
    this.#load(field, 0, compared.length);
    if (!isWholeBytes) this.#mask(maskOf(prefixBits, bytes.length));
    this.#compare(negated ? CMP.neq : CMP.eq, compared);
    if (!negated) this.#learn(field, bytes[0]);
  }

  #matchRange(field: NftField, range: NftRange, negated: boolean): void {
    const info = NFT_FIELDS[field];
    // The kernel compares bytes in order, so only one byte or network order has ranges.
    if (range.from > range.to || (info.value === "host" && info.sizeBytes > 1)) {
      throw new RangeError(`Cannot match ${field} from ${range.from} to ${range.to}`);
    }
    const from = encodeValue(field, range.from).bytes;
    const to = encodeValue(field, range.to).bytes;
    this.#load(field, 0, from.length);
    if (!negated) {
      this.#compare(CMP.gte, from);
      this.#compare(CMP.lte, to);
      return;
    }
    this.#expression("range", (writer) => {
      writer.be32(1, NFT_REG_1).be32(2, NFT_RANGE_NEQ);
      writer.nest(3, () => writer.bytes(NFTA_DATA_VALUE, from));
      writer.nest(4, () => writer.bytes(NFTA_DATA_VALUE, to));
    });
  }

  #ctState(states: readonly NftCtState[]): void {
    const bits = states.reduce((mask, state) => mask | CT_STATES[state], 0);
    const hostOrder = new Uint8Array([bits, 0, 0, 0]);
    this.#expression("ct", (writer) => writer.be32(2, 0).be32(1, NFT_REG_1));
    this.#mask(hostOrder);
    this.#compare(CMP.neq, new Uint8Array(4));
  }

  #lookup(
    key: readonly NftField[],
    set: string,
    options: { readonly negated?: boolean; readonly isMap?: boolean },
  ): void {
    this.#loadKey(key);
    this.#expression("lookup", (writer) => {
      writer.be32(2, NFT_REG_1);
      if (options.isMap) writer.be32(3, NFT_REG_VERDICT);
      writer.string(1, set);
      if (options.negated) writer.be32(5, NFT_LOOKUP_F_INV);
    });
  }

  #dynset(statement: Extract<NftStatement, { kind: "dynset" }>): void {
    this.#loadKey(statement.key);
    this.#expression("dynset", (writer) => {
      writer.be32(4, NFT_REG_1).be32(3, DYNSET_OPS[statement.op]).string(1, statement.set);
    });
  }

  #log(statement: Extract<NftStatement, { kind: "log" }>): void {
    const { group, prefix } = statement;
    if (encodeUtf8(prefix).length > LOG_PREFIX_BYTES_MAX) {
      throw new RangeError(
        `Cannot log with prefix ${
          JSON.stringify(prefix)
        }: want at most ${LOG_PREFIX_BYTES_MAX} bytes`,
      );
    }
    this.#expression("log", (writer) => writer.string(2, prefix).be16(1, group));
  }

  #mark(value: number): void {
    if (!Number.isInteger(value) || value < 0 || value > 0xffff_ffff) {
      throw new RangeError(`Cannot mark with ${value}: want an unsigned number of 32 bits`);
    }
    const hostOrder = new Uint8Array(4);
    new DataView(hostOrder.buffer).setUint32(0, value, true);
    this.#expression("immediate", (writer) => {
      writer.be32(1, NFT_REG_1);
      writer.nest(2, () => writer.bytes(NFTA_DATA_VALUE, hostOrder));
    });
    this.#expression("meta", (writer) => writer.be32(2, NFT_META_MARK).be32(3, NFT_REG_1));
  }

  #reject(how: NftReject): void {
    const [type, code] = REJECTS[how];
    if (how === "tcp reset") this.#requireL4proto(IPPROTO.tcp);
    this.#expression("reject", (writer) => writer.be32(1, type).u8(2, code));
  }

  #verdict(verdict: keyof typeof VERDICTS, chain?: string): void {
    this.#expression("immediate", (writer) => {
      writer.be32(1, NFT_REG_VERDICT);
      writer.nest(2, () => writeVerdict(writer, verdict, chain));
    });
  }

  /** Loads the fields of a key side by side, each from a fresh register. */
  #loadKey(key: readonly NftField[]): void {
    // All comparisons come before all loads: they use the first register too.
    for (const field of key) this.#require(NFT_FIELDS[field]);
    let wordIndex = 0;
    for (const field of key) {
      const { sizeBytes } = NFT_FIELDS[field];
      this.#load(field, wordIndex, sizeBytes);
      wordIndex += align4(sizeBytes) / 4;
    }
    if (wordIndex > REGISTERS_MAX) {
      throw new RangeError(`Cannot load key ${JSON.stringify(key)}: above 64 bytes`);
    }
  }

  #load(field: NftField, wordIndex: number, sizeBytes: number): void {
    const { load } = NFT_FIELDS[field];
    const register = registerAt(wordIndex);
    if (load.kind === "meta") {
      this.#expression("meta", (writer) => writer.be32(2, load.key).be32(1, register));
    } else if (load.kind === "fib") {
      // Flags: of the destination address; result: its type.
      this.#expression("fib", (writer) => writer.be32(3, 2).be32(2, 3).be32(1, register));
    } else {
      this.#expression("payload", (writer) => {
        writer.be32(1, register).be32(2, load.base).be32(3, load.offset).be32(4, sizeBytes);
      });
    }
  }

  #mask(mask: Uint8Array): void {
    this.#expression("bitwise", (writer) => {
      writer.be32(1, NFT_REG_1).be32(2, NFT_REG_1).be32(3, mask.length);
      writer.nest(4, () => writer.bytes(NFTA_DATA_VALUE, mask));
      writer.nest(5, () => writer.bytes(NFTA_DATA_VALUE, new Uint8Array(mask.length)));
    });
  }

  #compare(op: number, value: Uint8Array): void {
    this.#expression("cmp", (writer) => {
      writer.be32(1, NFT_REG_1).be32(2, op);
      writer.nest(3, () => writer.bytes(NFTA_DATA_VALUE, value));
    });
  }

  /** Compares the protocols that a field takes for granted, where the rule has not yet. */
  #require(field: { readonly nfproto?: number; readonly l4proto?: number }): void {
    const { nfproto, l4proto } = field;
    // An ICMP protocol, once certain, says the family too.
    const isImplied = l4proto !== undefined && nfproto !== undefined && this.#l4proto === l4proto;
    if (nfproto !== undefined && !isImplied) this.#requireNfproto(nfproto);
    if (l4proto !== undefined) this.#requireL4proto(l4proto);
  }

  #requireNfproto(nfproto: number): void {
    if (this.#nfproto === nfproto) return;
    if (this.#nfproto !== undefined) throw contradiction("meta nfproto", nfproto, this.#nfproto);
    this.#load("meta nfproto", 0, 1);
    this.#compare(CMP.eq, new Uint8Array([nfproto]));
    this.#nfproto = nfproto;
  }

  #requireL4proto(l4proto: number): void {
    if (this.#l4proto === l4proto) return;
    if (this.#l4proto !== undefined) throw contradiction("meta l4proto", l4proto, this.#l4proto);
    this.#load("meta l4proto", 0, 1);
    this.#compare(CMP.eq, new Uint8Array([l4proto]));
    this.#l4proto = l4proto;
  }

  #learn(field: NftField, value: number): void {
    if (field === "meta nfproto") this.#nfproto = value;
    else if (field === "meta l4proto") this.#l4proto = value;
  }

  #expression(name: string, write: (writer: AttributeWriter) => void): void {
    this.#writer.nest(NFTA_LIST_ELEM, (writer) => {
      writer.string(NFTA_EXPR_NAME, name);
      writer.nest(NFTA_EXPR_DATA, write);
    });
  }
}

function maskOf(prefixBits: number, sizeBytes: number): Uint8Array {
  const mask = new Uint8Array(sizeBytes);
  for (let bit = 0; bit < prefixBits; bit++) mask[bit >> 3] |= 0x80 >> (bit & 7);
  return mask;
}

function contradiction(field: string, wanted: number, found: number): TypeError {
  const name = (value: number) =>
    Object.entries({ ...NFPROTO, ...IPPROTO }).find(([, number]) => number === value)?.[0] ?? value;
  return new TypeError(
    `Cannot encode a rule: it wants ${field} ${name(wanted)} after ${name(found)}`,
  );
}
