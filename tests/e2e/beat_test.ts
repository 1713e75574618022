/**
 * Beats over a real socket: by the client that programs import, and by the wrapper for those that
 * cannot. What arrives is read with the kernel's credentials.
 *
 * @module
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { ReceiveBatch, UnixDatagramSocket } from "#ffi/mod.ts";
import { connect } from "#lib/client/mod.ts";
import { DECODE, decodeFrame, STATUS, VlpFrame } from "#lib/liveness/mod.ts";
import { REPOSITORY_ROOT, runCelld } from "#tests/support/subprocess.ts";

interface Heard {
  readonly kernelPid: number;
  readonly frame: VlpFrame;
}

/** A socket of an observer, and what came to it. */
class Ear implements Disposable {
  readonly #batch = new ReceiveBatch({ slots: 64, payloadBytes: 33 });
  #socket: UnixDatagramSocket;

  constructor(readonly path: string) {
    this.#socket = UnixDatagramSocket.bind({ path });
  }

  /** What came since the last call. */
  heard(): Heard[] {
    const count = this.#batch.receive(this.#socket.fd);
    return Array.from({ length: Math.max(count, 0) }, (_, at) => {
      const frame = new VlpFrame();
      assertEquals(this.#batch.lengthAt(at), 32);
      assertEquals(decodeFrame(this.#batch.bytes, this.#batch.payloadAt(at), frame), DECODE.ok);
      return { kernelPid: this.#batch.pids[at], frame };
    });
  }

  restart(): void {
    this.#socket.close();
    this.#socket = UnixDatagramSocket.bind({ path: this.path });
  }

  [Symbol.dispose](): void {
    this.#batch.closeDescriptors();
    this.#socket.close();
  }
}

async function withEar(use: (ear: Ear, base: string) => void | Promise<void>): Promise<void> {
  const base = Deno.makeTempDirSync({ prefix: "celld-beat-" });
  try {
    using ear = new Ear(`${base}/observer.sock`);
    await use(ear, base);
  } finally {
    Deno.removeSync(base, { recursive: true });
  }
}

Deno.test("beat client: beats arrive with the pid that the kernel tells, in order", () =>
  withEar((ear) => {
    using beats = connect(ear.path);
    assertEquals(beats.beat(), { kind: "sent" });
    assertEquals(beats.beat("degraded", 7), { kind: "sent" });
    const heard = ear.heard();
    assertEquals(heard.map(({ kernelPid, frame }) => [kernelPid, frame.pid]), [
      [Deno.pid, Deno.pid],
      [Deno.pid, Deno.pid],
    ]);
    assertEquals(heard.map(({ frame }) => [frame.nonceLo, frame.status, frame.payload]), [
      [1, STATUS.ok, 0],
      [2, STATUS.degraded, 7],
    ]);
    assertEquals(beats.counters, { sent: 2, dropped: 0, failed: 0, reconnects: 0, forks: 0 });
  }));

Deno.test("beat client: an observer that comes later, or again, is found by itself", () =>
  withEar((ear) => {
    using beats = connect(ear.path);
    assertEquals(beats.beat().kind, "sent");
    ear.restart();
    assertEquals(beats.beat().kind, "sent");
    assertEquals(ear.heard().map(({ frame }) => frame.nonceLo), [2]);
    using early = connect(`${ear.path}.later`);
    assertEquals(early.beat(), { kind: "dropped", reason: "no_observer" });
    using late = new Ear(`${ear.path}.later`);
    assertEquals(early.beat().kind, "sent");
    assertEquals(late.heard().map(({ frame }) => frame.nonceLo), [2]);
  }));

Deno.test("beat client: a full queue is a drop, not an error, and never waits", () =>
  withEar((ear) => {
    using beats = connect(ear.path);
    let outcome = beats.beat();
    for (let sent = 1; outcome.kind === "sent" && sent < 1_000_000; sent++) outcome = beats.beat();
    assertEquals(outcome, { kind: "dropped", reason: "kernel_queue_full" });
    assertEquals(beats.counters.reconnects, 0);
  }));

Deno.test("beat client: a program that dies of an error nobody catches has a last word", () =>
  withEar(async (ear, base) => {
    const program = `${base}/dies.ts`;
    Deno.writeTextFileSync(
      program,
      `import { connect } from "${REPOSITORY_ROOT}/lib/client/mod.ts";
       const beats = connect();
       beats.sayLastWordOnPanic();
       beats.beat();
       setTimeout(() => { throw new Error("it breaks"); }, 1);`,
    );
    const { code } = await new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "-A",
        "--no-check",
        "--quiet",
        `--config=${REPOSITORY_ROOT}/deno.json`,
        program,
      ],
      env: { VARTA_SOCKET: ear.path },
      stderr: "null",
    }).output();
    assert(code !== 0);
    const heard = ear.heard().map(({ frame }) => [frame.status, frame.isTerminal]);
    assertEquals(heard, [[STATUS.ok, false], [STATUS.critical, true]]);
  }));

Deno.test("celld beat: beats while its child lives, and ends as it does", () =>
  withEar(async (ear) => {
    const words = ["beat", "--every", "20ms", "--socket", ear.path, "--"];
    const { code, stderr } = await runCelld([...words, "sh", "-c", "sleep 0.5; exit 7"]);
    assertEquals([code, stderr], [7, ""]);
    const heard = ear.heard();
    assert(heard.length > 2, `${heard.length} beats`);
    assertEquals(
      new Set(heard.map(({ kernelPid, frame }) => kernelPid === frame.pid)),
      new Set([true]),
    );
    assertEquals(heard.at(-1)!.frame.isTerminal, true);
    assertEquals((await runCelld([...words, "true"])).code, 0);
    assertEquals(ear.heard().some(({ frame }) => frame.isTerminal), false);
    assertEquals((await runCelld([...words, "/there/is/none"])).code, 127);
    assertEquals((await runCelld([...words, "sh", "-c", "kill -9 $$"])).code, 137);
  }));

Deno.test("celld beat: says once that nobody listens, and what it needs", async () => {
  const silent = await runCelld(
    ["beat", "--every", "20ms", "--socket", "/no/such.sock", "--", "sleep", "0.3"],
  );
  assertEquals(silent.code, 0);
  assertEquals(silent.stderr, "celld: beats do not arrive: no observer\n");
  const none = await runCelld(["beat", "--", "true"]);
  assertEquals(none.code, 2);
  assertStringIncludes(none.stderr, "VARTA_SOCKET");
  const often = await runCelld(["beat", "--socket", "/s", "--every", "1ms", "--", "true"]);
  assertEquals(often.code, 2);
});
