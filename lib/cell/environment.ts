/**
 * What a workload is started with: its environment, and where its program is looked for.
 *
 * @module
 */
import type { RunSpec } from "./spec_types.ts";

/** Where programs are looked for when the spec's environment has no `PATH`. */
export const PATH_DEFAULT = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/**
 * The variables that the workload sees: those of the spec and, where secrets are delivered
 * by environment, the secrets. Nothing is inherited from celld.
 */
export function workloadEnvironment(
  run: Pick<RunSpec, "env" | "secretDelivery">,
  secrets: Readonly<Record<string, string>>,
): Record<string, string> {
  return run.secretDelivery === "env" ? { ...run.env, ...secrets } : { ...run.env };
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
