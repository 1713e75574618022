/**
 * From flows' sockets to the core: replies of backends, and ICMP messages about them.
 *
 * A batch of replies of several flows is gathered in slots of the slab, until it is sent.
 *
 * @module
 */
import { EPOLL, ERRNO, receiveUdp, takeSocketError, UDP_BATCH, type UdpSlab } from "#ffi/mod.ts";
import type { FlowSlots } from "./flow_slots.ts";
import type { UdpManager } from "./manager.ts";
import { SHELL_COUNTER } from "./shell_counters.ts";
import type { Upstreams } from "./upstreams_worker.ts";

/** What {@link FlowReplies} needs. */
export interface FlowRepliesParts {
  readonly slab: UdpSlab;
  readonly counters: Float64Array;
  readonly manager: UdpManager;
  readonly slots: FlowSlots;
  readonly upstreams: Upstreams;
  /** An error of the flow in a slot. */
  readonly onError: (slot: number, errno: number) => void;
  /** Sends what was gathered, and calls {@link FlowReplies.reset}. */
  readonly send: () => void;
}

/** See the module. Uses a second {@link UDP_BATCH} of the slab's slots. */
export class FlowReplies {
  readonly #parts: FlowRepliesParts;
  #gathered = 0;

  /** Starts without any. */
  constructor(parts: FlowRepliesParts) {
    this.#parts = parts;
  }

  /** The slots are used again. */
  reset(): void {
    this.#gathered = 0;
  }

  /** Deals with what the socket of the flow in a slot has, of its replies so many at most. */
  handle(slot: number, events: number, limit: number, now: number): void {
    const { slab, slots, upstreams, manager, onError, send } = this.#parts;
    const fd = upstreams.fdOf(slot);
    if (fd < 0) return;
    if ((events & (EPOLL.ERR | EPOLL.HUP)) !== 0) this.#takeError(slot, fd);
    if ((events & EPOLL.OUT) !== 0) upstreams.drain(slot);
    if ((events & EPOLL.IN) === 0) return;
    const flow = slots.flowAt(slot);
    for (let taken = 0; taken < limit; taken++) {
      if (this.#gathered === UDP_BATCH) send();
      const place = UDP_BATCH + this.#gathered;
      const length = receiveUdp(fd, slab, place);
      if (length < 0) {
        if (length === -ERRNO.EAGAIN) return;
        if (length !== -ERRNO.EINTR) onError(slot, -length);
        continue;
      }
      this.#gathered += 1;
      const size = Math.min(length, slab.payloadBytes + 1);
      manager.onUpstreamDatagram(flow, slab.bytes, slab.payloadAt(place), size, now);
      // The reply may have been the flow's last.
      if (slots.flowAt(slot) !== flow) return;
    }
  }

  #takeError(slot: number, fd: number): void {
    const errno = takeSocketError(fd);
    if (errno === 0) return;
    this.#parts.counters[SHELL_COUNTER.icmp] += 1;
    this.#parts.onError(slot, errno);
  }
}
