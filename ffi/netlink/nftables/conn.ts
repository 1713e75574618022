/**
 * Tells the kernel's nf_tables about a ruleset, and asks what it counts.
 *
 * A transaction is one datagram: begin, messages, end; the kernel carries all of it out or
 * nothing. The first refused message becomes a `NetlinkError` that names it. Works in the
 * network namespace in which the connection was opened.
 *
 * Closing a connection right after a transaction that removed something waits 15 ms for a
 * grace period in the kernel: keep it open for the cell's life.
 *
 * Source: `linux/netfilter/nfnetlink.h`, `linux/netfilter/nf_tables.h`.
 *
 * @module
 */
import { AttributeReader } from "../attribute.ts";
import { type NetlinkConn, NetlinkError } from "../conn.ts";
import {
  decodeAck,
  type NetlinkAck,
  type NetlinkMessage,
  type NetlinkRequest,
  NLM_F_ACK,
  NLMSG_ERROR,
} from "../message.ts";
import { encodeGet, NFT_MSG, type NftMessage } from "./encode.ts";
import type { NftRuleCounters } from "./ruleset.ts";
import { decodeRuleComment } from "./userdata.ts";

const NFNL_MSG_BATCH_BEGIN = 16;
const NFNL_MSG_BATCH_END = 17;
/** `struct nfgenmsg` of a batch: its resource id is the subsystem, in network order. */
const BATCH_HEADER = new Uint8Array([0, 0, 0, 10]);
/** Bytes of `struct nfgenmsg` before the attributes of an answer. */
const NFGENMSG_BYTES = 4;

const BATCH_BEGIN: NetlinkRequest = {
  what: "begin a transaction",
  type: NFNL_MSG_BATCH_BEGIN,
  flags: 0,
  body: BATCH_HEADER,
};
const BATCH_END: NetlinkRequest = {
  what: "commit a transaction",
  type: NFNL_MSG_BATCH_END,
  flags: 0,
  body: BATCH_HEADER,
};

/** nf_tables over a connection of protocol `netfilter`, which the caller opens and closes. */
export class NftConn {
  readonly #conn: NetlinkConn;

  /** Speaks over `conn`, opened in the namespace whose ruleset is meant. */
  constructor(conn: NetlinkConn) {
    if (conn.protocol !== "netfilter") {
      throw new TypeError(`Cannot speak nf_tables over protocol "${conn.protocol}"`);
    }
    this.#conn = conn;
  }

  /**
   * Carries out messages as one transaction. Throws `NetlinkError` (all undone) whose `op` is
   * the `what` of the first message refused.
   */
  commit(messages: readonly NftMessage[]): void {
    if (messages.length === 0) return;
    const last = messages.length - 1;
    const batch = [
      BATCH_BEGIN,
      // Old kernels acknowledge no BATCH_END, so the last real message is asked for its.
      ...messages.map((message, index) =>
        index === last ? { ...message, flags: message.flags | NLM_F_ACK } : message
      ),
      BATCH_END,
    ];
    const state: { refused?: { op: string; ack: NetlinkAck }; isDone: boolean } = { isDone: false };
    this.#conn.exchange(batch, ({ index, message }) => {
      if (message.type !== NLMSG_ERROR) return;
      const ack = decodeAck(message);
      if (ack === undefined) return;
      if (ack.errno !== 0) state.refused ??= { op: batch[index].what, ack };
      else if (index === last + 1) state.isDone = true;
    });
    if (state.refused !== undefined) throw new NetlinkError(state.refused.op, state.refused.ack);
    if (!state.isDone) {
      throw new NetlinkError(BATCH_END.what, { errno: 71, text: "no acknowledgement" });
    }
  }

  /** All rules of a table with their first counter. Throws `NetlinkError` when it is not there. */
  ruleCounters(tableName: string): NftRuleCounters[] {
    this.#assertTable(tableName);
    const request = encodeGet(`list rules of ${JSON.stringify(tableName)}`, NFT_MSG.getRule, {
      1: tableName,
    });
    return this.#conn.dump(request)
      .map((message) => decodeRule(message))
      .filter((rule) => rule.table === tableName)
      .map((rule) => rule.counters);
  }

  /** Names of all `inet` tables. */
  tableNames(): string[] {
    return this.#names(encodeGet("list tables", NFT_MSG.getTable, {}), 1);
  }

  /** Names of a table's chains. */
  chainNames(tableName: string): string[] {
    const request = encodeGet("list chains", NFT_MSG.getChain, { 1: tableName });
    return this.#conn.dump(request)
      .map((message) => readStrings(message))
      .filter((strings) => strings.get(1) === tableName)
      .map((strings) => strings.get(3) ?? "");
  }

  /** How many elements a set or map holds now. Throws `NetlinkError` when it is not there. */
  setElementCount(tableName: string, setName: string): number {
    const request = encodeGet(`list set ${JSON.stringify(setName)}`, NFT_MSG.getSetElement, {
      1: tableName,
      2: setName,
    });
    return this.#conn.dump(request).reduce((sum, message) => sum + countElements(message), 0);
  }

  /** A rule dump of a table that is not there is empty rather than an error: ask first. */
  #assertTable(name: string): void {
    this.#conn.get(
      encodeGet(`find table ${JSON.stringify(name)}`, NFT_MSG.getTable, { 1: name }),
    );
  }

  #names(request: NftMessage, attribute: number): string[] {
    return this.#conn.dump(request).map((message) => readStrings(message).get(attribute) ?? "");
  }
}

/** The attributes of a message as text, by type; only those that are text mean anything. */
function readStrings(message: NetlinkMessage): Map<number, string> {
  const reader = new AttributeReader(message.body, NFGENMSG_BYTES);
  const strings = new Map<number, string>();
  while (reader.next()) {
    if (!strings.has(reader.type)) strings.set(reader.type, reader.string());
  }
  return strings;
}

/** Decodes one rule of a dump; what is malformed in it is left out. */
export function decodeRule(message: NetlinkMessage): {
  readonly table: string;
  readonly counters: NftRuleCounters;
} {
  const reader = new AttributeReader(message.body, NFGENMSG_BYTES);
  let table = "";
  let rule: NftRuleCounters = { chain: "", handle: 0n };
  while (reader.next()) {
    if (reader.type === 1) table = reader.string();
    else if (reader.type === 2) rule = { ...rule, chain: reader.string() };
    else if (reader.type === 3) rule = { ...rule, handle: reader.be64() };
    else if (reader.type === 4) rule = { ...rule, ...readFirstCounter(reader.nested()) };
    else if (reader.type === 7) {
      const comment = decodeRuleComment(reader.bytes());
      if (comment !== undefined) rule = { ...rule, comment };
    }
  }
  return { table, counters: rule };
}

function readFirstCounter(
  expressions: AttributeReader,
): { packets?: bigint; bytes?: bigint } {
  while (expressions.next()) {
    const expression = expressions.nested();
    let isCounter = false;
    while (expression.next()) {
      if (expression.type === 1) isCounter = expression.string() === "counter";
      else if (expression.type === 2 && isCounter) return readCounter(expression.nested());
    }
  }
  return {};
}

function readCounter(counter: AttributeReader): { packets: bigint; bytes: bigint } {
  const found = { packets: 0n, bytes: 0n };
  while (counter.next()) {
    if (counter.type === 1) found.bytes = counter.be64();
    else if (counter.type === 2) found.packets = counter.be64();
  }
  return found;
}

function countElements(message: NetlinkMessage): number {
  const reader = new AttributeReader(message.body, NFGENMSG_BYTES);
  let count = 0;
  while (reader.next()) {
    if (reader.type !== 3) continue;
    const elements = reader.nested();
    while (elements.next()) count += 1;
  }
  return count;
}
