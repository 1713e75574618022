/**
 * Whether and how an operator asked for the real-time flow audit, from environment variables.
 *
 * The names, values and fallbacks are those of the reference: the switch is on only for exactly
 * `1`; a group or backend that cannot be understood falls back to the default. The environment is
 * an argument: nothing is read here.
 *
 * @module
 */

/** Switch, older name. On only when the value is exactly `1`. */
export const ENV_PER_FLOW_EBPF = "CELLOS_FIRECRACKER_PER_FLOW_EBPF";
/** Switch, backend-neutral name. Either of the two turns the audit on. */
export const ENV_PER_FLOW_REALTIME = "CELLOS_PER_FLOW_REALTIME";
/** The nflog group, 0 to 65535; anything else means {@link DEFAULT_NFLOG_GROUP}. */
export const ENV_PER_FLOW_NFLOG_GROUP = "CELLOS_FIRECRACKER_PER_FLOW_NFLOG_GROUP";
/** Backend, older name; wins over {@link ENV_PER_FLOW_BACKEND_E7} when both are set. */
export const ENV_PER_FLOW_BACKEND = "CELLOS_FIRECRACKER_PER_FLOW_BACKEND";
/** Backend, newer name. */
export const ENV_PER_FLOW_BACKEND_E7 = "CELLOS_PER_FLOW_BACKEND";
/** The group when none is asked for; outside the low numbers that distributions use. */
export const DEFAULT_NFLOG_GROUP = 100;

const GROUP_MAX = 0xffff;

/** Where flow facts come from: the kernel's packet log, or programs loaded into it. */
export type FlowBackend = "nflog" | "ebpf";

/** Environment variables by name. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Who the flows belong to; stamped into each decision. */
export interface FlowIdentity {
  /** The cell. */
  readonly cellId: string;
  /** The run of the cell. */
  readonly runId: string;
  /** `sha256:…` of the policy in force. */
  readonly policyDigest?: string;
  /** The trust keyset that the policy was verified with. */
  readonly keysetId?: string;
  /** The key id of the policy's issuer. */
  readonly issuerKid?: string;
  /** The caller's correlation id. */
  readonly correlationId?: string;
}

/** What the audit of one run was told to do. */
export interface FlowActivation extends FlowIdentity {
  /** The nflog group to bind, as in the ruleset's `log group`. */
  readonly nflogGroup: number;
  /** Where the facts come from. */
  readonly backend: FlowBackend;
}

/** The activation for one run, or nothing when neither switch is exactly `1`. */
export function buildActivation(
  env: Environment,
  identity: FlowIdentity,
): FlowActivation | undefined {
  if (env[ENV_PER_FLOW_EBPF] !== "1" && env[ENV_PER_FLOW_REALTIME] !== "1") return undefined;
  return { ...identity, nflogGroup: selectNflogGroup(env), backend: selectBackend(env) };
}

/** The nflog group that the environment asks for; the default when absent or not a u16. */
export function selectNflogGroup(env: Environment): number {
  const text = (env[ENV_PER_FLOW_NFLOG_GROUP] ?? "").trim();
  if (!/^\+?[0-9]{1,20}$/.test(text)) return DEFAULT_NFLOG_GROUP;
  const group = Number(text);
  return group <= GROUP_MAX ? group : DEFAULT_NFLOG_GROUP;
}

/** The backend that the environment asks for: `ebpf` only when spelled exactly so. */
export function selectBackend(env: Environment): FlowBackend {
  const wanted = env[ENV_PER_FLOW_BACKEND] ?? env[ENV_PER_FLOW_BACKEND_E7];
  return wanted === "ebpf" ? "ebpf" : "nflog";
}
