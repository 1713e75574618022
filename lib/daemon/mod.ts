/**
 * The composition root: settings, the ports that commands use, what the host can do.
 *
 * Importing this door loads nothing that enters the kernel; that happens on the first use of
 * a port that needs it, so that `celld doctor` can tell why it fails.
 *
 * @module
 */
export * from "./compose.ts";
export * from "./config.ts";
export * from "./config_file.ts";
export type { LogSettingName, LogSettings } from "./config_log.ts";
export * from "./doctor.ts";
export * from "./ports.ts";
export * from "./version.ts";
export * from "./watch_settings.ts";
export * from "./workers.ts";
