/**
 * The shapes of the UDP load balancer's answers and documents for `/openapi.json`; what a document
 * may say is checked by `lib/udp`.
 *
 * @module
 */
import { z } from "@hono/zod-openapi";

const COUNTERS = z.record(z.string(), z.number());

/** A document. */
export const UDP_DOCUMENT_SCHEMA: z.ZodType = z.looseObject({}).openapi("UdpDocument");

/** What a document changed. */
export const UDP_CHANGE_SCHEMA: z.ZodType = z.object({
  set: z.array(z.string()),
  removed: z.array(z.string()),
  unchanged: z.array(z.string()),
}).openapi("UdpChange");

/** A wish to drain. */
export const UDP_DRAIN_SCHEMA: z.ZodType = z.object({
  draining: z.boolean().optional(),
  after_ms: z.int().min(0).optional(),
}).openapi("UdpDrain");

/** A listener. */
export const UDP_LISTENER_SCHEMA: z.ZodType = z.looseObject({
  name: z.string(),
  address: z.string(),
  cluster: z.string().nullable(),
  status: z.string(),
  flows: z.int(),
  counters: COUNTERS,
  settings: z.looseObject({}),
}).openapi("UdpListener");

/** A cluster with its backends. */
export const UDP_CLUSTER_SCHEMA: z.ZodType = z.looseObject({
  name: z.string(),
  balance: z.string(),
  backends: z.array(z.looseObject({
    name: z.string(),
    address: z.string(),
    status: z.string(),
    reason: z.string(),
    flows: z.int(),
    counters: COUNTERS,
  })),
  settings: z.looseObject({}),
}).openapi("UdpCluster");

/** A live flow. */
export const UDP_FLOW_SCHEMA: z.ZodType = z.looseObject({
  listener: z.string(),
  cluster: z.string(),
  backend: z.string().nullable(),
  client: z.string(),
  duration_ms: z.number(),
}).openapi("UdpFlow");
