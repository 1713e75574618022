/**
 * The small tools that every layer may use: assertions, addresses, ids, canonical JSON.
 *
 * Nothing here knows a domain word, reads a clock, or touches the world.
 *
 * ```ts
 * import { cidrContains, parseCidr, parseIp } from "#lib/base/mod.ts";
 *
 * const pool = parseCidr("10.213.0.0/16");
 * const address = parseIp("10.213.7.1");
 * if (!pool || !address || !cidrContains(pool, address)) throw new Error("unexpected");
 * ```
 *
 * @module
 */
export * from "./assert.ts";
export * from "./bounded_queue.ts";
export * from "./bytes.ts";
export * from "./clock.ts";
export * from "./crc32c.ts";
export * from "./did_you_mean.ts";
export * from "./duration.ts";
export * from "./field_reader.ts";
export * from "./ids.ts";
export * from "./ip.ts";
export * from "./json_canonical.ts";
export * from "./prng.ts";
export * from "./probe_table.ts";
export * from "./timer_wheel.ts";
export * from "./worker_owner.ts";
