/**
 * Taking over from a server in charge that a test plays, in a process of its own: what it leaves
 * comes whole, and whatever else it does is told and leaves nothing behind.
 *
 * They look at the descriptors of the whole process: so they run alone.
 *
 * @module
 */
import { assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { duplicateFd } from "#ffi/mod.ts";
import { RunError } from "#lib/daemon/cell_order.ts";
import { closeReleased } from "#lib/daemon/inheritance_file.ts";
import { descriptorsOf } from "#lib/daemon/inheritance.ts";
import { Predecessor } from "#lib/daemon/predecessor.ts";
import { kernelTest } from "#tests/support/kernel.ts";

const CHILD = new URL("./succession_child.ts", import.meta.url).pathname;

/** A process that plays the server in charge. */
class PlayedServer implements AsyncDisposable {
  readonly stateDir: string = Deno.makeTempDirSync({ prefix: "celld-succession-" });
  readonly warnings: string[] = [];
  readonly #child: Deno.ChildProcess;
  readonly #reader: ReadableStreamDefaultReader<string>;
  #said = "";

  private constructor(mode: string) {
    this.#child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--quiet", "--no-check", CHILD, this.stateDir, mode],
      stdin: "null",
      stdout: "piped",
    }).spawn();
    this.#reader = this.#child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  static async start(mode: string): Promise<PlayedServer> {
    const server = new PlayedServer(mode);
    await server.says("holds the lock");
    return server;
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** Waits until it says something. */
  async says(text: string): Promise<void> {
    while (!this.#said.includes(text)) {
      const { done, value } = await this.#reader.read();
      if (done) throw new Error(`it only said ${JSON.stringify(this.#said)}`);
      this.#said += value;
    }
  }

  /** Asks it to make room. */
  ask(signal: AbortSignal = new AbortController().signal): Promise<Predecessor | undefined> {
    const onWarning = (text: string) => void this.warnings.push(text);
    return Predecessor.ask({ stateDir: this.stateDir, signal, onWarning });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // It has ended by itself.
    }
    while (!(await this.#reader.read()).done);
    await this.#child.status;
    const left = [...Deno.readDirSync(this.stateDir)].map(({ name }) => name);
    Deno.removeSync(this.stateDir, { recursive: true });
    assertEquals(left, ["serve.lock"], "no socket is left behind");
  }
}

/** Descriptors of this process of the kind that the played server gives. */
function openEvents(): number {
  const links = [...Deno.readDirSync("/proc/self/fd")].map(({ name }) => linkOf(name));
  return links.filter((link) => link.includes("eventfd")).length;
}

function linkOf(name: string): string {
  try {
    return Deno.readLinkSync(`/proc/self/fd/${name}`);
  } catch {
    // The one that the look itself had open.
    return "";
  }
}

/** Rejects with a reason, and leaves no descriptor open. */
async function assertRefused(mode: string, reason: string | RegExp): Promise<void> {
  await using server = await PlayedServer.start(mode);
  const before = openEvents();
  const error = await assertRejects(() => server.ask(), RunError);
  assertMatch(error.message, new RegExp(reason));
  assertEquals(openEvents(), before);
}

kernelTest(
  "succession: all descriptors come, open, and the other one hears that we serve",
  [],
  async () => {
    await using server = await PlayedServer.start("give");
    const before = openEvents();
    {
      using predecessor = await server.ask();
      assertEquals(predecessor?.pid, server.pid);
      const { released, refused, pid } = predecessor!.inheritance;
      assertEquals([pid, refused], [server.pid, 0]);
      assertEquals(released.listeners.map(({ name, port }) => [name, port]), [["dns", 53]]);
      assertEquals(released.workers[0].flows.length, 600);
      const numbers = descriptorsOf(released);
      assertEquals(new Set(numbers).size, 601);
      for (const number of numbers) duplicateFd(number).close();
      closeReleased(released);
      predecessor!.confirm((text) => server.warnings.push(text));
    }
    await server.says("it serves");
    assertEquals(openEvents(), before);
    assertEquals(server.warnings.length, 1);
    assertStringIncludes(server.warnings[0], `Taking over from process ${server.pid}`);
  },
);

kernelTest("succession: where we fail, the other one hears that too", [], async () => {
  await using server = await PlayedServer.start("give");
  const predecessor = await server.ask();
  closeReleased(predecessor!.inheritance.released);
  predecessor![Symbol.dispose]();
  await server.says("it ended before it served");
});

kernelTest("succession: the other one waits for us no longer than it is to", [], async () => {
  await using server = await PlayedServer.start("give, and wait for a moment");
  using predecessor = await server.ask();
  await server.says("it was not waited for any longer");
  closeReleased(predecessor!.inheritance.released);
  // It has gone: that is no error of ours.
  predecessor!.confirm((text) => server.warnings.push(text));
});

kernelTest("succession: one that would die of the signal gets none", [], async () => {
  await using server = await PlayedServer.start("deaf");
  await assertRejects(() => server.ask(), RunError, "does not know how");
  // It is there still, and holds the lock.
  await assertRejects(() => server.ask(), RunError, `process ${server.pid}`);
});

kernelTest(
  "succession: one that ends when it is asked leaves nothing to take over",
  [],
  async () => {
    await using server = await PlayedServer.start("end");
    assertEquals(await server.ask(), undefined);
    assertEquals(await server.ask(), undefined);
  },
);

kernelTest(
  "succession: one that goes away, or talks nonsense, is told as a refusal",
  [],
  async () => {
    await assertRefused("hello and end", "gave nothing");
    await assertRefused("nonsense", "JSON");
    await assertRefused("no numbers", "gave nothing");
    await assertRefused("no inheritance", "Cannot take over");
  },
);

kernelTest(
  "succession: one who waits can be told to give up, and two cannot wait",
  [],
  async () => {
    await using server = await PlayedServer.start("wait");
    const giveUp = new AbortController();
    const first = server.ask(giveUp.signal);
    const refused = assertRejects(() => first, RunError, "Cannot take over");
    await assertRejects(() => server.ask(), RunError, "another process listens there");
    giveUp.abort();
    await refused;
  },
);
