/**
 * How many reads a second the API answers, beside a bare `Deno.serve` that returns the same bytes,
 * and how fast events reach WebSocket clients.
 *
 *   deno run -A bench/lib/http/http_bench.ts [--full]
 *
 * - `bare`: `Deno.serve` with the same text and the same headers, and nothing else.
 * - `api`: `GET /v1/cells` with its token, scope, request id, metrics; the list does not change.
 * - `changing`: the same while one cell changes a thousand times a second.
 * - `follow`: events appended at a steady rate; the latency is from append to the client's handler.
 *
 * A ratio is api / bare. Clients run on a thread of this process and share its cores.
 *
 * @module
 */
import { parseArgs } from "@std/cli";
import { startHttpServer } from "#lib/http/mod.ts";
import { as, FakePlane, makeApp, startedEvent, TOKENS } from "#tests/lib/http/plane.ts";
import { type FollowLoad, type LoadReport, sharedNowMs } from "./load_worker.ts";
import { runLoad } from "./run_load.ts";

interface Sizes {
  readonly cells: readonly number[];
  readonly durationMs: number;
  readonly clients: readonly number[];
  readonly events: number;
}

const SMALL: Sizes = { cells: [1, 100], durationMs: 200, clients: [1, 20], events: 500 };
const FULL: Sizes = {
  cells: [1, 100, 1000, 100_000],
  durationMs: 2000,
  clients: [1, 100, 1000],
  events: 5000,
};
/** Events of one append to few clients, and the pause after it: about 1000 events a second. */
const GROUP = 10;
const PAUSE_MS = 10;
/** What all clients together are given in a second at most, and in all. */
const DELIVERIES_A_SECOND = 50_000;
const DELIVERIES_MAX = 200_000;
const ROUNDS = 3;

async function main(args: readonly string[]): Promise<void> {
  const { full } = parseArgs(args, { boolean: ["full"] });
  const sizes = full === true ? FULL : SMALL;
  for (const cells of sizes.cells) await benchReads(cells, sizes.durationMs);
  for (const clients of sizes.clients) {
    for (const format of ["json", "ndjson"]) await benchFollow(clients, format, sizes.events);
  }
}

function planeOf(cells: number): FakePlane {
  const plane = new FakePlane();
  for (let index = 0; index < cells; index++) addCell(plane, index, "running");
  return plane;
}

function addCell(plane: FakePlane, index: number, phase: string): void {
  const id = `cell-${String(index).padStart(6, "0")}`;
  plane.addCell(id, {
    spec_id: "bench",
    run_id: "0190a5c4-7e1b-7c55-9b1e-aa3d30f5b7d1",
    started_at: "2026-05-16T00:00:00.000Z",
    destroyed_at: null,
    outcome: null,
    exit_code: null,
    name: "bench",
    phase,
  });
}

async function benchReads(cells: number, durationMs: number): Promise<void> {
  const plane = planeOf(cells);
  const { app } = makeApp(plane);
  const sample = await app.request("/v1/cells", as("read"));
  const headers = Object.fromEntries(sample.headers);
  const body = await sample.text();
  const bare = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    () => new Response(body, { headers }),
  );
  const server = await startHttpServer({ app, port: 0 });
  const read = (port: number): Promise<LoadReport> =>
    runLoad({
      kind: "read",
      port,
      path: "/v1/cells",
      token: TOKENS.read,
      connections: 32,
      durationMs,
    });
  const rates: Record<"bare" | "api" | "changing", number[]> = { bare: [], api: [], changing: [] };
  let p99Ms = 0;
  // In turns, so that a disturbance meets all of them.
  for (let round = 0; round < ROUNDS; round++) {
    rates.bare.push(rateOf(await read(bare.addr.port)));
    const report = await read(server.port);
    rates.api.push(rateOf(report));
    p99Ms = Math.max(p99Ms, report.p99Ms);
    let changes = 0;
    const timer = setInterval(() => addCell(plane, 0, `running-${changes++}`), 1);
    rates.changing.push(rateOf(await read(server.port)));
    clearInterval(timer);
  }
  await Promise.all([bare.shutdown(), server.stop()]);
  const [bareRate, apiRate] = [median(rates.bare), median(rates.api)];
  console.log(
    `${cells} cells, ${body.length} bytes: bare ${show(bareRate)}/s, api ${show(apiRate)}/s ` +
      `(${(apiRate / bareRate).toFixed(2)}, p99 ${p99Ms.toFixed(1)} ms), ` +
      `changing ${show(median(rates.changing))}/s`,
  );
}

function rateOf({ count, timeMs }: LoadReport): number {
  return count / timeMs * 1000;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1];
}

async function benchFollow(clients: number, format: string, most: number): Promise<void> {
  const events = Math.min(most, Math.floor(DELIVERIES_MAX / clients / GROUP) * GROUP);
  const pauseMs = Math.max(PAUSE_MS, clients * GROUP * 1000 / DELIVERIES_A_SECOND);
  const plane = new FakePlane();
  const { app } = makeApp(plane);
  const server = await startHttpServer({ app, port: 0 });
  const load: FollowLoad = {
    kind: "follow",
    port: server.port,
    query: `?format=${format}`,
    token: TOKENS.read,
    clients,
    events,
  };
  const report = await runLoad(load, async () => {
    for (let sent = 0; sent < events; sent += GROUP) {
      const sentMs = sharedNowMs();
      await plane.log.append(
        Array.from({ length: GROUP }, () => startedEvent("bench", { sentMs, note: NOTE })),
      );
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  });
  await server.stop();
  console.log(
    `${clients} clients, ${format}: ${show(report.count / report.timeMs * 1000)} events/s, ` +
      `p50 ${report.p50Ms.toFixed(1)} ms, p99 ${report.p99Ms.toFixed(1)} ms`,
  );
}

/** Makes an event about as large as a flow decision. */
const NOTE = "x".repeat(300);

function show(perSecond: number): string {
  return Math.round(perSecond).toLocaleString("en-US");
}

if (import.meta.main) await main(Deno.args);
