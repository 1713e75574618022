/**
 * What a workload is started with: its environment, and where its program is looked for.
 *
 * @module
 */
import type { RunSpec } from "./spec_types.ts";
import { BEAT_TARGET } from "./view_plan.ts";

/** Where programs are looked for when the spec's environment has no `PATH`. */
export const PATH_DEFAULT = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** The socket that a cell's processes beat to, as they see it. */
export const BEAT_SOCKET: string = `${BEAT_TARGET}/beat.sock`;
/** The socket that they tell by the protocol of sd_notify(3), as they see it. */
export const NOTIFY_SOCKET: string = `${BEAT_TARGET}/notify.sock`;

/**
 * The variables that the workload sees: those of the spec, where secrets are delivered by
 * environment the secrets, and where liveness is asked for where to beat. Nothing is inherited
 * from celld.
 */
export function workloadEnvironment(
  run: Pick<RunSpec, "env" | "secretDelivery" | "liveness">,
  secrets: Readonly<Record<string, string>>,
): Record<string, string> {
  return {
    ...(run.liveness === undefined
      ? {}
      : { VARTA_SOCKET: BEAT_SOCKET, NOTIFY_SOCKET: NOTIFY_SOCKET }),
    ...run.env,
    ...(run.secretDelivery === "env" ? secrets : {}),
  };
}

/**
 * The paths tried for the first word of `argv`, in order, as execvp(3) would: a word with a
 * slash is the one path (relative to the working directory), any other is looked up.
 */
export function executableCandidates(
  run: Pick<RunSpec, "argv" | "env" | "workingDirectory">,
): string[] {
  const program = run.argv[0] ?? "";
  if (program.startsWith("/")) return [program];
  const base = (run.workingDirectory ?? "/").replace(/\/$/, "");
  if (program.includes("/")) return [`${base}/${program}`];
  return (run.env.PATH ?? PATH_DEFAULT).split(":").map((directory) => {
    // An empty element of PATH means the working directory (environ(7)).
    const from = directory === "" ? base : directory.replace(/\/$/, "");
    return `${from}/${program}`;
  });
}
