/**
 * The program that tells of accepted flows: it runs in the kernel on every packet that a socket of
 * the cell sends, after the ruleset has let the packet go.
 *
 *   ruleset: new connection, rule 3 says accept ─▶ `meta mark set 3`
 *   program: no mark ─▶ nothing to tell (the flow was told, or needs no rule)
 *            mark 3  ─▶ told less than {@link TELL_AGAIN_NS} ago ─▶ counted as known
 *                       else ─▶ a record in the ring, or, when that is full, counted as lost
 *
 * So the kernel's own decision says which rule it was and what a new connection is; nothing is
 * decided twice. Whatever happens, a marked packet is counted as told, known or lost, and the
 * program lets it go.
 *
 * A flow that finds no place in the map of told flows is told again with each packet, and says so
 * ({@link BPF_WHY}): a full map tells more, and never hides.
 *
 * The key is the packed flow key of `flow_key.ts`, written as `packet.ts` writes it: the same
 * extension headers walked, the same flags.
 *
 * Pure: the assembler is passed in.
 *
 * @module
 */
import type { BpfAssembler, BpfRegister, BpfSize } from "#ffi/bpf/mod.ts";
import {
  FLOW_KEY_BYTES,
  IP_PROTOCOL,
  KEY_DST_ADDR,
  KEY_HAS_ECHO_ID,
  KEY_HAS_PORTS,
  KEY_IS_CUT,
  KEY_IS_FRAGMENT,
  KEY_SRC_ADDR,
  KEY_SRC_PORT,
} from "./flow_key.ts";
import { EXTENSION_HEADER, EXTENSION_HEADERS_MAX } from "./packet.ts";

/** Bytes of the value of a told flow: when it was told last. */
export const TOLD_VALUE_BYTES = 8;
/**
 * A flow that still sends marked packets is told again after this time, in nanoseconds: as long as
 * the ruleset's own suppression.
 */
export const TELL_AGAIN_NS = 60_000_000_000n;

/** Bytes of one record in the ring. */
export const BPF_RECORD_BYTES = 64;
/** Where a record has: the kernel's monotonic clock (u64), mark (u32), why (u8), the flow key. */
export const BPF_RECORD = { time: 0, mark: 8, why: 12, key: 16 } as const;
/** Why a record was written: first sight, time to tell again, no place in the map, unreadable. */
export const BPF_WHY = { first: 0, again: 1, mapFull: 2, unreadable: 3 } as const;

/** Bytes of one mark's counters; mark 0 has those of marks that are out of range. */
export const BPF_COUNTERS_BYTES = 32;
/** Offsets of a mark's counters (u64 each); `mapFull` are among the told. */
export const BPF_COUNTERS = { told: 0, known: 8, lost: 16, mapFull: 24 } as const;

/** What the program works with. */
export interface FlowProgramOptions {
  /** Descriptor of the map of told flows: flow key to {@link TOLD_VALUE_BYTES}. */
  readonly toldMap: number;
  /** Descriptor of the ring. */
  readonly ringMap: number;
  /** Descriptor of the array whose only value holds the counters of mark 0 to `marksMax`. */
  readonly countersMap: number;
  /** The largest mark that the ruleset sets. */
  readonly marksMax: number;
}

/** `struct __sk_buff`. */
const SKB_LENGTH = 0;
const SKB_MARK = 8;
const LET_GO = 1;
const BPF_NOEXIST = 1;
const EEXIST = 17;

/** Places on the stack: the flow key, headers as they are loaded, the value of a new flow. */
const KEY = -FLOW_KEY_BYTES;
const HEADER = KEY - 40;
const TOLD = HEADER - TOLD_VALUE_BYTES;

/** Kept in registers over calls. */
const CONTEXT: BpfRegister = "r6";
const MARK: BpfRegister = "r7";
/** While parsing, the protocol; then the value of the told flow. */
const PROTOCOL: BpfRegister = "r8";
const TOLD_VALUE: BpfRegister = "r8";
/** While parsing, where the next header starts; then the record. */
const CURSOR: BpfRegister = "r9";
const RECORD: BpfRegister = "r9";

/** Writes the program. */
export function writeFlowProgram(asm: BpfAssembler, options: FlowProgramOptions): BpfAssembler {
  return new FlowProgramWriter(asm, options).write();
}

class FlowProgramWriter {
  readonly #asm: BpfAssembler;
  readonly #options: FlowProgramOptions;

  constructor(asm: BpfAssembler, options: FlowProgramOptions) {
    this.#asm = asm;
    this.#options = options;
  }

  write(): BpfAssembler {
    this.#writeStart();
    this.#writeIpv4();
    this.#writeIpv6();
    this.#writeTransport();
    this.#writeDecision();
    return this.#asm;
  }

  #writeStart(): void {
    const asm = this.#asm;
    asm.mov(CONTEXT, "r1").load(4, MARK, CONTEXT, SKB_MARK);
    asm.jumpIf("eq", MARK, 0, "let go");
    // The bound is also what lets the verifier accept the mark as an index.
    asm.jumpIf("le", MARK, this.#options.marksMax, "marked").mov(MARK, 0).label("marked");
    for (let at = KEY; at < 0; at += 8) asm.store(8, "fp", at, 0);
    this.#loadHeader(0, 1, "unreadable");
    asm.load(1, "r2", "fp", HEADER).alu("rsh", "r2", 4);
    asm.jumpIf("eq", "r2", 4, "ipv4").jumpIf("eq", "r2", 6, "ipv6").jump("unreadable");
  }

  #writeIpv4(): void {
    const asm = this.#asm.label("ipv4");
    this.#loadHeader(0, 20, "unreadable");
    asm.load(1, CURSOR, "fp", HEADER).alu("and", CURSOR, 0x0f).alu("lsh", CURSOR, 2);
    asm.jumpIf("lt", CURSOR, 20, "unreadable");
    asm.load(4, "r2", CONTEXT, SKB_LENGTH).jumpIf("gt", CURSOR, "r2", "unreadable");
    asm.store(1, "fp", KEY, 4);
    asm.load(1, PROTOCOL, "fp", HEADER + 9).store(1, "fp", KEY + 1, PROTOCOL);
    this.#copy(4, HEADER + 12, KEY + KEY_SRC_ADDR);
    this.#copy(4, HEADER + 16, KEY + KEY_DST_ADDR);
    asm.load(2, "r2", "fp", HEADER + 6).toBigEndian(16, "r2").alu("and", "r2", 0x1fff);
    asm.jumpIf("eq", "r2", 0, "transport").jump("later fragment");
  }

  #writeIpv6(): void {
    const asm = this.#asm.label("ipv6");
    this.#loadHeader(0, 40, "unreadable");
    asm.store(1, "fp", KEY, 6).load(1, PROTOCOL, "fp", HEADER + 6).mov(CURSOR, 40);
    for (const half of [0, 8]) {
      this.#copy(8, HEADER + 8 + half, KEY + KEY_SRC_ADDR + half);
      this.#copy(8, HEADER + 24 + half, KEY + KEY_DST_ADDR + half);
    }
    for (let index = 0; index < EXTENSION_HEADERS_MAX; index++) this.#writeExtension(index);
    for (const kind of Object.values(EXTENSION_HEADER)) asm.jumpIf("eq", PROTOCOL, kind, "cut");
    asm.label("upper layer").store(1, "fp", KEY + 1, PROTOCOL).jump("transport");
    asm.label("later fragment").store(1, "fp", KEY + 1, PROTOCOL);
    asm.store(1, "fp", KEY + 2, KEY_IS_FRAGMENT).jump("decide");
    asm.label("cut").store(1, "fp", KEY + 2, KEY_IS_CUT).jump("decide");
  }

  /** One step over an extension header; what is none goes on to the transport. */
  #writeExtension(index: number): void {
    const asm = this.#asm;
    const name = (part: string) => `extension ${index} ${part}`;
    for (const kind of Object.values(EXTENSION_HEADER)) {
      asm.jumpIf("eq", PROTOCOL, kind, name("header"));
    }
    asm.jump("upper layer").label(name("header"));
    this.#loadHeader(CURSOR, 8, "cut");
    asm.load(1, "r2", "fp", HEADER + 1);
    asm.jumpIf("eq", PROTOCOL, EXTENSION_HEADER.fragment, name("fragment"));
    asm.jumpIf("eq", PROTOCOL, EXTENSION_HEADER.authentication, name("authentication"));
    asm.alu("add", "r2", 1).alu("lsh", "r2", 3).jump(name("end"));
    asm.label(name("authentication")).alu("add", "r2", 2).alu("lsh", "r2", 2).jump(name("end"));
    asm.label(name("fragment")).mov("r2", 8).load(1, PROTOCOL, "fp", HEADER);
    asm.load(2, "r3", "fp", HEADER + 2).toBigEndian(16, "r3").alu("and", "r3", 0xfff8);
    asm.jumpIf("ne", "r3", 0, "later fragment");
    asm.label(name("end")).load(1, PROTOCOL, "fp", HEADER).alu("add", CURSOR, "r2");
  }

  #writeTransport(): void {
    const asm = this.#asm.label("transport");
    asm.jumpIf("eq", PROTOCOL, IP_PROTOCOL.tcp, "ports");
    asm.jumpIf("eq", PROTOCOL, IP_PROTOCOL.udp, "ports");
    asm.jumpIf("eq", PROTOCOL, IP_PROTOCOL.icmp, "icmp");
    asm.jumpIf("eq", PROTOCOL, IP_PROTOCOL.icmp6, "icmp6").jump("decide");
    asm.label("ports");
    this.#loadHeader(CURSOR, 4, "cut");
    this.#copy(4, HEADER, KEY + KEY_SRC_PORT);
    asm.store(1, "fp", KEY + 2, KEY_HAS_PORTS).jump("decide");
    for (const [label, request, reply] of [["icmp", 8, 0], ["icmp6", 128, 129]] as const) {
      asm.label(label);
      this.#loadHeader(CURSOR, 6, "decide");
      asm.load(1, "r2", "fp", HEADER);
      asm.jumpIf("eq", "r2", request, "echo").jumpIf("eq", "r2", reply, "echo").jump("decide");
    }
    asm.label("echo");
    this.#copy(2, HEADER + 4, KEY + KEY_SRC_PORT);
    asm.store(1, "fp", KEY + 2, KEY_HAS_ECHO_ID);
  }

  #writeDecision(): void {
    const asm = this.#asm.label("decide");
    const { toldMap } = this.#options;
    asm.map("r1", toldMap);
    this.#stackAddress("r2", KEY);
    asm.call("map_lookup_elem").jumpIf("ne", "r0", 0, "seen before");

    // Record, then flow, then hand over: no flow counts as told before its record has a place.
    this.#reserveRecord(BPF_WHY.first);
    asm.load(8, "r2", RECORD, BPF_RECORD.time).store(8, "fp", TOLD, "r2").map("r1", toldMap);
    this.#stackAddress("r2", KEY);
    this.#stackAddress("r3", TOLD);
    asm.mov("r4", BPF_NOEXIST).call("map_update_elem").jumpIf("eq", "r0", 0, "tell");
    asm.jumpIf("eq", "r0", -EEXIST, "told meanwhile");
    asm.store(1, RECORD, BPF_RECORD.why, BPF_WHY.mapFull);
    this.#count("mapFull");
    asm.label("tell").mov("r1", RECORD).mov("r2", 0).call("ringbuf_submit");
    this.#count("told");
    asm.label("let go").mov("r0", LET_GO).exit();

    asm.label("told meanwhile").mov("r1", RECORD).mov("r2", 0).call("ringbuf_discard");
    asm.label("known");
    this.#count("known");
    asm.jump("let go");

    asm.label("seen before").mov(TOLD_VALUE, "r0").call("ktime_get_ns");
    asm.load(8, "r2", TOLD_VALUE, 0).alu("sub", "r0", "r2").mov64("r2", TELL_AGAIN_NS);
    // Told by another processor after our clock was read: the difference is below zero.
    asm.jumpIf("sgt", "r2", "r0", "known");
    this.#reserveRecord(BPF_WHY.again);
    asm.load(8, "r2", RECORD, BPF_RECORD.time).store(8, TOLD_VALUE, 0, "r2").jump("tell");

    asm.label("unreadable");
    this.#reserveRecord(BPF_WHY.unreadable);
    asm.jump("tell");

    asm.label("lost");
    this.#count("lost");
    asm.jump("let go");
  }

  /** A place in the ring with everything written; goes to `lost` when there is none. */
  #reserveRecord(why: number): void {
    const asm = this.#asm;
    asm.map("r1", this.#options.ringMap).mov("r2", BPF_RECORD_BYTES).mov("r3", 0);
    asm.call("ringbuf_reserve").jumpIf("eq", "r0", 0, "lost").mov(RECORD, "r0");
    asm.call("ktime_get_ns").store(8, RECORD, BPF_RECORD.time, "r0");
    asm.store(4, RECORD, BPF_RECORD.mark, MARK).store(4, RECORD, BPF_RECORD.why, why);
    for (let at = 0; at < FLOW_KEY_BYTES; at += 8) {
      asm.load(8, "r2", "fp", KEY + at).store(8, RECORD, BPF_RECORD.key + at, "r2");
    }
    asm.store(8, RECORD, BPF_RECORD.key + FLOW_KEY_BYTES, 0);
  }

  #count(counter: keyof typeof BPF_COUNTERS): void {
    const asm = this.#asm.mov("r2", MARK).alu("lsh", "r2", Math.log2(BPF_COUNTERS_BYTES));
    asm.mapValue("r1", this.#options.countersMap).alu("add", "r1", "r2").mov("r2", 1);
    asm.atomicAdd(8, "r1", BPF_COUNTERS[counter], "r2");
  }

  /** Loads bytes of the packet into {@link HEADER}; goes to `otherwise` when they are not there. */
  #loadHeader(offset: BpfRegister | number, length: number, otherwise: string): void {
    const asm = this.#asm.mov("r1", CONTEXT).mov("r2", offset);
    this.#stackAddress("r3", HEADER);
    asm.mov("r4", length).call("skb_load_bytes").jumpIf("ne", "r0", 0, otherwise);
  }

  #copy(size: BpfSize, from: number, to: number): void {
    this.#asm.load(size, "r2", "fp", from).store(size, "fp", to, "r2");
  }

  #stackAddress(to: BpfRegister, offset: number): void {
    this.#asm.mov(to, "fp").alu("add", to, offset);
  }
}
