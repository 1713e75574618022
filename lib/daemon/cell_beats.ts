/**
 * What the run of a cell asks of whoever hears beats: sockets before its workload is launched, and
 * none after its end. A cell that cannot be heard does not start, unless its spec only wants reports.
 *
 * @module
 */
import { type CellSpec, leaseUid } from "#lib/cell/mod.ts";

/** A cell whose processes beat. */
export interface BeatingCell {
  readonly cellId: string;
  readonly spec: CellSpec;
  /** Whom its processes run as, as the host counts: uid and gid. */
  readonly uid: number;
  /** It was running before this celld. */
  readonly isAdopted: boolean;
}

/** Whoever hears beats. */
export interface CellBeats {
  /** Binds the cell's sockets. Rejects where it cannot. */
  open(cell: BeatingCell): Promise<void>;
  /** Removes them; a cell that has none is left alone. Never rejects. */
  close(cellId: string): Promise<void>;
}

/** What is needed to open a cell's sockets. */
export interface BeatRequest {
  readonly spec: CellSpec;
  readonly cellId: string;
  /** Absent where no observer runs. */
  readonly beats?: CellBeats;
  onWarning(text: string): void;
}

/**
 * Opens the sockets of a cell that wants them. Rejects where the cell is not to run without; what
 * is only worth knowing is a warning.
 */
export async function openBeats(
  request: BeatRequest,
  cell: { readonly index: number; readonly isAdopted: boolean },
): Promise<void> {
  const { spec, cellId, beats, onWarning } = request;
  const liveness = spec.run?.liveness;
  if (liveness === undefined) return;
  const shown = JSON.stringify(cellId);
  if (beats === undefined) {
    return onWarning(`Nobody hears the beats of cell ${shown}: that takes a celld serve`);
  }
  try {
    await beats.open({ cellId, spec, uid: leaseUid(cell.index), isAdopted: cell.isAdopted });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    const text = `Cannot hear the beats of cell ${shown}: ${reason}`;
    if (liveness.onStall !== "report") throw new Error(text, { cause: error });
    onWarning(text);
  }
}
