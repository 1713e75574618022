/**
 * Who is alive: the frames and packets that agents send, and what is made of them.
 *
 * ```ts
 * import { decodeFrame, DECODE, encodeFrame, FRAME_BYTES, VlpFrame } from "#lib/liveness/mod.ts";
 *
 * const frame = Object.assign(new VlpFrame(), { pid: 42, nonceLo: 1 });
 * const bytes = new Uint8Array(FRAME_BYTES);
 * encodeFrame(frame, bytes);
 * if (decodeFrame(bytes, 0, frame) !== DECODE.ok) throw new Error("unexpected");
 * ```
 *
 * @module
 */
export * from "./agent_directory.ts";
export * from "./agent_events.ts";
export * from "./beat_limits.ts";
export * from "./listener.ts";
export * from "./loop_times.ts";
export * from "./notify.ts";
export * from "./observer.ts";
export * from "./observer_clock.ts";
export * from "./observer_counters.ts";
export * from "./observer_options.ts";
export * from "./rate_limit.ts";
export * from "./secure_frame.ts";
export * from "./secure_receiver.ts";
export * from "./secure_sessions.ts";
export * from "./thresholds.ts";
export * from "./origin.ts";
export * from "./tracker.ts";
export * from "./tracker_counters.ts";
export * from "./tracker_eviction.ts";
export * from "./tracker_rules.ts";
export * from "./tracker_slots.ts";
export * from "./tracker_snapshot.ts";
export * from "./vlp_frame.ts";
