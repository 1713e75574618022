/**
 * Starts what carries the load balancer's datagrams: the shell that the settings ask for.
 *
 * @module
 */
import { type BalancerConfig, type HashKey, UDP_CONFIG_LIMITS } from "#lib/udp/mod.ts";
import type {
  PortablePlaneOptions,
  UdpPlaneOptions,
  UdpPlanePort,
  UdpWorkerGoneError,
} from "#lib/udp/mod_shell.ts";

/** The shells that there are. */
export interface UdpShells {
  readonly UdpPlane: { start(options: UdpPlaneOptions): Promise<UdpPlanePort> };
  readonly PortableUdpPlane: { start(options: PortablePlaneOptions): Promise<UdpPlanePort> };
  readonly UdpWorkerGoneError: typeof UdpWorkerGoneError;
}

/** What is lost without the fast shell, in a line. */
export const PORTABLE_LOSSES =
  "slower, one thread, blind to ICMP and to losses in the kernel, no source addresses, and an " +
  "upgrade ends its flows";

/**
 * Starts a plane.
 *
 * @param inherited Of the server before: the key by which the same backends are chosen, and how
 *   many descriptors of its flows are open.
 * @param shells For tests.
 */
export async function startPlane(
  { shell, workers, maxFlows, whenFull }: BalancerConfig,
  inherited: { readonly hashKey: HashKey; readonly fileCount: number } | undefined,
  onWarning: (text: string) => void,
  shells?: UdpShells,
): Promise<UdpPlanePort> {
  const known: UdpShells = shells ?? await import("#lib/udp/mod_shell.ts");
  const options = {
    whenFull,
    // What nobody asked for is cut without a word.
    ...(maxFlows === UDP_CONFIG_LIMITS.maxFlowsDefault ? {} : { maxFlows }),
    ...(inherited && { hashKey: inherited.hashKey, inheritedFiles: inherited.fileCount }),
  };
  if (shell === "portable") return await known.PortableUdpPlane.start(options);
  try {
    return await known.UdpPlane.start({ ...options, workers });
  } catch (error) {
    if (shell === "fast" || !(error instanceof known.UdpWorkerGoneError)) throw error;
    const plane = await known.PortableUdpPlane.start(options);
    onWarning(
      `The UDP load balancer runs on the portable shell (${PORTABLE_LOSSES}), since the fast one ` +
        `does not start: ${error.message}`,
    );
    return plane;
  }
}
