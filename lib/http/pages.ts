/**
 * Lists as text: each record is written once for as long as it lives, each page once for as long
 * as its list does not change.
 *
 * A page is `{"<name>":[…],"cursor":n}`, with `"next":"<key>"` where there is more: `?after=<key>`
 * goes on from there. Strings, not bytes, because the server sends them faster. The cache is
 * bounded by pages and by characters; what falls out is made again.
 *
 * @module
 */
import type { ListView } from "./ports.ts";

/** Pages that are kept. */
export const PAGES_MAX = 256;
/** Characters of all pages that are kept. */
export const PAGE_CHARS_MAX = 64 * 1024 * 1024;

/** A page as it is sent. */
export interface Page {
  readonly body: string;
  /** Weak: the page is the same but for its cursor. */
  readonly etag: string;
}

/** What is put on a page. */
export interface Selection<T> {
  readonly records: readonly T[];
  /** The key of the last record, where there are more. */
  readonly next?: string;
}

interface KeptPage {
  readonly version: number;
  readonly cursor: number;
  /** Everything before the cursor's digits. */
  readonly head: string;
  readonly tail: string;
  readonly body: string;
}

/** See the module. */
export class Pages {
  readonly #texts = new WeakMap<object, string>();
  readonly #pages = new Map<string, KeptPage>();
  readonly #nonce: string;
  #chars = 0;

  /** The nonce makes tags of another process, whose versions mean other things, not match. */
  constructor(nonce: string) {
    this.#nonce = nonce;
  }

  /** A record as JSON. */
  textOf(record: object): string {
    let text = this.#texts.get(record);
    if (text === undefined) {
      text = JSON.stringify(record);
      this.#texts.set(record, text);
    }
    return text;
  }

  /**
   * The page of a list for a query.
   *
   * @param name The member of the body that holds the records.
   * @param query Text that is the same for the same selection.
   */
  page<T extends object>(
    name: string,
    query: string,
    view: ListView<T>,
    select: (items: readonly T[]) => Selection<T>,
  ): Page {
    const key = `${name}?${query}`;
    const kept = this.#pages.get(key);
    if (kept?.version === view.version) {
      if (kept.cursor === view.cursor) return this.#toPage(kept);
      return this.#toPage(this.#keep(key, withCursor(kept, view.cursor)));
    }
    const { records, next } = select(view.items());
    const head = `{"${name}":[${records.map((record) => this.textOf(record)).join(",")}],"cursor":`;
    const tail = next === undefined ? "}" : `,"next":${JSON.stringify(next)}}`;
    const page = { version: view.version, cursor: view.cursor, head, tail, body: "" };
    return this.#toPage(this.#keep(key, withCursor(page, view.cursor)));
  }

  /** The tag of a list or a record at a version. */
  etag(version: number | string): string {
    return `W/"${this.#nonce}-${version}"`;
  }

  #toPage(kept: KeptPage): Page {
    return { body: kept.body, etag: this.etag(kept.version) };
  }

  #keep(key: string, page: KeptPage): KeptPage {
    this.#drop(key);
    this.#pages.set(key, page);
    this.#chars += page.body.length;
    while (this.#pages.size > PAGES_MAX || (this.#chars > PAGE_CHARS_MAX && this.#pages.size > 1)) {
      this.#drop(this.#pages.keys().next().value!);
    }
    return page;
  }

  #drop(key: string): void {
    this.#chars -= this.#pages.get(key)?.body.length ?? 0;
    this.#pages.delete(key);
  }
}

function withCursor(page: KeptPage, cursor: number): KeptPage {
  return { ...page, cursor, body: `${page.head}${cursor}${page.tail}` };
}

/** Those of a sorted list that come after a key, at most `limit`. */
export function selectAfter<T>(
  items: readonly T[],
  options: {
    readonly keyOf: (item: T) => string;
    readonly after?: string | undefined;
    readonly limit?: number | undefined;
  },
): Selection<T> {
  const { keyOf, after, limit } = options;
  const start = after === undefined ? 0 : indexAfter(items, keyOf, after);
  const end = limit === undefined ? items.length : Math.min(items.length, start + limit);
  const records = start === 0 && end === items.length ? items : items.slice(start, end);
  return end < items.length && end > start
    ? { records, next: keyOf(items[end - 1]) }
    : { records };
}

/** The index of the first item whose key is greater. */
function indexAfter<T>(items: readonly T[], keyOf: (item: T) => string, key: string): number {
  let low = 0;
  let high = items.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (keyOf(items[middle]) <= key) low = middle + 1;
    else high = middle;
  }
  return low;
}
