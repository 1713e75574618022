/**
 * A server whose log is in JetStream: the broker killed under load, hanging, away at the start; and
 * what other clients wrote there.
 *
 * @module
 */
import { assert, assertEquals, assertGreater, assertStringIncludes } from "@std/assert";
import { Prng } from "#lib/base/mod.ts";
import { type CloudEvent, EVENT_TYPES } from "#lib/events/mod.ts";
import { campaign, campaignSeed, recordCampaign } from "#tests/support/campaign.ts";
import { spec, Stage } from "#tests/support/celld_stage.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { LAB } from "#tests/support/lab.ts";
import type { Served, ServedEntry } from "#tests/support/served.ts";
import { assertNumbersMeet, historyOf, runCell, typesOf } from "#tests/support/served_facts.ts";
import {
  ApiFollower,
  publishAs,
  servedWithNats,
  standsSo,
  startStageCluster,
  startStageNats,
} from "#tests/support/served_nats.ts";

const NEEDS = [
  "root",
  "cap:CAP_SYS_ADMIN",
  "cap:CAP_NET_ADMIN",
  "cap:CAP_SYS_PTRACE",
  "path:/usr/bin/perl",
  "path:/usr/sbin/nats-server",
] as const;
const [ALLOWED, , FORBIDDEN] = LAB.serversIpv4;
const EGRESS = [{ host: ALLOWED, port: 80 }];
/** Tries both addresses for ever. */
const PROBE = `
  use IO::Socket::INET;
  while (1) {
    for my $to ("${FORBIDDEN}", "${ALLOWED}") {
      IO::Socket::INET->new(PeerAddr => $to, PeerPort => 80, Timeout => 1);
      select(undef, undef, undef, 0.02);
    }
  }`;
const WAIT = "while :; do sleep 60 & wait $!; done";

/** Each command is refused, says why, and changes nothing. */
async function assertRefusing(served: Served, probe: string): Promise<void> {
  const commands: [string, string, unknown?][] = [
    ["POST", "/v1/cells", spec("refused", { argv: ["true"] })],
    ["POST", `/v1/cells/${probe}/stop`],
    ["POST", "/v1/formations", {
      name: "refused",
      coordinator: "a",
      members: [{ id: "a", spec: { run: { argv: ["true"] } } }],
    }],
  ];
  for (const [method, path, body] of commands) {
    const answer = await served.ask(method, path, body);
    const { type, detail } = answer.json<{ type: string; detail: string }>();
    assertEquals([answer.status, type], [503, "urn:celld:problem:log-unavailable"], answer.text);
    assertStringIncludes(detail, "the broker is away");
  }
}

/** Every event is there once, followers saw them all once, and flows are in the kernel's order. */
async function judge(
  served: Served,
  followers: readonly ApiFollower[],
  probe: string,
): Promise<readonly ServedEntry[]> {
  const entries = await served.events();
  assertEquals(new Set(entries.map(({ event }) => event.id)).size, entries.length);
  const seen = entries.map(({ seq, event }) => ({ seq, id: event.id }));
  for (const follower of followers) {
    await follower.stopAt(seen.at(-1)!.seq);
    assertEquals(follower.entries, seen);
  }
  const flows = entries.filter(({ event }) =>
    event.type === EVENT_TYPES.flowDecision && event.subject === `cell:${probe}`
  );
  const times = flows.map(({ event }) => event.time ?? "");
  assertEquals(times, times.toSorted(), "flows are in the order in which they were decided");
  const gaps = entries.filter(({ event }) => event.type.endsWith(".gap"));
  assertEquals(gaps.map(({ event }) => event.data), [], "nothing was lost on the way");
  return entries;
}

kernelTest(
  "serve, log in JetStream: its broker killed and restarted under load loses and doubles nothing",
  NEEDS,
  async () => {
    const rounds = campaign(2, 20);
    const seed = campaignSeed();
    const random = new Prng(seed);
    await using stage = await Stage.set();
    await using nats = await startStageNats(stage);
    await using served = servedWithNats(stage, nats.url);
    await served.start();
    const followers = [new ApiFollower(served, "pages"), new ApiFollower(served, "socket")];
    const probe = await runCell(
      served,
      spec("probe", { argv: ["perl", "-e", PROBE], egress: EGRESS }),
    );
    await served.cellBecomes(probe, { state: "running" });
    const acknowledged: string[] = [];
    let mostSpooled = 0;
    for (let round = 0; round < rounds; round++) {
      const before = await runCell(served, spec(`before-${round}`, { argv: ["true"] }));
      acknowledged.push(before);
      await pause(random.below(300));
      await nats.kill();
      const away = await standsSo(
        served,
        "it says that it is behind, and by how much",
        (now) => now.status === 503 && now.log?.connected === false && now.log.spooledEvents > 5,
      );
      assertStringIncludes(away.reasons!.join(), "the broker is away");
      assertGreater(away.log!.spooledBytes, 0);
      assertGreater(away.logBehind, 5);
      await assertRefusing(served, probe);
      await pause(random.below(2000));
      const { logBehind } = await standsSo(served, "it is still away", (now) => now.status === 503);
      mostSpooled = Math.max(mostSpooled, logBehind);
      if (round === 0) await assertTold(stage, served);
      assertEquals((await served.cell(probe)).state, "running");
      await nats.start();
      await standsSo(
        served,
        "it has caught up",
        ({ status, logBehind, log }) => status === 200 && logBehind < 5 && log?.lostEvents === 0,
      );
      const after = await runCell(served, spec(`after-${round}`, { argv: ["true"] }));
      acknowledged.push(after);
      await served.cellBecomes(after, { state: "destroyed", outcome: "succeeded" });
    }
    for (const id of acknowledged) await served.cellBecomes(id, { outcome: "succeeded" });
    assertEquals((await served.ask("POST", `/v1/cells/${probe}/stop`)).status, 202);
    await served.cellBecomes(probe, { state: "destroyed" });
    const { log } = await standsSo(
      served,
      "it is level",
      ({ logBehind, log }) => logBehind === 0 && log?.lagEvents === 0,
    );
    assertEquals(log?.drift, []);
    const entries = await judge(served, followers, probe);
    await assertNumbersMeet(served, probe);
    // What was refused never came to be: each cell that there is was acknowledged.
    const asked = entries.filter(({ event }) => event.type === EVENT_TYPES.cellRequested);
    assertEquals(asked.length, acknowledged.length + 1);
    for (const id of acknowledged) {
      const types = typesOf(entries, id);
      assertEquals(types.filter((type) => type === EVENT_TYPES.cellStarted).length, 1);
    }
    assertEquals(await served.end("SIGTERM"), 0, served.printed);
    recordCampaign("serve, log in JetStream: broker killed under load", {
      rounds,
      events: entries.length,
      cells: acknowledged.length,
      lost: 0,
      twice: 0,
      mostSpooled,
      seed,
    });
  },
);

/** Metrics and the command line say it too. */
async function assertTold(stage: Stage, served: Served): Promise<void> {
  const metrics = (await served.ask("GET", "/metrics")).text;
  const figure = (name: string) => Number(new RegExp(`^${name} (\\d+)$`, "m").exec(metrics)?.[1]);
  assertEquals([figure("celld_log_connected"), figure("celld_log_lost_events")], [0, 0]);
  assertGreater(figure("celld_log_spooled_events"), 5);
  assertGreater(figure("celld_log_spooled_bytes"), 1000);
  const told = await stage.celld(["log", "status", "--server", `unix:${served.socketPath}`]);
  assertEquals(told.code, 1);
  assert(/^broker: away \(.+\)$/m.test(told.stdout), told.stdout);
  assert(/^spool: \d+ events, .+ of 4/m.test(told.stdout), told.stdout);
}

kernelTest(
  "serve, log in JetStream: each of three brokers killed in turn loses and doubles nothing",
  NEEDS,
  async () => {
    const rounds = campaign(1, 6);
    const seed = campaignSeed();
    await using stage = await Stage.set();
    await using cluster = await startStageCluster(stage);
    // One is enough to find the others.
    await using served = servedWithNats(stage, cluster.nodes[0]!.url);
    await served.start();
    const followers = [new ApiFollower(served, "pages"), new ApiFollower(served, "socket")];
    const document = spec("probe", { argv: ["perl", "-e", PROBE], egress: EGRESS });
    const probe = await runCell(served, document);
    await served.cellBecomes(probe, { state: "running" });
    const acknowledged: string[] = [];
    let [refused, longestMs] = [0, 0];
    for (let round = 0; round < rounds; round++) {
      const node = cluster.nodes[(seed + round) % 3]!;
      await node.kill();
      const startMs = performance.now();
      // Two of three go on, after their election: until then commands are refused, not lost.
      for (let taken = 0; taken < 3;) {
        const answer = await served.ask("POST", "/v1/cells", spec("short", { argv: ["true"] }));
        assert(answer.status === 202 || answer.status === 503, answer.text);
        if (answer.status === 503) refused += 1;
        else taken = acknowledged.push(answer.json<{ cellId: string }>().cellId) - 3 * round;
        assert(performance.now() - startMs < 120_000, served.printed);
        await pause(50);
      }
      longestMs = Math.max(longestMs, performance.now() - startMs);
      await node.start();
      await standsSo(served, "it is level", (now) => now.status === 200 && now.logBehind < 5);
      // A node that was just started counts as away until its copy is whole.
      await pause(5000);
    }
    for (const id of acknowledged) {
      await served.cellBecomes(id, { state: "destroyed", outcome: "succeeded" }, 60_000);
    }
    let stopped = await served.ask("POST", `/v1/cells/${probe}/stop`);
    while (stopped.status === 503) stopped = await served.ask("POST", `/v1/cells/${probe}/stop`);
    await served.cellBecomes(probe, { state: "destroyed" }, 60_000);
    await standsSo(
      served,
      "it is level",
      ({ logBehind, log }) => logBehind === 0 && log?.lagEvents === 0,
    );
    const entries = await judge(served, followers, probe);
    await assertNumbersMeet(served, probe);
    const begun = entries.filter(({ event }) => event.type === EVENT_TYPES.cellStarted);
    assertEquals(
      begun.map(({ event }) => event.subject).toSorted(),
      [probe, ...acknowledged].map((id) => `cell:${id}`).toSorted(),
    );
    assertEquals(await served.end("SIGTERM"), 0, served.printed);
    recordCampaign("serve, log in JetStream: each of three brokers killed in turn", {
      rounds,
      events: entries.length,
      cells: acknowledged.length,
      refused,
      lost: 0,
      twice: 0,
      longestMs: Math.round(longestMs),
      seed,
    });
  },
);

kernelTest(
  "serve, log in JetStream: a command that the broker did not confirm is never done, not at a restart either",
  NEEDS,
  async () => {
    await using stage = await Stage.set();
    await using nats = await startStageNats(stage);
    await using served = servedWithNats(stage, nats.url);
    await served.start();
    const formation = {
      name: "doubtful",
      coordinator: "a",
      members: [{ id: "a", spec: { run: { argv: ["sh", "-c", WAIT] } } }],
    };
    const commands: [string, unknown][] = [
      ["/v1/cells", spec("doubtful", { argv: ["sh", "-c", WAIT] })],
      ["/v1/formations", formation],
    ];
    // One at a time: what waits behind it is never sent, and that is no doubt at all.
    for (const [path, body] of commands.slice(0, campaign(1, 2))) {
      nats.signal("SIGSTOP");
      const answer = await served.ask("POST", path, body);
      const { unconfirmed } = answer.json<{ unconfirmed?: boolean }>();
      assertEquals([answer.status, unconfirmed], [503, true], answer.text);
      nats.signal("SIGCONT");
      await standsSo(
        served,
        "it has caught up",
        (now) => now.status === 200 && now.logBehind === 0,
      );
    }
    const check = async () => {
      await standsSo(
        served,
        "it has caught up",
        (now) => now.status === 200 && now.logBehind === 0,
      );
      const entries = await served.events();
      const begun = entries.filter(({ event }) => event.type === EVENT_TYPES.cellStarted);
      assertEquals(begun.map(({ event }) => event.subject), [], served.printed);
      for (const event of entries.map((entry) => entry.event)) {
        if (event.type !== EVENT_TYPES.cellRequested) continue;
        const id = event.subject!.slice("cell:".length);
        const { state, reason } = await served.cell(id);
        assertEquals([state, reason], ["destroyed", "refused"], historyOf(entries, id).join("\n"));
      }
      const { formations } = (await served.ask("GET", "/v1/formations"))
        .json<{ formations: { status: string }[] }>();
      assertEquals(formations.map(({ status }) => status), campaign([], ["CANCELLED"]));
      assertEquals(stage.cgroupsOf("doubtful"), []);
    };
    await check();
    assertEquals(await served.end("SIGKILL") > 0, true);
    await served.start();
    await check();
    assertEquals((await served.ask("POST", "/v1/formations", formation)).status, 201);
    assertEquals(await served.end("SIGTERM"), 0, served.printed);
  },
);

kernelTest(
  "serve, log in JetStream: it waits for a broker that is away, says so, and refuses bad credentials",
  NEEDS,
  async () => {
    await using stage = await Stage.set();
    await using nats = await startStageNats(stage, 'authorization { token: "t0ken" }');
    const tokenPath = `${stage.base}/token`;
    Deno.writeTextFileSync(tokenPath, "t0ken\n");
    await using served = servedWithNats(stage, nats.url, ["--log-token-file", tokenPath]);
    await nats.kill();
    served.spawn();
    const { reasons } = await standsSo(served, "it says why it waits", (now) => now.status === 503);
    assertStringIncludes(reasons!.join(), "celld waits for the event log: the broker is away");
    assertEquals((await served.ask("GET", "/healthz")).status, 200);
    assertEquals((await served.ask("POST", "/v1/cells", {})).status, 503);
    await nats.start();
    await served.ready();
    const id = await runCell(served, spec("short", { argv: ["true"] }));
    await served.cellBecomes(id, { state: "destroyed", outcome: "succeeded" });
    // A signal ends a server whose broker is away, and one that waits; what they told is not lost.
    await nats.kill();
    await standsSo(served, "it is away", (now) => now.log?.connected === false);
    assertEquals(await served.end("SIGTERM"), 0, served.printed);
    served.spawn();
    await standsSo(served, "it waits again", (now) => now.status === 503 && now.logBehind === 1);
    assertEquals(await served.end("SIGTERM"), 0, served.printed);
    await nats.start();
    await served.start();
    const ends = (await served.events()).map(({ event }) => event.type)
      .filter((type) => type === EVENT_TYPES.hostStarted || type === EVENT_TYPES.hostStopped);
    assertEquals(ends, [EVENT_TYPES.hostStarted, EVENT_TYPES.hostStopped, EVENT_TYPES.hostStarted]);
    assertEquals(await served.end("SIGTERM"), 0, served.printed);
    Deno.writeTextFileSync(tokenPath, "other");
    served.spawn();
    assertEquals(await served.ended(), 125, served.printed);
    assertStringIncludes(served.printed, "Authorization Violation");
    assert(!served.printed.includes("other"), "no secret is printed");
  },
);

kernelTest(
  "serve, log in JetStream: what another client wrote, canonical or legacy, camel or snake, is the same",
  NEEDS,
  async () => {
    await using stage = await Stage.set();
    await using nats = await startStageNats(stage);
    await using served = servedWithNats(stage, nats.url);
    await served.start();
    const shapes = ["camel", "snake"].flatMap((keys) =>
      ["dev.cellos.events.cell.formation.v1.", "io.cellos.formation.v1."].map((prefix) => ({
        keys,
        prefix,
      }))
    );
    const messages = shapes.flatMap(({ keys, prefix }, index) =>
      formationOf(index, prefix, keys === "camel")
    );
    await publishAs(stage, nats.url, [
      { subject: "cellos.events.junk", body: "not JSON" },
      ...messages.map((event) => ({
        subject: "cellos.events.formation.f.x",
        body: JSON.stringify(event),
      })),
    ]);
    await standsSo(served, "the state has them", ({ log }) => log?.lagEvents === 0);
    const seen: unknown[] = [];
    for (let index = 0; index < shapes.length; index++) {
      const formation = (await served.ask("GET", `/v1/formations/${uuidOf(index)}`))
        .json<{ name: string; status: string; phase: string }>();
      assertEquals(formation.name, `made-${index}`);
      const cell = await served.cell(`cell-${index}`);
      assertEquals(cell.formation_id, uuidOf(index));
      seen.push([formation.status, formation.phase, cell.state, cell.outcome, cell.spec_id]);
    }
    assertEquals(seen, shapes.map(() => ["RUNNING", "degraded", "destroyed", "succeeded", "s"]));
    assertStringIncludes(served.printed, "is no event, and is skipped");
    // `celld run` beside it writes into the same stream, and `celld events` reads it.
    const args = ["--log", nats.url];
    const ran = await stage.run(spec("beside", { argv: ["true"] }), { args });
    assertEquals([ran.code, ran.signal], [0, null], ran.stderr);
    const { cellId } = ran.events[0]!.data as { cellId: string };
    await served.cellBecomes(cellId, { state: "destroyed", outcome: "succeeded" });
    const told = await stage.celld(["events", "--json", "--cell", cellId, ...args]);
    const types = told.stdout.trimEnd().split("\n").map((line) => JSON.parse(line).event.type);
    assertEquals(types, typesOf(await served.events(), cellId));
    assertEquals(await served.end("SIGTERM"), 0, served.printed);
  },
);

function uuidOf(index: number): string {
  return `0b5e0fd6-4a5b-4f0f-9d1e-00000000000${index}`;
}

/** A formation with one cell, as the original's own writers tell of it. */
function formationOf(index: number, prefix: string, isCamel: boolean): CloudEvent[] {
  const named = isCamel
    ? { formationId: uuidOf(index), formationName: `made-${index}` }
    : { formation_id: uuidOf(index), name: `made-${index}` };
  const cell = isCamel
    ? { cellId: `cell-${index}`, specId: "s", formationId: uuidOf(index) }
    : { cellId: `cell-${index}`, specId: "s", formation_id: uuidOf(index) };
  const make = (type: string, data: unknown, number: number): CloudEvent => ({
    specversion: "1.0",
    id: `other-${index}-${number}`,
    source: "cellos-supervisor",
    type,
    datacontenttype: "application/json",
    time: "2026-05-16T00:00:00Z",
    data,
  });
  return [
    make(`${prefix}created`, named, 0),
    make(`${prefix}running`, named, 1),
    make(EVENT_TYPES.cellStarted, cell, 2),
    make(EVENT_TYPES.cellDestroyed, { ...cell, outcome: "succeeded" }, 3),
    make(`${prefix}degraded`, named, 4),
  ];
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
