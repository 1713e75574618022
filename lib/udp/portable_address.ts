/**
 * Addresses as `Deno.listenDatagram` tells them, which is by text: to the words of a tuple. Pure.
 *
 * @module
 */
import { parseIp } from "#lib/base/mod.ts";
import { writeAddress } from "./tuple.ts";

const ZERO = 0x30;
const DOT = 0x2e;

/**
 * Writes an address's text as four words; false where it is none. IPv4, which comes with nearly
 * every datagram, costs no memory. A zone (`fe80::1%2`) is left out.
 */
export function writeAddressText(words: Uint32Array, at: number, text: string): boolean {
  const bits = readIpv4(text);
  if (bits >= 0) {
    words.fill(0, at, at + 2);
    words[at + 2] = 0xffff;
    words[at + 3] = bits;
    return true;
  }
  const zone = text.indexOf("%");
  const address = parseIp(zone < 0 ? text : text.slice(0, zone));
  if (address === undefined) return false;
  writeAddress(words, at, address);
  return true;
}

/** Whether two texts are the same address, however they are written. */
export function isSameAddress(one: string, other: string): boolean {
  if (one === other) return true;
  const words = new Uint32Array(8);
  if (!writeAddressText(words, 0, one) || !writeAddressText(words, 4, other)) return false;
  return words.subarray(0, 4).every((word, index) => word === words[4 + index]);
}

/** The bits of dotted decimals; -1 where the text is something else. */
function readIpv4(text: string): number {
  let bits = 0;
  let part = -1;
  let parts = 0;
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (code === DOT) {
      if (part < 0) return -1;
      bits = bits * 256 + part;
      part = -1;
      parts += 1;
    } else {
      const digit = code - ZERO;
      if (digit < 0 || digit > 9 || part === 0) return -1;
      part = Math.max(0, part) * 10 + digit;
      if (part > 255) return -1;
    }
  }
  return parts === 3 && part >= 0 ? bits * 256 + part : -1;
}
