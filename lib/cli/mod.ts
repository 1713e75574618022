/**
 * The command line of celld: words in, text and an exit code out.
 *
 * ```ts
 * import { processIo, runCli } from "#lib/cli/mod.ts";
 * import { composePorts } from "#lib/daemon/mod.ts";
 *
 * const code = await runCli(["version"], { io: processIo(), connect: composePorts });
 * if (code !== 0) throw new Error(`exit code ${code}`);
 * ```
 *
 * @module
 */
export * from "./cli.ts";
export type { Connect } from "./context.ts";
export * from "./columns.ts";
export * from "./exit_codes.ts";
export * from "./flow_view.ts";
export * from "./io.ts";
export * from "./process_io.ts";
export * from "./style.ts";
