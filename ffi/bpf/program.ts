/**
 * Programs in the kernel: loaded, attached to a cgroup by a link that ends with its descriptor,
 * and tried on a packet without any network.
 *
 * @module
 */
import { Arena } from "../arena.ts";
import { Fd } from "../fd.ts";
import { withScratch } from "../syscall.ts";
import { BPF_INSTRUCTION_BYTES } from "./assembler.ts";
import { BPF_COMMAND, BpfAttributes, bpfCommand, BpfError } from "./command.ts";

/** `BPF_PROG_TYPE_CGROUP_SKB`. */
const CGROUP_SKB = 8;
/** Where a program of that kind hangs (`enum bpf_attach_type`). */
export const BPF_CGROUP_SKB_HOOK = { ingress: 0, egress: 1 } as const;
/** A hook. */
export type BpfCgroupHook = keyof typeof BPF_CGROUP_SKB_HOOK;

/** Some kernel functions are for programs under the GPL only; a program's licence is a text. */
const LICENSE = "GPL";
const VERIFIER_LOG_BYTES = 256 * 1024;
/** Before a packet that a program is tried on, the kernel wants an Ethernet header. */
const ETHERNET_BYTES = 14;
/** `struct __sk_buff`. */
const SK_BUFF_BYTES = 192;
const SK_BUFF_MARK = 8;

/**
 * Loads a program for the packets of a cgroup's sockets. Throws {@link BpfError}; when the verifier
 * refuses the program, its log is in the error.
 */
export function loadCgroupSkbProgram(
  name: string,
  hook: BpfCgroupHook,
  program: Uint8Array,
): Fd {
  const load = (log?: { arena: Arena; at: number }): number =>
    withScratch((arena) => {
      const attributes = new BpfAttributes(arena).u32(0, CGROUP_SKB)
        .u32(4, program.length / BPF_INSTRUCTION_BYTES).bytes(8, program)
        .u64(16, arena.cstring(LICENSE))
        .objectName(48, name).u32(68, BPF_CGROUP_SKB_HOOK[hook]);
      if (log !== undefined) {
        attributes.u32(24, 1).u32(28, VERIFIER_LOG_BYTES).u64(32, log.arena.address(log.at));
      }
      return attributes.run(BPF_COMMAND.programLoad);
    });
  const result = load();
  if (result >= 0) return new Fd(result);
  // A second time only for the log: making it costs more than loading.
  const arena = new Arena(VERIFIER_LOG_BYTES);
  const at = arena.alloc(VERIFIER_LOG_BYTES);
  const second = load({ arena, at });
  if (second >= 0) return new Fd(second);
  const end = arena.bytes.indexOf(0);
  throw new BpfError(
    `load BPF program ${name}`,
    -result,
    new TextDecoder().decode(arena.bytes.subarray(0, end < 0 ? undefined : end)),
  );
}

/**
 * Attaches a program to a cgroup of v2, beside those that others have attached there. It stays
 * until the link's descriptor is closed, or its process ends. Throws {@link BpfError}.
 *
 * @param cgroup Descriptor of the cgroup's directory.
 */
export function attachToCgroup(program: Fd, cgroup: Fd | number, hook: BpfCgroupHook): Fd {
  const target = typeof cgroup === "number" ? cgroup : cgroup.number;
  return new Fd(bpfCommand(
    "attach BPF program to cgroup",
    BPF_COMMAND.linkCreate,
    (attributes) =>
      attributes.u32(0, program.number).u32(4, target).u32(8, BPF_CGROUP_SKB_HOOK[hook]),
  ));
}

/**
 * Runs a program on a packet as if a socket had sent it. Returns the program's answer. Throws
 * {@link BpfError}; `EINVAL` for a packet that is shorter than the kernel takes.
 *
 * @param packet From its IP header on.
 */
export function testProgram(
  program: Fd,
  packet: Uint8Array,
  options: { readonly mark?: number; readonly repeat?: number } = {},
): { readonly answer: number; readonly nanoseconds: number } {
  const frame = new Uint8Array(ETHERNET_BYTES + packet.length);
  const isIpv6 = packet[0] >>> 4 === 6;
  frame.set(isIpv6 ? [0x86, 0xdd] : [0x08, 0x00], 12);
  frame.set(packet, ETHERNET_BYTES);
  const context = new Uint8Array(SK_BUFF_BYTES);
  new DataView(context.buffer).setUint32(SK_BUFF_MARK, options.mark ?? 0, true);
  return withScratch((arena) => {
    const attributes = new BpfAttributes(arena).u32(0, program.number)
      .u32(8, frame.length).bytes(16, frame)
      .u32(32, options.repeat ?? 1)
      .u32(40, context.length).bytes(48, context);
    const result = attributes.run(BPF_COMMAND.programTestRun);
    if (result < 0) throw new BpfError("try BPF program", -result);
    return { answer: attributes.getU32(4), nanoseconds: attributes.getU32(36) };
  });
}
