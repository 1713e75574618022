/**
 * The door to processes: namespaces, launch, init, limits, signals.
 *
 * @module
 */
export {
  CAPABILITIES,
  type CapabilityName,
  effectiveCapabilities,
  hasCapability,
} from "./capabilities.ts";
export * from "./cgroup.ts";
export type { CgroupLimits } from "./cgroup_files.ts";
export * from "./cgroup_layout.ts";
export * from "./execute.ts";
export * from "./host_launch.ts";
export * from "./init.ts";
export * from "./join.ts";
export * from "./launch.ts";
export type { ExecutionOptions } from "./launch_steps.ts";
export * from "./mount_steps.ts";
export { describeMountStep } from "./mount_ops.ts";
export * from "./namespaces.ts";
export * from "./pidfd.ts";
export * from "./rlimits.ts";
export * from "./seccomp.ts";
export { FILTERED_SYSCALLS, type FilteredSyscall } from "./seccomp_numbers.ts";
export type { StubArch } from "./stub.ts";
export * from "./user_namespace.ts";
