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
import type { ControlPlane, ListView } from "./ports.ts";

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
  readonly #tags = new WeakMap<object, string>();
  #tagCount = 0;
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

  /** A record alone. Its tag lives as long as the record does. */
  single(record: object): Page {
    const body = this.textOf(record);
    let etag = this.#tags.get(record);
    if (etag === undefined) {
      etag = this.etag(++this.#tagCount);
      this.#tags.set(record, etag);
    }
    return { body, etag };
  }

  /** The tag of a list at a version. */
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

/** Makes a record once for as long as the entity that it is made from lives. */
export function recordCache<E extends object, R extends object>(
  make: (entity: E) => R,
): (entity: E) => R {
  const records = new WeakMap<E, R>();
  return (entity) => {
    let record = records.get(entity);
    if (record === undefined) {
      record = make(entity);
      records.set(entity, record);
    }
    return record;
  };
}

/** A page of a list that was asked for one record more than fits: so it knows of more. */
export function cutPage<T>(
  items: readonly T[],
  limit: number | undefined,
  keyOf: (item: T) => string,
): Selection<T> {
  if (limit === undefined || items.length <= limit) return { records: items };
  const records = items.slice(0, limit);
  return { records, next: keyOf(records[limit - 1]) };
}

/** The limit to ask a list for, so that {@link cutPage} knows of more. */
export function oneMore(limit: number | undefined): { limit?: number } {
  return limit === undefined ? {} : { limit: limit + 1 };
}

/** Changes whenever another cell may be a member of a formation that is named. */
export function membersVersion(plane: Pick<ControlPlane, "cells" | "formations">): string {
  return `${plane.formations({ limit: 0 }).version}.${plane.cells({ limit: 0 }).version}`;
}
