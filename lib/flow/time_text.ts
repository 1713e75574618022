/**
 * Wall time as text without the runtime's clock objects, so that cores may format what they are told.
 *
 * @module
 */

const DAY_MS = 86_400_000;
/** End of the year 9999, the last that RFC 3339 can write. */
const TIME_MS_MAX = 253_402_300_799_999;

/**
 * RFC 3339 in UTC with milliseconds: `2026-05-16T00:00:00.000Z`.
 *
 * @param timeMs Milliseconds since 1970; brought into the years 1970 to 9999.
 */
export function formatTimeMs(timeMs: number): string {
  const bounded = Math.min(Math.max(Math.trunc(timeMs) || 0, 0), TIME_MS_MAX);
  const days = Math.floor(bounded / DAY_MS);
  const { year, month, day } = civilDate(days);
  const ms = bounded - days * DAY_MS;
  const clock = [ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60].map((part) => pad(part, 2));
  return `${pad(year, 4)}-${pad(month, 2)}-${pad(day, 2)}T${clock.join(":")}.${pad(ms % 1000, 3)}Z`;
}

function pad(value: number, width: number): string {
  return String(Math.floor(value)).padStart(width, "0");
}

/** Days since 1970 to a date, in eras of 400 years that start on 1 March. */
function civilDate(days: number): { year: number; month: number; day: number } {
  const shifted = days + 719_468;
  const era = Math.floor(shifted / 146_097);
  const dayOfEra = shifted - era * 146_097;
  const yearOfEra = Math.floor(
    (dayOfEra - Math.floor(dayOfEra / 1460) + Math.floor(dayOfEra / 36_524) -
      Math.floor(dayOfEra / 146_096)) / 365,
  );
  const dayOfYear = dayOfEra -
    (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
  const monthFromMarch = Math.floor((5 * dayOfYear + 2) / 153);
  const day = dayOfYear - Math.floor((153 * monthFromMarch + 2) / 5) + 1;
  const month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9;
  return { year: yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, day };
}
