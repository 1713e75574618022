/**
 * Cells as backends of the UDP load balancer: they come and go with their formation, under load.
 *
 * @module
 */
import { assert, assertEquals, assertGreater } from "@std/assert";
import {
  EVENT_TYPES,
  type FlowDecisionData,
  type UdpBackendData,
  type UdpInheritedData,
} from "#lib/events/mod.ts";
import type { UdpClusterRecord } from "#lib/http/mod.ts";
import { campaign, recordCampaign } from "#tests/support/campaign.ts";
import { dataOf, Stage } from "#tests/support/celld_stage.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { Served } from "#tests/support/served.ts";

const NEEDS = [
  "root",
  "cap:CAP_SYS_ADMIN",
  "cap:CAP_NET_ADMIN",
  "cap:CAP_SYS_PTRACE",
  "path:/usr/bin/perl",
] as const;
const PORT = 5300;
const LISTEN = "127.0.0.1:5301";
/** Between a change of the formation's size and the next, in milliseconds. */
const STEADY_MS = campaign(1000, 20_000);
/** A cell runs before its program listens: it is a backend once it answers. */
const HEALTH = {
  probe: { by: "udp", send: { text: "?" }, expect: { any: true } },
  intervalMs: 100,
  timeoutMs: 2000,
  rise: 1,
  startsUp: false,
};
/** Answers with a name of its own; told to end it goes on for a second, with what it has. */
const ECHO = `
  use IO::Socket::INET; use IO::Select;
  my $name = int(rand(1e9)); my $end;
  $SIG{TERM} = sub { $end //= time() + 1 };
  my $socket = IO::Socket::INET->new(LocalPort => ${PORT}, Proto => "udp") or die $!;
  my $select = IO::Select->new($socket);
  until (defined $end && time() > $end) {
    next unless $select->can_read(0.1);
    my $from = $socket->recv(my $data, 2048) // next;
    $socket->send("$name:$data", 0, $from);
  }`;
/** Asks again and again, and says at the end whose answers came and how many did not. */
const ASK = `
  use IO::Socket::INET; use IO::Select;
  my ($end, $number, $lost, %heard) = (0, 0, 0);
  $SIG{TERM} = sub { $end = 1 };
  my $socket = IO::Socket::INET->new(PeerAddr => "${LISTEN}", Proto => "udp") or die $!;
  my $select = IO::Select->new($socket);
  until ($end) {
    my $text = "q" . ++$number;
    $socket->send($text);
    my $until = time() + 3; my $answered = 0;
    while (!$answered && time() <= $until) {
      next unless $select->can_read(0.5);
      next unless defined $socket->recv(my $data, 2048);
      $answered = 1 if $data =~ /^(\\d+):$text$/ and ++$heard{$1};
    }
    $lost++ unless $answered;
    select(undef, undef, undef, 0.001);
  }
  print "$number $lost ", join(",", sort keys %heard), "\\n";`;

async function backendsOf(served: Served, cluster: string): Promise<UdpClusterRecord["backends"]> {
  const answer = await served.ask("GET", `/v1/udp/clusters/${cluster}`);
  return answer.json<UdpClusterRecord & Record<string, unknown>>().backends;
}

/** Waits until a cluster has so many backends that take new flows. */
async function untilUp(served: Served, cluster: string, count: number): Promise<void> {
  const untilMs = performance.now() + 30_000;
  for (;;) {
    const backends = await backendsOf(served, cluster);
    if (backends.length === count && backends.every(({ status }) => status === "up")) return;
    assert(performance.now() < untilMs, JSON.stringify(backends));
    await new Promise((done) => setTimeout(done, 50));
  }
}

/** A formation whose second member is the backends of `echo`, one of them up. */
async function startFarm(served: Served): Promise<{ readonly id: string }> {
  const created = await served.ask("POST", "/v1/formations", {
    name: "farm",
    coordinator: "lead",
    members: [{ id: "lead", spec: { run: { argv: ["sleep", "infinity"] } } }, {
      id: "echo",
      authorizedBy: "lead",
      spec: {
        ingress: { udp: [{ cluster: "echo", port: PORT }] },
        run: { argv: ["perl", "-e", ECHO] },
      },
    }],
  });
  assertEquals(created.status, 201, created.text);
  await untilUp(served, "echo", 1);
  return created.json<{ id: string }>();
}

async function scaleTo(served: Served, id: string, replicas: number): Promise<void> {
  const wish = { member: "echo", replicas };
  const answer = await served.ask("POST", `/v1/formations/${id}/scale`, wish);
  assertEquals(answer.status, 200, answer.text);
  await untilUp(served, "echo", replicas);
}

kernelTest(
  "udp cells: a formation grows and shrinks under load, and no request is lost",
  NEEDS,
  async () => {
    await using stage = await Stage.set();
    await using served = new Served(stage);
    await served.start();
    const applied = await served.ask("POST", "/v1/udp", {
      clusters: [
        { name: "echo", health: HEALTH },
        { name: "named", cells: { formation: "farm", member: "echo", port: PORT } },
      ],
      listeners: [{ name: "in", listen: LISTEN, cluster: "echo", responses: 1 }],
    });
    assertEquals(applied.status, 200, applied.text);
    const { id } = await startFarm(served);

    const client = stage.lab.spawnInHost("perl", { args: ["-e", ASK], stdout: "piped" });
    const scale = async (replicas: number) => {
      await scaleTo(served, id, replicas);
      await new Promise((done) => setTimeout(done, STEADY_MS));
    };
    await scale(3);
    const cells = (await backendsOf(served, "echo")).map(({ cell_id }) => cell_id).toSorted();
    const named = (await backendsOf(served, "named")).map(({ cell_id }) => cell_id).toSorted();
    assertEquals(named, cells);
    await scale(1);
    client.kill("SIGTERM");
    const { stdout } = await client.output();
    const [asked, lost, names] = new TextDecoder().decode(stdout).trim().split(" ");
    recordCampaign("udp cells: 1, 3, 1 under load", { asked, lost });
    assertEquals([Number(lost), names.split(",").length], [0, 3]);
    assertGreater(Number(asked), 100);

    const events = (await served.events()).map(({ event }) => event);
    const told = dataOf<UdpBackendData>(events, EVENT_TYPES.udpBackend)
      .filter(({ cluster, state }) => cluster === "echo" && /^(draining|removed)$/.test(state));
    for (const cellId of cells.filter((one) => told.some((it) => it.cellId === one))) {
      const states = told.filter((it) => it.cellId === cellId).map(({ state }) => state);
      assertEquals(states, ["draining", "removed"]);
    }
    assertEquals(told.length, 4);
    const decisions = dataOf<FlowDecisionData>(events, EVENT_TYPES.flowDecision)
      .filter(({ dstPort }) => dstPort === PORT);
    assertGreater(decisions.length, 0);
    assertEquals(
      new Set(decisions.map(({ nftRuleRef }) => nftRuleRef)),
      new Set(["ingress.udp[0].v4"]),
    );
  },
);

kernelTest(
  "udp cells: over an upgrade cells and flows go on, and no request is lost",
  NEEDS,
  async () => {
    await using stage = await Stage.set();
    await using served = new Served(stage);
    await served.start();
    const applied = await served.ask("POST", "/v1/udp", {
      clusters: [{ name: "echo", health: HEALTH }],
      listeners: [{ name: "in", listen: LISTEN, cluster: "echo" }],
    });
    assertEquals(applied.status, 200, applied.text);
    const { id } = await startFarm(served);
    await scaleTo(served, id, 2);
    const clients = Array.from(
      { length: 4 },
      () => stage.lab.spawnInHost("perl", { args: ["-e", ASK], stdout: "piped" }),
    );
    const steady = () => new Promise((done) => setTimeout(done, STEADY_MS));
    await steady();
    // By a successor, then by the same process.
    await using next = new Served(stage, ["--take-over"]);
    next.spawn();
    assertEquals(await served.ended(), 0, served.printed);
    await next.ready();
    await untilUp(next, "echo", 2);
    await steady();
    const since = (await next.events()).at(-1)!.seq;
    next.signal("SIGUSR2");
    await untilInherited(next, since);
    await untilUp(next, "echo", 2);
    await steady();
    const said = await Promise.all(clients.map(async (client) => {
      client.kill("SIGTERM");
      return new TextDecoder().decode((await client.output()).stdout).trim().split(" ");
    }));
    assertEquals(said.map(([, lost]) => lost), ["0", "0", "0", "0"]);
    // Each client was one flow all the time, with one cell.
    assertEquals(said.map(([, , names]) => names.split(",").length), [1, 1, 1, 1]);
    assertEquals(new Set(said.map(([, , names]) => names)).size, 2);
    const asked = said.reduce((sum, [count]) => sum + Number(count), 0);
    recordCampaign("udp cells: two upgrades under load", { asked, lost: 0 });
    const events = (await next.events()).map(({ event }) => event);
    const inherited = dataOf<UdpInheritedData>(events, EVENT_TYPES.udpInherited);
    const all = { restored: 4, flows: 0, listeners: 0, discarded: 0 };
    assertEquals(inherited, [all, all]);
  },
);

/** Waits until a server has told, after a place of the log, what it took over. */
async function untilInherited(served: Served, since: number): Promise<void> {
  const untilMs = performance.now() + 60_000;
  for (;;) {
    const text = (await served.tryAsk("GET", `/v1/events?since=${since}&limit=1000`))?.text ?? "";
    if (text.includes(EVENT_TYPES.udpInherited)) return await served.ready();
    assert(performance.now() < untilMs, served.printed);
    await new Promise((done) => setTimeout(done, 50));
  }
}

kernelTest(
  "udp cells: what a spec does not open stays shut for the load balancer too",
  NEEDS,
  async () => {
    await using stage = await Stage.set();
    await using served = new Served(stage);
    await served.start();
    const created = await served.ask("POST", "/v1/formations", {
      name: "shut",
      coordinator: "lead",
      members: [{
        id: "lead",
        spec: {
          ingress: { udp: [{ cluster: "elsewhere", port: PORT + 7 }] },
          run: { argv: ["perl", "-e", ECHO] },
        },
      }],
    });
    assertEquals(created.status, 201, created.text);
    const applied = await served.ask("POST", "/v1/udp", {
      clusters: [{ name: "shut", cells: { formation: "shut", port: PORT } }],
      listeners: [{ name: "in", listen: LISTEN, cluster: "shut", responses: 1 }],
    });
    assertEquals(applied.status, 200, applied.text);
    await untilUp(served, "shut", 1);
    const client = stage.lab.spawnInHost("perl", { args: ["-e", ASK], stdout: "piped" });
    const untilMs = performance.now() + 20_000;
    const refused = async () =>
      dataOf<FlowDecisionData>(
        (await served.events()).map(({ event }) => event),
        EVENT_TYPES.flowDecision,
      )
        .filter(({ dstPort }) => dstPort === PORT);
    while ((await refused()).length === 0 && performance.now() < untilMs) {
      await new Promise((done) => setTimeout(done, 100));
    }
    client.kill("SIGTERM");
    const [asked, lost] = new TextDecoder().decode((await client.output()).stdout).split(" ");
    assertEquals(lost, asked);
    const [decision] = await refused();
    assertEquals([decision.decision, decision.nftRuleRef], ["deny", "ingress-default"]);
  },
);
