/**
 * Which worker a QUIC connection belongs to, and the way for its datagrams to get there.
 *
 * The kernel spreads clients over workers by their address. A client that changes its address in the
 * midst of a connection (RFC 9000 §9) may meet another worker, which knows nothing of it: the
 * directory says whose the connection id is, and a bounded ring takes the datagram there. Both lie
 * in shared memory. A full ring drops and counts; QUIC sends again.
 *
 * Pure, but for the memory: waking the other worker is a callback.
 *
 * @module
 */
import type { RouteConfig } from "./contract.ts";
import { type HashKey, keyedHash } from "./keyed_hash.ts";
import { connectionIdAt, connectionIdLength, isLongHeader } from "./quic.ts";
import { TUPLE_WORDS } from "./tuple.ts";

const DIRECTORY_ENTRIES = 65_536;
const DIRECTORY_WAYS = 4;
/** Bytes of the directory. */
export const DIRECTORY_BYTES: number = DIRECTORY_ENTRIES * 8;

/** Datagrams that a ring holds. */
export const RING_ENTRIES = 256;
/** The longest datagram that is handed over; QUIC's are shorter than an Ethernet frame. */
export const RING_PAYLOAD_MAX = 2048;
/** Lock, written, read, and one to align. */
const RING_HEAD_WORDS = 4;
/** Listener, length, tuple. */
const ENTRY_HEAD_WORDS = 2 + TUPLE_WORDS;
const ENTRY_WORDS = ENTRY_HEAD_WORDS + RING_PAYLOAD_MAX / 4;
/** Bytes of a ring. */
export const RING_BYTES: number = (RING_HEAD_WORDS + RING_ENTRIES * ENTRY_WORDS) * 4;
const LOCK = 0;
const WRITTEN = 1;
const READ = 2;
/** A writer holds the lock for a copy's time. */
const SPINS_MAX = 10_000;

/** Many workers write, one reads. */
export class HandOverRing {
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;

  /** @param memory {@link RING_BYTES} of zeros, shared by all. */
  constructor(memory: SharedArrayBuffer) {
    this.#words = new Int32Array(memory);
    this.#bytes = new Uint8Array(memory);
  }

  /** Adds a datagram; false where there is no room. */
  push(
    listener: number,
    tuple: Uint32Array,
    bytes: Uint8Array,
    offset: number,
    length: number,
  ): boolean {
    if (length > RING_PAYLOAD_MAX || !this.#lock()) return false;
    const written = this.#words[WRITTEN];
    const isFull = ((written - Atomics.load(this.#words, READ)) | 0) >= RING_ENTRIES;
    if (!isFull) {
      const entry = entryAt(written);
      this.#words[entry] = listener;
      this.#words[entry + 1] = length;
      for (let word = 0; word < TUPLE_WORDS; word++) this.#words[entry + 2 + word] = tuple[word];
      const payload = (entry + ENTRY_HEAD_WORDS) * 4;
      this.#bytes.set(bytes.subarray(offset, offset + length), payload);
      Atomics.store(this.#words, WRITTEN, (written + 1) | 0);
    }
    Atomics.store(this.#words, LOCK, 0);
    return !isFull;
  }

  /** Takes all that is there; how many. */
  drain(take: (listener: number, tuple: Uint32Array, payload: Uint8Array) => void): number {
    let count = 0;
    for (;;) {
      const read = this.#words[READ];
      if (read === Atomics.load(this.#words, WRITTEN)) return count;
      const entry = entryAt(read);
      const tuple = Uint32Array.from(this.#words.subarray(entry + 2, entry + 2 + TUPLE_WORDS));
      const payload = (entry + ENTRY_HEAD_WORDS) * 4;
      // Copied: shared memory is none that a socket may send from.
      const copy = Uint8Array.from(
        this.#bytes.subarray(payload, payload + this.#words[entry + 1]),
      );
      const listener = this.#words[entry];
      Atomics.store(this.#words, READ, (read + 1) | 0);
      take(listener, tuple, copy);
      count += 1;
    }
  }

  #lock(): boolean {
    for (let spin = 0; spin < SPINS_MAX; spin++) {
      if (Atomics.compareExchange(this.#words, LOCK, 0, 1) === 0) return true;
    }
    return false;
  }
}

function entryAt(count: number): number {
  return RING_HEAD_WORDS + ((count >>> 0) % RING_ENTRIES) * ENTRY_WORDS;
}

/** Owners of connection ids, by keyed hash; the least lucky are forgotten when it fills. */
export class ConnectionDirectory {
  readonly #words: Int32Array;

  /** @param memory {@link DIRECTORY_BYTES} of zeros, shared by all. */
  constructor(memory: SharedArrayBuffer) {
    this.#words = new Int32Array(memory);
  }

  /** The worker that a connection belongs to; -1 where nobody said. */
  ownerOf(hash: number): number {
    for (let way = 0; way < DIRECTORY_WAYS; way++) {
      const at = wordAt(hash, way);
      const owner = Atomics.load(this.#words, at + 1);
      if (owner !== 0 && Atomics.load(this.#words, at) === (hash | 0)) return owner - 1;
    }
    return -1;
  }

  /** Says whose a connection is. */
  claim(hash: number, worker: number): void {
    let free = -1;
    for (let way = 0; way < DIRECTORY_WAYS; way++) {
      const at = wordAt(hash, way);
      const isFree = Atomics.load(this.#words, at + 1) === 0;
      if (!isFree && Atomics.load(this.#words, at) === (hash | 0)) {
        Atomics.store(this.#words, at + 1, worker + 1);
        return;
      }
      if (isFree && free < 0) free = at;
    }
    const target = free >= 0 ? free : wordAt(hash, (hash >>> 20) % DIRECTORY_WAYS);
    Atomics.store(this.#words, target, hash | 0);
    Atomics.store(this.#words, target + 1, worker + 1);
  }
}

function wordAt(hash: number, way: number): number {
  return 2 * ((hash + way) & (DIRECTORY_ENTRIES - 1));
}

/** What became of a datagram: {@link HandOver.give}. */
export const GIVEN = {
  /** It belongs here. */
  no: 0,
  /** It is on its way. */
  yes: 1,
  /** It belongs elsewhere, and there is no room there. */
  full: 2,
} as const;
/** A value of {@link GIVEN}. */
export type Given = (typeof GIVEN)[keyof typeof GIVEN];

/** One worker's part in it. */
export class HandOver {
  readonly #worker: number;
  readonly #key: HashKey;
  readonly #directory: ConnectionDirectory;
  readonly #rings: readonly HandOverRing[];
  readonly #wake: (worker: number) => void;

  /** @param wake Wakes another worker, whose ring has something. */
  constructor(parts: {
    worker: number;
    key: HashKey;
    directory: ConnectionDirectory;
    rings: readonly HandOverRing[];
    wake: (worker: number) => void;
  }) {
    this.#worker = parts.worker;
    this.#key = parts.key;
    this.#directory = parts.directory;
    this.#rings = parts.rings;
    this.#wake = parts.wake;
  }

  /** Looks whose a client's datagram is, and hands it over where it is another worker's. */
  give(
    listener: number,
    route: RouteConfig | null,
    tuple: Uint32Array,
    bytes: Uint8Array,
    offset: number,
    length: number,
  ): Given {
    // A plaintext server id leads to the backend from anywhere.
    if (route?.affinity.by !== "quic" || route.affinity.serverIdBytes > 0) return GIVEN.no;
    const { connectionIdBytes } = route.affinity;
    const idBytes = connectionIdLength(bytes, offset, length, connectionIdBytes);
    if (idBytes <= 0) return GIVEN.no;
    const hash = keyedHash(this.#key, bytes, connectionIdAt(bytes, offset), idBytes);
    const owner = this.#directory.ownerOf(hash);
    if (owner < 0 || owner === this.#worker || owner >= this.#rings.length) return GIVEN.no;
    if (!this.#rings[owner].push(listener, tuple, bytes, offset, length)) return GIVEN.full;
    this.#wake(owner);
    return GIVEN.yes;
  }

  /** Notes the connection id that a backend chose, from its reply with a long header. */
  learn(route: RouteConfig | null, bytes: Uint8Array, offset: number, length: number): void {
    if (route?.affinity.by !== "quic" || !isLongHeader(bytes, offset, length)) return;
    const lengthAt = offset + 6 + bytes[offset + 5];
    const idBytes = lengthAt < offset + length ? bytes[lengthAt] : 0;
    if (idBytes === 0 || lengthAt + 1 + idBytes > offset + length) return;
    this.#directory.claim(keyedHash(this.#key, bytes, lengthAt + 1, idBytes), this.#worker);
  }
}
