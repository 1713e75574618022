/**
 * The environment of a recovery command: cleared, a plain `PATH`, and what the operator adds.
 *
 * @module
 */

/** All of `PATH`, unless told. */
export const RECOVERY_PATH = "/usr/bin:/bin";

/** What makes the environment. */
export interface RecoveryEnvironmentOptions {
  /** `KEY=VALUE`; later ones win. */
  readonly entries?: readonly string[];
  /** celld's own environment, where commands are to inherit it. */
  readonly inherited?: Readonly<Record<string, string>>;
}

/** An entry is not `KEY=VALUE`. */
export class RecoveryEnvironmentError extends Error {
  /** The class's name. */
  override name = "RecoveryEnvironmentError";

  /** Quotes the entry. */
  constructor(entry: string) {
    super(
      `Cannot use the recovery environment entry ${JSON.stringify(entry)}: want KEY=VALUE`,
    );
  }
}

/** Makes the environment. Throws {@link RecoveryEnvironmentError}. */
export function recoveryEnvironment(
  options: RecoveryEnvironmentOptions = {},
): Record<string, string> {
  const environment: Record<string, string> = options.inherited === undefined
    ? { PATH: RECOVERY_PATH }
    : { ...options.inherited };
  for (const entry of options.entries ?? []) {
    const at = entry.indexOf("=");
    if (at < 1 || entry.includes("\0")) throw new RecoveryEnvironmentError(entry);
    environment[entry.slice(0, at)] = entry.slice(at + 1);
  }
  return environment;
}
