/**
 * Packets and nflog attributes for the tests of this folder, spelled out byte by byte.
 *
 * @module
 */

/** An IPv4 packet without options. */
export function ipv4(
  o: { protocol: number; src?: number[]; dst?: number[]; rest?: number[]; fragment?: number },
): Uint8Array<ArrayBuffer> {
  const rest = o.rest ?? new Array(20).fill(0);
  const packet = new Uint8Array(20 + rest.length);
  packet[0] = 0x45;
  packet[6] = (o.fragment ?? 0) >>> 8;
  packet[7] = o.fragment ?? 0;
  packet[9] = o.protocol;
  packet.set(o.src ?? [10, 0, 0, 5], 12);
  packet.set(o.dst ?? [192, 0, 2, 1], 16);
  packet.set(rest, 20);
  return packet;
}

/** An IPv6 packet to 2001:db8::1. */
export function ipv6(next: number, rest: number[]): Uint8Array<ArrayBuffer> {
  const packet = new Uint8Array(40 + rest.length);
  packet[0] = 0x60;
  packet[6] = next;
  packet.set([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5], 8);
  packet.set([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], 24);
  packet.set(rest, 40);
  return packet;
}

/** The first bytes of a TCP or UDP header. */
export function ports(src: number, dst: number): number[] {
  return [src >> 8, src & 255, dst >> 8, dst & 255, 0, 0, 0, 0];
}

/** One netlink attribute, padded. */
export function attribute(type: number, value: Uint8Array | number[]): number[] {
  const length = 4 + value.length;
  const padding = new Array((4 - length % 4) % 4).fill(0);
  return [length & 255, length >> 8, type & 255, type >> 8, ...value, ...padding];
}

/** The bytes of a text and its NUL. */
export function cString(text: string): number[] {
  return [...new TextEncoder().encode(text), 0];
}

/** One nflog packet message with its headers; `sequence` as the kernel numbers it. */
export function nflogMessage(
  o: { prefix: string; payload: Uint8Array; sequence?: number },
): number[] {
  const { prefix, payload, sequence } = o;
  const numbered = sequence === undefined ? [] : attribute(12, [
    sequence >>> 24,
    sequence >>> 16 & 255,
    sequence >>> 8 & 255,
    sequence & 255,
  ]);
  const attributes = [
    ...attribute(1, [8, 0, 3, 0]),
    ...attribute(10, cString(prefix)),
    ...attribute(5, [0, 0, 0, 2]),
    ...numbered,
    ...attribute(9, payload),
  ];
  const length = 20 + attributes.length;
  const header = [length & 255, length >> 8, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
  return [...header, 2, 0, 0, 100, ...attributes];
}
