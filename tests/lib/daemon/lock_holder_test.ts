/**
 * Who holds a lock, from the kernel's own words.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { OPEN, openFile, tryLock } from "#ffi/mod.ts";
import { catchesSignal, findLockHolder, lockHolders } from "#lib/daemon/lock_holder.ts";

const LOCKS = `1: POSIX  ADVISORY  WRITE 3111 08:01:131 0 EOF
2: FLOCK  ADVISORY  WRITE 4711 08:01:131 0 EOF
2: -> FLOCK  ADVISORY  WRITE 4712 08:01:131 0 EOF
3: FLOCK  ADVISORY  READ 4713 08:01:131 0 EOF
4: FLOCK  ADVISORY  WRITE 4714 08:01:1310 0 EOF
5: FLOCK  ADVISORY  WRITE 0 08:01:131 0 EOF
6: FLOCK  ADVISORY  WRITE 4715 00:1c:131 0 EOF
`;

Deno.test("lock holder: only exclusive holders of the file count, not those who wait", () => {
  assertEquals(lockHolders(LOCKS, 131), [4711, 4715]);
  assertEquals(lockHolders(LOCKS, 7), []);
  assertEquals(lockHolders("", 131), []);
});

Deno.test("lock holder: a process catches the signals of its mask", () => {
  const status = "Name:\tdeno\nSigIgn:\t0000000000000800\nSigCgt:\t0000000180004a03\n";
  const caught = [1, 2, 3, 9, 10, 11, 12, 13, 15, 16, 31, 32, 33, 34, 64]
    .filter((signal) => catchesSignal(status, signal));
  assertEquals(caught, [1, 2, 10, 12, 15, 32, 33]);
  assertEquals(catchesSignal("Name:\tdeno\n", 12), false);
});

Deno.test("lock holder: the one who holds a file's lock is found, and nobody after", () => {
  const path = Deno.makeTempFileSync({ prefix: "celld-lock-" });
  try {
    assertEquals(findLockHolder(path), undefined);
    {
      using lock = openFile(path, { flags: OPEN.READ_WRITE });
      assertEquals(tryLock(lock, "exclusive"), true);
      assertEquals(findLockHolder(path), Deno.pid);
    }
    assertEquals(findLockHolder(path), undefined);
    {
      using lock = openFile(path);
      assertEquals(tryLock(lock, "shared"), true);
      assertEquals(findLockHolder(path), undefined);
    }
  } finally {
    Deno.removeSync(path);
  }
  assertEquals(findLockHolder(path), undefined);
});
