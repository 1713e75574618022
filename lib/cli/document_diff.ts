/**
 * How two documents differ, member by member. Lists whose items have ids are compared by those, so
 * that an inserted member is one difference and not many.
 *
 * @module
 */

/** One difference. */
export interface Difference {
  /** Where: `members[worker-a].authorizedBy`. */
  readonly path: string;
  /** Absent: it is new. */
  readonly before?: unknown;
  /** Absent: it is gone. */
  readonly after?: unknown;
}

/** All differences, in the order of the documents; none where they say the same. */
export function diffDocuments(before: unknown, after: unknown, path = ""): Difference[] {
  const [left, right] = [keyed(before), keyed(after)];
  if (left === undefined || right === undefined || left.isList !== right.isList) {
    return isSameScalar(before, after) ? [] : [{ path: path || ".", before, after }];
  }
  const names = new Set([...left.entries.keys(), ...right.entries.keys()]);
  return Array.from(names).flatMap((name) => {
    const at = left.isList ? `${path}[${name}]` : path === "" ? name : `${path}.${name}`;
    if (!left.entries.has(name)) return [{ path: at, after: right.entries.get(name) }];
    if (!right.entries.has(name)) return [{ path: at, before: left.entries.get(name) }];
    return diffDocuments(left.entries.get(name), right.entries.get(name), at);
  });
}

function isSameScalar(before: unknown, after: unknown): boolean {
  return JSON.stringify(before) === JSON.stringify(after);
}

/** The parts of an object or a list by name; `undefined` for what has none. */
function keyed(value: unknown): { isList: boolean; entries: Map<string, unknown> } | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  if (!Array.isArray(value)) return { isList: false, entries: new Map(Object.entries(value)) };
  const ids = value.map((item) => (item as { id?: unknown } | null)?.id);
  const hasIds = ids.every((id) => typeof id === "string") && new Set(ids).size === ids.length;
  const entries = value.map((item, index) => [hasIds ? String(ids[index]) : String(index), item]);
  return { isList: true, entries: new Map(entries as [string, unknown][]) };
}
