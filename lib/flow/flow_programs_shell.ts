/**
 * The flow program and its maps in the kernel, attached to one cell's cgroup.
 *
 *   sockets of the cell ─▶ program (`bpf_program.ts`) ─▶ ring ─▶ {@link FlowPrograms.drain}
 *                                     ├─ map of told flows, emptied of old ones by us
 *                                     └─ counters: told, known, lost by mark
 *
 * Opening it is also the way to find out whether this host allows it. All of it goes with its
 * descriptors: when the process dies, the kernel detaches the program.
 *
 * @module
 */
import {
  attachToCgroup,
  BpfAssembler,
  BpfMap,
  type BpfMapCursor,
  type Fd,
  loadCgroupSkbProgram,
  MappedRing,
  type TakeRingRecord,
} from "#ffi/mod.ts";
import {
  BPF_COUNTERS,
  BPF_COUNTERS_BYTES,
  TELL_AGAIN_NS,
  TOLD_VALUE_BYTES,
  writeFlowProgram,
} from "./bpf_program.ts";
import { FLOW_KEY_BYTES } from "./flow_key.ts";

/** Room for records while nobody reads: some 29 000 of them. */
const RING_BYTES = 2 * 1024 * 1024;
/** Flows that are remembered as told; as many as the ruleset's own sets hold. */
const TOLD_FLOWS_MAX = 65_536;
/** Elements looked at by one call of {@link FlowPrograms.forgetSome}. */
const FORGET_BATCH = 512;

/** What the program counted for one mark. */
export interface MarkCounters {
  /** Packets told by a record. */
  readonly told: number;
  /** Packets of flows that had been told. */
  readonly known: number;
  /** Packets that found the ring full. */
  readonly lost: number;
  /** Of the told, those whose flow found no place in the map. */
  readonly mapFull: number;
}

/** How the program is made; sizes are for tests. */
export interface FlowProgramsOptions {
  /** Descriptor of the cgroup's directory in v2; absent: nothing is attached. */
  readonly cgroupFd?: number;
  /** The largest mark that the ruleset sets, from 1. */
  readonly marksMax: number;
  /** A power of two, at least a page. */
  readonly ringBytes?: number;
  /** Entries of the map of told flows. */
  readonly toldFlowsMax?: number;
}

/** See the module. */
export class FlowPrograms implements Disposable {
  /** The loaded program, for tests that run it by hand. */
  readonly program: Fd;
  readonly #stack: DisposableStack;
  readonly #told: BpfMap;
  readonly #ringMap: BpfMap;
  readonly #counters: BpfMap;
  readonly #ring: MappedRing;
  readonly #links: Fd[] = [];
  #forgetFrom: BpfMapCursor | undefined;

  /** Makes the maps, loads and attaches. Throws `BpfError`, `SyscallError`; nothing is left. */
  constructor(options: FlowProgramsOptions) {
    const { marksMax, ringBytes = RING_BYTES, toldFlowsMax = TOLD_FLOWS_MAX } = options;
    using opened = new DisposableStack();
    this.#told = opened.use(
      new BpfMap({
        name: "celld_told",
        kind: "hash",
        keyBytes: FLOW_KEY_BYTES,
        valueBytes: TOLD_VALUE_BYTES,
        entriesMax: toldFlowsMax,
      }),
    );
    this.#ringMap = opened.use(
      new BpfMap({
        name: "celld_ring",
        kind: "ring",
        keyBytes: 0,
        valueBytes: 0,
        entriesMax: ringBytes,
      }),
    );
    this.#counters = opened.use(
      new BpfMap({
        name: "celld_counters",
        kind: "array",
        keyBytes: 4,
        valueBytes: BPF_COUNTERS_BYTES * (marksMax + 1),
        entriesMax: 1,
      }),
    );
    this.#ring = opened.use(new MappedRing(this.#ringMap.fd, ringBytes));
    const program = writeFlowProgram(new BpfAssembler(), {
      toldMap: this.#told.fd.number,
      ringMap: this.#ringMap.fd.number,
      countersMap: this.#counters.fd.number,
      marksMax,
    });
    this.program = opened.use(loadCgroupSkbProgram("celld_flow", "egress", program.build()));
    if (options.cgroupFd !== undefined) {
      this.#links.push(opened.use(attachToCgroup(this.program, options.cgroupFd, "egress")));
    }
    this.#stack = opened.move();
  }

  /** For the epoll: readable when a record was written. */
  get fd(): Fd {
    return this.#ringMap.fd;
  }

  /** Hands over records, at most so many; returns how many it were. */
  drain(take: TakeRingRecord, recordsMax: number): number {
    return this.#ring.reader.drain(take, recordsMax);
  }

  /** What was counted so far, by mark; the first is of marks that are out of range. */
  counters(): MarkCounters[] {
    const bytes = this.#counters.lookup(new Uint8Array(4));
    if (bytes === undefined) return [];
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const read = (at: number) => Number(view.getBigUint64(at, true));
    return Array.from({ length: bytes.length / BPF_COUNTERS_BYTES }, (_, mark) => {
      const at = mark * BPF_COUNTERS_BYTES;
      return {
        told: read(at + BPF_COUNTERS.told),
        known: read(at + BPF_COUNTERS.known),
        lost: read(at + BPF_COUNTERS.lost),
        mapFull: read(at + BPF_COUNTERS.mapFull),
      };
    });
  }

  /**
   * Goes on through the map of told flows and forgets those that would be told again anyway.
   * Returns whether the map has been gone through, and how many of this part stay.
   */
  forgetSome(nowNs: bigint): { readonly isDone: boolean; readonly kept: number } {
    const { keys, values, count, next } = this.#told.lookupBatch(this.#forgetFrom, FORGET_BATCH);
    const view = new DataView(values.buffer, values.byteOffset, values.byteLength);
    let kept = 0;
    for (let index = 0; index < count; index++) {
      const toldNs = view.getBigUint64(index * TOLD_VALUE_BYTES, true);
      if (nowNs - toldNs <= TELL_AGAIN_NS) kept += 1;
      else this.#told.delete(keys.subarray(index * FLOW_KEY_BYTES, (index + 1) * FLOW_KEY_BYTES));
    }
    this.#forgetFrom = next;
    return { isDone: next === undefined, kept };
  }

  /** Nothing is told from now on; what is in the ring stays there. */
  detach(): void {
    for (const link of this.#links) link.close();
  }

  /** Detaches and gives everything back; the second time it does nothing. */
  close(): void {
    this.#stack.dispose();
  }

  /** As {@link FlowPrograms.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}
