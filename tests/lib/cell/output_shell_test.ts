import { assert, assertEquals, assertLess } from "@std/assert";
import { OutputFollower } from "#lib/cell/output_shell.ts";

const MIB = 1024 * 1024;

/** A file that is written as a workload would, and followed. */
function withOutput(use: (file: Deno.FsFile, follower: OutputFollower, path: string) => void) {
  const path = Deno.makeTempFileSync({ prefix: "celld-output-" });
  try {
    using file = Deno.openSync(path, { write: true });
    using follower = new OutputFollower("stdout", path, 2 * MIB);
    use(file, follower, path);
  } finally {
    Deno.removeSync(path);
  }
}

function takenBytes(path: string): number {
  return (Deno.statSync(path).blocks ?? 0) * 512;
}

function readAll(follower: OutputFollower): string {
  let text = "";
  for (let part = follower.next(); part.length > 0; part = follower.next()) {
    text += new TextDecoder().decode(part);
  }
  return text;
}

function write(file: Deno.FsFile, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length;) done += file.writeSync(bytes.subarray(done));
}

Deno.test("OutputFollower reads what was written, in order and once", () => {
  withOutput((file, follower) => {
    assertEquals(readAll(follower), "");
    file.writeSync(new TextEncoder().encode("one\n"));
    assertEquals(readAll(follower), "one\n");
    file.writeSync(new TextEncoder().encode("two\n"));
    assertEquals(readAll(follower), "two\n");
  });
});

Deno.test("OutputFollower trims a file that nobody reads, and counts what was skipped", () => {
  withOutput((file, follower, path) => {
    for (let part = 0; part < 16; part++) {
      write(file, new Uint8Array(MIB).fill(97 + part));
      follower.trim();
      assertLess(takenBytes(path), 4 * MIB);
    }
    const text = readAll(follower);
    assertEquals(text.length + follower.skippedBytes, 16 * MIB);
    assert(text.endsWith("p"));
  });
});

Deno.test("OutputFollower gives back what was written where a hole was", () => {
  withOutput((file, follower, path) => {
    write(file, new Uint8Array(16 * MIB));
    follower.trim();
    file.seekSync(0, Deno.SeekMode.Start);
    write(file, new Uint8Array(12 * MIB));
    follower.trim();
    assertLess(takenBytes(path), 4 * MIB);
  });
});

Deno.test("OutputFollower begins again where a file was truncated", () => {
  withOutput((file, follower) => {
    write(file, new Uint8Array(3 * MIB));
    readAll(follower);
    file.truncateSync(0);
    file.seekSync(0, Deno.SeekMode.Start);
    write(file, new TextEncoder().encode("new\n"));
    assertEquals(readAll(follower), "new\n");
  });
});

Deno.test("OutputFollower is not led far by a file that was only lengthened", () => {
  withOutput((file, follower) => {
    file.truncateSync(2 ** 40);
    write(file, new TextEncoder().encode("start"));
    let portions = 0;
    while (follower.next().length > 0) portions++;
    assertLess(portions * 32 * 1024, 4 * MIB);
  });
});
