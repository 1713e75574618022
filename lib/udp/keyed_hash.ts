/**
 * HalfSipHash-2-4: a keyed hash of 32 bits, so that nobody without the key can choose clients that
 * all meet at one backend. Workers with the same key agree.
 *
 * Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF", and the half variant of the
 * reference implementation (64-bit key, 32-bit words).
 *
 * @module
 */

/** 64 bits, as two words. */
export interface HashKey {
  /** Bytes 0 to 3, little-endian. */
  readonly low: number;
  /** Bytes 4 to 7. */
  readonly high: number;
}

const ROUNDS_FINAL = 4;

/** The hash of `bytes[offset..offset+length]`, as an unsigned number. */
export function keyedHash(
  key: HashKey,
  bytes: Uint8Array,
  offset: number,
  length: number,
): number {
  const state = STATE;
  state[0] = key.low;
  state[1] = key.high;
  state[2] = 0x6c796765 ^ key.low;
  state[3] = 0x74656462 ^ key.high;
  const whole = length & ~3;
  for (let at = offset; at < offset + whole; at += 4) {
    absorb(
      state,
      bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24),
    );
  }
  let last = length << 24;
  for (let rest = 0; rest < length - whole; rest++) {
    last |= bytes[offset + whole + rest] << (8 * rest);
  }
  absorb(state, last);
  state[2] ^= 0xff;
  for (let round = 0; round < ROUNDS_FINAL; round++) sipRound(state);
  return (state[1] ^ state[3]) >>> 0;
}

/** Scratch: the function never calls itself, and a thread runs one at a time. */
const STATE = new Int32Array(4);

function absorb(state: Int32Array, word: number): void {
  state[3] ^= word;
  sipRound(state);
  sipRound(state);
  state[0] ^= word;
}

function sipRound(state: Int32Array): void {
  let v0 = state[0], v1 = state[1], v2 = state[2], v3 = state[3];
  v0 = (v0 + v1) | 0;
  v1 = (v1 << 5) | (v1 >>> 27);
  v1 ^= v0;
  v0 = (v0 << 16) | (v0 >>> 16);
  v2 = (v2 + v3) | 0;
  v3 = (v3 << 8) | (v3 >>> 24);
  v3 ^= v2;
  v0 = (v0 + v3) | 0;
  v3 = (v3 << 7) | (v3 >>> 25);
  v3 ^= v0;
  v2 = (v2 + v1) | 0;
  v1 = (v1 << 13) | (v1 >>> 19);
  v1 ^= v2;
  v2 = (v2 << 16) | (v2 >>> 16);
  state[0] = v0;
  state[1] = v1;
  state[2] = v2;
  state[3] = v3;
}

/** Two words to one, well mixed: for scores of a key at a backend, both hashed with the key before. */
export function mixWords(a: number, b: number): number {
  let hash = Math.imul(a ^ (a >>> 16), 0x85ebca6b) ^ b;
  hash = Math.imul(hash ^ (hash >>> 16), 0x21f0aaad);
  hash = Math.imul(hash ^ (hash >>> 15), 0x735a2d97);
  return (hash ^ (hash >>> 15)) >>> 0;
}
