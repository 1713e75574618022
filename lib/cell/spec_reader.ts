/**
 * Reads fields of a cell's specification: the reader of `lib/base`, and the error that a
 * specification ends with.
 *
 * @module
 */
import { type FieldProblem, FieldReader, formatProblem } from "#lib/base/mod.ts";

/** One mistake in a specification. */
export type SpecProblem = FieldProblem;

/** A document that is not a cell specification. Its message is one line a problem. */
export class SpecError extends SyntaxError {
  /** The class's name. */
  override name = "SpecError";
  /** At least one, in the order in which the document was read; at most `PROBLEMS_MAX`. */
  readonly problems: readonly SpecProblem[];

  /** At least one problem. */
  constructor(problems: readonly SpecProblem[]) {
    super(`Cannot read the spec: ${problems.map(formatProblem).join("\n")}`);
    this.problems = problems;
  }
}

/** Collects problems, and throws them at the end. */
export class SpecReader extends FieldReader {
  /** Throws {@link SpecError} when there was any problem. */
  throwIfAny(): void {
    if (this.problems.length > 0) throw new SpecError(this.problems);
  }
}
