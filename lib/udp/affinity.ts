/**
 * Which clients belong together: the input of hashing policies, and nothing else.
 *
 * It is not the flow's key. Two sockets of one client may have one affinity and still are two flows,
 * each with its own replies.
 *
 * @module
 */
import { type HashKey, keyedHash } from "./keyed_hash.ts";
import { connectionIdAt, connectionIdLength } from "./quic.ts";
import { isIpv4, maskedWord, PORTS_AT } from "./tuple.ts";

/** What decides. Where a datagram has none of it, the source's address and port do. */
export type Affinity =
  /** The client's address. */
  | { readonly by: "source" }
  /** Its address and port: every socket on its own. */
  | { readonly by: "source-port" }
  /** The first bits of its address. */
  | { readonly by: "prefix"; readonly ipv4Bits: number; readonly ipv6Bits: number }
  /** Bytes of the flow's first datagram. */
  | { readonly by: "payload"; readonly offset: number; readonly length: number }
  /** QUIC's connection id. */
  | {
    readonly by: "quic";
    /** Length of the ids that backends choose, 1 to 20. */
    readonly connectionIdBytes: number;
    /** Bytes of plaintext server id after the first octet; 0: backends do not write them. */
    readonly serverIdBytes: number;
  };

const IPV4_BITS_BEFORE = 96;
const scratch = new Uint8Array(18);

/** 32 bits that are the same for clients that belong together. */
export function affinityOf(
  key: HashKey,
  affinity: Affinity,
  words: Uint32Array,
  at: number,
  bytes: Uint8Array,
  offset: number,
  length: number,
): number {
  switch (affinity.by) {
    case "source":
      return hashSource(key, words, at, 128, false);
    case "source-port":
      return hashSource(key, words, at, 128, true);
    case "prefix": {
      const bits = isIpv4(words, at) ? IPV4_BITS_BEFORE + affinity.ipv4Bits : affinity.ipv6Bits;
      return hashSource(key, words, at, bits, false);
    }
    case "payload": {
      const there = Math.min(affinity.length, length - affinity.offset);
      if (there <= 0) return hashSource(key, words, at, 128, true);
      return keyedHash(key, bytes, offset + affinity.offset, there);
    }
    case "quic": {
      const idBytes = connectionIdLength(bytes, offset, length, affinity.connectionIdBytes);
      if (idBytes <= 0) return hashSource(key, words, at, 128, true);
      return keyedHash(key, bytes, connectionIdAt(bytes, offset), idBytes);
    }
  }
}

function hashSource(
  key: HashKey,
  words: Uint32Array,
  at: number,
  bits: number,
  withPort: boolean,
): number {
  for (let index = 0; index < 4; index++) {
    const word = maskedWord(words, at, index, bits);
    scratch[4 * index] = word >>> 24;
    scratch[4 * index + 1] = word >>> 16;
    scratch[4 * index + 2] = word >>> 8;
    scratch[4 * index + 3] = word;
  }
  const port = words[at + PORTS_AT] >>> 16;
  scratch[16] = port >>> 8;
  scratch[17] = port;
  return keyedHash(key, scratch, 0, withPort ? 18 : 16);
}
