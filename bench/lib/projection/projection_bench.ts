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
import { EVENT_TYPES } from "#lib/events/mod.ts";
import { cellRecord, Projection } from "#lib/projection/mod.ts";

const CHUNK = 10_000;
const CELLS = 5000;
/** Events of one cell's life: pending, started, flows, completed, destroyed. */
const LIFE = 20;

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
      (_, index) => textOf(first + index),
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
    const data = { cellId: `cell-${index}`, specId: "bench", runId: `run-${index}` };
    projection.apply({
      seq: index + 1,
      event: JSON.parse(envelope(EVENT_TYPES.cellStarted, data)),
    });
  }
  collect?.();
  const perCell = (Deno.memoryUsage().heapUsed - before) / count;
  console.log(`${count} cells: ${perCell.toFixed(0)} bytes each${collect ? "" : " and garbage"}`);
  console.log(`  first list ${timeMs(() => projection.cells()).toFixed(1)} ms`);
  console.log(`  next list ${timeMs(() => projection.cells()).toFixed(1)} ms`);
  const pageMs = timeMs(() => {
    for (let round = 0; round < 1000; round++) {
      projection.cells({ after: `cell-${round % 9}`, limit: 100 }).map((cell) => cellRecord(cell));
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

function textOf(index: number): string {
  const generation = Math.floor(index / (CELLS * LIFE));
  const step = Math.floor(index / CELLS) % LIFE;
  const cell = index % CELLS;
  const names = { cellId: `cell-${generation}-${cell}`, runId: `run-${generation}-${cell}` };
  const identity = { ...names, specId: `spec-${cell % 50}` };
  if (step === 0) return envelope(EVENT_TYPES.cellPhase, { ...identity, phase: "pending" });
  if (step === 1) return envelope(EVENT_TYPES.cellStarted, identity);
  if (step === LIFE - 2) {
    const end = { exitCode: 0, reason: "exited", durationMs: 12 };
    return envelope(EVENT_TYPES.commandCompleted, { ...identity, ...end });
  }
  if (step === LIFE - 1) {
    return envelope(EVENT_TYPES.cellDestroyed, { ...identity, outcome: "succeeded" });
  }
  const tuple = {
    ...names,
    direction: "egress",
    srcAddr: "10.213.0.1",
    srcPort: 40_000 + (step >> 1),
    dstAddr: "192.0.2.1",
    dstPort: 443,
    protocol: "tcp",
  };
  return step % 2 === 0 ? decisionText(index, tuple) : closedText(tuple);
}

function decisionText(index: number, tuple: Readonly<Record<string, unknown>>): string {
  return envelope(EVENT_TYPES.flowDecision, {
    schemaVersion: "1.0.0",
    decisionId: `6f9619ff-8b86-4d01-b42d-${String(index).padStart(12, "0")}`,
    decision: "allow",
    reasonCode: "nft_log_accept",
    nftRuleRef: `egress[${index % 4}]`,
    ...tuple,
    observedAt: "2026-05-16T00:00:00.000Z",
  });
}

function closedText(tuple: Readonly<Record<string, unknown>>): string {
  return envelope(EVENT_TYPES.flowClosed, {
    ...tuple,
    packetsOut: 10,
    bytesOut: 1000,
    packetsIn: 9,
    bytesIn: 9000,
    closedAt: "2026-05-16T00:00:01.000Z",
    reason: "closed",
  });
}

function envelope(type: string, data: Readonly<Record<string, unknown>>): string {
  return JSON.stringify({
    specversion: "1.0",
    id: "6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
    source: "/celld/bench",
    type,
    subject: `cell:${data.cellId}`,
    time: "2026-05-16T00:00:00.000Z",
    datacontenttype: "application/json",
    data,
  });
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
