/**
 * Who follows a server: one that does not read is closed with where to resume, and slows nobody;
 * one that follows at the server's end is told so, and what was acknowledged until then is kept.
 *
 * @module
 */
import { assert, assertEquals, assertGreater, assertMatch } from "@std/assert";
import { spec, Stage } from "#tests/support/celld_stage.ts";
import { DeafSocket } from "#tests/support/deaf_socket.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { LAB } from "#tests/support/lab.ts";
import { SocketFollower } from "#tests/support/serve_followers.ts";
import { Served } from "#tests/support/served.ts";
import { runCell } from "#tests/support/served_facts.ts";

const NEEDS = [
  "root",
  "cap:CAP_SYS_ADMIN",
  "cap:CAP_NET_ADMIN",
  "cap:CAP_SYS_PTRACE",
  "path:/usr/bin/perl",
] as const;
const EGRESS = [{ host: LAB.serversIpv4[0], port: 80 }];
/** More than a socket and the server's buffer for it hold together. */
const FLOWS = 4000;
/** Datagrams that are refused: an event each. */
const TALKER = `
  use strict; use Socket; use Time::HiRes qw(sleep); my ($left, $address) = @ARGV;
  my $to = inet_aton($address);
  for (my $port = 10000; $left > 0; $port++) {
    socket(my $s, AF_INET, SOCK_DGRAM, 17); bind($s, pack_sockaddr_in($port, INADDR_ANY)) or die;
    for my $far (1 .. 100) { last if $left-- <= 0; send($s, "x", 0, pack_sockaddr_in($far, $to)) }
    sleep 0.005;
  }`;

async function talk(served: Served): Promise<void> {
  const argv = ["perl", "-e", TALKER, String(FLOWS), LAB.serversIpv4[2]!];
  const cellId = await runCell(served, spec("talker", { argv, egress: EGRESS }));
  await served.cellBecomes(cellId, { state: "destroyed" });
}

async function assertMetric(served: Served, wanted: RegExp): Promise<void> {
  const deadline = performance.now() + 30_000;
  for (;;) {
    const { text } = await served.ask("GET", "/metrics");
    if (wanted.test(text)) return;
    assert(performance.now() < deadline, text);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

kernelTest(
  "serve: a reader that takes nothing is closed with where to resume, and slows nobody",
  NEEDS,
  async () => {
    await using stage = await Stage.set();
    await using served = new Served(stage);
    await served.start();
    using deaf = await DeafSocket.open(served.socketPath, "/ws/events?since=0");
    const healthy = new SocketFollower(served, "json");
    const following = healthy.run();
    await talk(served);
    const lastSeq = (await served.events()).at(-1)!.seq;
    assertGreater(lastSeq, FLOWS);
    // The other has all of it while this one still blocks.
    await healthy.reaches(lastSeq);
    await assertMetric(served, /^celld_ws_closes_total\{code="4008"\} 1$/m);
    const { texts, close } = await deaf.readAll();
    assertEquals(close?.code, 4008);
    assertMatch(close!.reason, /^resume since=\d+$/);
    const resumeAt = Number(close!.reason.split("=")[1]);
    const seqs = texts.map((text) => (JSON.parse(text) as { seq: number }).seq);
    // The hint is exact: all up to it came, and nothing after it.
    assertEquals(seqs, Array.from({ length: resumeAt }, (_, index) => index + 1));
    assert(resumeAt < lastSeq, "it was closed after it had been given everything");
    healthy.end();
    await following;
    healthy.assertExact(await served.events(), lastSeq);
    assertEquals(await served.end("SIGTERM"), 0);
  },
);

kernelTest(
  "serve: SIGTERM finishes what was asked, and tells those who follow where to resume",
  NEEDS,
  async () => {
    await using stage = await Stage.set();
    await using served = new Served(stage);
    await served.start();
    const waiting = await runCell(
      served,
      spec("wait", { argv: ["sh", "-c", "echo here; while :; do sleep 60 & wait $!; done"] }),
    );
    await served.cellBecomes(waiting, { state: "running" });
    const seen: number[] = [];
    const socket = served.socket("/ws/events?since=0");
    const closed = new Promise<CloseEvent>((resolve) => socket.onclose = resolve);
    socket.onmessage = ({ data }) => seen.push(JSON.parse(String(data)).seq);
    await new Promise((resolve) => socket.onopen = resolve);
    const stream = served.ask("GET", `/v1/cells/${waiting}/logs?follow=true`);
    const asked = Array.from(
      { length: 20 },
      () => served.tryAsk("POST", "/v1/cells", spec("job", { argv: ["sh", "-c", "exit 3"] })),
    );
    await Promise.race(asked);
    assertEquals(await served.end("SIGTERM"), 0);
    const { code, reason } = await closed;
    assertEquals([code, reason], [1001, `resume since=${seen.at(-1)}`]);
    assertEquals(seen, Array.from({ length: seen.length }, (_, index) => index + 1));
    // It ended as a whole answer does, not as a connection that broke.
    assertEquals(await stream.then(({ status }) => status), 200);

    const answers = (await Promise.all(asked)).filter((answer) => answer !== undefined);
    const acknowledged = answers.filter(({ status }) => status === 202);
    assertGreater(acknowledged.length, 0);
    const others = answers.filter(({ status }) => status !== 202);
    assertEquals(others.filter(({ status }) => status !== 503).map(({ text }) => text), []);
    await served.start();
    for (const answer of acknowledged) {
      const { cellId } = answer.json<{ cellId: string }>();
      await served.cellBecomes(cellId, { state: "destroyed", exit_code: 3 });
    }
    assertEquals((await served.cell(waiting)).state, "running");
    await served.ask("POST", `/v1/cells/${waiting}/stop`);
    await served.cellBecomes(waiting, { state: "destroyed" });
    assertEquals(await served.end("SIGTERM"), 0);
  },
);
