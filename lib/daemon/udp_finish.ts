/**
 * The end of the load balancer's workers: replies that are on their way are waited for, a little.
 *
 * @module
 */
import type { UdpPlanePort } from "#lib/udp/mod_shell.ts";

/** How long replies are waited for at the end, in milliseconds: who is restarted is to be soon. */
export const FINISH_MS = 1000;
const LOOK_MS = 20;

/**
 * Takes no new flows, and resolves when each flow's datagrams were answered, or after
 * {@link FINISH_MS}. Flows of `oneWay` listeners, by number, are not waited for. Never rejects.
 */
export async function finishReplies(
  plane: Pick<UdpPlanePort, "drain" | "snapshot">,
  oneWay: ReadonlySet<number>,
): Promise<void> {
  const untilMs = performance.now() + FINISH_MS;
  try {
    plane.drain(2 * FINISH_MS).catch(() => {});
    while (performance.now() < untilMs) {
      const flows = await plane.snapshot();
      const isAwaited = flows.some(({ listener, requests, replies }) =>
        replies < requests && !oneWay.has(listener)
      );
      if (!isAwaited) return;
      await new Promise((done) => setTimeout(done, LOOK_MS));
    }
  } catch {
    // A worker that died answers nobody: there is nothing to wait for.
  }
}
