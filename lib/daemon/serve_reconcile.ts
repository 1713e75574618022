/**
 * What a starting server does about each cell: what the log says it was asked for, against what is
 * there.
 *
 * ```
 *                  runs on    has ended    nothing is there
 *   end is told    -          finish       finish
 *   wanted         adopt      complete     never ran: start · had run: lose
 *   to be stopped  adopt, stop complete    never ran: cancel · had run: lose
 *   not known      end it      -            -
 * ```
 *
 * A cell's id is its identity: it is started only where there is neither a trace of it on the host
 * nor a word in the log that it ran, so nothing is done twice. Pure.
 *
 * @module
 */

/** A cell that has not ended by the log, and is this host's to run. */
export interface WantedCell {
  readonly id: string;
  /** Somebody wants it to end. */
  readonly isStopRequested: boolean;
  /** The log says that its program ran. */
  readonly hasStarted: boolean;
  /** The log says that its program ended. */
  readonly hasCompleted: boolean;
}

/** What is there of a cell; absent where nothing is. */
export type CellPresence = "running" | "ended";

/** What to do about one cell. */
export type CellAction =
  /** Make it: nothing of it was ever there. */
  | "start"
  /** Take it over. */
  | "adopt"
  /** Take it over and end it. */
  | "adoptAndStop"
  /** Tell its end from what its init wrote down. */
  | "complete"
  /** Its end was told, but not that nothing is left of it. */
  | "finish"
  /** It ran, and nobody can say how it ended. */
  | "lose"
  /** It was to be stopped before it was ever started. */
  | "cancel"
  /** It runs, and the log does not know it, or has told its end. */
  | "end";

/** The actions by cell, those of the log first, in its order. */
export function reconcileCells(
  wanted: Iterable<WantedCell>,
  present: ReadonlyMap<string, CellPresence>,
): Map<string, CellAction> {
  const actions = new Map<string, CellAction>();
  for (const cell of wanted) actions.set(cell.id, actionFor(cell, present.get(cell.id)));
  for (const [id, presence] of present) {
    if (presence === "running" && !actions.has(id)) actions.set(id, "end");
  }
  return actions;
}

function actionFor(cell: WantedCell, presence: CellPresence | undefined): CellAction {
  if (presence === "running") return cell.isStopRequested ? "adoptAndStop" : "adopt";
  if (cell.hasCompleted) return "finish";
  if (presence === "ended") return "complete";
  if (cell.hasStarted) return "lose";
  return cell.isStopRequested ? "cancel" : "start";
}
