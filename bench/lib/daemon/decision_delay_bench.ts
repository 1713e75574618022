/**
 * From a lone packet to its decision on the log: acknowledged, durable, and told.
 *
 *   deno run -A bench/lib/daemon/decision_delay_bench.ts [--full]
 *
 * A cell's program reads the clock, sends one datagram to a port that it has not used before,
 * and waits; every other one is forbidden. The clock is read again when the log has acknowledged
 * the event. The floor is the kernel's own: a packet waits up to 10 ms in its batch before the
 * listener gets it, and one durable append of the same disk is measured beside it.
 *
 * @module
 */
import { parseArgs } from "@std/cli";
import { type CloudEvent, EVENT_TYPES } from "#lib/events/mod.ts";
import { BenchHost, benchSpec } from "../../support/cells.ts";
import { monotonicMs } from "../../support/first_instruction.ts";
import { FAR_ADDRESS, type Ground, GROUND_DIR, onGround } from "../../support/ground.ts";
import { figure, printTable, quantile, ratio } from "../../support/table.ts";

const PACKETS = { small: 40, full: 500 };
/** From here on the bench's rules forbid. */
const FIRST_FORBIDDEN_PORT = 30_001;
const PACKET_LOG_WAIT_MS = 10;
const EVENT_BYTES = 600;

/** Prints `port seconds` before each datagram; the pauses are not in step with anything. */
const SENDER = `
use strict; use Socket; use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC sleep);
$| = 1;
my $ip = inet_aton($ENV{TO});
socket(my $s, AF_INET, SOCK_DGRAM, 0) or die;
sleep(0.3);
for my $n (1..$ENV{COUNT}) {
  my $port = $n % 2 ? 10000 + $n : ${FIRST_FORBIDDEN_PORT} + $n;
  my $before = clock_gettime(CLOCK_MONOTONIC);
  send($s, "x", 0, pack_sockaddr_in($port, $ip));
  printf "%d %.9f\\n", $port, $before;
  sleep(0.03 + rand(0.02));
}
sleep(0.2);
`;

async function main(args: readonly string[]): Promise<void> {
  const { full } = parseArgs(args, { boolean: ["full"] });
  await onGround((ground) => bench(ground, full === true ? PACKETS.full : PACKETS.small));
}

async function bench(ground: Ground, packets: number): Promise<void> {
  Deno.mkdirSync(`${GROUND_DIR}/workload`);
  const toldMs = new Map<number, number>();
  const verdicts = { allow: 0, deny: 0 };
  const onAppended = (event: CloudEvent) => {
    if (event.type !== EVENT_TYPES.flowDecision) return;
    const { dstPort, decision } = event.data as { dstPort: number; decision: "allow" | "deny" };
    verdicts[decision] += 1;
    toldMs.set(dstPort, monotonicMs());
  };
  await using host = await BenchHost.start(ground, onAppended);
  const env = { TO: FAR_ADDRESS, COUNT: String(packets) };
  const { output } = await host.run(benchSpec(["/usr/bin/perl", "-e", SENDER], env));
  await host.flush();
  const delaysMs = new TextDecoder().decode(output).trim().split("\n").flatMap((line) => {
    const [port, seconds] = line.split(" ");
    const told = toldMs.get(Number(port));
    return told === undefined ? [] : [told - Number(seconds) * 1000];
  });
  const syncMs = measureSyncs(ground.stateDir, packets);
  const floorMs = PACKET_LOG_WAIT_MS + quantile(syncMs, 0.5);
  printTable(["ms", "p50", "p99", "max", "p50 / floor"], [
    ["packet to acknowledged event", ...figures(delaysMs), ratio(quantile(delaysMs, 0.5), floorMs)],
    ["one write and fdatasync", ...figures(syncMs), ""],
    ["floor: kernel's batch of 10 ms, one fdatasync", figure(floorMs), "", "", ""],
  ]);
  console.log(
    `  ${packets} packets sent, ${verdicts.allow} allow and ${verdicts.deny} deny decisions told`,
  );
}

function measureSyncs(directory: string, count: number): number[] {
  using file = Deno.openSync(`${directory}/sync`, { create: true, write: true });
  const bytes = new Uint8Array(EVENT_BYTES).fill(0x20);
  return Array.from({ length: count }, () => {
    const beganMs = monotonicMs();
    file.writeSync(bytes);
    file.syncDataSync();
    return monotonicMs() - beganMs;
  });
}

function figures(samples: readonly number[]): [string, string, string] {
  return [
    figure(quantile(samples, 0.5)),
    figure(quantile(samples, 0.99)),
    figure(quantile(samples, 1)),
  ];
}

if (import.meta.main) await main(Deno.args);
