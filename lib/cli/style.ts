/**
 * Colour as a value: text goes in, text comes out, and plain when the reader is no terminal.
 *
 * Follows https://no-color.org: any non-empty `NO_COLOR` turns colour off, and so does
 * `TERM=dumb`. Meaning never rests on colour alone.
 *
 * @module
 */

/** What a piece of text is; how it looks is decided in one place. */
export type Tone = "good" | "bad" | "warn" | "dim" | "strong" | "plain";

/** Paints text of a tone, or leaves it as it is. */
export type Paint = (tone: Tone, text: string) => string;

const CODES: Readonly<Record<Exclude<Tone, "plain">, string>> = {
  good: "32",
  bad: "31",
  warn: "33",
  dim: "2",
  strong: "1",
};

/** Leaves every text as it is. */
export function plainPaint(_tone: Tone, text: string): string {
  return text;
}

/** Paints with the SGR codes of ECMA-48. */
export function colourPaint(tone: Tone, text: string): string {
  return tone === "plain" || text === "" ? text : `\x1b[${CODES[tone]}m${text}\x1b[0m`;
}

/** Chooses the paint for a stream: colour only on a terminal that wants it. */
export function choosePaint(
  options: { isTerminal: boolean; env: Readonly<Record<string, string | undefined>> },
): Paint {
  const { isTerminal, env } = options;
  const refused = (env["NO_COLOR"] ?? "") !== "" || env["TERM"] === "dumb";
  return isTerminal && !refused ? colourPaint : plainPaint;
}
