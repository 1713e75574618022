/**
 * `celld audit verify`: is the recovery audit what was written?
 *
 * @module
 */
import {
  type AuditReport,
  AuditVerifier,
  generationPath,
  ROTATED_FILES,
} from "#lib/recovery/mod.ts";
import type { CliContext } from "../context.ts";
import { EXIT_FINDING, EXIT_OK, UsageError } from "../exit_codes.ts";
import { renderAuditReport } from "../render_audit.ts";

/** What the command line gave. */
export interface AuditVerifyOptions {
  /** File whose bytes are the key of the chain. */
  readonly keyFile?: string;
  /** Rotated files are read too. */
  readonly rotated?: boolean;
}

/** Runs the command; the exit code is 1 when anything is not as it was written. */
export async function auditVerifyCommand(
  context: CliContext,
  paths: readonly string[],
  options: AuditVerifyOptions,
): Promise<number> {
  const key = options.keyFile === undefined ? undefined : await readAll(context, options.keyFile);
  const verifier = new AuditVerifier(key);
  for (const path of paths) {
    if (options.rotated) await verifyRotated(context, verifier, path);
    await verifyFile(context, verifier, path);
  }
  const report: AuditReport = verifier.end();
  if (context.isJson) context.writeJson(report);
  else context.io.writeOut(renderAuditReport(report, context.outOptions));
  return report.isSound ? EXIT_OK : EXIT_FINDING;
}

/** The rotated files of one that is named, the oldest first; those that are not there are not. */
async function verifyRotated(
  context: CliContext,
  verifier: AuditVerifier,
  path: string,
): Promise<void> {
  for (let generation = ROTATED_FILES; generation > 0; generation--) {
    try {
      await verifyFile(context, verifier, generationPath(path, generation));
    } catch (error) {
      const isMissing = error instanceof UsageError && error.message.endsWith("no such file");
      if (!isMissing) throw error;
    }
  }
}

async function verifyFile(
  context: CliContext,
  verifier: AuditVerifier,
  path: string,
): Promise<void> {
  let hasBegun = false;
  for await (const chunk of context.io.readChunks(path)) {
    // A file that cannot be opened is none of the chain's.
    if (!hasBegun) verifier.begin(path);
    hasBegun = true;
    verifier.push(chunk);
  }
  if (!hasBegun) verifier.begin(path);
}

async function readAll(context: CliContext, path: string): Promise<Uint8Array> {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  for await (const chunk of context.io.readChunks(path)) chunks.push(chunk);
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}
