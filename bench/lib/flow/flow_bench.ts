/**
 * What one logged packet costs: in the worker (datagram to record) and in its owner (record to
 * event), against the cheapest thing that could be done with the same bytes, a copy.
 *
 *   deno run -A bench/lib/flow/flow_bench.ts [--full]
 *
 * Everything is made before the clock starts; the kernel has no part in it.
 *
 * @module
 */
import { parseArgs } from "@std/cli";
import { BatchSink } from "#lib/flow/batch_sink.ts";
import { PacketDecoder } from "#lib/flow/packet_decoder_worker.ts";
import { FlowSession } from "#lib/flow/session.ts";
import { ipv4, nflogMessage, ports } from "#tests/lib/flow/packets.ts";

const PACKETS_PER_DATAGRAM = 32;
const DATAGRAMS = 64;

/** Datagrams as the kernel sends them, of packets of different flows. */
function makeDatagrams(): Uint8Array[] {
  return Array.from({ length: DATAGRAMS }, (_, d) => {
    const messages = Array.from({ length: PACKETS_PER_DATAGRAM }, (_, p) => {
      const number = d * PACKETS_PER_DATAGRAM + p;
      const rest = [...ports(10_000 + number, 443), ...new Array(80).fill(0)];
      return nflogMessage({
        prefix: "cellos-flow egress[0] accept",
        payload: ipv4({ protocol: 17, rest }),
        sequence: number,
      });
    });
    return new Uint8Array(messages.flat());
  });
}

/** Nanoseconds a packet: the best of several rounds. */
function measure(rounds: number, perRound: number, run: () => void): number {
  let best = Infinity;
  for (let round = 0; round < rounds; round++) {
    const started = performance.now();
    run();
    best = Math.min(best, (performance.now() - started) * 1e6 / perRound);
  }
  return best;
}

function main(): void {
  const { full } = parseArgs(Deno.args, { boolean: ["full"] });
  const rounds = full === true ? 300 : 20;
  const datagrams = makeDatagrams();
  const packets = DATAGRAMS * PACKETS_PER_DATAGRAM;
  const target = new Uint8Array(128 * 1024);

  const copyNs = measure(rounds, packets, () => {
    for (const datagram of datagrams) target.set(datagram);
  });

  const batches: Uint8Array<ArrayBuffer>[] = [];
  const sink = new BatchSink((records) => batches.push(records));
  const decodeNs = measure(rounds, packets, () => {
    const decoder = new PacketDecoder(1, sink);
    batches.length = 0;
    for (const datagram of datagrams) decoder.handleDatagram(datagram, datagram.length, 1);
    sink.flush();
  });

  let ids = 0;
  const prefixes = sink.prefixes.texts;
  const session = () =>
    new FlowSession({ cell: 1, cellId: "bench", runId: "run", source: "/celld/bench" });
  const eventNs = measure(rounds, packets, () => {
    const fresh = session();
    for (const records of batches) fresh.handleBatch({ records, prefixes }, () => `id-${++ids}`);
  });
  const warm = session();
  const repeatNs = measure(rounds, packets, () => {
    for (const records of batches) warm.handleBatch({ records, prefixes }, () => `id-${++ids}`);
  });

  console.log(`${packets} packets in ${DATAGRAMS} datagrams, best of ${rounds} rounds`);
  for (
    const [name, ns] of [
      ["copy of the datagram (baseline)", copyNs],
      ["datagram to records", decodeNs],
      ["record to decision event", eventNs],
      ["record of a flow told before", repeatNs],
    ] as const
  ) {
    const ratio = (ns / copyNs).toFixed(1);
    console.log(
      `  ${name.padEnd(34)} ${ns.toFixed(0).padStart(6)} ns/packet  ${ratio.padStart(6)} ×`,
    );
  }
}

if (import.meta.main) main();
