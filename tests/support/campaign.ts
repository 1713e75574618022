/**
 * Sizes of campaigns: the same test runs small on every change and full before a release.
 *
 *   const rounds = campaign(10, 100);
 *   …
 *   recordCampaign("event log: kill -9 while appending", { rounds, lost: 0, twice: 0 });
 *
 * `deno task test` runs the small sizes, `deno task test:long` the full ones (environment
 * `CELLD_TEST=long`). What is recorded here is a line of the table that the test runner prints at
 * the end; where no runner collects, the line goes to standard output.
 *
 * @module
 */

/** True where the full sizes are asked for. */
export const IS_LONG_RUN: boolean = Deno.env.get("CELLD_TEST") === "long";

/** Name of the environment variable with the file in which the runner collects campaign lines. */
export const CAMPAIGN_FILE_ENV = "CELLD_TEST_CAMPAIGNS";

/** A figure of a campaign: a count, a text, or a number with its unit in the text. */
export type CampaignFigure = number | bigint | string | boolean;

/** Chooses between the size for every run and the size for the long run. */
export function campaign<T>(small: T, full: T): T {
  return IS_LONG_RUN ? full : small;
}

/** Adds one line to the summary: what was run, at what size, and what came out. */
export function recordCampaign(
  name: string,
  figures: Readonly<Record<string, CampaignFigure>>,
): void {
  const texts = Object.fromEntries(
    Object.entries(figures).map(([key, value]) => [key, String(value)]),
  );
  const path = Deno.env.get(CAMPAIGN_FILE_ENV);
  if (path === undefined) {
    const list = Object.entries(texts).map(([key, value]) => `${key}=${value}`).join(" ");
    console.log(`campaign ${name}: ${list}`);
    return;
  }
  Deno.writeTextFileSync(path, JSON.stringify({ name, figures: texts }) + "\n", { append: true });
}

/**
 * Seed of this run's random choices: `CELLD_TEST_SEED` where set, else a new one.
 *
 * Print it with what failed, so that the run can be repeated.
 */
export function campaignSeed(): number {
  const given = Deno.env.get("CELLD_TEST_SEED");
  if (given !== undefined && /^\d+$/.test(given)) return Number(given) >>> 0;
  return crypto.getRandomValues(new Uint32Array(1))[0];
}
