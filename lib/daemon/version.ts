/**
 * celld's version, as `deno.json` says it; a test holds the two together.
 *
 * @module
 */

/** A semantic version. */
export const CELLD_VERSION = "0.1.0";
