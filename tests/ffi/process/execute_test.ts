/**
 * A program in place of another.
 *
 * @module
 */
import { assertEquals, assertThrows } from "@std/assert";
import { call, createMemoryFile, executeProgram, SyscallError } from "#ffi/mod.ts";

const DOOR = new URL("../../../ffi/mod.ts", import.meta.url).href;

async function evaluate(code: string): Promise<{ code: number; stdout: string; pid: number }> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["eval", "--quiet", `import * as ffi from ${JSON.stringify(DOOR)};${code}`],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const { pid } = child;
  const output = await child.output();
  return { code: output.code, stdout: new TextDecoder().decode(output.stdout), pid };
}

Deno.test("execute: the process keeps its number, takes arguments and environment, and no descriptor", async () => {
  const script = 'echo "$$ $1 $X"; ls /proc/self/fd | wc -l; exit 3';
  const { code, stdout, pid } = await evaluate(`
    const file = Deno.openSync("/dev/null");
    new Worker(URL.createObjectURL(new Blob(["setInterval(() => {}, 1)"])), { type: "module" });
    ffi.executeProgram({
      path: "/bin/sh",
      argv: ["sh", "-c", ${JSON.stringify(script)}, "sh", "one ü"],
      env: { X: "two", PATH: "/usr/bin:/bin" },
    });`);
  assertEquals(code, 3);
  // Its three, and the one that ls reads the folder by.
  assertEquals(stdout, `${pid} one ü two\n4\n`);
});

Deno.test("execute: descriptors to keep stay open with their numbers, others do not", async () => {
  const script = "for fd in $@; do cat /dev/fd/$fd; done; ls /proc/self/fd | wc -l";
  const { stdout } = await evaluate(`
    const pipes = ["one", "two", "three"].map((text) => {
      const { read, write } = ffi.createPipe();
      ffi.writeFd(write, new TextEncoder().encode(text + "\\n"));
      return read;
    });
    const keep = [pipes[0].number, 1, pipes[2].number];
    ffi.executeProgram({
      path: "/bin/sh",
      argv: ["sh", "-c", ${JSON.stringify(script)}, "sh", ...[keep[0], keep[2]].map(String)],
      env: { PATH: "/usr/bin:/bin" },
      keep,
    });`);
  // Its three, the two, and the one that ls reads the folder by.
  assertEquals(stdout, "one\nthree\n6\n");
});

Deno.test("execute: children that have ended are reaped, others are left alone", async () => {
  const { stdout } = await evaluate(`
    const run = (args) => new Deno.Command("/bin/sh", { args: ["-c", ...args] }).spawn().pid;
    if (Deno.env.get("AGAIN") === undefined) {
      run(["exit 1"]);
      run(["exit 2"]);
      const child = run(["exec sleep 60"]);
      const argv = Deno.readTextFileSync("/proc/self/cmdline").split("\\0").slice(0, -1);
      const env = { ...Deno.env.toObject(), AGAIN: String(child) };
      ffi.executeProgram({ path: "/proc/self/exe", argv, env });
    }
    let reaped = 0;
    while (reaped < 2) reaped += ffi.reapChildren();
    console.log(reaped, ffi.reapChildren());
    Deno.kill(Number(Deno.env.get("AGAIN")), "SIGKILL");`);
  assertEquals(stdout, "2 0\n");
});

Deno.test("execute: what cannot be executed is an error, and the caller goes on", () => {
  assertThrows(
    () => executeProgram({ path: "/no/such/program", argv: ["x"], env: {} }),
    SyscallError,
    "ENOENT",
  );
});

Deno.test("execute: where nothing was executed, descriptors to keep close on exec as before", () => {
  const F_GETFD = 1;
  const run = (path: string, keep: number[]) =>
    assertThrows(() => executeProgram({ path, argv: ["x"], env: {}, keep }), SyscallError).code;
  using first = createMemoryFile("first");
  using second = createMemoryFile("second");
  const isOpenOnExec = () =>
    [first, second].map(({ number }) => call("fcntl", number, F_GETFD) === 0);
  assertEquals(run("/no/such/program", [first.number, second.number, 1]), "ENOENT");
  assertEquals(isOpenOnExec(), [false, false]);
  assertEquals(run("/bin/true", [first.number, 1 << 30]), "EBADF");
  assertEquals(isOpenOnExec(), [false, false]);
  assertEquals(call("fcntl", 1, F_GETFD), 0, "its own output stays open for what it starts");
});
