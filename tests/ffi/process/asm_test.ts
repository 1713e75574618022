/**
 * The embedded machine code: assembled again and compared; the init run as a program, the
 * aarch64 one under emulation.
 *
 * @module
 */
import { decodeExitRecord, decodeReadyRecord } from "#ffi/mod.ts";
import { INIT_CODE, initArguments, initElf } from "#ffi/process/init.ts";
import { STUB_CODE, type StubArch, stubElf } from "#ffi/process/stub.ts";
import { findCommand, kernelTest, type Need } from "#tests/support/kernel.ts";
import { REPOSITORY_ROOT, runProcess } from "#tests/support/subprocess.ts";
import { assertEquals, assertThrows } from "@std/assert";

const ARCHES: readonly StubArch[] = ["x86_64", "aarch64"];

/** Binutils for an architecture: the plain names where it is our own. */
function tool(name: string, arch: StubArch): string {
  return Deno.build.arch === arch ? name : `${arch}-linux-gnu-${name}`;
}

async function assemble(source: string, arch: StubArch): Promise<string> {
  const directory = await Deno.makeTempDir({ prefix: "celld-test-" });
  try {
    const [object, binary] = [`${directory}/o`, `${directory}/b`];
    const path = `${REPOSITORY_ROOT}/ffi/process/asm/${source}_${arch}.S`;
    await run([tool("as", arch), "-o", object, path]);
    await run([tool("objcopy", arch), "-O", "binary", "-j", ".text", object, binary]);
    return (await Deno.readFile(binary)).toBase64();
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

async function run(argv: readonly [string, ...string[]]): Promise<void> {
  const { code, stderr } = await runProcess(argv);
  assertEquals(code, 0, stderr);
}

for (const arch of ARCHES) {
  const needs = [`command:${tool("as", arch)}`, `command:${tool("objcopy", arch)}`] as const;
  kernelTest(`the ${arch} stub is its assembly, byte for byte`, needs, async () => {
    assertEquals(await assemble("stub", arch), STUB_CODE[arch]);
  });
  kernelTest(`the ${arch} init is its assembly, byte for byte`, needs, async () => {
    assertEquals(await assemble("init", arch), INIT_CODE[arch]);
  });
}

interface InitRun {
  readonly name: string;
  readonly candidates: string[];
  readonly argv: string[];
  readonly code: number;
  readonly record: unknown;
  readonly ready: number;
  readonly stdout: string;
}

const RUNS: readonly InitRun[] = [
  {
    name: "exit code and output of a workload",
    candidates: ["/nowhere", "/bin/sh"],
    argv: ["sh", "-c", "echo $0 $1 $A; exit 42", "zero", "one"],
    code: 42,
    record: { kind: "exited", code: 42 },
    ready: 0,
    stdout: "zero one env\n",
  },
  {
    name: "the signal that ended a workload",
    candidates: ["/bin/sh"],
    argv: ["sh", "-c", "kill -KILL $$"],
    code: 137,
    record: { kind: "signaled", signal: 9 },
    ready: 0,
    stdout: "",
  },
  {
    name: "that no path was found",
    candidates: ["/nowhere", "/etc/passwd/below"],
    argv: ["x"],
    code: 127,
    record: { kind: "execFailed", errno: 20 },
    ready: 20,
    stdout: "",
  },
  {
    name: "that a path was refused, before one that was not found",
    candidates: ["/etc/passwd", "/nowhere"],
    argv: ["x"],
    code: 126,
    record: { kind: "execFailed", errno: 13 },
    ready: 13,
    stdout: "",
  },
];

for (const arch of ARCHES) {
  const emulator = Deno.build.arch === arch ? undefined : `qemu-${arch}`;
  const needs: Need[] = ["command:sh"];
  if (emulator !== undefined) needs.push(`command:${emulator}`);
  for (const wanted of RUNS) {
    kernelTest(`the ${arch} init tells ${wanted.name}`, needs, async () => {
      await runInit(arch, emulator, wanted);
    });
  }
}

async function runInit(
  arch: StubArch,
  emulator: string | undefined,
  wanted: InitRun,
): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "celld-test-" });
  try {
    const init = `${directory}/init`;
    await Deno.writeFile(init, initElf(arch), { mode: 0o755 });
    const prefix = emulator === undefined ? [] : [findCommand(emulator)!];
    const argv = initArguments(wanted.candidates, wanted.argv).slice(1);
    const script = 'cd "$1"; shift; exec "$@" 3>status 4>ready';
    const outcome = await runProcess(
      ["/bin/sh", "-c", script, "sh", directory, ...prefix, init, ...argv],
      { clearEnv: true, env: { A: "env" }, timeoutMs: 20_000 },
    );
    assertEquals(outcome.code, wanted.code);
    assertEquals(outcome.stdout, wanted.stdout);
    assertEquals(decodeExitRecord(await Deno.readFile(`${directory}/status`)), wanted.record);
    assertEquals(decodeReadyRecord(await Deno.readFile(`${directory}/ready`)), wanted.ready);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("both ELF files say their architecture", () => {
  for (const arch of ARCHES) {
    const machine = arch === "x86_64" ? 62 : 183;
    for (const elf of [stubElf(arch), initElf(arch)]) {
      assertEquals([...elf.subarray(0, 4)], [0x7f, 0x45, 0x4c, 0x46]);
      assertEquals(elf[18], machine);
    }
  }
});

Deno.test("an exit record that is short or foreign is none", () => {
  const record = new Uint8Array(16);
  new DataView(record.buffer).setUint32(0, 0x5449_5845, true);
  assertEquals(decodeExitRecord(record), { kind: "exited", code: 0 });
  for (let size = 0; size < 16; size++) {
    assertEquals(decodeExitRecord(record.subarray(0, size)), undefined);
  }
  record[0] = 0;
  assertEquals(decodeExitRecord(record), undefined);
  assertEquals(decodeReadyRecord(new Uint8Array(7)), undefined);
});

Deno.test("an exit record with a core dump tells the signal", () => {
  const record = new Uint8Array(16);
  const view = new DataView(record.buffer);
  view.setUint32(0, 0x5449_5845, true);
  view.setUint32(4, 0x80 | 11, true);
  assertEquals(decodeExitRecord(record), { kind: "signaled", signal: 11 });
});

Deno.test("more paths than the init can count are refused", () => {
  const paths = Array.from({ length: 65 }, (_, index) => `/${index}`);
  assertThrows(() => initArguments(paths, ["x"]), RangeError, "more than 64");
  assertEquals(initArguments(["/a"], ["x"]), ["celld-init", "1", "/a", "x"]);
});
