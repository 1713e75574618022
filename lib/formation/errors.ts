/**
 * Why a formation is refused: one kind a reason, named as the reference names them, so that a
 * client shows either server's answer alike. Which status each kind becomes is the API's table.
 *
 * @module
 */

/** The reasons, for machines. */
export type FormationRefusal =
  | "BadRequest"
  | "Conflict"
  | "FormationNoCoordinator"
  | "FormationMultipleCoordinators"
  | "FormationCycle"
  | "FormationAuthorityNotNarrowing";

/** More problems than this are not listed. */
export const FORMATION_PROBLEMS_MAX = 50;

/** A formation, or a wish about one, is refused. Nothing of it was done. */
export class FormationError extends Error {
  /** For logs. */
  override name = "FormationError";
  /** Which reason. */
  readonly kind: FormationRefusal;
  /** At least one sentence, each with the path that it is about. */
  readonly problems: readonly string[];

  /** At least one problem. */
  constructor(kind: FormationRefusal, problems: readonly string[]) {
    const told = problems.slice(0, FORMATION_PROBLEMS_MAX);
    super(`Cannot accept the formation: ${told.join("; ")}`);
    this.kind = kind;
    this.problems = told;
  }
}

/** A value from a document, shortened for a message. */
export function quote(value: unknown): string {
  if (value === undefined) return "nothing";
  if (typeof value === "object" && value !== null) {
    return Array.isArray(value) ? "a list" : "an object";
  }
  const text = JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
