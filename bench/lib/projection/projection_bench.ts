/**
 * How fast a log becomes state, beside the least that must be done with its text: JSON.parse.
 *
 *   deno run -A bench/lib/projection/projection_bench.ts [--full]
 *
 * Events are as celld writes them (cells that start, decide flows, close them and end), of 5000
 * cells at a time, as one JSON text each. Texts are made outside of the clock, in chunks; each
 * chunk is parsed only, and parsed and applied, in alternating order. Then what a restart costs
 * instead: a snapshot written, and read back; and at the size of 100 000 cells, lists of them.
 *
 * @module
 */
import { parseArgs } from "@std/cli";
import { cellRecord, Projection } from "#lib/projection/mod.ts";
import { lifeEvent, runningCell } from "../../support/life_events.ts";

const CHUNK = 10_000;

function main(): void {
  const { full } = parseArgs(Deno.args, { boolean: ["full"] });
  const events = full === true ? 1_000_000 : 50_000;
  const cells = full === true ? 100_000 : 5000;
  const projection = benchReplay(events);
  benchSnapshot("after the replay", projection);
  benchLists(cells);
}

function benchReplay(count: number): Projection {
  const projection = new Projection();
  let parseMs = 0;
  let applyMs = 0;
  let bytes = 0;
  for (let first = 0; first < count; first += CHUNK) {
    const texts = Array.from(
      { length: Math.min(CHUNK, count - first) },
      (_, index) => JSON.stringify(lifeEvent(first + index)),
    );
    bytes += texts.reduce((sum, text) => sum + text.length, 0);
    const parse = () => parseMs += timeMs(() => parseAll(texts));
    const apply = () => applyMs += timeMs(() => applyAll(projection, texts, first));
    if ((first / CHUNK) % 2 === 0) {
      parse();
      apply();
    } else {
      apply();
      parse();
    }
  }
  if (projection.cursor !== count) throw new Error(`cursor ${projection.cursor}, want ${count}`);
  const { applied, unchanged, ignored, malformed } = projection.counts;
  console.log(`${count} events, ${Math.round(bytes / count)} bytes each`);
  console.log(`  JSON.parse alone      ${rate(count, parseMs)}`);
  console.log(`  JSON.parse and apply  ${rate(count, applyMs)}, ${ratio(applyMs, parseMs)}`);
  console.log(`  apply                 ${rate(count, Math.max(1, applyMs - parseMs))}`);
  console.log(`  applied ${applied}, unchanged ${unchanged}, ignored ${ignored + malformed}`);
  console.log(`  ${JSON.stringify(projection.sizes)} ${JSON.stringify(projection.evictions)}`);
  return projection;
}

function benchSnapshot(what: string, projection: Projection): void {
  let text = "";
  const writeMs = timeMs(() => text = JSON.stringify(projection.snapshot()));
  const readMs = timeMs(() => Projection.restore(JSON.parse(text)));
  const size = (text.length / 1e6).toFixed(1);
  console.log(
    `snapshot ${what}: ${size} MB, written in ${writeMs.toFixed(0)} ms, read in ${
      readMs.toFixed(0)
    } ms`,
  );
}

/** The table at size: its memory, and what lists of it cost. */
function benchLists(count: number): void {
  const collect = (globalThis as { gc?: () => void }).gc;
  collect?.();
  const before = Deno.memoryUsage().heapUsed;
  const projection = new Projection();
  for (let index = 0; index < count; index++) {
    const event = JSON.parse(JSON.stringify(runningCell(index)));
    projection.apply({ seq: index + 1, event });
  }
  collect?.();
  const perCell = (Deno.memoryUsage().heapUsed - before) / count;
  console.log(`${count} cells: ${perCell.toFixed(0)} bytes each${collect ? "" : " and garbage"}`);
  console.log(`  first list ${timeMs(() => projection.cells()).toFixed(1)} ms`);
  console.log(`  next list ${timeMs(() => projection.cells()).toFixed(1)} ms`);
  const pageMs = timeMs(() => {
    for (let round = 0; round < 1000; round++) {
      projection.cells({ after: `cell-0000${round % 9}`, limit: 100 }).map((cell) =>
        cellRecord(cell)
      );
    }
  });
  console.log(`  pages of 100 as records ${rate(1000, pageMs, "pages")}`);
  benchSnapshot("of them", projection);
}

function parseAll(texts: readonly string[]): number {
  let total = 0;
  // Each result is looked at, so that none can be left out.
  for (const text of texts) total += JSON.parse(text).type.length;
  return total;
}

function applyAll(projection: Projection, texts: readonly string[], first: number): void {
  for (let index = 0; index < texts.length; index++) {
    projection.apply({ seq: first + index + 1, event: JSON.parse(texts[index]) });
  }
}

function timeMs(run: () => unknown): number {
  const started = performance.now();
  run();
  return performance.now() - started;
}

function rate(count: number, ms: number, unit = "events"): string {
  return `${Math.round(count / ms * 1000)} ${unit}/s`;
}

function ratio(ms: number, baseMs: number): string {
  return `${(ms / baseMs).toFixed(2)} × JSON.parse alone`;
}

if (import.meta.main) main();
