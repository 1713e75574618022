/**
 * Netlink attributes: type-length-value records, nested, padded to four bytes.
 *
 * {@link AttributeWriter} fills one growing buffer; a value that cannot be written makes it fail
 * once and for all (`error`), and the caller asks at the end. {@link AttributeReader} walks a
 * window of received bytes; it never throws on any bytes: a bad length ends the walk and
 * stays in `error`, also of the readers it is nested in.
 *
 * Integers are in host order (little endian on our machines) unless the method says `be`.
 *
 * Source: `linux/netlink.h`, RFC 3549 §2.3.
 *
 * @module
 */

import { encodeUtf8 } from "#lib/base/mod.ts";

/** Marks an attribute that holds attributes (`NLA_F_NESTED`). */
export const NLA_F_NESTED = 0x8000;
/** The bits of the type field that are the type (`NLA_TYPE_MASK`). */
export const NLA_TYPE_MASK = 0x3fff;
/** Bytes of an attribute's header: length and type, two bytes each. */
export const NLA_HEADER_BYTES = 4;

/** The largest attribute: its length field has 16 bits and counts the header. */
const ATTRIBUTE_BYTES_MAX = 0xffff;
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** Rounds up to the alignment of messages and attributes (`NLMSG_ALIGN`, `NLA_ALIGN`). */
export function align4(sizeBytes: number): number {
  return (sizeBytes + 3) & ~3;
}

/** Encodes a message body: a fixed header, then attributes. */
export class AttributeWriter {
  #bytes: Uint8Array<ArrayBuffer>;
  #view: DataView<ArrayBuffer>;
  #length = 0;
  #error: string | undefined;

  /** @param capacityBytes What to reserve; grows by doubling. */
  constructor(capacityBytes = 512) {
    this.#bytes = new Uint8Array(Math.max(64, capacityBytes));
    this.#view = new DataView(this.#bytes.buffer);
  }

  /** The first failure, or `undefined`. */
  get error(): string | undefined {
    return this.#error;
  }

  /** Bytes written so far. */
  get length(): number {
    return this.#length;
  }

  /** A fixed header (`ifinfomsg`, `nfgenmsg`, …): raw bytes, padded. */
  header(bytes: Uint8Array): this {
    const start = this.#reserve(align4(bytes.length));
    this.#bytes.set(bytes, start);
    return this;
  }

  /** An attribute of raw bytes. */
  bytes(type: number, value: Uint8Array): this {
    const start = this.#begin(type, value.length);
    if (start >= 0) this.#bytes.set(value, start);
    return this;
  }

  /** An attribute without a value (`NLA_FLAG`). */
  flag(type: number): this {
    this.#begin(type, 0);
    return this;
  }

  /** Text with its NUL (`NLA_NUL_STRING`). Fails on an inner NUL. */
  string(type: number, text: string): this {
    if (text.includes("\0")) return this.fail(`text ${JSON.stringify(text)} holds a NUL`);
    const before = this.#length;
    const start = this.#begin(type, text.length + 1);
    for (let index = 0; start >= 0 && index < text.length; index++) {
      const unit = text.charCodeAt(index);
      if (unit > 0x7f) {
        this.#length = before;
        return this.bytes(type, encodeUtf8(`${text}\0`));
      }
      this.#bytes[start + index] = unit;
    }
    return this;
  }

  /** Eight bits, unsigned. */
  u8(type: number, value: number): this {
    const start = this.#integer(type, 1, value, 0xff);
    if (start >= 0) this.#view.setUint8(start, value);
    return this;
  }

  /** Sixteen bits, host order. */
  u16(type: number, value: number): this {
    const start = this.#integer(type, 2, value, 0xffff);
    if (start >= 0) this.#view.setUint16(start, value, true);
    return this;
  }

  /** Thirty-two bits, host order. */
  u32(type: number, value: number): this {
    const start = this.#integer(type, 4, value, 0xffff_ffff);
    if (start >= 0) this.#view.setUint32(start, value, true);
    return this;
  }

  /** Sixteen bits, network order. */
  be16(type: number, value: number): this {
    const start = this.#integer(type, 2, value, 0xffff);
    if (start >= 0) this.#view.setUint16(start, value, false);
    return this;
  }

  /** Thirty-two bits, network order; negative values as two's complement. */
  be32(type: number, value: number): this {
    const unsigned = value < 0 && value >= -0x8000_0000 ? value + 0x1_0000_0000 : value;
    const start = this.#integer(type, 4, unsigned, 0xffff_ffff);
    if (start >= 0) this.#view.setUint32(start, unsigned, false);
    return this;
  }

  /** Sixty-four bits, network order. */
  be64(type: number, value: bigint): this {
    if (value < 0n || value > 0xffff_ffff_ffff_ffffn) {
      return this.fail(`attribute ${type} cannot hold ${value}`);
    }
    const start = this.#begin(type, 8);
    if (start >= 0) this.#view.setBigUint64(start, value, false);
    return this;
  }

  /** An attribute that holds what `write` writes. */
  nest(type: number, write: (writer: this) => void): this {
    const start = this.#reserve(NLA_HEADER_BYTES);
    write(this);
    const sizeBytes = this.#length - start;
    if (sizeBytes > ATTRIBUTE_BYTES_MAX) {
      return this.fail(`attribute ${type} of ${sizeBytes} bytes is above ${ATTRIBUTE_BYTES_MAX}`);
    }
    this.#view.setUint16(start, sizeBytes, true);
    this.#view.setUint16(start + 2, type | NLA_F_NESTED, true);
    return this;
  }

  /** Records a failure; only the first stays. */
  fail(reason: string): this {
    this.#error ??= reason;
    return this;
  }

  /** A copy of what was written, and an empty writer again. Throws `RangeError` on a failure. */
  finish(what: string): Uint8Array<ArrayBuffer> {
    const error = this.#error;
    const body = this.#bytes.slice(0, this.#length);
    this.#length = 0;
    this.#error = undefined;
    if (error !== undefined) throw new RangeError(`Cannot encode ${what}: ${error}`);
    return body;
  }

  #integer(type: number, sizeBytes: number, value: number, max: number): number {
    if (!Number.isInteger(value) || value < 0 || value > max) {
      this.fail(`attribute ${type} cannot hold ${value}`);
      return -1;
    }
    return this.#begin(type, sizeBytes);
  }

  /** Writes the header and zeroed room for the value; returns where the value goes, or -1. */
  #begin(type: number, valueBytes: number): number {
    const sizeBytes = NLA_HEADER_BYTES + valueBytes;
    if (sizeBytes > ATTRIBUTE_BYTES_MAX) {
      this.fail(`attribute ${type} of ${sizeBytes} bytes is above ${ATTRIBUTE_BYTES_MAX}`);
      return -1;
    }
    const start = this.#reserve(align4(sizeBytes));
    this.#view.setUint16(start, sizeBytes, true);
    this.#view.setUint16(start + 2, type, true);
    return start + NLA_HEADER_BYTES;
  }

  #reserve(sizeBytes: number): number {
    const start = this.#length;
    const end = start + sizeBytes;
    if (end > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(end, this.#bytes.length * 2));
      grown.set(this.#bytes.subarray(0, start));
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    this.#bytes.fill(0, start, end); // the buffer is used again, and padding must be zero
    this.#length = end;
    return start;
  }
}

/** Walks the attributes in `bytes[start, end)`. */
export class AttributeReader {
  /** All bytes, of which this reader sees a window. */
  readonly source: Uint8Array;
  /** Type of the current attribute, without its flags. */
  type = 0;
  /** Where the current value starts in {@link AttributeReader.source}. */
  start = 0;
  /** Length of the current value in bytes, without padding. */
  length = 0;
  readonly #view: DataView;
  readonly #parent: AttributeReader | undefined;
  readonly #end: number;
  #next: number;
  #error: string | undefined;

  /** A window past the bytes is cut to them. */
  constructor(source: Uint8Array, start = 0, end = source.length, parent?: AttributeReader) {
    this.source = source;
    this.#view = parent === undefined
      ? new DataView(source.buffer, source.byteOffset, source.byteLength)
      : parent.#view;
    this.#end = Math.min(end, source.length);
    this.#next = start;
    this.#parent = parent;
  }

  /** The first malformation that this reader, or one nested in it, met. */
  get error(): string | undefined {
    return this.#error;
  }

  /** Goes to the next attribute; `false` at the end or on a bad length (see `error`). */
  next(): boolean {
    const at = this.#next;
    // Fewer bytes than a header are the padding of the last attribute, or an unaligned tail.
    if (at + NLA_HEADER_BYTES > this.#end) return false;
    const sizeBytes = this.#view.getUint16(at, true);
    if (sizeBytes < NLA_HEADER_BYTES || at + sizeBytes > this.#end) {
      this.#next = this.#end;
      this.#fail(`attribute length ${sizeBytes} at offset ${at}`);
      return false;
    }
    this.type = this.#view.getUint16(at + 2, true) & NLA_TYPE_MASK;
    this.start = at + NLA_HEADER_BYTES;
    this.length = sizeBytes - NLA_HEADER_BYTES;
    this.#next = at + align4(sizeBytes);
    return true;
  }

  /** The current value; a view, not a copy. */
  bytes(): Uint8Array {
    return this.source.subarray(this.start, this.start + this.length);
  }

  /** The current value up to its first NUL. */
  string(): string {
    const value = this.bytes();
    const nul = value.indexOf(0);
    return decoder.decode(nul < 0 ? value : value.subarray(0, nul));
  }

  /** Eight bits; 0 and a failure when the value is too short (as for all integers here). */
  u8(): number {
    return this.#has(1) ? this.#view.getUint8(this.start) : 0;
  }

  /** Sixteen bits, host order. */
  u16(): number {
    return this.#has(2) ? this.#view.getUint16(this.start, true) : 0;
  }

  /** Thirty-two bits, host order. */
  u32(): number {
    return this.#has(4) ? this.#view.getUint32(this.start, true) : 0;
  }

  /** Sixteen bits, network order. */
  be16(): number {
    return this.#has(2) ? this.#view.getUint16(this.start, false) : 0;
  }

  /** Thirty-two bits, network order. */
  be32(): number {
    return this.#has(4) ? this.#view.getUint32(this.start, false) : 0;
  }

  /** Sixty-four bits, network order. */
  be64(): bigint {
    return this.#has(8) ? this.#view.getBigUint64(this.start, false) : 0n;
  }

  /** The attributes within the current value. */
  nested(): AttributeReader {
    return new AttributeReader(this.source, this.start, this.start + this.length, this);
  }

  #has(sizeBytes: number): boolean {
    if (this.length >= sizeBytes) return true;
    this.#fail(`attribute ${this.type} of ${this.length} bytes, wanted ${sizeBytes}`);
    return false;
  }

  #fail(reason: string): void {
    this.#error ??= reason;
    if (this.#parent !== undefined) this.#parent.#fail(reason);
  }
}
