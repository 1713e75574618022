/**
 * Rotation of an audit file, as steps that may be far apart and that a crash may come between.
 *
 * ```
 * drain ring ─▶ sync ─▶ [delete .5] ─▶ .4→.5 … .1→.2 ─▶ live→.1 ─▶ drain again ─▶ sync .1
 *   ─▶ open a new live file: header and boot row (rotation, chained to the last row) in one write
 * ```
 *
 * Only generations up to the first free one move, so that a crash between two moves costs none.
 * Where a new file cannot be opened, rows go on to `.1`, and the last step is tried again. A crash after
 * `live→.1` leaves no live file: who opens the audit next goes on from `.1`.
 *
 * @module
 */

/** Rotated files that are kept. */
export const ROTATED_FILES = 5;
/** The smallest size at which a file may be rotated, bytes. */
export const ROTATION_BYTES_MIN = 4096;

/** A step of a rotation. */
export type RotationStep =
  | { readonly kind: "drain" }
  | { readonly kind: "sync" }
  | { readonly kind: "delete"; readonly generation: number }
  /** Generation 0 is the live file. */
  | { readonly kind: "move"; readonly from: number; readonly to: number }
  | { readonly kind: "open" };

/** A rotation under way. */
export class Rotation {
  readonly #steps: readonly RotationStep[];
  #next = 0;

  /**
   * Starts.
   *
   * @param present Whether `.1` to `.5` are there, in that order.
   */
  constructor(present: readonly boolean[]) {
    this.#steps = rotationSteps(present);
  }

  /** The step to do; `undefined` when all are done. */
  get step(): RotationStep | undefined {
    return this.#steps[this.#next];
  }

  /** The step was done; one that failed is simply asked for again. */
  done(): void {
    this.#next++;
  }
}

/** All steps in their order; see the module. */
export function rotationSteps(present: readonly boolean[]): RotationStep[] {
  const free = present.findIndex((isThere) => !isThere);
  const top = free < 0 ? ROTATED_FILES : free + 1;
  const steps: RotationStep[] = [{ kind: "drain" }, { kind: "sync" }];
  if (free < 0) steps.push({ kind: "delete", generation: ROTATED_FILES });
  for (let to = top; to > 1; to--) steps.push({ kind: "move", from: to - 1, to });
  steps.push({ kind: "move", from: 0, to: 1 }, { kind: "drain" }, { kind: "sync" });
  steps.push({ kind: "open" });
  return steps;
}

/** Path of a generation. */
export function generationPath(path: string, generation: number): string {
  return generation === 0 ? path : `${path}.${generation}`;
}
