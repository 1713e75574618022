/**
 * Files by raw calls, memory files and inotify.
 *
 * @module
 */
import {
  createMemoryFile,
  createSealedFile,
  decodeInotifyEvents,
  duplicateFd,
  INOTIFY,
  Inotify,
  OPEN,
  openFile,
  punchHole,
  readFdAt,
  readFileIn,
  readToEnd,
  setNonblocking,
  syncFd,
  SyscallError,
  truncateFd,
  tryLock,
  writeFd,
  writeFdAt,
  writeFileIn,
} from "#ffi/mod.ts";
import { assert, assertEquals, assertFalse, assertThrows } from "@std/assert";
import fc from "fast-check";

function withFile(use: (path: string) => void): void {
  const path = Deno.makeTempFileSync({ prefix: "celld-test-" });
  try {
    use(path);
  } finally {
    Deno.removeSync(path);
  }
}

Deno.test("a missing file is a SyscallError that names call, path and code", () => {
  const error = assertThrows(() => openFile("/nowhere/at all"), SyscallError);
  assertEquals(error.message, 'Cannot openat "/nowhere/at all": ENOENT');
  assertEquals(error.code, "ENOENT");
});

Deno.test("bytes larger than one chunk come back whole", () =>
  withFile((path) => {
    const bytes = Uint8Array.from({ length: 200_001 }, (_, index) => index * 31);
    using fd = openFile(path, { flags: OPEN.READ_WRITE });
    writeFd(fd, bytes);
    syncFd(fd);
    using again = openFile(path);
    assertEquals(readToEnd(again), bytes);
    const part = new Uint8Array(5);
    assertEquals(readFdAt(fd, part, 100_000), 5);
    assertEquals(part, bytes.slice(100_000, 100_005));
    writeFdAt(fd, new Uint8Array([9, 9]), 1);
    assertEquals(readFdAt(fd, part, 0), 5);
    assertEquals([...part.subarray(0, 4)], [0, 9, 9, 93]);
  }));

Deno.test("text is written over an existing file only", () =>
  withFile((path) => {
    writeFileIn(path, "eins\n");
    assertEquals(readFileIn(path), "eins\n");
    assertThrows(() => writeFileIn(`${path}.not-there`, "x"), SyscallError, "ENOENT");
  }));

Deno.test("an exclusive lock keeps others away until it is dropped", () =>
  withFile((path) => {
    using one = openFile(path);
    using other = openFile(path);
    assert(tryLock(one, "exclusive"));
    assertFalse(tryLock(other, "shared"));
    assert(tryLock(one, "none"));
    assert(tryLock(other, "shared"));
    assert(tryLock(one, "shared"));
  }));

Deno.test("a lock outlives one of two duplicates", () =>
  withFile((path) => {
    using one = openFile(path);
    using twin = duplicateFd(one);
    using other = openFile(path);
    assert(tryLock(one, "exclusive"));
    one.close();
    assertFalse(tryLock(other, "exclusive"));
    twin.close();
    assert(tryLock(other, "exclusive"));
  }));

Deno.test("a hole reads as zeros and keeps the size", () =>
  withFile((path) => {
    using fd = openFile(path, { flags: OPEN.READ_WRITE });
    writeFd(fd, new Uint8Array(8192).fill(7));
    punchHole(fd, { offset: 0, sizeBytes: 4096 });
    const bytes = Deno.readFileSync(path);
    assertEquals(bytes.length, 8192);
    assert(bytes.subarray(0, 4096).every((byte) => byte === 0));
    assert(bytes.subarray(4096).every((byte) => byte === 7));
    truncateFd(fd, 10);
    assertEquals(Deno.statSync(path).size, 10);
  }));

Deno.test("setNonblocking() switches one flag of the open file", () =>
  withFile((path) => {
    using fd = openFile(path);
    const flags = () => /^flags:\s*(\d+)/m.exec(readFileIn(`/proc/self/fdinfo/${fd.number}`))?.[1];
    const before = flags();
    setNonblocking(fd, true);
    assertEquals(parseInt(flags()!, 8), parseInt(before!, 8) | OPEN.NONBLOCK);
    setNonblocking(fd, false);
    assertEquals(flags(), before);
  }));

Deno.test("a sealed memory file cannot be changed by any descriptor", () => {
  using fd = createSealedFile("celld-test", new Uint8Array([1, 2, 3]));
  assertThrows(() => writeFdAt(fd, new Uint8Array([9]), 0), SyscallError, "EPERM");
  assertThrows(() => truncateFd(fd, 0), SyscallError, "EPERM");
  const into = new Uint8Array(4);
  assertEquals(readFdAt(fd, into, 0), 3);
  assertEquals([...into], [1, 2, 3, 0]);
});

Deno.test("a memory file grows by writing", () => {
  using fd = createMemoryFile("celld-test");
  writeFd(fd, new Uint8Array(100));
  assertEquals(readFdAt(fd, new Uint8Array(200), 0), 100);
});

Deno.test("inotify tells a change of a watched file, and none after unwatch()", () =>
  withFile((path) => {
    using inotify = new Inotify();
    const watch = inotify.watch(path);
    assertEquals(inotify.drain(), []);
    writeFileIn(path, "x");
    assertEquals(inotify.drain(), [{ watch, mask: INOTIFY.MODIFY, name: "" }]);
    inotify.unwatch(watch);
    inotify.drain();
    writeFileIn(path, "y");
    assertEquals(inotify.drain(), []);
    assertThrows(() => inotify.watch("/nowhere"), SyscallError, "ENOENT");
  }));

Deno.test("inotify names what was made in a watched directory", () => {
  const directory = Deno.makeTempDirSync({ prefix: "celld-test-" });
  try {
    using inotify = new Inotify();
    const watch = inotify.watch(directory, INOTIFY.CREATE);
    Deno.writeTextFileSync(`${directory}/käse`, "");
    assertEquals(inotify.drain(), [{ watch, mask: INOTIFY.CREATE, name: "käse" }]);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
});

Deno.test("decodeInotifyEvents() never throws on arbitrary bytes", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
    assert(decodeInotifyEvents(bytes).length <= bytes.length / 16);
  }));
});
