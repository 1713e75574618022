/**
 * Reads the captured bytes of `tests/golden/`.
 *
 * @module
 */
import type { NetlinkMessage } from "#ffi/netlink/message.ts";

/** A captured message: its type, flags, and the bytes behind its header. */
export interface GoldenMessage {
  readonly type: number;
  readonly flags: number;
  readonly hex: string;
}

/** Bytes from hexadecimal text. */
export function bytesOf(hex: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array((hex.match(/[0-9a-f]{2}/g) ?? []).map((pair) => parseInt(pair, 16)));
}

/** The text of a file below `tests/golden/`. */
export function readGolden(path: string): string {
  return Deno.readTextFileSync(new URL(`../../golden/${path}`, import.meta.url));
}

/** A captured message as the connection would hand it out. */
export function messageOf({ type, flags, hex }: GoldenMessage): NetlinkMessage {
  return { type, flags, seq: 1, portId: 0, body: bytesOf(hex) };
}
