/**
 * What the test runner decides: which tests run together, and what a run's summary says.
 *
 * Pure functions over paths and text.
 *
 * @module
 */

/** Tests that run in one process. */
export interface TestGroup {
  readonly name: string;
  readonly files: readonly string[];
  /** True where the files may run side by side. */
  readonly parallel: boolean;
  /** True where the group needs a kernel that lets it work, and must not be skipped as a whole. */
  readonly kernel: boolean;
}

/** Counts of tests. */
export interface Totals {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** Folders of `tests/` whose tests touch the kernel or the whole machine: one at a time. */
const SERIAL_FOLDERS: ReadonlySet<string> = new Set(["kernel", "e2e", "interop", "sim"]);

/**
 * Sorts test files into groups, in the order in which they run: the fastest first.
 *
 * `touchesKernel` tells of a file whether it has kernel tests: such a file runs alone too, wherever
 * it stands, since it may look at the whole machine.
 */
export function groupTests(
  paths: readonly string[],
  touchesKernel: (path: string) => boolean,
): TestGroup[] {
  const side: string[] = [];
  const serial = new Map<string, string[]>();
  for (const path of paths.filter((one) => one.endsWith("_test.ts")).sort()) {
    const [, folder, area] = path.split("/");
    if (!SERIAL_FOLDERS.has(folder) && !touchesKernel(path)) {
      side.push(path);
      continue;
    }
    const isDeep = path.split("/").length > 3;
    const name = isDeep ? `tests/${folder}/${area}` : `tests/${folder}${subjectOf(folder, area)}`;
    serial.set(name, [...(serial.get(name) ?? []), path]);
  }
  const groups: TestGroup[] = [];
  if (side.length > 0) {
    groups.push({ name: "pure tests", files: side, parallel: true, kernel: false });
  }
  const order = Array.from(serial.keys()).sort((a, b) => rank(a) - rank(b) || compare(a, b));
  for (const name of order) {
    const kernel = name.startsWith("tests/kernel");
    groups.push({ name, files: serial.get(name)!, parallel: false, kernel });
  }
  return groups;
}

/** End-to-end tests are many: those of the server and of its load balancer run on their own. */
function subjectOf(folder: string, file: string): string {
  const subject = /^(serve|udp)_/.exec(file)?.[1];
  return folder === "e2e" && subject !== undefined ? `/${subject}` : "";
}

function rank(name: string): number {
  return name.startsWith("tests/e2e") ? 1 : 0;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** The line that Deno's reporter ends with, such as `ok | 3 passed (2 steps) | 0 failed | 1 ignored (5ms)`. */
const SUMMARY = /^(?:ok|FAILED) \| (\d+) passed(?: \([^)]*\))? \| (\d+) failed(.*)$/;

/** Finds the summary line of `deno test` and reads it; the last one counts. */
export function parseSummary(lines: readonly string[]): Totals | undefined {
  for (const line of lines.toReversed()) {
    const match = SUMMARY.exec(line);
    if (match === null) continue;
    const ignored = /\| (\d+) ignored/.exec(match[3]);
    return {
      passed: Number(match[1]),
      failed: Number(match[2]),
      skipped: ignored === null ? 0 : Number(ignored[1]),
    };
  }
  return undefined;
}

/** Adds counts. */
export function addTotals(a: Totals, b: Partial<Totals>): Totals {
  return {
    passed: a.passed + (b.passed ?? 0),
    failed: a.failed + (b.failed ?? 0),
    skipped: a.skipped + (b.skipped ?? 0),
  };
}
