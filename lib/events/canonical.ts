/**
 * The canonical bytes of an event: what a signature covers, and what two writers of the same
 * event agree on.
 *
 * @module
 */
import { canonicalJsonBytes } from "#lib/base/mod.ts";
import type { CloudEvent } from "./envelope.ts";

/** The whole event as canonical JSON (RFC 8785) in UTF-8. Throws `TypeError` on what JSON cannot say. */
export function canonicalEventBytes(event: CloudEvent): Uint8Array<ArrayBuffer> {
  return canonicalJsonBytes(event);
}
