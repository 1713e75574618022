/**
 * A server whose disk is full: it says so, goes on answering, keeps its cells under their policy,
 * and goes on by itself when there is room again.
 *
 * @module
 */
import { assert, assertEquals, assertGreater, assertMatch } from "@std/assert";
import { EVENT_TYPES, type FlowDecisionData, type FlowGapData } from "#lib/events/mod.ts";
import { campaign, recordCampaign } from "#tests/support/campaign.ts";
import { fillDisk, onSmallDisk, spec, Stage, until } from "#tests/support/celld_stage.ts";
import {
  assertHeld,
  PROBE_ARGV,
  PROBE_EGRESS,
  PROBE_WATCH,
  probeTries,
} from "#tests/support/forbidden_probe.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { LAB } from "#tests/support/lab.ts";
import { Served, type ServedAnswer, type ServedEntry } from "#tests/support/served.ts";
import { assertNumbersMeet, runCell, typesOf } from "#tests/support/served_facts.ts";

const NEEDS = [
  "root",
  "cap:CAP_SYS_ADMIN",
  "cap:CAP_NET_ADMIN",
  "cap:CAP_SYS_PTRACE",
  "path:/usr/bin/perl",
] as const;
const WAIT = "while :; do sleep 60 & wait $!; done";
/** Waits for a file, then sends datagrams that are refused: each is a flow of its own. */
const TALKER = `
  use strict; use Socket; use Time::HiRes qw(sleep); $| = 1;
  my ($left, $address) = @ARGV; my $port = 10000; my $to = inet_aton($address);
  sleep 0.01 until -e "/marks/go";
  while ($left > 0) {
    socket(my $s, AF_INET, SOCK_DGRAM, 17); bind($s, pack_sockaddr_in($port++, INADDR_ANY)) or die;
    for my $far (1 .. 1000) { last if $left-- <= 0; send($s, "x", 0, pack_sockaddr_in($far, $to)) }
    sleep 0.005;
  }
  print "sent\\n"; sleep 60 while 1;`;

function assertRefused(answer: ServedAnswer): void {
  const problem = answer.json<{ type: string; status: number; detail: string }>();
  assertEquals([answer.status, problem.status], [503, 503], answer.text);
  assertEquals(problem.type, "urn:celld:problem:log-full");
  assertMatch(problem.detail, /full|space/i);
}

/** What is told of a cell's flows, and what of it was lost while the log was away. */
function toldOf(entries: readonly ServedEntry[], cellId: string): { told: number; lost: number } {
  const own = entries.filter(({ event }) => event.subject === `cell:${cellId}`);
  const gaps = own.filter(({ event }) => event.type === EVENT_TYPES.flowGap)
    .map(({ event }) => event.data as FlowGapData);
  assertEquals(gaps.filter(({ cause }) => cause !== "log-unavailable"), []);
  return {
    told: own.filter(({ event }) => event.type === EVENT_TYPES.flowDecision).length,
    lost: gaps.reduce((sum, { lost }) => sum + lost, 0),
  };
}

kernelTest(
  "serve: a full disk refuses writes, answers reads, opens nothing, and heals by itself",
  NEEDS,
  async () => {
    // The full size is more than the facts that wait in memory.
    const attempts = campaign(500, 90_000);
    await using stage = await Stage.set({ watch: PROBE_WATCH });
    await using served = new Served(stage, [], {
      wrapper: onSmallDisk(campaign("8m", "600m"), 'exec "$@"'),
      env: { STATE: stage.settings.stateDir },
    });
    Deno.mkdirSync(stage.settings.stateDir, { recursive: true });
    const marks = `${stage.base}/marks`;
    Deno.mkdirSync(marks);
    await served.start();
    const mounts = [{ source: marks, target: "/marks", readOnly: true }];
    const probe = await runCell(served, spec("probe", { argv: PROBE_ARGV, egress: PROBE_EGRESS }));
    const argv = ["perl", "-e", TALKER, String(attempts), LAB.serversIpv4[2]!];
    const talker = await runCell(
      served,
      spec("talker", { argv, egress: PROBE_EGRESS, run: { mounts } }),
    );
    const short = await runCell(
      served,
      spec("short", {
        argv: ["sh", "-c", "until [ -e /marks/go ]; do sleep 0.05; done; exit 7"],
        run: { mounts },
      }),
    );
    for (const id of [probe, talker, short]) await served.cellBecomes(id, { state: "running" });

    // The disk as the server sees it: it is in no other mount namespace.
    const fill = `/proc/${served.pid}/root${stage.settings.stateDir}/fill`;
    fillDisk(fill);
    const document = spec("late", { argv: ["sh", "-c", WAIT] });
    const before = await served.events();
    assertRefused(await served.ask("POST", "/v1/cells", document));
    assertRefused(await served.ask("POST", `/v1/cells/${probe}/stop`));
    Deno.writeTextFileSync(`${marks}/go`, "");
    const output = async () => (await served.ask("GET", `/v1/cells/${talker}/logs`)).text;
    const sentBy = performance.now() + 60_000;
    while (!(await output()).includes("sent")) assert(performance.now() < sentBy, "not sent");
    await waitForMetric(served, /^celld_log_refusing 1$/m);

    const unready = await served.ask("GET", "/readyz");
    assertEquals([unready.status, /full|space/i.test(unready.text)], [503, true], unready.text);
    assertRefused(await served.ask("POST", "/v1/cells", document));
    const manifest = {
      name: "late",
      coordinator: "a",
      members: [{ id: "a", spec: document.spec }],
    };
    assertRefused(await served.ask("POST", "/v1/formations", manifest));
    for (const path of ["/healthz", "/v1/cells", "/v1/formations", "/v1/flows", "/metrics"]) {
      assertEquals((await served.ask("GET", path)).status, 200, path);
    }
    // Nothing was written, and what was there can be read.
    assertEquals((await served.events()).slice(0, before.length), before);
    const cells = (await served.ask("GET", "/v1/cells")).json<{ cells: unknown[] }>().cells;
    assertEquals(cells.length, 3);
    assertHeld(stage.lab);

    Deno.removeSync(fill);
    await served.ready();
    await served.cellBecomes(short, { state: "destroyed", exit_code: 7 });
    const late = await runCell(served, document);
    await served.cellBecomes(late, { state: "running" });
    await until(() => stage.lab.arrivals().at(-1)!.packets > 0, "the probe");
    const { opened } = probeTries((await served.ask("GET", `/v1/cells/${probe}/logs`)).text);
    assertGreater(opened, 0);
    for (const id of [probe, talker, late]) await served.ask("POST", `/v1/cells/${id}/stop`);
    for (const id of [probe, talker, late]) await served.cellBecomes(id, { state: "destroyed" });
    assertHeld(stage.lab);
    for (const id of [probe, talker]) await assertNumbersMeet(served, id);

    const entries = await served.events();
    const { told, lost } = toldOf(entries, talker);
    assertEquals(told + lost, attempts, "what was not told was counted");
    assertEquals(lost > 0, attempts > 65_536, `lost ${lost}`);
    assertEquals(typesOf(entries, short).at(-1), EVENT_TYPES.cellDestroyed);
    assertInOrder(entries, talker);
    recordCampaign("serve: disk full", { attempts, told, lost, "got out": 0 });
    assertEquals(await served.end("SIGTERM"), 0);
  },
);

/** The facts of the meantime are on the log in the order in which they were observed. */
function assertInOrder(entries: readonly ServedEntry[], cellId: string): void {
  const times = entries.filter(({ event }) =>
    event.subject === `cell:${cellId}` && event.type === EVENT_TYPES.flowDecision
  ).map(({ event }) => (event.data as FlowDecisionData).observedAt);
  assertEquals(times, times.toSorted());
}

async function waitForMetric(served: Served, wanted: RegExp): Promise<void> {
  const deadline = performance.now() + 20_000;
  for (;;) {
    const { text } = await served.ask("GET", "/metrics");
    if (wanted.test(text)) return;
    assert(performance.now() < deadline, text);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
