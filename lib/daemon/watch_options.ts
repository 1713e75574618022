/**
 * What the flags of a stand-alone observer come to: options of its parts. Reads the files that flags
 * name, and nothing else.
 *
 * @module
 */
import type { LivenessOptions } from "#lib/liveness/mod_shell.ts";
import {
  onePolicy,
  parseCommandText,
  type RecoveryPolicy,
  type RecoverySettings,
} from "#lib/recovery/mod.ts";
import type { ExportOptions } from "./watch_export.ts";
import { hasKeys, hasRecovery, type WatchSettings } from "./watch_settings.ts";
import { readSecretFile, readWatchKeys, WatchConfigError } from "./watch_support.ts";

/** How the observer is started. Throws {@link WatchConfigError} for keys that cannot be used. */
export function observerOptions(settings: WatchSettings): LivenessOptions {
  const keys = readWatchKeys(settings);
  const isSecure = hasKeys(settings);
  if (isSecure && !hasUdp(settings)) {
    throw new WatchConfigError("Cannot use keys: without --udp-port nothing is sealed");
  }
  const { udpPort, udpBindAddr = isSecure ? "127.0.0.1" : "0.0.0.0" } = settings;
  return {
    socket: {
      path: settings.socket,
      mode: settings.socketMode,
      receiveBufferBytes: settings.udsRcvbufBytes,
    },
    ...(udpPort === undefined ? {} : {
      udp: {
        address: udpBindAddr,
        port: udpPort,
        ...keys,
        allowsRecovery: isSecure
          ? settings.acceptRecoveryOnSecureUdp
          : settings.acceptRecoveryOnPlaintextUdp,
      },
    }),
    capacity: settings.trackerCapacity,
    evictionWindow: settings.evictionScanWindow,
    policy: settings.trackerEvictionPolicy,
    thresholdNs: settings.thresholdMs * 1e6,
    beatsPerSecondMax: settings.maxBeatRate,
    globalLimits: { ratePerSecond: settings.globalBeatRate, burst: settings.globalBeatBurst },
    allowsCrossNamespace: settings.allowCrossNamespaceAgents,
    clock: settings.clockSource,
    iterationBudgetMs: settings.iterationBudgetMs,
    tellsBeats: settings.exportFile !== undefined,
  };
}

/** What was given and has nothing to act on. */
export function idleFlags(settings: WatchSettings): string[] {
  const flags: [flag: string, isGiven: boolean, wants: string, isThere: boolean][] = [
    ["--udp-bind-addr", settings.udpBindAddr !== undefined, "--udp-port", hasUdp(settings)],
    ["--recovery-env", settings.recoveryEnv.length > 0, "a command", hasRecovery(settings)],
    ["--recovery-inherit-env", settings.recoveryInheritEnv, "a command", hasRecovery(settings)],
    [
      "--recovery-timeout-ms",
      settings.recoveryTimeoutMs !== undefined,
      "a command",
      hasRecovery(settings),
    ],
    [
      "--recovery-audit-file",
      settings.recoveryAuditFile !== undefined,
      "a command",
      hasRecovery(settings),
    ],
  ];
  return flags.filter(([, isGiven, , isThere]) => isGiven && !isThere)
    .map(([flag, , wants]) => `${flag} does nothing without ${wants}`);
}

function hasUdp({ udpPort }: WatchSettings): boolean {
  return udpPort !== undefined;
}

/** One command a silence, and no more, as the reference. */
export function recoveryPolicy(settings: WatchSettings): RecoveryPolicy {
  const { recoveryExec, recoveryExecFile, recoveryDebounceMs, recoveryTimeoutMs } = settings;
  const text = recoveryExec ?? readSecretFile("--recovery-exec-file", recoveryExecFile!);
  const action = {
    kind: "command",
    command: parseCommandText(text),
    source: recoveryExec === undefined ? recoveryExecFile! : "inline",
  } as const;
  return onePolicy(action, {
    debounceMs: recoveryDebounceMs,
    // The next silence begins anew, however short the calm was.
    calmMs: 0,
    recoversExits: true,
    killGraceMs: 0,
    ...(recoveryTimeoutMs === undefined ? {} : { timeoutMs: recoveryTimeoutMs }),
  });
}

/** The audit's part of a recovery's settings; nothing where there is no file. */
export function auditSettings(settings: WatchSettings): Pick<RecoverySettings, "audit"> {
  const { recoveryAuditFile: path, recoveryAuditMaxBytes: maxBytes } = settings;
  if (path === undefined) return {};
  return {
    audit: {
      path,
      syncEvery: settings.recoveryAuditSyncEvery,
      syncIntervalMs: settings.auditSyncIntervalMs,
      fsyncBudgetMs: settings.auditFsyncBudgetMs,
      rotationBudgetMs: settings.auditRotationBudgetMs,
      ...(maxBytes === undefined ? {} : { maxBytes }),
    },
  };
}

/** How the export file is written, where there is one. */
export function exportOptions(
  { exportFile, exportFileMaxBytes, exportFileSyncEvery }: WatchSettings,
): ExportOptions {
  return {
    path: exportFile!,
    syncEvery: exportFileSyncEvery,
    ...(exportFileMaxBytes === undefined ? {} : { maxBytes: exportFileMaxBytes }),
  };
}

/** An environment without what is not set. */
export function definedOf(
  env: Readonly<Record<string, string | undefined>>,
): Record<string, string> {
  const entries = Object.entries(env).filter((entry) => entry[1] !== undefined);
  return Object.fromEntries(entries) as Record<string, string>;
}
