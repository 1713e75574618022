/**
 * What a stand-alone observer is told: the settings that `celld watch` reads from its flags. Types,
 * and what follows from them.
 *
 * @module
 */

/** The settings of a stand-alone observer. Times as the names say; 0 is off where it is allowed. */
export interface WatchSettings {
  /** Path of the Unix datagram socket. */
  readonly socket: string;
  /** Silence after which an agent has stalled. */
  readonly thresholdMs: number;
  /** Recovery command, split at whitespace. */
  readonly recoveryExec?: string;
  /** File that holds the recovery command. */
  readonly recoveryExecFile?: string;
  /** Least time between two recoveries of one process. */
  readonly recoveryDebounceMs: number;
  /** `K=V`, in the order given. */
  readonly recoveryEnv: readonly string[];
  /** The command gets this process's environment. */
  readonly recoveryInheritEnv: boolean;
  /** A command that runs longer is killed. */
  readonly recoveryTimeoutMs?: number;
  /** How long killed commands are waited for at the end. */
  readonly shutdownGraceMs: number;
  /** Take the command's output. */
  readonly recoveryCaptureStdio: boolean;
  /** Bytes of it that are kept. */
  readonly recoveryCaptureBytes: number;
  /** Permission bits of the socket. */
  readonly socketMode: number;
  /** Checked and unused, as in the reference: reads never block. */
  readonly readTimeoutMs: number;
  /** Receive buffer of the socket; 0 leaves the kernel's. */
  readonly udsRcvbufBytes: number;
  /** Agents at once. */
  readonly trackerCapacity: number;
  /** Slots looked at for one to give away. */
  readonly evictionScanWindow: number;
  /** Strict, balanced. */
  readonly trackerEvictionPolicy: "strict" | "balanced";
  /** Beats a second of one pid. */
  readonly maxBeatRate: number;
  /** Beats a second of all. */
  readonly globalBeatRate: number;
  /** Beats of all at once; 0: any. */
  readonly globalBeatBurst: number;
  /** Monotonic, boottime (goes on in suspend). */
  readonly clockSource: "monotonic" | "boottime";
  /** Checked and unused: the runtime's own handlers are used. */
  readonly signalHandlerMode: "direct" | "libc";
  /** End by itself. */
  readonly shutdownAfterSecs?: number;
  /** Append beats and stalls, tab-separated. */
  readonly exportFile?: string;
  /** Rotate it at this size; 5 are kept. */
  readonly exportFileMaxBytes?: number;
  /** Rows after which it is synchronised; 0: never. */
  readonly exportFileSyncEvery: number;
  /** Replaced at every round: rounds and nanoseconds. */
  readonly heartbeatFile?: string;
  /** Abort when the loop stands still (4 under a systemd watchdog). */
  readonly selfWatchdogSecs?: number;
  /** A watchdog device to feed. */
  readonly hwWatchdog?: string;
  /** Serve metrics; needs --prom-token-file. */
  readonly promAddr?: SocketAddress;
  /** 64 hex digits, in a file that only you can read. */
  readonly promTokenFile?: string;
  /** Scrapes a second of one address. */
  readonly promRateLimitPerSec: number;
  /** Scrapes of one address at once; 0: any. */
  readonly promRateLimitBurst: number;
  /** Longer rounds are counted. */
  readonly iterationBudgetMs: number;
  /** Longer scrapes are counted. */
  readonly scrapeBudgetMs: number;
  /** Also take beats by UDP; 0: any port. */
  readonly udpPort?: number;
  /** `127.0.0.1` with keys, else `0.0.0.0`. */
  readonly udpBindAddr?: string;
  /** The key of sealed beats, 64 hex digits. */
  readonly keyFile?: string;
  /** More keys, one a line. */
  readonly acceptedKeyFile?: string;
  /** The key that agents' keys are derived from. */
  readonly masterKeyFile?: string;
  /** Needed for UDP without keys. */
  readonly acceptPlaintextUdp: boolean;
  /** Needed for sealed UDP past loopback. */
  readonly acceptSecureUdpNonLoopback: boolean;
  /** Recover agents that beat by sealed UDP. */
  readonly acceptRecoveryOnSecureUdp: boolean;
  /** Recover agents that beat by plain UDP. */
  readonly acceptRecoveryOnPlaintextUdp: boolean;
  /** Take beats of other pid namespaces. */
  readonly allowCrossNamespaceAgents: boolean;
  /** End with 1 at a beat of another pid namespace. */
  readonly strictNamespaceCheck: boolean;
  /** Record of recoveries; see celld audit verify. */
  readonly recoveryAuditFile?: string;
  /** Rotate it at this size; 5 are kept. */
  readonly recoveryAuditMaxBytes?: number;
  /** Rows after which it is synchronised. */
  readonly recoveryAuditSyncEvery: number;
  /** A longer synchronisation puts others off. */
  readonly auditFsyncBudgetMs: number;
  /** Synchronise at least so often; 0: by rows only. */
  readonly auditSyncIntervalMs: number;
  /** Rotating in one go. */
  readonly auditRotationBudgetMs: number;
}

/** Where to listen. */
export interface SocketAddress {
  /** An IP address. */
  readonly hostname: string;
  /** 0 is any free one. */
  readonly port: number;
}

/** Whether a stall leads to a command. */
export function hasRecovery({ recoveryExec, recoveryExecFile }: WatchSettings): boolean {
  return recoveryExec !== undefined || recoveryExecFile !== undefined;
}

/** Whether any key is given: UDP is then the secure kind. */
export function hasKeys({ keyFile, acceptedKeyFile, masterKeyFile }: WatchSettings): boolean {
  return [keyFile, acceptedKeyFile, masterKeyFile].some((path) => path !== undefined);
}
