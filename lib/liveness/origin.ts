/**
 * How far a beat's sender is vouched for: four classes, ranked.
 *
 * The class says who attested the pid, and with that whether anything may be done to the process:
 * a signal to a pid that a stranger merely wrote into a datagram would be a gift to the stranger.
 * The numbers are the ranks: a beat of a higher rank takes an agent over, one of a lower is refused.
 *
 * @module
 */

/** The classes, by rank. */
export const ORIGIN = {
  /** A network datagram: anyone may have written it. */
  networkUnverified: 0,
  /** A Unix socket whose peer the kernel did not name, or whose start time could not be read. */
  socketModeOnly: 1,
  /** A network listener of which the operator said that its beats may lead to recovery. */
  operatorAttestedTransport: 2,
  /** The kernel named the peer, and its start time was read: this process and no other. */
  kernelAttested: 3,
} as const;
/** One of {@link ORIGIN}. */
export type Origin = typeof ORIGIN[keyof typeof ORIGIN];

/** Names of the classes as metrics and events print them, by rank. */
export const ORIGIN_NAMES = [
  "network_unverified",
  "socket_mode_only",
  "operator_attested_transport",
  "kernel_attested",
] as const;
/** One of {@link ORIGIN_NAMES}. */
export type OriginName = typeof ORIGIN_NAMES[number];

/** Whether a stall told by such beats may lead to recovery. */
export function allowsRecovery(origin: Origin): boolean {
  return origin >= ORIGIN.operatorAttestedTransport;
}

/** Whether the class is one of network datagrams, where nothing but silence tells two senders apart. */
export function isNetworkOrigin(origin: Origin): boolean {
  return origin === ORIGIN.networkUnverified || origin === ORIGIN.operatorAttestedTransport;
}

/**
 * The class that a beat really has: the kernel's word for a pid counts in full only where the
 * process's start time (`generation`, 0 when unknown) was read now or for an earlier beat of the
 * same agent. Otherwise the pid may have passed on, and the beat counts as {@link ORIGIN}.socketModeOnly.
 */
export function effectiveOrigin(origin: Origin, generation: number, pinned: number): Origin {
  return origin === ORIGIN.kernelAttested && generation === 0 && pinned === 0
    ? ORIGIN.socketModeOnly
    : origin;
}
