/**
 * Programs of the host, launched without namespaces.
 *
 * @module
 */
import {
  createPipe,
  LaunchError,
  launchOnHost,
  openFile,
  readToEnd,
  waitPidfdBlocking,
} from "#ffi/mod.ts";
import { assertEquals, assertInstanceOf, assertStringIncludes } from "@std/assert";
import { kernelTest } from "#tests/support/kernel.ts";
import { openDescriptors } from "./support.ts";

function run(path: string, argv: string[], env: Record<string, string> = {}): [unknown, string] {
  using stdin = openFile("/dev/null");
  const pipe = createPipe();
  using read = pipe.read;
  try {
    using pidfd = launchOnHost({ path, argv, env, stdin, stdout: pipe.write, stderr: pipe.write })
      .pidfd;
    pipe.write.close();
    const text = new TextDecoder().decode(readToEnd(read));
    return [waitPidfdBlocking(pidfd), text];
  } finally {
    pipe.write.close();
  }
}

kernelTest(
  "launchOnHost: arguments, environment and nothing else reach the program",
  ["root"],
  () => {
    const before = openDescriptors();
    const script = 'echo "$0 $1"; env | sort; ls /proc/self/fd | wc -l; exit 3';
    const [end, text] = run("/bin/sh", ["sh", "-c", script, "é", "b c"], {
      A: "1",
      PATH: "/bin:/usr/bin",
    });
    assertEquals(end, { kind: "exited", code: 3 });
    const lines = text.trim().split("\n").filter((line) => !/^(PWD|SHLVL|_|OLDPWD)=/.test(line));
    assertEquals(lines, ["é b c", "A=1", "PATH=/bin:/usr/bin", "4"]);
    assertEquals(openDescriptors(), before);
  },
);

kernelTest("launchOnHost: no signal is blocked, whatever our own mask is", ["root"], () => {
  const [, text] = run("/bin/cat", ["cat", "/proc/self/status"]);
  for (const name of ["SigBlk", "SigIgn"]) assertStringIncludes(text, `${name}:\t0000000000000000`);
});

kernelTest(
  "launchOnHost: a program that is not there is an error, and leaves nothing",
  ["root"],
  () => {
    const before = openDescriptors();
    let caught: unknown;
    try {
      run("/no/such/program", ["x"]);
    } catch (error) {
      caught = error;
    }
    assertInstanceOf(caught, LaunchError);
    assertEquals(caught.code, "ENOENT");
    assertStringIncludes(caught.message, "/no/such/program");
    assertEquals(openDescriptors(), before);
  },
);
