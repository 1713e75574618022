/**
 * The id of a cell of a formation. It follows from what the cell is, so that a start that is
 * asked for twice, before and after a crash, asks for one cell.
 *
 * @module
 */
import { createHash } from "node:crypto";

/** Characters of a cell's id. */
const CELL_ID_LENGTH_MAX = 63;
const DIGEST_LENGTH = 10;

/** Which cell of which formation. */
export interface FormationCell {
  /** The formation's UUID. */
  readonly formationId: string;
  /** The formation's name. */
  readonly formationName: string;
  /** The member's id. */
  readonly member: string;
  /** Which of the member's replicas, from 0. */
  readonly replica: number;
  /** How many times this replica had been started before. */
  readonly attempt: number;
}

/** `<name>-<member>-<replica>-<10 hex>`, of what a cell's id may be made of: `[a-z0-9-]`, up to 63. */
export function formationCellId(cell: FormationCell): string {
  const { formationId, formationName, member, replica, attempt } = cell;
  const digest = createHash("sha256")
    .update(JSON.stringify([formationId, member, replica, attempt]))
    .digest("hex").slice(0, DIGEST_LENGTH);
  const readable = `${formationName}-${member}-${replica}`.toLowerCase()
    .replace(/[^a-z0-9]+/g, "-").slice(0, CELL_ID_LENGTH_MAX - DIGEST_LENGTH - 1)
    .replace(/^-+|-+$/g, "");
  return readable === "" ? `cell-${digest}` : `${readable}-${digest}`;
}
