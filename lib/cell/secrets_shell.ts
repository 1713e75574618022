/**
 * Secret values as files that only the cell's user may read. They live on a memory file
 * system of their own directory where the runtime directory is one, and go with the cell.
 *
 * @module
 */
import type { CellOrder } from "./host_protocol.ts";

/** Writes each secret that is delivered as a file, mode 0400, owned by `uid`. */
export function writeSecrets(directory: string, order: CellOrder, uid: number): void {
  if (order.spec.run?.secretDelivery !== "file") return;
  Deno.mkdirSync(directory, { mode: 0o700 });
  Deno.chownSync(directory, uid, uid);
  for (const [name, value] of Object.entries(order.secrets)) {
    const path = `${directory}/${name}`;
    Deno.writeTextFileSync(path, value, { createNew: true, mode: 0o400 });
    Deno.chownSync(path, uid, uid);
  }
}

/** Removes them; none need be there. */
export function removeSecrets(directory: string): void {
  try {
    Deno.removeSync(directory, { recursive: true });
  } catch (cause) {
    if (!(cause instanceof Deno.errors.NotFound)) throw cause;
  }
}
