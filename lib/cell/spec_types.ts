/**
 * What a cell may do and is to run, as a checked value: `spec.ts` makes it from text, with
 * every default filled in, and everything else works from it.
 *
 * Types and defaults only. A default is a constant here, so that documentation, tests and the
 * parser name the same number.
 *
 * @module
 */

/** The only `apiVersion` there is. */
export const SPEC_API_VERSION = "cellos.io/v1";
/** The only `kind` there is. */
export const SPEC_KIND = "ExecutionCell";

/** Memory a cell may use, its private file systems included, where the spec says nothing. */
export const MEMORY_MAX_BYTES_DEFAULT = 1024 * 1024 * 1024;
/** Processes and threads a cell may have at once, where the spec says nothing. */
export const PIDS_MAX_DEFAULT = 512;
/** Time between the request to stop and the kill, where the spec says nothing. */
export const GRACEFUL_SHUTDOWN_SECONDS_DEFAULT = 10;
/** The period that `cpuMax.quotaMicros` is counted over, where the spec says nothing. */
export const CPU_PERIOD_MICROS_DEFAULT = 100_000;
/** Size of the working directory's private file system, where the spec says nothing. */
export const WORKSPACE_MAX_BYTES_DEFAULT = 256 * 1024 * 1024;
/** Size of a `tmpfs` mount, and of `/tmp`, `/run`, `/dev/shm`, where the spec says nothing. */
export const TMPFS_SIZE_BYTES_DEFAULT = 64 * 1024 * 1024;
/** Bytes kept of each of stdout and stderr, where the spec says nothing. */
export const OUTPUT_MAX_BYTES_DEFAULT = 16 * 1024 * 1024;
/** Open files of one process, where the spec says nothing. */
export const OPEN_FILES_MAX_DEFAULT = 1024;

/** `enforce` refuses what no rule allows; `audit` allows and records it. */
export type AuthorityMode = "enforce" | "audit";
/** How a refused program is told: at once by an answer, or never. */
export type DenyAnswer = "reject" | "drop";
/** Whether a cell may run when its flows cannot be recorded. */
export type FlowAudit = "required" | "best-effort";
/** What a network rule is about. `icmp` is echo (ping), of IPv4 or IPv6 as the address is. */
export type RuleProtocol = "tcp" | "udp" | "icmp";
/** How secrets get into a cell. */
export type SecretDelivery = "env" | "file";

/** An inclusive range of ports, 1 to 65535. */
export interface PortRange {
  /** The lowest port. */
  readonly from: number;
  /** The highest port, `from` or above. */
  readonly to: number;
}

/** One destination that a cell may start flows to. */
export interface EgressRule {
  /** A prefix with its length, no bits set past it: `192.0.2.1/32`, `fd00::/8`. */
  readonly host: string;
  /** Sorted, without overlap; empty means every port. Always empty for `icmp`. */
  readonly ports: readonly PortRange[];
  /** What of the traffic to there. */
  readonly protocol: RuleProtocol;
}

/** One source that may start flows to a cell. */
export interface IngressRule {
  /** A prefix with its length, no bits set past it. */
  readonly from: string;
  /** The cell's ports: sorted, without overlap; empty means every port. Always empty for `icmp`. */
  readonly ports: readonly PortRange[];
  /** What of the traffic from there. */
  readonly protocol: RuleProtocol;
}

/** What a cell may reach and know. */
export interface Authority {
  /** Of what goes out; what comes in is always enforced. */
  readonly mode: AuthorityMode;
  /** Of what goes out; what comes in is always dropped. */
  readonly deny: DenyAnswer;
  /** Whether the cell may run when its flows cannot be recorded. */
  readonly audit: { readonly flow: FlowAudit };
  /** Names of the secrets that the cell may be given. */
  readonly secretRefs: readonly string[];
  /** Where flows may go; nothing else may. */
  readonly egressRules: readonly EgressRule[];
  /** Where flows may come from; nothing else may. */
  readonly ingress: readonly IngressRule[];
}

/** Where one secret's value comes from: exactly one of the two. */
export interface SecretSource {
  /** An environment name; also the name of the file, where secrets are delivered as files. */
  readonly name: string;
  /** A variable of celld's own environment. */
  readonly fromEnv?: string;
  /** An absolute path on the host. */
  readonly fromFile?: string;
}

/** A part of the host, or an empty file system, that a cell sees at `target`. */
export type MountSpec =
  | {
    readonly type: "bind";
    readonly source: string;
    readonly target: string;
    readonly readOnly: boolean;
  }
  | {
    readonly type: "tmpfs";
    readonly target: string;
    readonly readOnly: boolean;
    readonly sizeBytes: number;
  };

/** The bounds of a cell. Where a field may be absent, nothing bounds it. */
export interface RunLimits {
  /** Private file systems included. */
  readonly memoryMaxBytes: number;
  /** Processor time in microseconds for each period; above one period means several processors. */
  readonly cpuMax?: { readonly quotaMicros: number; readonly periodMicros: number };
  /** Processes and threads at once, the init included. */
  readonly pidsMax: number;
  /** Between the request to stop and the kill. */
  readonly gracefulShutdownSeconds: number;
  /** From the start of the workload. */
  readonly timeoutSeconds?: number;
  /** Of the working directory. */
  readonly workspaceMaxBytes: number;
  /** Of stdout and of stderr each; the oldest go first. */
  readonly outputMaxBytes: number;
  /** Of one process. */
  readonly openFilesMax: number;
}

/** What a cell runs, and what it sees while it does. */
export interface RunSpec {
  /** At least one word; the first is a path or a name that is looked up in `PATH`. */
  readonly argv: readonly string[];
  /** All of the environment, but for secrets. */
  readonly env: Readonly<Record<string, string>>;
  /** An absolute path; private, writable, and empty. Absent: `/`, not writable. */
  readonly workingDirectory?: string;
  /** `auto`: a uid from the pool. `root`: uid 0 of a user namespace of the cell. */
  readonly user: "auto" | "root";
  /** A directory of the host that becomes the cell's root, read-only. Absent: the host's own. */
  readonly rootfs?: string;
  /** In the order of the spec. */
  readonly mounts: readonly MountSpec[];
  /** With every default filled in. */
  readonly limits: RunLimits;
  /** How `secrets` get in. */
  readonly secretDelivery: SecretDelivery;
  /** Each named by `authority.secretRefs`. */
  readonly secrets: readonly SecretSource[];
  /** A host name of its own. Absent: the cell's id. */
  readonly hostname?: string;
  /** The workload says that it is alive, by beats. Absent: nobody asks. */
  readonly liveness?: LivenessSpec;
}

/** When a silent workload has stalled, and what follows. */
export interface LivenessSpec {
  /** Silence of a process that has beaten, in milliseconds: {@link LIVENESS_THRESHOLD_MS_MIN} up. */
  readonly thresholdMs: number;
  /** How long the first beat may take, in seconds. */
  readonly startupSeconds: number;
  /** `stop`: the cell ends as failed, and a restart policy goes on from there. `report`: no more. */
  readonly onStall: "stop" | "report";
}

/** The shortest silence that can be called a stall, in milliseconds; as the reference has it. */
export const LIVENESS_THRESHOLD_MS_MIN = 10;
/** The silence that is a stall where the spec does not say, in milliseconds. */
export const LIVENESS_THRESHOLD_MS_DEFAULT = 5000;
/** How long the first beat may take where the spec does not say, in seconds. */
export const LIVENESS_STARTUP_SECONDS_DEFAULT = 30;

/** A UDP port of the cell that is a backend of a cluster of the load balancer while it runs. */
export interface UdpIngress {
  /** Name of the cluster. */
  readonly cluster: string;
  /** That the workload listens on. */
  readonly port: number;
  /** Its share among the cluster's backends, 1 to 65535. */
  readonly weight: number;
}

/** The share of a backend where the spec does not say. */
export const UDP_INGRESS_WEIGHT_DEFAULT = 100;

/** A checked cell specification. */
export interface CellSpec {
  /** Lower-case letters, digits and inner hyphens, at most 63. */
  readonly id: string;
  /** What the one who asked wants to find the cell by; not interpreted. */
  readonly correlation: Readonly<Record<string, string>>;
  /** Of a cell that names none: nothing. */
  readonly authority: Authority;
  /** From the order to the end, whatever the cell is doing. */
  readonly lifetime: { readonly ttlSeconds?: number };
  /** Absent: a cell that runs nothing. */
  readonly run?: RunSpec;
  /** Where the host's load balancer may bring what comes from elsewhere; absent: nowhere. */
  readonly ingress?: { readonly udp: readonly UdpIngress[] };
}
