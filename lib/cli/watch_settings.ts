/**
 * What `celld watch` can be told: each flag with its default and its bounds, as one table, and the
 * rules between flags. `watch_flags.ts` reads the words.
 *
 * Bounds and defaults are those of the reference's observer, but for `--tracker-capacity` and
 * `--eviction-scan-window`, whose upper bound is 131 072 here.
 *
 * @module
 */
import { parseIp } from "#lib/base/mod.ts";
import { hasKeys, hasRecovery, type SocketAddress, type WatchSettings } from "#lib/daemon/mod.ts";

export type { WatchSettings };

/** What is wrong with a command line of `celld watch`. */
export type WatchFlagProblem =
  | "MissingValue"
  | "MissingRequired"
  | "UnknownFlag"
  | "BadInteger"
  | "TooLow"
  | "TooLarge"
  | "BadSocketMode"
  | "BadAddr"
  | "BadValue"
  | "RemovedFlag"
  | "MutuallyExclusive"
  | "PromAddrRequiresToken"
  | "RecoveryRequiresAuthenticatedTransport"
  | "SecureUdpRequiresLoopbackBind"
  | "RecoveryCaptureRequiresRecovery"
  | "ClockSourceUnsupported";

/** A command line that cannot be used; exit code 2. */
export class WatchFlagError extends Error {
  /** For logs. */
  override name = "WatchFlagError";
  /** Wrong use of the command line: see `exit_codes.ts`. */
  readonly exitCode = 2;

  constructor(
    /** What is wrong. */
    readonly problem: WatchFlagProblem,
    /** The flag that it is about. */
    readonly flag: string,
    reason: string,
  ) {
    super(`Cannot use ${flag}: ${reason}`);
  }
}

/** A flag that takes a whole number. */
export interface IntegerBound {
  readonly name: keyof WatchSettings;
  readonly least: number;
  readonly most: number;
  readonly fallback?: number;
}

const ANY = Number.MAX_SAFE_INTEGER;
const U32_MAX = 0xffff_ffff;
const AGENTS_MAX = 131_072;

/** Flags of whole numbers. */
export const BOUNDS: Readonly<Record<string, IntegerBound>> = {
  "--threshold-ms": { name: "thresholdMs", least: 10, most: ANY },
  "--recovery-debounce-ms": { name: "recoveryDebounceMs", least: 0, most: ANY, fallback: 1000 },
  "--recovery-timeout-ms": { name: "recoveryTimeoutMs", least: 100, most: ANY },
  "--shutdown-grace-ms": { name: "shutdownGraceMs", least: 100, most: 60_000, fallback: 5000 },
  "--recovery-capture-bytes": {
    name: "recoveryCaptureBytes",
    least: 1,
    most: 1_048_576,
    fallback: 4096,
  },
  "--read-timeout-ms": { name: "readTimeoutMs", least: 1, most: 1000, fallback: 100 },
  "--uds-rcvbuf-bytes": {
    name: "udsRcvbufBytes",
    least: 0,
    most: 0x7fff_ffff,
    fallback: 1_048_576,
  },
  "--tracker-capacity": { name: "trackerCapacity", least: 1, most: AGENTS_MAX, fallback: 256 },
  "--eviction-scan-window": {
    name: "evictionScanWindow",
    least: 1,
    most: AGENTS_MAX,
    fallback: 256,
  },
  "--max-beat-rate": { name: "maxBeatRate", least: 0, most: U32_MAX, fallback: 100 },
  "--global-beat-rate": { name: "globalBeatRate", least: 0, most: U32_MAX, fallback: 5000 },
  "--global-beat-burst": { name: "globalBeatBurst", least: 0, most: U32_MAX, fallback: 10_000 },
  "--shutdown-after-secs": { name: "shutdownAfterSecs", least: 0, most: U32_MAX },
  "--export-file-max-bytes": { name: "exportFileMaxBytes", least: 4096, most: ANY },
  "--export-file-sync-every": {
    name: "exportFileSyncEvery",
    least: 0,
    most: U32_MAX,
    fallback: 0,
  },
  "--self-watchdog-secs": { name: "selfWatchdogSecs", least: 1, most: U32_MAX },
  "--prom-rate-limit-per-sec": {
    name: "promRateLimitPerSec",
    least: 0,
    most: U32_MAX,
    fallback: 5,
  },
  "--prom-rate-limit-burst": { name: "promRateLimitBurst", least: 0, most: U32_MAX, fallback: 10 },
  "--iteration-budget-ms": { name: "iterationBudgetMs", least: 50, most: 60_000, fallback: 250 },
  "--scrape-budget-ms": { name: "scrapeBudgetMs", least: 50, most: 60_000, fallback: 250 },
  "--udp-port": { name: "udpPort", least: 0, most: 0xffff },
  "--recovery-audit-max-bytes": { name: "recoveryAuditMaxBytes", least: 4096, most: ANY },
  "--recovery-audit-sync-every": {
    name: "recoveryAuditSyncEvery",
    least: 1,
    most: U32_MAX,
    fallback: 1,
  },
  "--audit-fsync-budget-ms": { name: "auditFsyncBudgetMs", least: 1, most: ANY, fallback: 50 },
  "--audit-sync-interval-ms": { name: "auditSyncIntervalMs", least: 0, most: ANY, fallback: 0 },
  "--audit-rotation-budget-ms": {
    name: "auditRotationBudgetMs",
    least: 1,
    most: 250,
    fallback: 50,
  },
};

/** A flag that takes a text. */
export interface TextFlag {
  readonly name: keyof WatchSettings;
  readonly fallback?: string;
  /** The text as the setting's value. Throws a {@link WatchFlagError}. */
  readonly read?: (flag: string, text: string) => unknown;
}

/** Flags of texts. `--recovery-env` adds up. */
export const TEXTS: Readonly<Record<string, TextFlag>> = {
  "--socket": { name: "socket", read: notEmpty },
  "--recovery-exec": { name: "recoveryExec", read: notEmpty },
  "--recovery-exec-file": { name: "recoveryExecFile", read: notEmpty },
  "--recovery-env": { name: "recoveryEnv" },
  "--socket-mode": { name: "socketMode", fallback: "0600", read: readMode },
  "--tracker-eviction-policy": {
    name: "trackerEvictionPolicy",
    fallback: "strict",
    read: oneOf("strict", "balanced"),
  },
  "--clock-source": { name: "clockSource", fallback: "monotonic", read: readClock },
  "--signal-handler-mode": {
    name: "signalHandlerMode",
    fallback: "direct",
    read: oneOf("direct", "libc"),
  },
  "--export-file": { name: "exportFile", read: notEmpty },
  "--heartbeat-file": { name: "heartbeatFile", read: notEmpty },
  "--hw-watchdog": { name: "hwWatchdog", read: notEmpty },
  "--prom-addr": { name: "promAddr", read: readAddress },
  "--prom-token-file": { name: "promTokenFile", read: notEmpty },
  "--udp-bind-addr": { name: "udpBindAddr", read: readIp },
  "--key-file": { name: "keyFile", read: notEmpty },
  "--accepted-key-file": { name: "acceptedKeyFile", read: notEmpty },
  "--master-key-file": { name: "masterKeyFile", read: notEmpty },
  "--recovery-audit-file": { name: "recoveryAuditFile", read: notEmpty },
};

/** Flags without a value. */
export const SWITCHES: Readonly<Record<string, keyof WatchSettings>> = {
  "--recovery-inherit-env": "recoveryInheritEnv",
  "--recovery-capture-stdio": "recoveryCaptureStdio",
  "--i-accept-plaintext-udp": "acceptPlaintextUdp",
  "--i-accept-secure-udp-non-loopback": "acceptSecureUdpNonLoopback",
  "--secure-udp-i-accept-recovery-on-unauthenticated-transport": "acceptRecoveryOnSecureUdp",
  "--plaintext-udp-i-accept-recovery-on-unauthenticated-transport": "acceptRecoveryOnPlaintextUdp",
  "--allow-cross-namespace-agents": "allowCrossNamespaceAgents",
  "--strict-namespace-check": "strictNamespaceCheck",
};

/** Flags that the reference took away, with what to use instead. */
export const REMOVED_FLAGS: Readonly<Record<string, string>> = {
  "--recovery-cmd": "it ran a shell; use --recovery-exec",
  "--recovery-cmd-file": "it ran a shell; use --recovery-exec-file",
  "--i-accept-shell-risk": "there is no shell mode",
  "--key-env": "keys do not belong into an environment; use --key-file",
};

/** Checks what one flag says of another. Throws a {@link WatchFlagError}. */
export function checkTogether(
  settings: WatchSettings,
  given: ReadonlyMap<string, string>,
): WatchSettings {
  for (const flag of ["--socket", "--threshold-ms"]) {
    if (!given.has(flag)) throw new WatchFlagError("MissingRequired", flag, "it must be given");
  }
  checkRecovery(settings);
  checkUdp(settings);
  if ((settings.promAddr === undefined) !== (settings.promTokenFile === undefined)) {
    const reason = "--prom-addr and --prom-token-file need each other";
    throw new WatchFlagError("PromAddrRequiresToken", "--prom-addr", reason);
  }
  const { selfWatchdogSecs, readTimeoutMs } = settings;
  if (selfWatchdogSecs !== undefined && readTimeoutMs > selfWatchdogSecs * 500) {
    const reason = "it is above half of --self-watchdog-secs";
    throw new WatchFlagError("TooLarge", "--read-timeout-ms", reason);
  }
  return settings;
}

function checkRecovery(settings: WatchSettings): void {
  if (settings.recoveryExec !== undefined && settings.recoveryExecFile !== undefined) {
    const reason = "--recovery-exec and --recovery-exec-file exclude each other";
    throw new WatchFlagError("MutuallyExclusive", "--recovery-exec", reason);
  }
  if (settings.recoveryCaptureStdio && !hasRecovery(settings)) {
    const reason = "there is no recovery command whose output it could keep";
    throw new WatchFlagError(
      "RecoveryCaptureRequiresRecovery",
      "--recovery-capture-stdio",
      reason,
    );
  }
}

function checkUdp(settings: WatchSettings): void {
  if (settings.udpPort === undefined) return;
  const isSecure = hasKeys(settings);
  if (!isSecure && !settings.acceptPlaintextUdp) {
    const reason = "without keys it needs --i-accept-plaintext-udp";
    throw new WatchFlagError("MissingRequired", "--udp-port", reason);
  }
  const { udpBindAddr, acceptSecureUdpNonLoopback } = settings;
  if (isSecure && udpBindAddr !== undefined && !isLoopback(udpBindAddr)) {
    if (!acceptSecureUdpNonLoopback) {
      const reason = "past loopback it needs --i-accept-secure-udp-non-loopback";
      throw new WatchFlagError("SecureUdpRequiresLoopbackBind", "--udp-bind-addr", reason);
    }
  }
  const kind = isSecure ? "secure" : "plaintext";
  const isAccepted = isSecure
    ? settings.acceptRecoveryOnSecureUdp
    : settings.acceptRecoveryOnPlaintextUdp;
  if (hasRecovery(settings) && !isAccepted) {
    const reason =
      `with recovery it needs --${kind}-udp-i-accept-recovery-on-unauthenticated-transport`;
    throw new WatchFlagError("RecoveryRequiresAuthenticatedTransport", "--udp-port", reason);
  }
}

function isLoopback(text: string): boolean {
  return text === "::1" || /^127\./.test(text);
}

function notEmpty(flag: string, text: string): string {
  if (text.trim() === "") throw new WatchFlagError("BadValue", flag, "the value is empty");
  return text;
}

function readMode(flag: string, text: string): number {
  if (!/^(0o)?[0-7]{1,4}$/.test(text)) {
    throw new WatchFlagError("BadSocketMode", flag, `${JSON.stringify(text)} is no octal mode`);
  }
  const mode = parseInt(text.replace(/^0o/, ""), 8);
  if (mode > 0o777) {
    throw new WatchFlagError("BadSocketMode", flag, `${text} is above 0777`);
  }
  return mode;
}

function readClock(flag: string, text: string): string {
  if (text === "monotonic-raw") {
    throw new WatchFlagError("ClockSourceUnsupported", flag, "Linux has monotonic and boottime");
  }
  return oneOf("monotonic", "boottime")(flag, text);
}

function oneOf(...words: string[]): (flag: string, text: string) => string {
  return (flag, text) => {
    if (words.includes(text)) return text;
    const reason = `${JSON.stringify(text)} is none of ${words.join(", ")}`;
    throw new WatchFlagError("BadValue", flag, reason);
  };
}

function readIp(flag: string, text: string): string {
  if (parseIp(text) !== undefined) return text;
  throw new WatchFlagError("BadAddr", flag, `${JSON.stringify(text)} is no IP address`);
}

function readAddress(flag: string, text: string): SocketAddress {
  const found = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):(\d{1,5})$/.exec(text);
  const hostname = found?.[1] ?? found?.[2];
  const port = Number(found?.[3]);
  if (hostname === undefined || parseIp(hostname) === undefined || port > 0xffff) {
    throw new WatchFlagError("BadAddr", flag, `${JSON.stringify(text)} is no IP:PORT`);
  }
  return { hostname, port };
}
