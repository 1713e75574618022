/**
 * Schemas of the events about the UDP load balancer.
 *
 * @module
 */
import type {
  UdpBackendData,
  UdpFlowClosedData,
  UdpInheritedData,
  UdpRemovedData,
  UdpSetData,
} from "../udp_data.ts";
import { COUNT, ID, objectOf, oneOf, optional, TEXT } from "./define.ts";

const KIND = oneOf("listener", "cluster");
const MILLISECONDS = { type: "number", minimum: 0 } as const;

/** {@link UdpSetData} */
export const UDP_SET = objectOf<UdpSetData>("A listener or a cluster of the UDP load balancer.", {
  kind: KIND,
  name: ID,
  document: { type: "object" },
});

/** {@link UdpRemovedData} */
export const UDP_REMOVED = objectOf<UdpRemovedData>("A listener or a cluster is no more.", {
  kind: KIND,
  name: ID,
});

/** {@link UdpBackendData} */
export const UDP_BACKEND = objectOf<UdpBackendData>("A backend changed its state.", {
  cluster: ID,
  backend: ID,
  address: ID,
  state: oneOf("up", "down", "draining", "removed"),
  reason: TEXT,
  cellId: optional(ID),
});

/** {@link UdpInheritedData} */
export const UDP_INHERITED = objectOf<UdpInheritedData>(
  "A server took over the load balancer's sockets and flows from the one before.",
  { restored: COUNT, flows: COUNT, listeners: COUNT, discarded: COUNT },
);

/** {@link UdpFlowClosedData} */
export const UDP_FLOW_CLOSED = objectOf<UdpFlowClosedData>("A flow ended; sampled.", {
  listener: ID,
  cluster: ID,
  backend: optional(ID),
  client: ID,
  reason: ID,
  durationMs: MILLISECONDS,
  datagramsIn: COUNT,
  bytesIn: COUNT,
  datagramsOut: COUNT,
  bytesOut: COUNT,
  dropped: COUNT,
  firstReplyMs: optional(MILLISECONDS),
  sampledOf: COUNT,
});
