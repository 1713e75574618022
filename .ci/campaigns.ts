/**
 * The table of campaigns that the test runner prints: one line each, as the tests recorded it.
 *
 * @module
 */

/** One recorded campaign. */
export interface CampaignLine {
  readonly name: string;
  readonly figures: Readonly<Record<string, string>>;
}

/** Reads the lines that `recordCampaign` wrote; a torn line (of a killed process) is left out. */
export function parseCampaigns(text: string): CampaignLine[] {
  return text.split("\n").flatMap((line) => {
    const value = parseJson(line);
    return isCampaignLine(value) ? [value] : [];
  });
}

/** Lays campaigns out in two columns: the name, and its figures. */
export function formatCampaigns(campaigns: readonly CampaignLine[]): string {
  const width = Math.max(...campaigns.map((one) => one.name.length));
  return campaigns.map(({ name, figures }) => {
    const list = Object.entries(figures).map(([key, value]) => `${key}=${value}`).join("  ");
    return `  ${name.padEnd(width)}  ${list}`;
  }).join("\n");
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    // A torn or empty line has nothing to tell.
    return undefined;
  }
}

function isCampaignLine(value: unknown): value is CampaignLine {
  return typeof value === "object" && value !== null && "name" in value && "figures" in value &&
    typeof value.name === "string" && typeof value.figures === "object" && value.figures !== null;
}
