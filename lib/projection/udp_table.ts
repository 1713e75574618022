/**
 * The UDP load balancer's listeners and clusters as they are to be, by what the log says.
 *
 * @module
 */
import { type Fields, fieldsOf, textOf } from "./fields.ts";

/** A listener or a cluster. */
export interface UdpSetting {
  /** What it is. */
  readonly kind: "listener" | "cluster";
  /** Unique among its kind. */
  readonly name: string;
  /** As it was asked for. */
  readonly document: Fields;
  /** Place of the event that said so. */
  readonly seq: number;
}

/** See the module. Bounded by whoever asks: see the limits of `lib/udp`. */
export class UdpTable {
  readonly #rows = new Map<string, UdpSetting>();

  /** All, in the order of their kinds and names. */
  rows(): UdpSetting[] {
    return [...this.#rows.keys()].sort().map((key) => this.#rows.get(key)!);
  }

  /** Takes an event; the key of the row that changed, `undefined` where none did. */
  apply(isSet: boolean, data: Fields, seq: number): string | undefined {
    const kind = textOf(data, "kind");
    const name = textOf(data, "name");
    if ((kind !== "listener" && kind !== "cluster") || name === undefined) return undefined;
    const key = `${kind}/${name}`;
    if (!isSet) return this.#rows.delete(key) ? key : undefined;
    this.#rows.set(key, { kind, name, document: fieldsOf(data.document), seq });
    return key;
  }

  /** Takes the rows of a snapshot. */
  restore(rows: readonly UdpSetting[]): void {
    for (const row of rows) this.#rows.set(`${row.kind}/${row.name}`, row);
  }
}
