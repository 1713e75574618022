/**
 * A ruleset value as nf_tables messages, ready for one transaction ({@link "./conn.ts"}).
 *
 * Pure. All tables are of family `inet`. Messages carry no numbers yet, so lists of them may be
 * joined freely; the kernel carries out a transaction wholly or not at all. Order within
 * {@link encodeTable}: table, chains, sets, maps, rules, elements — whatever is referred to
 * comes before what refers to it.
 *
 * A value that cannot be encoded (a port above 65535, an over-long comment) is the caller's
 * mistake: `TypeError` or `RangeError`.
 *
 * Source: `linux/netfilter/nf_tables.h`, `linux/netfilter/nfnetlink.h`.
 *
 * @module
 */
import { AttributeWriter } from "../attribute.ts";
import { type NetlinkRequest, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL } from "../message.ts";
import { writeRuleExpressions, writeVerdict } from "./expression.ts";
import { encodeKey, keyBytes, keyType } from "./field.ts";
import type {
  NftChain,
  NftField,
  NftHook,
  NftRule,
  NftSet,
  NftTable,
  NftVerdictElement,
  NftVerdictMap,
} from "./ruleset.ts";
import { encodeRuleComment, encodeSetUserdata } from "./userdata.ts";

/** One message of a transaction. */
export type NftMessage = NetlinkRequest;

/** `NFNL_SUBSYS_NFTABLES`, in the upper byte of a message type. */
const SUBSYSTEM = 10 << 8;
/** `enum nf_tables_msg_types`, as full message types. */
export const NFT_MSG = {
  newTable: SUBSYSTEM | 0,
  getTable: SUBSYSTEM | 1,
  deleteTable: SUBSYSTEM | 2,
  newChain: SUBSYSTEM | 3,
  getChain: SUBSYSTEM | 4,
  deleteChain: SUBSYSTEM | 5,
  newRule: SUBSYSTEM | 6,
  getRule: SUBSYSTEM | 7,
  deleteRule: SUBSYSTEM | 8,
  newSet: SUBSYSTEM | 9,
  newSetElement: SUBSYSTEM | 12,
  getSetElement: SUBSYSTEM | 13,
  deleteSetElement: SUBSYSTEM | 14,
} as const;

/** `NFPROTO_INET`. */
const NFPROTO_INET = 1;
/** `struct nfgenmsg`: family, version 0, resource id 0. */
const INET_HEADER = new Uint8Array([NFPROTO_INET, 0, 0, 0]);

const HOOKS: Readonly<Record<NftHook["hook"], number>> = {
  prerouting: 0,
  input: 1,
  forward: 2,
  output: 3,
  postrouting: 4,
};
const POLICIES = { drop: 0, accept: 1 } as const;

const NFT_SET_MAP = 0x8;
const NFT_SET_TIMEOUT = 0x10;
const NFT_SET_EVAL = 0x20;
/** `NFT_DATA_VERDICT`: the data of a map are verdicts. */
const NFT_DATA_VERDICT = 0xffffff00;
/** Elements in one message: their list must stay below 64 KiB. */
const ELEMENTS_PER_MESSAGE = 256;

/** How {@link encodeTable} treats what is there. */
export interface EncodeTableOptions {
  /** Remove the table of that name first, where there is one; else an existing one is an error. */
  readonly replace?: boolean;
}

/** One writer for all messages of this thread; each message copies its part out. */
const sharedWriter = new AttributeWriter(16 * 1024);

function message(
  what: string,
  type: number,
  flags: number,
  write: (writer: AttributeWriter) => void,
): NftMessage {
  sharedWriter.header(INET_HEADER);
  try {
    write(sharedWriter);
  } catch (error) {
    sharedWriter.fail("abandoned"); // a half-written message must not leak into the next
    try {
      sharedWriter.finish(what);
    } catch {
      // The first error tells more than "abandoned".
    }
    throw error;
  }
  return { what, type, flags, body: sharedWriter.finish(what) };
}

/** A dump request (or any get) for things of one table, chain, or set. */
export function encodeGet(
  what: string,
  type: number,
  names: Readonly<Record<number, string>>,
): NftMessage {
  return message(what, type, 0, (writer) => {
    for (const [attribute, name] of Object.entries(names)) writer.string(Number(attribute), name);
  });
}

/** All messages for a whole table. */
export function encodeTable(table: NftTable, options: EncodeTableOptions = {}): NftMessage[] {
  return [
    ...(options.replace
      ? [newTable(table.name, 0), ...encodeDeleteTable(table.name), newTable(table.name, 0)]
      : [newTable(table.name, NLM_F_EXCL)]),
    ...table.chains.map((chain) => newChain(table.name, chain)),
    ...table.sets.map((set, index) => newSet(table.name, set, index + 1)),
    ...table.maps.map((map, index) => newMap(table.name, map, table.sets.length + index + 1)),
    ...table.chains.flatMap((chain) => newRules(table.name, chain)),
    ...table.maps.flatMap((map) =>
      encodeAddMapElements(table.name, map.name, map.key, map.elements)
    ),
  ];
}

/** Adds chains with their rules to an existing table; an existing chain is an error. */
export function encodeAddChains(tableName: string, chains: readonly NftChain[]): NftMessage[] {
  return [
    ...chains.map((chain) => newChain(tableName, chain)),
    ...chains.flatMap((chain) => newRules(tableName, chain)),
  ];
}

/** Empties and removes chains; what refers to them must be removed before. */
export function encodeDeleteChains(tableName: string, names: readonly string[]): NftMessage[] {
  return [
    ...encodeFlushChains(tableName, names),
    ...names.map((name) =>
      message(`delete chain ${JSON.stringify(name)}`, NFT_MSG.deleteChain, 0, (writer) => {
        writer.string(1, tableName).string(3, name);
      })
    ),
  ];
}

/** Removes all rules of chains and keeps the chains. */
export function encodeFlushChains(tableName: string, names: readonly string[]): NftMessage[] {
  return names.map((name) =>
    message(`flush chain ${JSON.stringify(name)}`, NFT_MSG.deleteRule, 0, (writer) => {
      writer.string(1, tableName).string(2, name);
    })
  );
}

/** Appends rules to an existing chain. */
export function encodeAddRules(
  tableName: string,
  chainName: string,
  rules: readonly NftRule[],
): NftMessage[] {
  return newRules(tableName, { name: chainName, rules });
}

/** Adds elements to a verdict map; a chain that they name must exist. */
export function encodeAddMapElements(
  tableName: string,
  mapName: string,
  keyFields: readonly NftField[],
  elements: readonly NftVerdictElement[],
): NftMessage[] {
  return inPieces(elements).map((piece) =>
    message(
      `add elements to map ${JSON.stringify(mapName)}`,
      NFT_MSG.newSetElement,
      NLM_F_CREATE | NLM_F_EXCL,
      (writer) => {
        writer.string(1, tableName).string(2, mapName);
        writer.nest(3, () => {
          for (const element of piece) writeElement(writer, keyFields, element, true);
        });
      },
    )
  );
}

/** Removes elements from a verdict map by their keys. */
export function encodeDeleteMapElements(
  tableName: string,
  mapName: string,
  keyFields: readonly NftField[],
  elements: readonly Pick<NftVerdictElement, "key">[],
): NftMessage[] {
  return inPieces(elements).map((piece) =>
    message(
      `delete elements from map ${JSON.stringify(mapName)}`,
      NFT_MSG.deleteSetElement,
      0,
      (writer) => {
        writer.string(1, tableName).string(2, mapName);
        writer.nest(3, () => {
          for (const element of piece) writeElement(writer, keyFields, element, false);
        });
      },
    )
  );
}

/** Removes a table with all that is in it. */
export function encodeDeleteTable(name: string): NftMessage[] {
  return [
    message(`delete table ${JSON.stringify(name)}`, NFT_MSG.deleteTable, 0, (writer) => {
      writer.string(1, name);
    }),
  ];
}

function newTable(name: string, flags: number): NftMessage {
  return message(
    `create table ${JSON.stringify(name)}`,
    NFT_MSG.newTable,
    NLM_F_CREATE | flags,
    (writer) => writer.string(1, name).be32(2, 0),
  );
}

function newChain(tableName: string, chain: NftChain): NftMessage {
  const what = `create chain ${JSON.stringify(chain.name)}`;
  return message(what, NFT_MSG.newChain, NLM_F_CREATE | NLM_F_EXCL, (writer) => {
    writer.string(1, tableName).string(3, chain.name);
    const { hook } = chain;
    if (hook === undefined) return;
    writer.string(7, hook.type).be32(5, POLICIES[hook.policy]);
    writer.nest(4, () => writer.be32(1, HOOKS[hook.hook]).be32(2, hook.priority));
  });
}

function newRules(tableName: string, chain: NftChain): NftMessage[] {
  return chain.rules.map((rule, index) =>
    message(
      `add rule ${index} of chain ${JSON.stringify(chain.name)}`,
      NFT_MSG.newRule,
      NLM_F_CREATE | NLM_F_APPEND,
      (writer) => {
        writer.string(1, tableName).string(2, chain.name);
        writer.nest(4, () => writeRuleExpressions(writer, rule));
        if (rule.comment !== undefined) writer.bytes(7, encodeRuleComment(rule.comment));
      },
    )
  );
}

function newSet(tableName: string, set: NftSet, id: number): NftMessage {
  const { name, key, sizeMax, timeoutMs } = set;
  if (set.dynamic && (sizeMax === undefined || timeoutMs === undefined)) {
    throw new TypeError(`Cannot encode dynamic set ${JSON.stringify(name)} without bounds`);
  }
  const flags = (timeoutMs === undefined ? 0 : NFT_SET_TIMEOUT) |
    (set.dynamic ? NFT_SET_EVAL : 0);
  return message(
    `create set ${JSON.stringify(name)}`,
    NFT_MSG.newSet,
    NLM_F_CREATE | NLM_F_EXCL,
    (writer) => {
      writer.string(1, tableName).string(2, name).be32(3, flags);
      writer.be32(4, keyType(key)).be32(5, keyBytes(key)).be32(10, id);
      if (sizeMax !== undefined) writer.nest(9, () => writer.be32(1, sizeMax));
      if (timeoutMs !== undefined) writer.be64(11, BigInt(timeoutMs));
      writer.bytes(13, encodeSetUserdata(key, false));
    },
  );
}

function newMap(tableName: string, map: NftVerdictMap, id: number): NftMessage {
  const { name, key } = map;
  return message(
    `create map ${JSON.stringify(name)}`,
    NFT_MSG.newSet,
    NLM_F_CREATE | NLM_F_EXCL,
    (writer) => {
      writer.string(1, tableName).string(2, name).be32(3, NFT_SET_MAP);
      writer.be32(4, keyType(key)).be32(5, keyBytes(key));
      writer.be32(6, NFT_DATA_VERDICT).be32(7, 0).be32(10, id);
      writer.bytes(13, encodeSetUserdata(key, true));
    },
  );
}

function writeElement(
  writer: AttributeWriter,
  keyFields: readonly NftField[],
  element: Pick<NftVerdictElement, "key"> & Partial<NftVerdictElement>,
  withVerdict: boolean,
): void {
  writer.nest(1, () => {
    writer.nest(1, () => writer.bytes(1, encodeKey(keyFields, element.key)));
    if (!withVerdict) return;
    writer.nest(2, () => writeVerdict(writer, element.verdict ?? "goto", element.chain));
  });
}

function inPieces<T>(items: readonly T[]): T[][] {
  const pieces: T[][] = [];
  for (let at = 0; at < items.length; at += ELEMENTS_PER_MESSAGE) {
    pieces.push(items.slice(at, at + ELEMENTS_PER_MESSAGE));
  }
  return pieces;
}
