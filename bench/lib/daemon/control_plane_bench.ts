/**
 * A whole server as its users meet it, in one table: `celld serve` in a process of its own, with
 * its log on a disk, asked over loopback.
 *
 *   deno task bench -- [--full] bench/lib/daemon/control_plane_bench.ts
 *
 * - `read`: `GET /v1/cells` over 32 connections, beside a bare `Deno.serve` that returns the same
 *   bytes with the same headers.
 * - `command`: status reports of a formation, each durable and in the state before its answer,
 *   beside appends of the same kind to a bare log.
 * - `event`: reports go to so many WebSocket clients; the delay is from the report's sending to an
 *   event's arrival, so that the disk is in it. Beside the deliveries that were asked for.
 * - `replay`: from the start of the process to ready, beside reading and parsing the same log.
 * - `memory`: resident, once ready.
 *
 * The clients and the bare server share the machine's processors with the server.
 *
 * @module
 */
import { parseArgs } from "@std/cli";
import { openSqliteLog } from "#lib/eventlog/mod.ts";
import { openJetStreamLog } from "#lib/eventlog/mod_shell.ts";
import { HAS_NATS_SERVER, startNats } from "#tests/support/nats.ts";
import { type BenchPlace, BenchServer, fillLog, makePlace } from "../../support/bench_server.ts";
import { type Ground, onGround } from "../../support/ground.ts";
import { LIFE_CELLS, lifeEvent, runningCell } from "../../support/life_events.ts";
import { count, figure, printTable, quantile, ratio } from "../../support/table.ts";
import { runLoad } from "../http/run_load.ts";
import { type LoadReport, sharedNowMs } from "../http/load_worker.ts";

interface Sizes {
  readonly cells: readonly number[];
  readonly readMs: number;
  readonly commands: number;
  readonly clients: readonly number[];
  readonly eventMs: number;
  readonly replay: number;
}

const SMALL: Sizes = {
  cells: [1, 100],
  readMs: 200,
  commands: 300,
  clients: [1, 20],
  eventMs: 500,
  replay: 10_000,
};
const FULL: Sizes = {
  cells: [1, 100, 1000, 100_000],
  readMs: 2000,
  commands: 20_000,
  clients: [1, 100, 1000],
  eventMs: 5000,
  replay: 1_000_000,
};
const ROUNDS = 3;
const CONNECTIONS = 32;
/** Reports a second at most, and deliveries a second to all clients together. */
const EVENTS_A_SECOND = 1000;
const DELIVERIES_A_SECOND = 50_000;
const FORMATION = { name: "bench", coordinator: "a", members: [{ id: "a" }] };

type Row = readonly string[];

async function main(args: readonly string[]): Promise<void> {
  const { full } = parseArgs(args, { boolean: ["full"] });
  await onGround((ground) => bench(ground, full === true ? FULL : SMALL));
}

async function bench(ground: Ground, sizes: Sizes): Promise<void> {
  const rows: Row[] = [];
  const empty = await once(makePlace(ground, "empty"));
  rows.push(["memory, no cells", `${figure(empty.residentMib, 0)} MiB`, "", "", "", ""]);
  rows.push(["start, empty log", `${figure(empty.readyMs, 0)} ms`, "", "", "", ""]);
  for (const cells of sizes.cells) rows.push(...await benchCells(ground, cells, sizes.readMs));
  rows.push(...await benchCommands(ground, sizes.commands));
  rows.push(...await benchEvents(ground, sizes));
  rows.push(...await benchReplay(ground, sizes.replay));
  printTable(["", "celld", "beside", "ratio", "p50 ms", "p99 ms"], rows);
}

/** What a server's start takes; it is ended at once. */
async function once(
  place: BenchPlace,
  args: readonly string[] = [],
): Promise<{ readyMs: number; residentMib: number }> {
  await using server = await BenchServer.start(place, args);
  const { readyMs, residentMib } = server;
  return { readyMs, residentMib };
}

async function benchCells(ground: Ground, cells: number, durationMs: number): Promise<Row[]> {
  const place = makePlace(ground, `cells-${cells}`);
  const log = await openSqliteLog(`${place.stateDir}/events.db`);
  await fillLog(log, cells, runningCell);
  await log.close();
  const rows: Row[] = [];
  const replayed = await once(place);
  await using server = await BenchServer.start(place);
  if (cells >= 1000) {
    const memory = `${figure(replayed.residentMib, 0)} MiB`;
    rows.push([`memory, ${count(cells)} cells, replayed`, memory, "", "", "", ""]);
    const restored = `${figure(server.residentMib, 0)} MiB`;
    rows.push([`memory, ${count(cells)} cells, from a snapshot`, restored, "", "", "", ""]);
  }
  const paths = cells > 1000 ? ["/v1/cells", "/v1/cells?limit=100"] : ["/v1/cells"];
  for (const path of paths) rows.push(await benchReads(server, cells, path, durationMs));
  return rows;
}

async function benchReads(
  server: BenchServer,
  cells: number,
  path: string,
  durationMs: number,
): Promise<Row> {
  const sample = await server.ask("GET", path, 200);
  const headers = Object.fromEntries(sample.headers);
  const body = await sample.text();
  const bare = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    () => new Response(body, { headers }),
  );
  const { token } = server;
  const load = { kind: "read", path, token, connections: CONNECTIONS, durationMs } as const;
  const rates: { ours: number[]; bare: number[] } = { ours: [], bare: [] };
  const p50s: number[] = [];
  const p99s: number[] = [];
  // In turns, so that a disturbance meets both.
  for (let round = 0; round < ROUNDS; round++) {
    const beside = await runLoad({ ...load, port: bare.addr.port });
    rates.bare.push(beside.count / beside.timeMs * 1000);
    const report = await runLoad({ ...load, port: server.port });
    rates.ours.push(report.count / report.timeMs * 1000);
    p50s.push(report.p50Ms);
    p99s.push(report.p99Ms);
  }
  await bare.shutdown();
  const [ours, beside] = [quantile(rates.ours, 0.5), quantile(rates.bare, 0.5)];
  const what = path.includes("limit") ? `100 of ${count(cells)}` : count(cells);
  return [
    `read, ${what} cells, ${sizeText(body.length)}`,
    `${count(ours)}/s`,
    `${count(beside)}/s`,
    ratio(ours, beside),
    figure(quantile(p50s, 0.5)),
    figure(quantile(p99s, 0.5)),
  ];
}

function sizeText(bytes: number): string {
  return bytes < 10_000 ? `${bytes} B` : `${count(bytes / 1000)} kB`;
}

async function makeFormation(server: BenchServer): Promise<string> {
  const response = await server.ask("POST", "/v1/formations", 201, FORMATION);
  const { id } = await response.json() as { id: string };
  return `/v1/formations/${id}/status`;
}

async function benchCommands(ground: Ground, most: number): Promise<Row[]> {
  const place = makePlace(ground, "commands");
  const rows: Row[] = [];
  for (const senders of [1, CONNECTIONS]) {
    const commands = senders === 1 ? Math.ceil(most / 10) : most;
    const bare = await benchBareAppends(`${place.stateDir}/bare-${senders}.db`, senders, commands);
    const ours = await benchReports(ground, senders, commands);
    const perSecond = ours.count / ours.timeMs * 1000;
    rows.push([
      `command, ${senders} at once`,
      `${count(perSecond)}/s`,
      `${count(bare)}/s`,
      ratio(perSecond, bare),
      figure(ours.p50Ms),
      figure(ours.p99Ms),
    ]);
  }
  return rows;
}

async function benchReports(
  ground: Ground,
  senders: number,
  commands: number,
): Promise<LoadReport> {
  await using server = await BenchServer.start(makePlace(ground, `commands-${senders}`));
  const path = await makeFormation(server);
  const load = { kind: "report", port: server.port, path, token: server.token } as const;
  await runLoad({ ...load, connections: senders, commands: Math.ceil(commands / 10) });
  return await runLoad({ ...load, connections: senders, commands });
}

/** Appends to a log in this process, each awaited before the next of the same sender. */
async function benchBareAppends(path: string, senders: number, most: number): Promise<number> {
  const log = await openSqliteLog(path);
  let next = 0;
  const startMs = performance.now();
  await Promise.all(Array.from({ length: senders }, async () => {
    while (next < most) await log.append([runningCell(next++)]);
  }));
  const perSecond = most / (performance.now() - startMs) * 1000;
  await log.close();
  return perSecond;
}

async function benchEvents(ground: Ground, { clients: sizes, eventMs }: Sizes): Promise<Row[]> {
  const rows: Row[] = [];
  for (const clients of sizes) {
    for (const format of ["json", "ndjson"]) {
      await using server = await BenchServer.start(
        makePlace(ground, `follow-${clients}-${format}`),
      );
      rows.push(await benchFollow(server, clients, format, eventMs));
    }
  }
  return rows;
}

async function benchFollow(
  server: BenchServer,
  clients: number,
  format: string,
  durationMs: number,
): Promise<Row> {
  const path = await makeFormation(server);
  const perSecond = Math.min(EVENTS_A_SECOND, DELIVERIES_A_SECOND / clients);
  const events = Math.ceil(perSecond * durationMs / 1000);
  const { port, token } = server;
  const query = `?format=${format}&type=dev.cellos.events.cell.formation.v1.running`;
  const follow = { kind: "follow", port, query, token, clients, events } as const;
  let sentMs = 0;
  const report = await runLoad(follow, async () => {
    const startMs = performance.now();
    await sendReports(server, path, events, perSecond);
    sentMs = performance.now() - startMs;
  });
  const delivered = report.count / report.timeMs * 1000;
  const offered = events * clients / sentMs * 1000;
  return [
    `event, ${count(clients)} clients, ${format}`,
    `${count(delivered)}/s`,
    `${count(offered)}/s`,
    ratio(delivered, offered),
    figure(report.p50Ms),
    figure(report.p99Ms),
  ];
}

/** Sends so many reports at a pace; what is late is caught up with, by several at once. */
async function sendReports(
  server: BenchServer,
  path: string,
  events: number,
  perSecond: number,
): Promise<void> {
  const startMs = performance.now();
  const open = new Set<Promise<void>>();
  for (let sent = 0; sent < events;) {
    const due = Math.min(events, Math.ceil((performance.now() - startMs) * perSecond / 1000));
    for (; sent < due && open.size < CONNECTIONS; sent++) {
      const report = { state: "running", reason: String(sharedNowMs()) };
      const one = server.ask("POST", path, 200, report).then(async (response) => {
        await response.body?.cancel();
        open.delete(one);
      });
      open.add(one);
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await Promise.all(open);
}

async function benchReplay(ground: Ground, events: number): Promise<Row[]> {
  const place = makePlace(ground, "replay");
  const path = `${place.stateDir}/events.db`;
  const log = await openSqliteLog(path);
  await fillLog(log, events, lifeEvent);
  const bareMs = await timeMs(async () => {
    for (let since = 0; since < events;) since = (await log.read({ since })).at(-1)!.seq;
  });
  await log.close();
  const { readyMs: replayed } = await once(place);
  const { readyMs: restored } = await once(place);
  const what = `${count(events)} events, ${count(LIFE_CELLS)} cells at a time`;
  return [
    replayRow(`replay, SQLite, ${what}`, replayed, bareMs),
    replayRow("start from the snapshot of it", restored, replayed),
    ...await benchJetStream(ground, events),
  ];
}

async function benchJetStream(ground: Ground, events: number): Promise<Row[]> {
  if (!HAS_NATS_SERVER) {
    console.log("  without JetStream: no nats-server (Debian package nats-server)");
    return [];
  }
  await using nats = await startNats();
  const place = makePlace(ground, "jetstream");
  const log = await openJetStreamLog(nats.url, { spoolPath: `${place.stateDir}/fill-spool` });
  await fillLog(log, events, lifeEvent);
  const bareMs = await timeMs(async () => {
    for (let since = 0; since < events;) since = (await log.read({ since })).at(-1)!.seq;
  });
  await log.close();
  const { readyMs: replayed } = await once(place, ["--log", nats.url]);
  return [replayRow(`replay, JetStream, ${count(events)} events`, replayed, bareMs)];
}

function replayRow(what: string, ours: number, beside: number): Row {
  return [what, `${figure(ours, 0)} ms`, `${figure(beside, 0)} ms`, ratio(ours, beside), "", ""];
}

async function timeMs(work: () => Promise<void>): Promise<number> {
  const startMs = performance.now();
  await work();
  return performance.now() - startMs;
}

if (import.meta.main) await main(Deno.args);
