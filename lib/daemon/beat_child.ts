/**
 * Beats for a program that cannot: as long as the child lives, this process says that it does.
 *
 * The agent is this process, by the kernel's credentials; it ends with its child, so an observer
 * learns of the end at once. A child that fails has a last word said for it.
 *
 * @module
 */
import { type BeatClient, connect } from "#lib/client/mod.ts";
import type { BeatChildOptions } from "./ports.ts";

const EXIT_NOT_EXECUTABLE = 126;
const EXIT_NOT_FOUND = 127;

/** Runs the program to its end, and returns its exit code; 128 + n where signal n ended it. */
export async function beatForChild(options: BeatChildOptions): Promise<number> {
  using beats = connect(options.socketPath);
  const child = spawn(options.argv);
  if (typeof child === "number") return child;
  const stopForwarding = options.onSignal((signal) => forward(child, signal as Deno.Signal));
  const stopBeating = beatEvery(beats, options);
  try {
    const { code } = await child.status;
    if (code !== 0) beats.sayLastWord();
    return code;
  } finally {
    stopBeating();
    stopForwarding();
  }
}

function spawn([program, ...args]: readonly string[]): Deno.ChildProcess | number {
  try {
    return new Deno.Command(program!, { args }).spawn();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return EXIT_NOT_FOUND;
    if (error instanceof Deno.errors.PermissionDenied) return EXIT_NOT_EXECUTABLE;
    throw error;
  }
}

function forward(child: Deno.ChildProcess, signal: Deno.Signal): void {
  try {
    child.kill(signal);
  } catch (error) {
    // It has just ended.
    if (!(error instanceof TypeError)) throw error;
  }
}

/** Beats now and then on; a change from arriving to not, or back, is told once. */
function beatEvery(beats: BeatClient, { everyMs, onWarning }: BeatChildOptions): () => void {
  let trouble = "";
  const beat = () => {
    const outcome = beats.beat();
    const now = outcome.kind === "sent"
      ? ""
      : outcome.kind === "dropped"
      ? outcome.reason.replaceAll("_", " ")
      : outcome.errno;
    if (now === trouble) return;
    onWarning(now === "" ? "beats arrive" : `beats do not arrive: ${now}`);
    trouble = now;
  };
  beat();
  const timer = setInterval(beat, everyMs);
  return () => clearInterval(timer);
}
