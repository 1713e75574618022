/**
 * The acting part of liveness: the observer's worker and its owner's side.
 *
 * ```ts ignore
 * const observer = await LivenessObserver.start({ socket: { path }, thresholdNs: 5e9 });
 * observer.onEvents = (events) => console.log(events.length);
 * ```
 *
 * @module
 */
export { kernelClock } from "./kernel_clock_shell.ts";
export {
  BEAT_FIELDS,
  type CellSocketOrder,
  type HostSocketOptions,
  type LivenessOptions,
  type ObserverFacts,
  type SocketFacts,
  type UdpOptions,
} from "./observer_messages.ts";
export * from "./observer_shell.ts";
