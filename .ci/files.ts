/**
 * Where the repository is, and which files are in it, for the tools of this folder.
 *
 * @module
 */

/** Root of the repository, without a slash at the end. */
export const REPOSITORY: string = new URL("..", import.meta.url).pathname.replace(/\/$/, "");

/** Folders that hold nothing of ours. */
const SKIPPED: ReadonlySet<string> = new Set([".git", "dist", "node_modules", "coverage"]);

/**
 * Paths of all files under the given folders (or files), relative to the root, sorted.
 *
 * A folder that does not exist has no files. Not through git, so that the answer is the same in a
 * fresh clone, in an unpacked archive, and for a file that is not committed yet.
 */
export function listFiles(folders: readonly string[] = ["."]): string[] {
  const found: string[] = [];
  for (const folder of folders) collect(folder === "." ? "" : folder, found);
  return found.sort();
}

function collect(path: string, found: string[]): void {
  let entries: Deno.DirEntry[];
  try {
    entries = Array.from(Deno.readDirSync(`${REPOSITORY}/${path}`));
  } catch (error) {
    if (error instanceof Deno.errors.NotADirectory) found.push(path);
    else if (!(error instanceof Deno.errors.NotFound)) throw error;
    return;
  }
  for (const entry of entries) {
    if (SKIPPED.has(entry.name)) continue;
    const inner = path === "" ? entry.name : `${path}/${entry.name}`;
    if (entry.isDirectory) collect(inner, found);
    else found.push(inner);
  }
}

/** Text of a file given by its path relative to the root. */
export function readText(path: string): string {
  return Deno.readTextFileSync(`${REPOSITORY}/${path}`);
}
