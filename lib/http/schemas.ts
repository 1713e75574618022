/**
 * The shapes of answers for `/openapi.json`. Nothing is checked against them at run time: answers
 * are ours. Further members may come with any version.
 *
 * @module
 */
import { z } from "@hono/zod-openapi";

/** Every error. */
export const PROBLEM_SCHEMA: z.ZodType = z.looseObject({
  type: z.string().openapi({ example: "urn:celld:problem:not-found" }),
  title: z.string(),
  status: z.int(),
  detail: z.string(),
  requestId: z.string(),
}).openapi("Problem");

/** A formation. */
export const FORMATION_SCHEMA: z.ZodType = z.looseObject({
  id: z.uuid(),
  name: z.string(),
  status: z.enum(["PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"]),
  document: z.looseObject({}),
}).openapi("Formation");

/** A formation document as it is submitted. */
export const FORMATION_DOCUMENT_SCHEMA: z.ZodType = z.looseObject({
  name: z.string(),
  coordinator: z.string(),
  members: z.array(z.looseObject({ id: z.string(), authorizedBy: z.string().optional() })),
}).openapi("FormationDocument");

/** What is reported of a formation. */
export const STATUS_REPORT_SCHEMA: z.ZodType = z.object({
  state: z.enum(["created", "launching", "running", "degraded", "completed", "failed"]),
  reason: z.string().optional(),
  failed_cells: z.array(z.string()).optional(),
}).openapi("StatusReport");

/** Another number of cells of a member. */
export const SCALE_SCHEMA: z.ZodType = z.object({
  member: z.string(),
  replicas: z.int().min(0),
}).openapi("ScaleWish");

/** A cell. */
export const CELL_SCHEMA: z.ZodType = z.looseObject({
  id: z.string(),
  spec_id: z.string(),
  run_id: z.string().nullable(),
  state: z.enum(["pending", "running", "destroyed"]),
  status: z.enum(["pending", "running", "destroyed"]),
  formation_id: z.uuid().nullable(),
  started_at: z.iso.datetime().nullable(),
  destroyed_at: z.iso.datetime().nullable(),
  outcome: z.string().nullable(),
  exit_code: z.int32().nullable(),
}).openapi("Cell");

/** The specification of a cell. */
export const CELL_SPEC_SCHEMA: z.ZodType = z.looseObject({
  apiVersion: z.literal("cellos.io/v1"),
  kind: z.literal("ExecutionCell"),
  spec: z.looseObject({ id: z.string() }),
}).openapi("ExecutionCell");

/** A cell that was admitted. */
export const CELL_STARTED_SCHEMA: z.ZodType = z.object({
  cellId: z.string(),
  runId: z.string(),
}).openapi("CellStarted");

/** A command as it is asked for. */
export const EXEC_WISH_SCHEMA: z.ZodType = z.object({
  argv: z.array(z.string()).min(1),
  workingDirectory: z.string().optional(),
  stdin: z.boolean().optional().openapi({ description: "Bytes will come for its stdin" }),
  timeoutSeconds: z.int().min(1).optional(),
}).openapi("ExecWish");

/** A line of a command's answer: one of `started`, `stream` with `data`, `ended`. */
export const EXEC_LINE_SCHEMA: z.ZodType = z.object({
  started: z.object({ execId: z.string() }).optional(),
  stream: z.enum(["stdout", "stderr"]).optional(),
  data: z.base64().optional(),
  ended: z.looseObject({
    reason: z.string(),
    exitCode: z.int().optional(),
    signal: z.string().optional(),
    detail: z.string().optional(),
  }).optional(),
}).openapi("ExecLine");

/** A CloudEvent. */
export const EVENT_SCHEMA: z.ZodType = z.looseObject({
  specversion: z.literal("1.0"),
  id: z.string(),
  source: z.string(),
  type: z.string(),
  time: z.iso.datetime().optional(),
}).openapi("CloudEvent");

/** An event at its place. */
export const EVENT_ENTRY_SCHEMA: z.ZodType = z.object({ seq: z.int(), event: EVENT_SCHEMA })
  .openapi("EventEntry");

/** A flow decision or a closed connection. */
export const FLOW_SCHEMA: z.ZodType = z.looseObject({
  seq: z.int(),
  kind: z.string(),
  cell_id: z.string(),
}).openapi("Flow");

/** Counters of one rule of one run. */
export const RULE_SCHEMA: z.ZodType = z.looseObject({
  cell_id: z.string(),
  run_id: z.string(),
  rule_ref: z.string(),
}).openapi("RuleCounters");

/** A host. */
export const HOST_SCHEMA: z.ZodType = z.looseObject({ id: z.string() }).openapi("Host");

/** An agent. */
export const AGENT_SCHEMA: z.ZodType = z.looseObject({
  id: z.string(),
  host_pid: z.int(),
  pid: z.int(),
  name: z.string().nullable(),
  cell_id: z.string().nullable(),
  status: z.enum(["ok", "degraded", "critical", "stall"]),
  origin: z.string(),
  last_beat_age_ms: z.number(),
  threshold_ms: z.number().nullable(),
  recoveries: z.int(),
}).openapi("Agent");

/** A page of a list. */
export function pageSchema(name: string, record: z.ZodType): z.ZodType {
  return z.object({
    [name]: z.array(record),
    cursor: z.int().openapi({ description: "The highest sequence that state has applied" }),
    next: z.string().optional().openapi({ description: "There is more: send it as `after`" }),
  });
}
