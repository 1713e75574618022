/**
 * The filter, run by a slow and obvious interpreter of classic BPF, on both architectures.
 *
 * @module
 */
import {
  AUDIT_ARCH,
  type BpfInstruction,
  defaultFilter,
  defaultProgram,
  encodeBpf,
  ERRNO,
  REFUSED_SYSCALLS,
  SECCOMP_RET,
  type StubArch,
} from "#ffi/mod.ts";
import { filteredNumber, type FilteredSyscall } from "#ffi/process/seccomp_numbers.ts";
import { assert, assertEquals, assertLess, assertThrows } from "@std/assert";
import fc from "fast-check";

const ARCHES: readonly StubArch[] = ["x86_64", "aarch64"];
const EPERM = SECCOMP_RET.ERRNO | ERRNO.EPERM;

interface SeccompData {
  readonly number: number;
  readonly arch: number;
  readonly args?: readonly number[];
}

function evaluate(program: readonly BpfInstruction[], data: SeccompData): number {
  const words = new DataView(new ArrayBuffer(64));
  words.setUint32(0, data.number, true);
  words.setUint32(4, data.arch, true);
  (data.args ?? []).forEach((value, index) =>
    words.setBigUint64(16 + 8 * index, BigInt.asUintN(64, BigInt(value)), true)
  );
  let accumulator = 0;
  for (let at = 0; at < program.length; at++) {
    const { code, jt, jf, k } = program[at];
    if (code === 0x20) accumulator = words.getUint32(k, true);
    else if (code === 0x54) accumulator = (accumulator & k) >>> 0;
    else if (code === 0x15) at += accumulator === k >>> 0 ? jt : jf;
    else if (code === 0x35) at += accumulator >= k >>> 0 ? jt : jf;
    else if (code === 0x06) return k >>> 0;
    else throw new TypeError(`Cannot interpret ${code}`);
  }
  throw new RangeError("Cannot interpret: the program runs out of its end");
}

function judge(arch: StubArch, name: FilteredSyscall, args: readonly number[] = []): number {
  const number = filteredNumber(name, arch);
  assert(number !== undefined);
  return evaluate(defaultProgram(arch), { number, arch: AUDIT_ARCH[arch], args });
}

for (const arch of ARCHES) {
  Deno.test(`${arch}: every call of the list is refused with EPERM`, () => {
    for (const name of REFUSED_SYSCALLS) {
      if (filteredNumber(name, arch) === undefined) continue;
      assertEquals(judge(arch, name), EPERM, name);
    }
  });

  Deno.test(`${arch}: calls of another architecture end the process`, () => {
    for (const foreign of [0x4000_0003, 0x4000_0028, 0, AUDIT_ARCH[other(arch)]]) {
      const verdict = evaluate(defaultProgram(arch), { number: 1, arch: foreign });
      assertEquals(verdict, SECCOMP_RET.KILL_PROCESS);
    }
  });

  Deno.test(`${arch}: threads and forks are allowed, new namespaces are not`, () => {
    assertEquals(judge(arch, "clone", [0x3d0f00]), SECCOMP_RET.ALLOW);
    assertEquals(judge(arch, "clone", [17]), SECCOMP_RET.ALLOW);
    assertEquals(judge(arch, "clone3"), SECCOMP_RET.ERRNO | ERRNO.ENOSYS);
    for (const bit of [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000]) {
      assertEquals(judge(arch, "clone", [bit | 17]), EPERM);
    }
    assertEquals(judge(arch, "clone", [0x40000000 | 17]), EPERM);
  });

  Deno.test(`${arch}: sockets of four families, without raw ones`, () => {
    const socket = (...args: number[]) => judge(arch, "socket", args);
    const CLOEXEC = 0o2000000;
    for (const family of [1, 2, 10]) {
      assertEquals(socket(family, 1 | CLOEXEC, 0), SECCOMP_RET.ALLOW);
      assertEquals(socket(family, 2, 0), SECCOMP_RET.ALLOW);
    }
    for (const family of [2, 10]) {
      assertEquals(socket(family, 3 | CLOEXEC, 1), EPERM);
      assertEquals(socket(family, 10, 0), EPERM);
    }
    assertEquals(socket(16, 3, 0), SECCOMP_RET.ALLOW);
    assertEquals(socket(16, 3, 12), EPERM);
    for (const family of [17, 38, 40, 0, 44]) {
      assertEquals(socket(family, 1, 0), SECCOMP_RET.ERRNO | ERRNO.EAFNOSUPPORT);
    }
  });

  Deno.test(`${arch}: internet sockets of the protocols that a policy speaks of`, () => {
    const socket = (...args: number[]) => judge(arch, "socket", args);
    for (const family of [2, 10]) {
      for (const protocol of [0, 1, 6, 17, 58, 262]) {
        assertEquals(socket(family, 1, protocol), SECCOMP_RET.ALLOW);
      }
      for (const protocol of [2, 33, 41, 47, 132, 136, 255]) {
        const expected = SECCOMP_RET.ERRNO | ERRNO.EPROTONOSUPPORT;
        assertEquals(socket(family, 1, protocol), expected, `${family} ${protocol}`);
      }
    }
  });

  Deno.test(`${arch}: space is not reserved ahead of writing`, () => {
    const unsupported = SECCOMP_RET.ERRNO | ERRNO.EOPNOTSUPP;
    assertEquals(judge(arch, "fallocate", [1, 1]), unsupported);
    for (const request of [0x4030_5828, 0x4030_582a, 0x4030_5839]) {
      assertEquals(judge(arch, "ioctl", [1, request]), unsupported);
    }
  });

  Deno.test(`${arch}: files and pipes may be made, device nodes may not`, () => {
    for (const type of [0, 0o100000, 0o010000, 0o140000]) {
      assertEquals(judge(arch, "mknodat", [0, 0, type | 0o644]), SECCOMP_RET.ALLOW);
    }
    for (const type of [0o020000, 0o060000]) {
      assertEquals(judge(arch, "mknodat", [0, 0, type | 0o644]), EPERM);
    }
  });

  Deno.test(`${arch}: pushing into a terminal's input is refused, other requests are not`, () => {
    assertEquals(judge(arch, "ioctl", [0, 0x5412]), EPERM);
    assertEquals(judge(arch, "ioctl", [0, 0x541c]), EPERM);
    assertEquals(judge(arch, "ioctl", [0, 0x5401]), SECCOMP_RET.ALLOW);
  });

  Deno.test(`${arch}: the personality may be asked for, not changed`, () => {
    assertEquals(judge(arch, "personality", [0]), SECCOMP_RET.ALLOW);
    assertEquals(judge(arch, "personality", [0xffff_ffff]), SECCOMP_RET.ALLOW);
    assertEquals(judge(arch, "personality", [0x0040000]), EPERM);
  });

  Deno.test(`${arch}: a call that no rule names is allowed, whatever its arguments`, () => {
    const program = defaultProgram(arch);
    const data = { number: arch === "x86_64" ? 0 : 63, arch: AUDIT_ARCH[arch] };
    fc.assert(fc.property(fc.array(fc.integer(), { maxLength: 6 }), (args) => {
      assertEquals(evaluate(program, { ...data, args }), SECCOMP_RET.ALLOW);
    }));
  });

  Deno.test(`${arch}: every number gets a verdict`, () => {
    const program = defaultProgram(arch);
    for (let number = 0; number < 600; number++) {
      const verdict = evaluate(program, { number, arch: AUDIT_ARCH[arch] });
      assert(verdict === SECCOMP_RET.ALLOW || (verdict & 0xffff_0000) === SECCOMP_RET.ERRNO);
    }
    assertLess(program.length, 300);
  });
}

Deno.test("x86_64: calls with the x32 bit are refused", () => {
  for (const number of [0x4000_0000, 0x4000_0029, 0xffff_ffff]) {
    const verdict = evaluate(defaultProgram("x86_64"), { number, arch: AUDIT_ARCH.x86_64 });
    assertEquals(verdict, EPERM);
  }
});

Deno.test("x86_64: the old mknod is judged as the new one", () => {
  assertEquals(judge("x86_64", "mknod", [0, 0o020644]), EPERM);
  assertEquals(judge("x86_64", "mknod", [0, 0o100644]), SECCOMP_RET.ALLOW);
});

Deno.test("an instruction is eight bytes in the kernel's order", () => {
  const bytes = encodeBpf([{ code: 0x15, jt: 1, jf: 2, k: 0xc000_003e }]);
  assertEquals([...bytes], [0x15, 0, 1, 2, 0x3e, 0, 0, 0xc0]);
  assertEquals(defaultFilter("aarch64").length, defaultProgram("aarch64").length * 8);
  const endless = Array.from({ length: 4097 }, () => ({ code: 6, jt: 0, jf: 0, k: 0 }));
  assertThrows(() => encodeBpf(endless), RangeError);
});

function other(arch: StubArch): StubArch {
  return arch === "x86_64" ? "aarch64" : "x86_64";
}
