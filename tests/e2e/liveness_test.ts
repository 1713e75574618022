/**
 * Liveness of a real server: who beats is an agent, who falls silent has stalled, who ends is gone.
 *
 * @module
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { type AgentData, EVENT_TYPES } from "#lib/events/mod.ts";
import type { AgentRecord } from "#lib/http/mod.ts";
import { beatingSpec, BEATS_ON } from "#tests/support/beating_cell.ts";
import { Stage } from "#tests/support/celld_stage.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { Served, type ServedEntry } from "#tests/support/served.ts";
import { runCell, typesOf } from "#tests/support/served_facts.ts";

const NEEDS = [
  "root",
  "cap:CAP_SYS_ADMIN",
  "cap:CAP_NET_ADMIN",
  "cap:CAP_SYS_PTRACE",
  "path:/usr/bin/perl",
] as const;
/** How long anything may take on a busy machine. */
const GUARD_MS = 30_000;

async function agentsOf(served: Served, query = ""): Promise<AgentRecord[]> {
  const answer = await served.ask("GET", `/v1/agents${query}`);
  assertEquals(answer.status, 200, answer.text);
  return answer.json<{ agents: AgentRecord[] }>().agents;
}

async function until<T>(served: Served, what: string, ask: () => Promise<T | undefined>) {
  const deadline = performance.now() + GUARD_MS;
  for (;;) {
    const found = await ask();
    if (found !== undefined) return found;
    assert(performance.now() < deadline, `${what}\n${served.printed}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function agentOf(served: Served, cell: string): Promise<AgentRecord> {
  return await until(served, "no agent", async () => (await agentsOf(served, `?cell=${cell}`))[0]);
}

function agentFacts(entries: readonly ServedEntry[], type: string, hostPid?: number): AgentData[] {
  return entries.filter(({ event }) => event.type === type)
    .map(({ event }) => event.data as unknown as AgentData)
    .filter((data) => hostPid === undefined || data.hostPid === hostPid);
}

kernelTest(
  "liveness: a cell's agent is known by host pid, cell and name; kill -9 is told as its exit",
  NEEDS,
  async () => {
    await using stage = await Stage.set();
    await using served = new Served(stage);
    await served.start();
    const cell = await runCell(served, beatingSpec("beats", { thresholdMs: 2000 }));
    const agent = await agentOf(served, cell);
    assertEquals([agent.cell_id, agent.name, agent.status, agent.origin, agent.threshold_ms], [
      cell,
      "perl",
      "ok",
      "kernel_attested",
      2000,
    ]);
    assert(agent.host_pid !== agent.pid, "it numbers itself as its own namespace does");
    assertStringIncludes(Deno.readTextFileSync(`/proc/${agent.host_pid}/comm`), "perl");
    const { runtimeDir, stateDir } = stage.settings;
    const directories = ["--runtime-dir", runtimeDir, "--state-dir", stateDir];
    const shown = await stage.celld(["agents", "--json", ...directories]);
    assertEquals(JSON.parse(shown.stdout).host_pid, agent.host_pid);
    const metrics = (await served.ask("GET", "/metrics")).text;
    assertStringIncludes(metrics, `varta_beats_total{pid="${agent.host_pid}",name="perl",cell="`);
    for (
      const line of [
        "varta_watch_pids_tracked 1",
        "varta_observer_clock_regression_total 0",
        'varta_recovery_outcomes_total{outcome="spawned"} 0',
        'varta_observer_stage_seconds_count{stage="recovery_reap"} 0',
      ]
    ) assertStringIncludes(metrics, `\n${line}\n`);
    Deno.kill(agent.host_pid, "SIGKILL");
    await served.cellBecomes(cell, { state: "destroyed", reason: "signaled" });
    const entries = await served.events();
    const [gone] = agentFacts(entries, EVENT_TYPES.agentGone, agent.host_pid);
    assertEquals([gone?.reason, gone?.cellId], ["exit", cell]);
    assertEquals(agentFacts(entries, EVENT_TYPES.agentStalled), []);
    assertEquals(await agentsOf(served), []);
    assertEquals(await served.end("SIGTERM"), 0);
  },
);

kernelTest(
  "liveness: a stopped workload is one stall, its cell ends as stalled, its formation goes on",
  NEEDS,
  async () => {
    await using stage = await Stage.set();
    await using served = new Served(stage);
    await served.start();
    const { spec: { run } } = beatingSpec("worker", { thresholdMs: 1000 }) as {
      spec: { run: Record<string, unknown> };
    };
    const created = await served.ask("POST", "/v1/formations", {
      name: "watched",
      coordinator: "worker",
      members: [{
        id: "worker",
        spec: { run },
        restart: { policy: "on-failure", backoffSeconds: 0 },
      }],
    });
    assertEquals(created.status, 201, created.text);
    const first = await until(served, "no agent", async () => (await agentsOf(served))[0]);
    Deno.kill(first.host_pid, "SIGSTOP");
    await served.cellBecomes(first.cell_id!, { state: "destroyed", reason: "stalled" });
    const second = await until(
      served,
      "no second",
      async () => (await agentsOf(served)).find(({ cell_id }) => cell_id !== first.cell_id),
    );
    assertEquals(second.status, "ok");
    const entries = await served.events();
    const stalls = agentFacts(entries, EVENT_TYPES.agentStalled);
    assertEquals(stalls.map(({ hostPid, cellId }) => [hostPid, cellId]), [
      [first.host_pid, first.cell_id!],
    ]);
    const ends = typesOf(entries, first.cell_id!).slice(-2);
    assertStringIncludes(ends.join(), EVENT_TYPES.cellDestroyed);
    assertEquals(await served.end("SIGTERM"), 0);
  },
);

kernelTest(
  "liveness: a restart of celld is no stall; a hang after it is",
  NEEDS,
  async () => {
    await using stage = await Stage.set();
    await using served = new Served(stage);
    await served.start();
    const cell = await runCell(served, beatingSpec("lasting", { thresholdMs: 1500 }));
    const before = await agentOf(served, cell);
    for (const signal of ["SIGTERM", "SIGKILL"] as const) {
      await served.end(signal);
      // Longer than its threshold: nobody was there to hear it.
      await new Promise((resolve) => setTimeout(resolve, 2000));
      await served.start();
      assertEquals((await agentOf(served, cell)).host_pid, before.host_pid);
    }
    await new Promise((resolve) => setTimeout(resolve, 2000));
    assertEquals(agentFacts(await served.events(), EVENT_TYPES.agentStalled), []);
    assertEquals((await served.cell(cell)).state, "running");
    Deno.kill(before.host_pid, "SIGSTOP");
    await served.cellBecomes(cell, { state: "destroyed", reason: "stalled" });
    assertEquals(await served.end("SIGTERM"), 0);
  },
);

kernelTest(
  "liveness: a workload that never beats has stalled after its start-up time; report lets it go on",
  NEEDS,
  async () => {
    await using stage = await Stage.set();
    await using served = new Served(stage);
    await served.start();
    const silent = { argv: ["sh", "-c", "sleep 1000"] };
    const ends = await runCell(served, beatingSpec("mute", { startupSeconds: 1 }, silent));
    const told = { startupSeconds: 1, onStall: "report" };
    const goesOn = await runCell(served, beatingSpec("mute-too", told, silent));
    await served.cellBecomes(ends, { state: "destroyed", reason: "stalled" });
    const missing = await until(served, "not told", async () => {
      const entries = await served.events();
      const cells = entries.filter(({ event }) => event.type === EVENT_TYPES.agentMissing)
        .map(({ event }) => (event.data as { cellId: string }).cellId);
      return cells.length >= 2 ? cells.sort() : undefined;
    });
    assertEquals(missing, [ends, goesOn].sort());
    assertEquals((await served.cell(goesOn)).state, "running");
    await served.ask("POST", `/v1/cells/${goesOn}/stop`);
    await served.cellBecomes(goesOn, { state: "destroyed" });
    assertEquals(await served.end("SIGTERM"), 0);
  },
);

kernelTest(
  "liveness: systemd-notify is an agent, on the host's socket and in a cell",
  [...NEEDS, "command:systemd-notify"],
  async () => {
    await using stage = await Stage.set();
    await using served = new Served(stage);
    await served.start();
    const script = 'systemd-notify --ready --status="all is well" --pid=$$; exec sleep 1000';
    // As sd_notify(3) does it: the program speaks for itself.
    const notifies = `use Socket; socket(my $s, PF_UNIX, SOCK_DGRAM, 0) or die "socket: $!";
      connect($s, pack_sockaddr_un($ENV{NOTIFY_SOCKET})) or die "connect: $!";
      send($s, "READY=1\\nSTATUS=all is well\\n", 0); sleep 1 while 1`;
    const inCell = await runCell(
      served,
      beatingSpec("notifies", { startupSeconds: 20 }, { argv: ["perl", "-e", notifies] }),
    );
    const agent = await agentOf(served, inCell);
    assertEquals([agent.name, agent.status_text, agent.threshold_ms], [
      "perl",
      "all is well",
      null,
    ]);
    const host = new Deno.Command("sh", {
      args: ["-c", script],
      env: { NOTIFY_SOCKET: `${stage.settings.runtimeDir}/beat.sock` },
    }).spawn();
    const onHost = await until(
      served,
      "not on the host",
      async () => (await agentsOf(served)).find(({ host_pid }) => host_pid === host.pid),
    );
    assertEquals([onHost.status_text, onHost.cell_id], ["all is well", null]);
    host.kill("SIGKILL");
    await host.status;
    await served.ask("POST", `/v1/cells/${inCell}/stop`);
    await served.cellBecomes(inCell, { state: "destroyed" });
    assertEquals(await served.end("SIGTERM"), 0);
  },
);

kernelTest(
  "liveness: recovery of a host's agent: one stall, one command, success when beats resume",
  NEEDS,
  async () => {
    await using stage = await Stage.set();
    const file = `${stage.base}/liveness.yaml`;
    const config = `
thresholdMs: 500
recovery:
  policies:
    - match: { name: perl }
      ladder: [{ command: [/bin/kill, -CONT, "{pid}"] }]
`;
    Deno.writeTextFileSync(file, config, { mode: 0o600 });
    await using served = new Served(stage, ["--liveness-file", file]);
    await served.start();
    const beater = new Deno.Command("perl", {
      args: ["-e", BEATS_ON],
      env: { VARTA_SOCKET: `${stage.settings.runtimeDir}/beat.sock` },
    }).spawn();
    const seen = async () => (await agentsOf(served)).find((it) => it.host_pid === beater.pid);
    await until(served, "not seen", seen);
    beater.kill("SIGSTOP");
    const types = await until(served, "no success", async () => {
      const entries = await served.events();
      const told = entries.filter(({ event }) => event.subject === `agent:${beater.pid}`)
        .map(({ event }) => event.type);
      return told.includes(EVENT_TYPES.recoverySucceeded) ? told : undefined;
    });
    const count = (type: string) => types.filter((it) => it === type).length;
    assertEquals([count(EVENT_TYPES.agentStalled), count(EVENT_TYPES.recoverySpawned)], [1, 1]);
    assertEquals((await seen())?.recoveries, 1);
    beater.kill("SIGKILL");
    await beater.status;
    const metrics = (await served.ask("GET", "/metrics")).text;
    assertStringIncludes(metrics, 'varta_recovery_outcomes_total{outcome="spawned"} 1');
    assertEquals(await served.end("SIGTERM"), 0);
    const audit = `${stage.settings.stateDir}/recovery.tsv`;
    assertEquals((await stage.celld(["audit", "verify", audit])).code, 0);
  },
);

kernelTest(
  "liveness: a killed service is started again, and its next process is the success",
  NEEDS,
  async () => {
    await using stage = await Stage.set();
    const [file, script] = [`${stage.base}/liveness.yaml`, `${stage.base}/beats.pl`];
    const socket = `${stage.settings.runtimeDir}/beat.sock`;
    Deno.writeTextFileSync(script, BEATS_ON);
    const config = `
recovery:
  environment: ["VARTA_SOCKET=${socket}"]
  policies:
    - match: { name: perl }
      isService: true
      recoversExits: true
      ladder: [{ command: [sh, -c, "setsid perl ${script} < /dev/null > /dev/null 2>&1 &"] }]
`;
    Deno.writeTextFileSync(file, config, { mode: 0o600 });
    await using served = new Served(stage, ["--liveness-file", file]);
    await served.start();
    const first = new Deno.Command("perl", { args: [script], env: { VARTA_SOCKET: socket } })
      .spawn();
    await until(served, "not seen", async () => (await agentsOf(served))[0]);
    first.kill("SIGKILL");
    await first.status;
    const isSuccess = ({ event }: ServedEntry) => event.type === EVENT_TYPES.recoverySucceeded;
    const success = await until(
      served,
      "no success",
      async () => (await served.events()).find(isSuccess),
    );
    const second = (await agentsOf(served))[0]!;
    assertEquals((success.event.data as { pid: number }).pid, second.host_pid);
    const entries = await served.events();
    assertEquals(agentFacts(entries, EVENT_TYPES.agentStalled), []);
    assertEquals(
      entries.filter(({ event }) => event.type === EVENT_TYPES.recoverySpawned).length,
      1,
    );
    assertEquals(await served.end("SIGTERM"), 0);
    // The service is no part of the server: it goes on without.
    Deno.kill(second.host_pid, "SIGKILL");
  },
);

kernelTest(
  "liveness: a dead recovery worker is told and replaced; a bad file is refused at the start",
  NEEDS,
  async () => {
    await using stage = await Stage.set();
    const file = `${stage.base}/liveness.yaml`;
    const ladder = "ladder: [{ command: [/bin/true] }]";
    const config = `recovery: { policies: [{ match: { name: none }, ${ladder} }] }`;
    Deno.writeTextFileSync(file, config, { mode: 0o600 });
    const program = new URL("../support/breakable_celld.ts", import.meta.url).pathname;
    await using served = new Served(stage, ["--liveness-file", file], { program });
    await served.start();
    served.signal("SIGURG");
    await until(served, "no restart told", async () => {
      const answer = await served.tryAsk("GET", "/v1/events?since=0&limit=1000");
      const { events } = answer?.json<{ events: ServedEntry[] }>() ?? { events: [] };
      return events.find(({ event }) =>
        event.type === EVENT_TYPES.hostWorkerRestarted &&
        (event.data as { worker: string }).worker === "recovery"
      );
    });
    await served.ready();
    assertEquals(await served.end("SIGTERM"), 0);
    Deno.chmodSync(file, 0o644);
    served.spawn();
    assertEquals(await served.ended(), 125);
    assertStringIncludes(served.printed, "want nothing for group and others");
  },
);

kernelTest(
  "liveness: a dead observer is told, and another hears the same cells",
  NEEDS,
  async () => {
    await using stage = await Stage.set();
    const program = new URL("../support/breakable_celld.ts", import.meta.url).pathname;
    await using served = new Served(stage, [], { program });
    await served.start();
    const cell = await runCell(served, beatingSpec("heard", { thresholdMs: 3000 }));
    const agent = await agentOf(served, cell);
    served.signal("SIGPWR");
    await until(served, "no restart told", async () => {
      const answer = await served.tryAsk("GET", "/v1/events?since=0&limit=1000");
      const { events } = answer?.json<{ events: ServedEntry[] }>() ?? { events: [] };
      return events.find(({ event }) =>
        event.type === EVENT_TYPES.hostWorkerRestarted &&
        (event.data as { worker: string }).worker === "observer"
      );
    });
    await served.ready();
    assertEquals((await agentOf(served, cell)).host_pid, agent.host_pid);
    assertEquals(agentFacts(await served.events(), EVENT_TYPES.agentStalled), []);
    await served.ask("POST", `/v1/cells/${cell}/stop`);
    await served.cellBecomes(cell, { state: "destroyed" });
    assertEquals(await served.end("SIGTERM"), 0);
  },
);
