/**
 * Which own address each flow sends from, where each flow has one: the addresses of a prefix, given
 * out so that one is used again as late as can be. Pure.
 *
 * A late reply to a flow that ended then finds nobody, and not the next flow.
 *
 * @module
 */
import { type Cidr, type IpAddress, ipWidth } from "#lib/base/mod.ts";
import { writeAddress } from "./tuple.ts";

const NONE = -1;
/** Addresses of a prefix that are used at most. */
const HOSTS_MAX = 1 << 22;
/** More addresses than flows, so that one rests before it is used again. */
const SPARE = 2;

/** Where backends are sent to from, instead of one socket for each flow. */
export interface SourceAddresses {
  /** A prefix that is local to this host, such as `127.77.0.0/16`; for IPv4 backends. */
  readonly ipv4?: string;
  /** The same for IPv6 backends, such as `fd00:77::/64`. */
  readonly ipv6?: string;
  /**
   * The prefixes need not be local (`IP_TRANSPARENT`, needs `CAP_NET_ADMIN`): that replies are
   * routed here is the operator's business.
   *
   * @default {false}
   */
  readonly transparent?: boolean;
}

/** The first and the last address of a prefix that a flow may have, past its network address. */
export function hostRange(prefix: Cidr): { readonly first: bigint; readonly count: number } {
  const hostBits = ipWidth(prefix.family) - prefix.prefixLength;
  const all = 1n << BigInt(hostBits);
  const isWhole = hostBits < 2;
  // IPv4 keeps the first for the network and the last for all its hosts; IPv6 the first for routers.
  const kept = isWhole ? 0n : prefix.family === 4 ? 2n : 1n;
  const free = all - kept;
  const count = free > BigInt(HOSTS_MAX) ? HOSTS_MAX : Number(free);
  return { first: prefix.bits + (isWhole ? 0n : 1n), count };
}

/** An address of the range, by its place in it. */
export function hostAt(prefix: Cidr, at: number): IpAddress {
  return { family: prefix.family, bits: hostRange(prefix).first + BigInt(at) };
}

/** Addresses and the flows' slots that have them. */
export class SourcePool {
  /** Addresses that may be given out. */
  readonly capacity: number;
  readonly #slots: Int32Array;
  /** Addresses that are free again, oldest first, and some that were taken by name meanwhile. */
  readonly #free: Int32Array;
  /** Whether an address is among those: at most once. */
  readonly #isQueued: Uint8Array;
  readonly #first = new Uint32Array(4);
  #freeHead = 0;
  #freeCount = 0;
  /** Addresses never given out begin here. */
  #fresh = 0;
  #hosts = new Int32Array(1024).fill(NONE);
  #used = 0;

  /**
   * Starts with all addresses free.
   *
   * @param flowsMax Flows at one time.
   */
  constructor(prefix: Cidr, flowsMax: number) {
    this.capacity = Math.min(hostRange(prefix).count, SPARE * flowsMax);
    this.#slots = new Int32Array(this.capacity).fill(NONE);
    this.#free = new Int32Array(this.capacity);
    this.#isQueued = new Uint8Array(this.capacity);
    writeAddress(this.#first, 0, hostAt(prefix, 0));
  }

  /** Flows that have an address. */
  get used(): number {
    return this.#used;
  }

  /** Gives a flow an address, or lets it keep the one it has; false where none is free. */
  take(slot: number): boolean {
    if (slot >= this.#hosts.length) this.#grow(slot);
    if (this.#hosts[slot] !== NONE) return true;
    const host = this.#fresh < this.capacity ? this.#fresh++ : this.#shift();
    if (host === NONE) return false;
    this.#assign(slot, host);
    return true;
  }

  /**
   * Gives a flow the address at a place in the range, which it had with a predecessor; false where
   * it is another flow's or none, or the flow has another one.
   */
  takeHost(slot: number, host: number): boolean {
    if (!Number.isInteger(host) || host < 0 || host >= this.capacity) return false;
    if (slot >= this.#hosts.length) this.#grow(slot);
    if (this.#hosts[slot] !== NONE) return this.#hosts[slot] === host;
    if (this.#slots[host] !== NONE) return false;
    // The predecessor used those before it too: they rest like others that were given back.
    while (this.#fresh <= host) this.#push(this.#fresh++);
    this.#assign(slot, host);
    return true;
  }

  /** The place of a flow's address in the range; -1 for none. */
  hostOf(slot: number): number {
    return slot < this.#hosts.length ? this.#hosts[slot] : NONE;
  }

  /** Takes a flow's address back. */
  give(slot: number): void {
    const host = this.hostOf(slot);
    if (host === NONE) return;
    this.#hosts[slot] = NONE;
    this.#slots[host] = NONE;
    this.#push(host);
    this.#used -= 1;
  }

  /** Writes a flow's address as four words. */
  write(slot: number, words: Uint32Array, at: number): void {
    const first = this.#first;
    const host = this.#hosts[slot];
    const last = first[3] + host;
    words[at] = first[0];
    words[at + 1] = first[1];
    // A prefix has fewer than 2^32 addresses here: one carry at most.
    words[at + 2] = first[2] + (last > 0xffff_ffff ? 1 : 0);
    words[at + 3] = last;
  }

  /** The slot of the flow that has an address, given as four words; -1 for none. */
  slotOf(words: Uint32Array, at: number): number {
    const first = this.#first;
    const host = (words[at + 3] - first[3]) >>> 0;
    const carry = words[at + 3] < first[3] ? 1 : 0;
    const isOurs = words[at] === first[0] && words[at + 1] === first[1] &&
      words[at + 2] === first[2] + carry;
    return isOurs && host < this.capacity ? this.#slots[host] : NONE;
  }

  #assign(slot: number, host: number): void {
    this.#hosts[slot] = host;
    this.#slots[host] = slot;
    this.#used += 1;
  }

  #push(host: number): void {
    if (this.#isQueued[host] !== 0) return;
    this.#isQueued[host] = 1;
    this.#free[(this.#freeHead + this.#freeCount) % this.capacity] = host;
    this.#freeCount += 1;
  }

  /** The address that is free for longest; -1 where none is. */
  #shift(): number {
    while (this.#freeCount > 0) {
      const host = this.#free[this.#freeHead];
      this.#freeHead = (this.#freeHead + 1) % this.capacity;
      this.#freeCount -= 1;
      this.#isQueued[host] = 0;
      if (this.#slots[host] === NONE) return host;
    }
    return NONE;
  }

  #grow(slot: number): void {
    const wider = new Int32Array(Math.max(slot + 1, 2 * this.#hosts.length)).fill(NONE);
    wider.set(this.#hosts);
    this.#hosts = wider;
  }
}
