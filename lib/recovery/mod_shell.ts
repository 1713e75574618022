/**
 * The second door of this folder, to what touches the host: the runner and trusted files.
 *
 * @module
 */
export { AuditFileError } from "./audit_open_shell.ts";
export { readTrustedFile, readTrustedText, UntrustedFileError } from "./trusted_file_shell.ts";
export { RECOVERY_WORKER_NAME } from "./recovery_worker.ts";
export * from "./runner_shell.ts";
