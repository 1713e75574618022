/**
 * A flow that one server leaves to the next, for tests.
 *
 * @module
 */
import type { InheritedFlow } from "#lib/udp/mod.ts";

/** A flow of a client at 192.0.2.1. */
export function inheritedFlow(more: Partial<InheritedFlow> = {}): InheritedFlow {
  return {
    caps: { requests: 0, responses: null, amplification: null },
    listener: 0,
    backend: 0,
    tuple: [0, 0, 0xffff, 0xc0000201, 0, 0, 0xffff, 0x7f000001, 0x14e90035],
    affinity: 7,
    flags: 3,
    roundTrips: 1,
    requests: 2,
    responses: 2,
    replies: 2,
    dropped: 0,
    reselections: 0,
    bytesIn: 80,
    bytesOut: 200,
    ageMs: 1500.5,
    firstReplyMs: -1,
    remainingMs: 28_000,
    ...more,
  };
}
