import { assertEquals } from "@std/assert";
import { ENDED_AGE_MS, openOutput, trimEnded } from "#lib/daemon/serve_output.ts";
import type { OutputOptions } from "#lib/http/mod.ts";

/** A runtime directory with one cell's output. */
class Files implements Disposable {
  readonly runtimeDir: string = Deno.makeTempDirSync({ prefix: "celld-output-" });

  constructor(place: "cells" | "ended", texts: Record<string, string>) {
    Deno.mkdirSync(`${this.runtimeDir}/${place}/c`, { recursive: true });
    for (const [name, text] of Object.entries(texts)) {
      Deno.writeTextFileSync(`${this.runtimeDir}/${place}/c/${name}`, text);
    }
  }

  async read(options: Partial<OutputOptions> = {}, keepBytes = 1e6): Promise<string | undefined> {
    const { runtimeDir } = this;
    const place = { runtimeDir, cellId: "c", keepBytes, isEnded: () => true };
    const { signal } = new AbortController();
    const chunks = openOutput(place, { follow: false, signal, ...options });
    if (chunks === undefined) return undefined;
    let text = "";
    for await (const { stream, bytes } of chunks) {
      text += `${stream}:${new TextDecoder().decode(bytes)}|`;
    }
    return text;
  }

  [Symbol.dispose](): void {
    Deno.removeSync(this.runtimeDir, { recursive: true });
  }
}

Deno.test("output: both streams of a living or an ended cell, or one", async () => {
  for (const place of ["cells", "ended"] as const) {
    using files = new Files(place, { stdout: "out", stderr: "err" });
    assertEquals(await files.read(), "stdout:out|stderr:err|");
    assertEquals(await files.read({ stream: "stderr" }), "stderr:err|");
  }
});

Deno.test("output: the last lines, the last bytes, and no more than is kept", async () => {
  using files = new Files("cells", { stdout: "a\nb\nc\nd\n" });
  const tail = (options: Partial<OutputOptions>, keep?: number) =>
    files.read({ stream: "stdout", ...options }, keep);
  assertEquals(await tail({ tailLines: 2 }), "stdout:c\nd\n|");
  assertEquals(await tail({ tailLines: 9 }), "stdout:a\nb\nc\nd\n|");
  assertEquals(await tail({ tailLines: 0 }), "");
  assertEquals(await tail({ tailBytes: 3 }), "stdout:\nd\n|");
  assertEquals(await tail({}, 4), "stdout:c\nd\n|");
  Deno.writeTextFileSync(`${files.runtimeDir}/cells/c/stdout`, "a\nb");
  assertEquals(await tail({ tailLines: 1 }), "stdout:b|");
});

Deno.test("output: of a cell of which nothing is kept there is none", async () => {
  using files = new Files("cells", {});
  assertEquals(await files.read(), undefined);
});

Deno.test("output: whoever follows sees what comes, over the cell's end, and then the end", async () => {
  using files = new Files("cells", { stdout: "first " });
  const { runtimeDir } = files;
  let isEnded = false;
  const { signal } = new AbortController();
  const place = { runtimeDir, cellId: "c", keepBytes: 1e6, isEnded: () => isEnded };
  const chunks = openOutput(place, { follow: true, signal })!;
  let text = "";
  for await (const { bytes } of chunks) {
    text += new TextDecoder().decode(bytes);
    if (text === "first ") {
      Deno.writeTextFileSync(`${runtimeDir}/cells/c/stdout`, "second", { append: true });
      Deno.mkdirSync(`${runtimeDir}/ended`);
      Deno.renameSync(`${runtimeDir}/cells/c`, `${runtimeDir}/ended/c`);
      isEnded = true;
    }
  }
  assertEquals(text, "first second");
});

Deno.test("kept output goes with its age, but not before the cell's end is told", () => {
  using files = new Files("ended", { stdout: "x" });
  const late = Date.now() + ENDED_AGE_MS + 1000;
  const trim = (isTold: boolean, nowMs: number) => trimEnded(files.runtimeDir, () => isTold, nowMs);
  assertEquals([trim(true, Date.now()), trim(false, late), trim(true, late)], [0, 0, 1]);
  assertEquals([...Deno.readDirSync(`${files.runtimeDir}/ended`)], []);
});
