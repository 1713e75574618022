/**
 * What the load balancer's workers were told last, so that they are told only what is new.
 *
 * @module
 */
import { canonicalJson } from "#lib/base/mod.ts";

/** See the module. */
export class ToldOnce {
  readonly #texts = new Map<string, string>();

  /** Acts where a value differs from the one of the last act that did not fail. */
  async tell(key: string, value: unknown, act: () => Promise<void>): Promise<void> {
    const text = canonicalJson(JSON.parse(JSON.stringify(value, plainly)));
    if (this.#texts.get(key) === text) return;
    await act();
    this.#texts.set(key, text);
  }

  /** The next value is new, whatever it is. */
  forget(key: string): void {
    this.#texts.delete(key);
  }

  /** As {@link ToldOnce.forget}, for all. */
  clear(): void {
    this.#texts.clear();
  }
}

/** Big integers and bytes, which JSON has not, as texts. */
function plainly(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return value.toString();
  return value instanceof Uint8Array ? value.toHex() : value;
}
