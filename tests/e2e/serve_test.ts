/**
 * A server from its first start to its last: cells by the API, formations, restarts.
 *
 * @module
 */
import {
  assert,
  assertEquals,
  assertGreater,
  assertMatch,
  assertStringIncludes,
} from "@std/assert";
import { EVENT_TYPES, type FlowGapData } from "#lib/events/mod.ts";
import { spec, Stage } from "#tests/support/celld_stage.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { LAB } from "#tests/support/lab.ts";
import { Served } from "#tests/support/served.ts";
import { assertNumbersMeet, runCell, typesOf } from "#tests/support/served_facts.ts";

const NEEDS = [
  "root",
  "cap:CAP_SYS_ADMIN",
  "cap:CAP_NET_ADMIN",
  "cap:CAP_SYS_PTRACE",
  "path:/usr/bin/perl",
] as const;
const [ALLOWED, , FORBIDDEN] = LAB.serversIpv4;
const EGRESS = [{ host: ALLOWED, port: 80 }];
const WAIT = "echo here; while :; do sleep 60 & wait $!; done";
/** Tries both addresses for ever, and says what came of it. */
const PROBE = `
  use IO::Socket::INET; $| = 1;
  while (1) {
    for my $to ("${FORBIDDEN}", "${ALLOWED}") {
      my $socket = IO::Socket::INET->new(PeerAddr => $to, PeerPort => 80, Timeout => 1);
      print "$to ", ($socket ? "open" : "shut"), "\\n";
    }
    select(undef, undef, undef, 0.02);
  }`;

kernelTest(
  "serve: a cell is asked for, runs, is heard, stopped, and its output kept",
  NEEDS,
  async () => {
    await using stage = await Stage.set();
    await using served = new Served(stage);
    await served.start();
    const argv = ["perl", "-e", PROBE];
    const cellId = await runCell(served, spec("probe", { argv, egress: EGRESS }));
    await served.cellBecomes(cellId, { state: "running" });
    await new Promise((resolve) => setTimeout(resolve, 500));
    const flows = (await served.ask("GET", `/v1/flows?cell=${cellId}`)).text;
    assertStringIncludes(flows, FORBIDDEN!);
    assertEquals((await served.ask("POST", `/v1/cells/${cellId}/stop`)).status, 202);
    const cell = await served.cellBecomes(cellId, { state: "destroyed" });
    assertEquals([cell.reason, cell.exit_code, cell.terminal_state], ["stopped", 143, "clean"]);

    const types = typesOf(await served.events(), cellId);
    assertEquals(types[0], EVENT_TYPES.cellRequested);
    assertEquals(types.at(-1), EVENT_TYPES.cellDestroyed);
    assertGreater(
      types.indexOf(EVENT_TYPES.cellStopRequested),
      types.indexOf(EVENT_TYPES.cellStarted),
    );
    const output = (await served.ask("GET", `/v1/cells/${cellId}/logs`)).text;
    assertStringIncludes(output, `${ALLOWED} open`);
    assert(!output.includes(`${FORBIDDEN} open`));
    assertMatch((await served.ask("GET", "/metrics")).text, /^celld_cells_held 0$/m);
    assertEquals((await served.ask("POST", `/v1/cells/${cellId}/stop`)).status, 409);
    assertEquals((await served.ask("POST", "/v1/cells", { spec: {} })).status, 400);
    assertEquals(await served.end("SIGTERM"), 0);
  },
);

kernelTest(
  "serve: an upgrade is a restart: cells go on, and what they did meanwhile is told",
  NEEDS,
  async () => {
    await using stage = await Stage.set();
    await using served = new Served(stage);
    await served.start();
    const probe = await runCell(
      served,
      spec("probe", { argv: ["perl", "-e", PROBE], egress: EGRESS }),
    );
    const short = await runCell(served, spec("short", { argv: ["sh", "-c", "sleep 2; exit 7"] }));
    await served.cellBecomes(probe, { state: "running" });
    await served.cellBecomes(short, { state: "running" });
    assertEquals(await served.end("SIGTERM"), 0);
    await new Promise((resolve) => setTimeout(resolve, 3000));
    await served.start();

    const ended = await served.cell(short);
    assertEquals([ended.state, ended.reason, ended.exit_code], ["destroyed", "exited", 7]);
    assertEquals((await served.cell(probe)).state, "running");
    const entries = await served.events();
    const gaps = entries.filter(({ event }) => event.type === EVENT_TYPES.flowGap)
      .map(({ event }) => event.data as FlowGapData);
    const missed = gaps.find(({ cellId }) => cellId === probe);
    assertGreater(missed?.lost ?? 0, 0);
    assertEquals(missed?.cause, "unwatched");
    assertEquals(gaps.find(({ cellId }) => cellId === short)?.isCountUnknown, true);
    // It is one run: it was started once, and its numbers meet in the end.
    assertEquals(typesOf(entries, probe).filter((it) => it === EVENT_TYPES.cellStarted).length, 1);
    await served.ask("POST", `/v1/cells/${probe}/stop`);
    await served.cellBecomes(probe, { state: "destroyed" });
    await assertNumbersMeet(served, probe);
    assertEquals(await served.end("SIGTERM"), 0);
  },
);

kernelTest("serve: --stop-cells ends the cells with the server", NEEDS, async () => {
  await using stage = await Stage.set();
  await using served = new Served(stage, ["--stop-cells"]);
  await served.start();
  const cellId = await runCell(served, spec("wait", { argv: ["sh", "-c", WAIT] }));
  await served.cellBecomes(cellId, { state: "running" });
  assertEquals(await served.end("SIGTERM"), 0);
  assertEquals(stage.cgroupsOf("wait"), []);
  await served.start();
  assertEquals((await served.cell(cellId)).reason, "stopped");
});

kernelTest(
  "serve: a formation starts along its authority, and ends when it is deleted",
  NEEDS,
  async () => {
    await using stage = await Stage.set();
    await using served = new Served(stage);
    await served.start();
    const cell = { run: { argv: ["sh", "-c", WAIT] } };
    const created = await served.ask("POST", "/v1/formations", {
      name: "build-1",
      coordinator: "lead",
      members: [
        { id: "worker", authorizedBy: "lead", spec: cell },
        { id: "lead", spec: cell },
      ],
    });
    assertEquals(created.status, 201, created.text);
    const { id } = created.json<{ id: string }>();
    await formationBecomes(served, id, "running");
    const entries = await served.events();
    const started = entries.filter(({ event }) => event.type === EVENT_TYPES.cellStarted)
      .map(({ event }) => (event.data as { specId: string }).specId);
    assertEquals(started, ["lead", "worker"]);

    await served.end("SIGKILL");
    await served.start();
    assertEquals((await formationBecomes(served, id, "running")).status, "RUNNING");
    assertEquals((await served.ask("DELETE", `/v1/formations/${id}`)).status, 204);
    assertEquals((await formationBecomes(served, id, "cancelled")).status, "CANCELLED");
    await served.end("SIGKILL");
    await served.start();
    assertEquals((await formationBecomes(served, id, "cancelled")).status, "CANCELLED");
    const cells = (await served.ask("GET", "/v1/cells")).json<{ cells: { state: string }[] }>();
    assertEquals(cells.cells.map(({ state }) => state), ["destroyed", "destroyed"]);
  },
);

async function formationBecomes(
  served: Served,
  id: string,
  phase: string,
): Promise<Record<string, unknown>> {
  const deadline = performance.now() + 20_000;
  for (;;) {
    const formation = (await served.ask("GET", `/v1/formations/${id}`)).json();
    if (formation.phase === phase) return formation;
    if (performance.now() > deadline) {
      throw new Error(`Cannot go on: ${JSON.stringify(formation)}\n${served.printed}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
