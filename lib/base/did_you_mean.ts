/**
 * Suggests the word that was probably meant, for messages about unknown fields, flags and
 * commands.
 *
 * The distance counts insertions, deletions, replacements and swaps of neighbours (optimal
 * string alignment), without regard to case. Words are clipped, so that a hostile document
 * cannot buy quadratic work with one long key.
 *
 * @module
 */

/** Longer words are never near a name of ours; comparing them would only cost time. */
const WORD_LENGTH_MAX = 64;

/** The number of single edits that turn `a` into `b`, where a swap of neighbours is one edit. */
export function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row++) {
    const current = [row];
    for (let column = 1; column <= b.length; column++) {
      const same = a[row - 1] === b[column - 1];
      let cost = Math.min(
        last[column] + 1,
        current[column - 1] + 1,
        last[column - 1] + (same ? 0 : 1),
      );
      const swapped = row > 1 && column > 1 && a[row - 1] === b[column - 2] &&
        a[row - 2] === b[column - 1];
      if (swapped) cost = Math.min(cost, beforeLast[column - 2] + 1);
      current.push(cost);
    }
    beforeLast = last;
    last = current;
  }
  return last[b.length];
}

/**
 * The candidate nearest to `word`, or `undefined` where none is near: at most a third of the
 * word's letters may differ, and at least one edit is always allowed. The first candidate wins
 * a tie.
 */
export function didYouMean(word: string, candidates: Iterable<string>): string | undefined {
  if (word.length === 0 || word.length > WORD_LENGTH_MAX) return undefined;
  const wanted = word.toLowerCase();
  let best: string | undefined;
  let bestDistance = Math.max(1, Math.floor(word.length / 3)) + 1;
  for (const candidate of candidates) {
    if (Math.abs(candidate.length - word.length) >= bestDistance) continue;
    const distance = editDistance(wanted, candidate.toLowerCase());
    // As many edits as letters is a different word, not a slip.
    if (distance >= bestDistance || distance >= candidate.length) continue;
    best = candidate;
    bestDistance = distance;
  }
  return best;
}
