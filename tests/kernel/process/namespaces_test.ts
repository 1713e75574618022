/**
 * Network and user namespaces of a real kernel.
 *
 * @module
 */
import {
  createNetns,
  createUserNamespace,
  openNetns,
  openOwnNetns,
  readFileIn,
  SyscallError,
  withNetns,
  writeFileIn,
} from "#ffi/mod.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { REPOSITORY_ROOT, runProcess } from "#tests/support/subprocess.ts";
import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { openDescriptors } from "./support.ts";

function currentNetns(): string {
  return Deno.readLinkSync("/proc/thread-self/ns/net");
}

kernelTest("a new network namespace holds lo and nothing else", "root", () => {
  const home = currentNetns();
  using ns = createNetns();
  assertEquals(currentNetns(), home);
  const lines = withNetns(ns, () => readFileIn("/proc/thread-self/net/dev")).trim().split("\n");
  assertEquals(lines.slice(2).map((line) => line.trim().split(":")[0]), ["lo"]);
});

kernelTest("settings written inside a namespace do not reach the host", "root", () => {
  using ns = createNetns();
  const file = "/proc/sys/net/ipv4/ip_default_ttl";
  const before = readFileIn(file);
  withNetns(ns, () => writeFileIn(file, "77"));
  assertEquals(withNetns(ns, () => readFileIn(file)), "77\n");
  assertEquals(readFileIn(file), before);
});

kernelTest("uses may be nested, and each comes back one step", "root", () => {
  using one = createNetns();
  using two = createNetns();
  const home = currentNetns();
  const seen = withNetns(one, () => {
    const outer = currentNetns();
    const inner = withNetns(two, currentNetns);
    return [outer, inner, currentNetns()];
  });
  assertEquals(seen[0], seen[2]);
  assertNotEquals(seen[0], seen[1]);
  assertEquals(currentNetns(), home);
});

kernelTest("a namespace is left when the function throws, or returns a promise", "root", () => {
  const home = currentNetns();
  const before = openDescriptors();
  {
    using ns = createNetns();
    assertThrows(
      () =>
        withNetns(ns, () => {
          throw new RangeError("ours");
        }),
      RangeError,
      "ours",
    );
    assertEquals(currentNetns(), home);
    assertThrows(() => withNetns(ns, () => Promise.reject(new Error("late"))), TypeError);
    assertEquals(currentNetns(), home);
  }
  assertEquals(openDescriptors(), before);
});

kernelTest("a descriptor that is no namespace is refused before the function runs", "root", () => {
  using self = openNetns("/etc/passwd");
  let ran = false;
  assertThrows(() => withNetns(self, () => (ran = true)), SyscallError, "EINVAL");
  assert(!ran);
  using own = openOwnNetns();
  assertEquals(withNetns(own, currentNetns), currentNetns());
});

kernelTest("a thread that cannot come back ends the process with a line", "root", async () => {
  // Inside, the thread gives up the right to enter a namespace.
  const code = `
    import { createNetns, call, withNetns, withScratch } from "#ffi/mod.ts";
    using ns = createNetns();
    withNetns(ns, () => withScratch((arena) => {
      const header = arena.alloc(8);
      arena.view.setUint32(header, 0x20080522, true);
      call("capset", arena.address(header), arena.address(arena.alloc(24)));
    }));
    console.log("never");
  `;
  const outcome = await runProcess(
    [Deno.execPath(), "run", "-A", "--no-check", "--quiet", "-"],
    { stdin: code, cwd: REPOSITORY_ROOT, env: { NO_COLOR: "1" } },
  );
  assertEquals(outcome.stdout, "");
  assertEquals(
    outcome.stderr,
    "celld: cannot return to the host's network namespace: errno 1\n",
  );
  assertEquals(outcome.code, 70);
});

kernelTest("a user namespace lives by its descriptor, with its maps", "root", async () => {
  const before = openDescriptors();
  const map = [{ inside: 0, outside: 1_899_999_991, count: 2 }];
  {
    using ns = createUserNamespace({ uidMap: map, gidMap: map });
    const { stdout } = await runProcess([
      "nsenter",
      `--user=/proc/${Deno.pid}/fd/${ns.number}`,
      "cat",
      "/proc/self/uid_map",
      "/proc/self/gid_map",
      "/proc/self/setgroups",
    ]);
    const line = stdout.split("\n")[0];
    assertEquals(line.trim().split(/\s+/), ["0", "1899999991", "2"]);
    assertEquals(stdout, `${line}\n${line}\ndeny\n`);
  }
  assertEquals(openDescriptors(), before);
});

kernelTest("a user namespace with a map that is refused leaves nothing", "root", () => {
  const before = openDescriptors();
  const map = [{ inside: 0, outside: 5, count: 0 }];
  const error = assertThrows(
    () => createUserNamespace({ uidMap: map, gidMap: map }),
    SyscallError,
    "Cannot make a user namespace",
  );
  assertEquals(error.code, "EINVAL");
  assertEquals(openDescriptors(), before);
});
