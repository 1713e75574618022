/**
 * Identifiers from bytes that the caller brings: a core has no source of randomness or time.
 *
 * {@link uuidV4} is RFC 9562 version 4. {@link sortableId} is a ULID: 48 bits of time, 80 bits
 * of randomness, 26 letters of Crockford's base 32, which sort as text in the order of time.
 *
 * @module
 */

/** Random bytes that {@link uuidV4} takes. */
export const UUID_RANDOM_BYTES = 16;
/** Random bytes that {@link sortableId} takes. */
export const SORTABLE_RANDOM_BYTES = 10;

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const SORTABLE = /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/;
const TIME_MS_MAX = 2 ** 48 - 1;

/** A version 4 UUID, lower case, from 16 random bytes (six of the bits are overwritten). */
export function uuidV4(random: Uint8Array): string {
  if (random.length !== UUID_RANDOM_BYTES) {
    throw new RangeError(
      `Cannot make a UUID: found ${random.length} bytes, want ${UUID_RANDOM_BYTES}`,
    );
  }
  const bytes = Uint8Array.from(random);
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    hex.slice(12, 16),
    hex.slice(16, 20),
    hex.slice(20),
  ].join("-");
}

/** Whether a text is a UUID as RFC 9562 writes one, of any version, in either case. */
export function isUuid(text: string): boolean {
  return UUID.test(text);
}

/**
 * A 26-letter id that sorts by time.
 *
 * @param timeMs Milliseconds since 1970, an integer below 2^48.
 * @param random Ten random bytes.
 */
export function sortableId(timeMs: number, random: Uint8Array): string {
  if (!Number.isInteger(timeMs) || timeMs < 0 || timeMs > TIME_MS_MAX) {
    throw new RangeError(`Cannot make a sortable id: ${timeMs} is not a time in milliseconds`);
  }
  if (random.length !== SORTABLE_RANDOM_BYTES) {
    throw new RangeError(
      `Cannot make a sortable id: found ${random.length} bytes, want ${SORTABLE_RANDOM_BYTES}`,
    );
  }
  let bits = BigInt(timeMs);
  for (const byte of random) bits = (bits << 8n) | BigInt(byte);
  let text = "";
  for (let shift = 125n; shift >= 0n; shift -= 5n) text += CROCKFORD[Number((bits >> shift) & 31n)];
  return text;
}

/** Whether a text has the shape of {@link sortableId}. */
export function isSortableId(text: string): boolean {
  return SORTABLE.test(text);
}

/** The time in a sortable id, in milliseconds since 1970; `undefined` where it is not one. */
export function sortableIdTimeMs(text: string): number | undefined {
  if (!isSortableId(text)) return undefined;
  let timeMs = 0;
  for (const letter of text.slice(0, 10)) timeMs = timeMs * 32 + CROCKFORD.indexOf(letter);
  return timeMs;
}
