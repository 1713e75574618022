/**
 * What the main thread and the host worker say to each other.
 *
 * Requests carry a number and get one answer with it; notices come when they come. A
 * refused request answers with the error's name and text, which the main side turns into a
 * `CellStepError` again.
 *
 * @module
 */
import type { CellSpec } from "./spec.ts";
import type { NetworkPools } from "./network_plan.ts";
import type { OutputStream } from "./output_shell.ts";
import type { NftRuleCounters, NftTable } from "#ffi/netlink/nftables/ruleset.ts";

/** Steps of a cell that the host worker does, in order; each can be undone. */
export const HOST_STEPS = [
  "lease",
  "netns",
  "network",
  "cgroup",
  "ruleset",
  "secrets",
  "launch",
] as const;

/** One of {@link HOST_STEPS}. */
export type HostStep = typeof HOST_STEPS[number];

/** What the host worker needs to know once, at its start. */
export interface HostSettings {
  readonly runtimeDir: string;
  readonly stateDir: string;
  readonly cgroupParent: string;
  readonly nflogGroup: number;
  readonly pools: NetworkPools;
}

/** A cell as the host worker is asked to make it. */
export interface CellOrder {
  readonly cellId: string;
  readonly runId: string;
  readonly spec: CellSpec;
  /** Secret values by name, already read by the main thread. */
  readonly secrets: Readonly<Record<string, string>>;
  /** Descriptor number for the workload's standard input; -1 for an empty one. */
  readonly stdinFd: number;
  /** It outlives its celld, which writes down what another needs to go on with it. */
  readonly isServed?: boolean;
}

/** A served cell that runs on though its celld is gone. */
export interface AdoptableCell {
  readonly cellId: string;
  readonly runId: string;
  readonly spec: CellSpec;
}

/** What the worker knows of a cell that it has taken over. */
export interface AdoptedCell extends AdoptableCell {
  readonly index: number;
  /** Of its init. */
  readonly pid: number;
  /** Valid in every thread of the process. */
  readonly netnsFd: number;
  /** Of its directory in v2; absent without v2. */
  readonly cgroupFd?: number;
  /** When its lease was taken, milliseconds since 1970. */
  readonly bornAtMs: number;
  /** When its program was launched. */
  readonly launchedAtMs: number;
  readonly acceptsToldBy: "log" | "marks";
}

/** A command that is to run in a running cell. */
export interface ExecOrder {
  readonly cellId: string;
  /** Unique over all cells. */
  readonly execId: string;
  readonly argv: readonly string[];
  /** Inside the cell's view. Default: the workload's. */
  readonly workingDirectory?: string;
  /** Otherwise its stdin is empty. */
  readonly hasStdin: boolean;
}

/** Which command in which cell. */
export interface ExecKey {
  readonly cellId: string;
  readonly execId: string;
}

/** Requests by operation: what is asked, what is answered. */
export interface HostRequests {
  configure: { asks: HostSettings; answers: null };
  recover: { asks: null; answers: RecoveredCells };
  open: { asks: CellOrder; answers: null };
  adopt: { asks: { cellId: string }; answers: AdoptedCell };
  step: { asks: StepOrder; answers: StepFacts };
  undo: { asks: { cellId: string; step: HostStep }; answers: null };
  signal: { asks: { cellId: string; signal: number }; answers: null };
  kill: { asks: { cellId: string }; answers: null };
  counters: { asks: { cellId: string }; answers: CellCounters };
  consumed: { asks: { cellId: string; stream: OutputStream; bytes: number }; answers: null };
  /** Answered when the command's init runs. */
  exec: { asks: ExecOrder; answers: null };
  /** Answered when the bytes are in the command's pipe, or nobody reads it any more. */
  execInput: { asks: ExecKey & { bytes: Uint8Array; isLast: boolean }; answers: null };
  execConsumed: { asks: ExecKey & { stream: OutputStream; bytes: number }; answers: null };
  execKill: { asks: ExecKey; answers: null };
  close: { asks: { cellId: string }; answers: null };
  stop: { asks: null; answers: null };
}

/** Names of the requests. */
export type HostOperation = keyof HostRequests;

/** What became of dead cells. */
export interface RecoveredCells {
  /** Ids of the cells that nothing is left of. */
  readonly removed: readonly string[];
  /** Cells that something is left of still; the next start tries again. */
  readonly failed: readonly { readonly cellId: string; readonly reason: string }[];
  /** Served cells that run on; nothing of them was touched. */
  readonly adoptable: readonly AdoptableCell[];
  /** Served cells that had ended; what is kept of them is in the directory of the ended. */
  readonly ended: readonly string[];
  /** Served cells that had not been started; nothing is left of them. */
  readonly unmade: readonly string[];
}

/** A step to be done. */
export interface StepOrder {
  readonly cellId: string;
  readonly step: HostStep;
  /** For `ruleset`: who tells of what egress rules accept. Default: the log. */
  readonly acceptsToldBy?: "log" | "marks";
}

/** What a step found out. */
export interface StepFacts {
  /** After `netns`: the descriptor number, valid in every thread of the process. */
  readonly netnsFd?: number;
  /** After `lease`. */
  readonly index?: number;
  /** After `cgroup`: of its directory in v2, valid in every thread; absent without v2. */
  readonly cgroupFd?: number;
  /** After `launch`: of the cell's init, in the host's pid namespace. */
  readonly pid?: number;
}

/** Counters of a cell's table, and what the host side of its interface dropped. */
export interface CellCounters {
  readonly rules: readonly NftRuleCounters[];
  /** The table that they were dumped from. */
  readonly table: NftTable | undefined;
  readonly backstopDrops: number;
}

/** How a workload ended, as its init and its cgroup tell. */
export interface CellExit {
  readonly record:
    | { readonly kind: "exited"; readonly code: number }
    | { readonly kind: "signaled"; readonly signal: number }
    | { readonly kind: "execFailed"; readonly errno: number }
    | { readonly kind: "lost" };
  readonly oomKills: number;
  readonly pidsMaxHits: number;
  /** Output bytes that were given up unread. */
  readonly skippedBytes: number;
}

/** From the main thread to the worker. */
export interface HostRequestMessage<K extends HostOperation = HostOperation> {
  readonly id: number;
  readonly operation: K;
  readonly asks: HostRequests[K]["asks"];
}

/** An error as it crosses threads. */
export interface WireError {
  readonly name: string;
  readonly message: string;
  /** The kernel's name for it, such as `EPERM`, where the kernel refused. */
  readonly code?: string;
}

/** From the worker to the main thread. */
export type HostWorkerMessage =
  | { readonly kind: "ready" }
  | { readonly kind: "answer"; readonly id: number; readonly answer: unknown }
  | { readonly kind: "refusal"; readonly id: number; readonly error: WireError }
  | { readonly kind: "started"; readonly cellId: string }
  | {
    readonly kind: "output";
    readonly cellId: string;
    readonly stream: OutputStream;
    readonly chunk: Uint8Array<ArrayBuffer>;
  }
  | { readonly kind: "exited"; readonly cellId: string; readonly exit: CellExit }
  | {
    readonly kind: "execOutput";
    readonly execId: string;
    readonly stream: OutputStream;
    readonly chunk: Uint8Array<ArrayBuffer>;
  }
  | { readonly kind: "execEnded"; readonly execId: string; readonly record: CellExit["record"] };
