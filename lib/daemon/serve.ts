/**
 * `celld serve`: the control plane of a host, one life after another.
 *
 * ```
 * SIGTERM ──────────────▶ the end
 * a thread died ────────▶ wait ─▶ execve: the same process, program and arguments
 * SIGUSR2 ──────────────▶ execve, the program as it is now on the disk
 * SIGUSR2, a successor ─▶ it gets what is left ─▶ it serves: the end; it failed: execve
 * ```
 *
 * Cells go on while no server runs, held by their policy and limits; the next one takes them over.
 * Sockets and flows of the UDP load balancer stay open over all but the end: the kernel keeps what
 * comes meanwhile.
 *
 * @module
 */
import { OPEN, openFile, tryLock } from "#ffi/mod.ts";
import { RunError } from "./cell_order.ts";
import type { ServeOptions } from "./ports.ts";
import { closeReleased } from "./inheritance_file.ts";
import { Predecessor } from "./predecessor.ts";
import { Server, type ServerBefore, type ServerEnding } from "./server.ts";
import { ServeLog } from "./serve_log.ts";
import { waitForLog } from "./serve_listen.ts";
import {
  nextRestart,
  type RestartNote,
  restartWaitMs,
  startAgain,
  takeLifeBefore,
} from "./serve_restart.ts";
import { abortOf, makeDirectory } from "./serve_support.ts";
import { checkUdpText } from "./serve_udp.ts";
import { UdpInheritance } from "./udp_inheritance.ts";

/**
 * Serves until the signal is aborted or a successor serves, and starts again where a thread of its
 * own dies. Rejects with {@link RunError} where it cannot, or no more.
 */
export async function serve(options: ServeOptions): Promise<void> {
  const { restart, inheritance } = takeLifeBefore(options.onWarning);
  const startedMs = performance.now();
  if (options.udpText !== undefined) checkUdpText(options.udpText);
  makeDirectory(options.settings.stateDir, 0o700);
  using predecessor = await askPredecessor(options);
  const left = predecessor?.inheritance ?? inheritance;
  if (left !== undefined && left.refused > 0) {
    options.onWarning(`${left.refused} sockets or flows of the server before are of no known kind`);
  }
  const inherited = left === undefined ? undefined : new UdpInheritance(left.released);
  const onReady: ServeOptions["onReady"] = (where) => {
    predecessor?.confirm(options.onWarning);
    options.onReady(where);
  };
  let ending: ServerEnding;
  try {
    ending = await serveOnce({ ...options, onReady }, {
      ...(restart === undefined ? {} : { restart }),
      ...(inherited === undefined ? {} : { inheritance: inherited }),
    });
  } finally {
    // Who had no use for it has not closed it.
    inherited?.close();
  }
  await goOn(options, ending, restart, performance.now() - startedMs);
}

async function serveOnce(options: ServeOptions, before: ServerBefore): Promise<ServerEnding> {
  const { settings } = options;
  // Cells' users pass through to their files.
  makeDirectory(settings.runtimeDir, 0o711);
  // Two servers would both run what the log asks for.
  using lock = openFile(`${settings.stateDir}/serve.lock`, {
    flags: OPEN.READ_WRITE | OPEN.CREATE,
  });
  if (!tryLock(lock, "exclusive")) {
    throw new RunError(
      `Cannot serve: another celld serves from ${JSON.stringify(settings.stateDir)}: stop it, or ` +
        "take over from it with --take-over",
    );
  }
  const source = `/celld/${Deno.hostname()}`;
  const log = await ServeLog.open(settings, source, options.onWarning);
  try {
    return await waitForLog(options, log) ? await Server.run(options, log, before) : {};
  } finally {
    await log.close();
  }
}

function askPredecessor(
  { isTakingOver, settings, signal, onWarning }: ServeOptions,
): Promise<Predecessor | undefined> {
  if (!isTakingOver) return Promise.resolve(undefined);
  return Predecessor.ask({ stateDir: settings.stateDir, signal, onWarning });
}

/** What comes after a server's end: nothing, a successor, or another life of this process. */
async function goOn(
  options: ServeOptions,
  { gone, successor, released }: ServerEnding,
  before: RestartNote | undefined,
  livedMs: number,
): Promise<void> {
  using _ = successor;
  const { signal, upgradeSignal, onWarning } = options;
  const close = () => {
    if (released !== undefined) closeReleased(released);
  };
  if (gone !== undefined && !upgradeSignal.aborted) {
    const note = nextRestart(before, gone, livedMs);
    const waitMs = restartWaitMs(note);
    onWarning(`${gone.message}; starting again in ${waitMs} ms`);
    await abortOf(AbortSignal.any([signal, AbortSignal.timeout(waitMs)]));
    if (!signal.aborted) startAgain({ restart: note, released });
    close();
    throw gone;
  }
  if (signal.aborted || !upgradeSignal.aborted) return close();
  if (successor === undefined) onWarning("Starting again, for an upgrade");
  else {
    const failure = await successor.give(released ?? NOTHING_LEFT, signal);
    if (failure === undefined) onWarning(`Process ${successor.pid} has taken over`);
    if (failure === undefined || signal.aborted) return close();
    onWarning(`The successor, process ${successor.pid}, does not serve: ${failure}; going on`);
  }
  startAgain({ released, isUpgrade: successor === undefined });
}

const NOTHING_LEFT = { hashKey: { low: 0, high: 0 }, listeners: [], backends: [], workers: [] };
