/**
 * The flow program in a real kernel, run on packets by hand: no network, no cgroup.
 *
 * @module
 */
import {
  BpfAssembler,
  BpfError,
  BpfMap,
  type Fd,
  loadCgroupSkbProgram,
  MappedRing,
  monotonicNanoseconds,
  testProgram,
} from "#ffi/mod.ts";
import { Prng } from "#lib/base/mod.ts";
import {
  BPF_COUNTERS,
  BPF_COUNTERS_BYTES,
  BPF_RECORD,
  BPF_RECORD_BYTES,
  BPF_WHY,
  TELL_AGAIN_NS,
  TOLD_VALUE_BYTES,
  writeFlowProgram,
} from "#lib/flow/bpf_program.ts";
import { FLOW_KEY_BYTES } from "#lib/flow/flow_key.ts";
import { writeFlowKey } from "#lib/flow/packet.ts";
import { campaign, campaignSeed, recordCampaign } from "#tests/support/campaign.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { REPOSITORY_ROOT, runProcess } from "#tests/support/subprocess.ts";
import { ipv4, ipv6, ports } from "#tests/lib/flow/packets.ts";
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";

const NEEDS = ["root", "cap:CAP_BPF", "cap:CAP_NET_ADMIN"] as const;
const MARKS_MAX = 3;
const RING_BYTES = 64 * 1024;

interface Told {
  readonly mark: number;
  readonly why: number;
  readonly key: string;
}

/** The program with maps of a size that a test can fill. */
class Bench implements Disposable {
  readonly told: BpfMap;
  readonly program: Fd;
  readonly #stack = new DisposableStack();
  readonly #counters: BpfMap;
  readonly #ring: MappedRing;

  constructor(toldMax = 65_536) {
    const use = <T extends Disposable>(it: T): T => this.#stack.use(it);
    const make = (name: string, kind: "hash" | "array" | "ring", sizes: [number, number, number]) =>
      use(
        new BpfMap({
          name,
          kind,
          keyBytes: sizes[0],
          valueBytes: sizes[1],
          entriesMax: sizes[2],
        }),
      );
    this.told = make("test_told", "hash", [FLOW_KEY_BYTES, TOLD_VALUE_BYTES, toldMax]);
    this.#counters = make("test_counters", "array", [4, BPF_COUNTERS_BYTES * (MARKS_MAX + 1), 1]);
    const ring = make("test_ring", "ring", [0, 0, RING_BYTES]);
    this.#ring = use(new MappedRing(ring.fd, RING_BYTES));
    const program = writeFlowProgram(new BpfAssembler(), {
      toldMap: this.told.fd.number,
      ringMap: ring.fd.number,
      countersMap: this.#counters.fd.number,
      marksMax: MARKS_MAX,
    });
    this.program = use(loadCgroupSkbProgram("test_flow", "egress", program.build()));
  }

  /** Sends a packet past the program, which lets every one go. */
  send(packet: Uint8Array, mark = 1, repeat = 1): void {
    assertEquals(testProgram(this.program, packet, { mark, repeat }).answer, 1);
  }

  drain(): Told[] {
    const told: Told[] = [];
    this.#ring.reader.drain((bytes, start, length) => {
      assertEquals(length, BPF_RECORD_BYTES);
      const view = new DataView(bytes.buffer, bytes.byteOffset + start);
      const key = start + BPF_RECORD.key;
      told.push({
        mark: view.getUint32(BPF_RECORD.mark, true),
        why: view.getUint8(BPF_RECORD.why),
        key: bytes.slice(key, key + FLOW_KEY_BYTES).toHex(),
      });
    }, Infinity);
    return told;
  }

  count(mark: number, counter: keyof typeof BPF_COUNTERS): number {
    const bytes = this.#counters.lookup(new Uint8Array(4))!;
    const at = mark * BPF_COUNTERS_BYTES + BPF_COUNTERS[counter];
    return Number(new DataView(bytes.buffer).getBigUint64(at, true));
  }

  [Symbol.dispose](): void {
    this.#stack.dispose();
  }
}

function keyOf(packet: Uint8Array): string {
  const key = new Uint8Array(FLOW_KEY_BYTES);
  writeFlowKey(packet, 0, packet.length, key, 0);
  return key.toHex();
}

const udp = (port: number) => ipv4({ protocol: 17, rest: ports(port, 53) });
/** An extension header of 8 bytes that is followed by `next`. */
const extension = (next: number) => [next, 0, 0, 0, 0, 0, 0, 0];

const PACKETS: Readonly<Record<string, Uint8Array>> = {
  "TCP over IPv4": ipv4({ protocol: 6, rest: ports(1234, 443) }),
  "UDP over IPv4": udp(5000),
  "ping over IPv4": ipv4({ protocol: 1, rest: [8, 0, 0, 0, 0x12, 0x34, 0, 1] }),
  "ICMP that is no echo": ipv4({ protocol: 1, rest: [13, 0, 0, 0, 0x12, 0x34, 0, 1] }),
  "another protocol": ipv4({ protocol: 132 }),
  "a later fragment over IPv4": ipv4({ protocol: 17, fragment: 185 }),
  "a first fragment over IPv4": ipv4({ protocol: 17, fragment: 0x2000, rest: ports(1, 2) }),
  "TCP over IPv6": ipv6(6, ports(1234, 443)),
  "ping over IPv6": ipv6(58, [128, 0, 0, 0, 0x12, 0x34, 0, 1]),
  "UDP behind options, routing and destination": ipv6(0, [
    ...extension(43),
    ...extension(60),
    ...extension(17),
    ...ports(7, 8),
  ]),
  "TCP behind an authentication header": ipv6(51, [
    6,
    2,
    ...new Array(14).fill(0),
    ...ports(7, 8),
  ]),
  "a first fragment over IPv6": ipv6(44, [17, 0, 0, 1, 0, 0, 0, 9, ...ports(7, 8)]),
  "a later fragment over IPv6": ipv6(44, [17, 0, 0, 8, 0, 0, 0, 9, ...ports(7, 8)]),
  "16 extension headers": ipv6(60, [
    ...new Array(15).fill(extension(60)).flat(),
    ...extension(6),
    ...ports(7, 8),
  ]),
  "17 extension headers": ipv6(60, [
    ...new Array(16).fill(extension(60)).flat(),
    ...extension(6),
    ...ports(7, 8),
  ]),
  "an extension header that is cut": ipv6(60, [6, 0, 0, 0]),
  "ports that are cut": ipv6(60, [...extension(17), 0, 7]),
};

kernelTest("flow program: it reads each packet as the packet log's decoder does", NEEDS, () => {
  for (const [name, packet] of Object.entries(PACKETS)) {
    using bench = new Bench();
    bench.send(packet, 2);
    assertEquals(bench.drain(), [{ mark: 2, why: BPF_WHY.first, key: keyOf(packet) }], name);
  }
});

kernelTest("flow program: of random packets it says what the decoder says", NEEDS, () => {
  using bench = new Bench();
  const seed = campaignSeed();
  const random = new Prng(seed);
  const packets = campaign(4000, 50_000);
  const kinds: Record<string, number> = {};
  for (let index = 0; index < packets; index++) {
    const packet = randomPacket(random);
    bench.send(packet, 1 + index % MARKS_MAX);
    const [told] = bench.drain();
    // A key that came before is known; then the map has it.
    if (told === undefined) {
      assert(bench.told.lookup(Uint8Array.fromHex(keyOf(packet))) !== undefined, `seed ${seed}`);
      continue;
    }
    assertEquals(told.key, keyOf(packet), `seed ${seed}: ${packet.toHex()}`);
    kinds[told.why] = (kinds[told.why] ?? 0) + 1;
  }
  assert(kinds[BPF_WHY.first] > packets / 2, JSON.stringify(kinds));
  const total = [0, 1, 2, 3].reduce(
    (sum, mark) => sum + bench.count(mark, "told") + bench.count(mark, "known"),
    0,
  );
  assertEquals(total, packets);
  recordCampaign("flow program against the decoder", { packets, differences: 0 });
});

/** Mostly IPv6 with chains of extension headers, some of it cut or nonsense. */
function randomPacket(random: Prng): Uint8Array {
  const bytes = Uint8Array.from({ length: 40 + random.u32() % 160 }, () => random.u32() & 255);
  const isIpv6 = random.u32() % 4 !== 0;
  bytes[0] = isIpv6 ? 0x60 : 0x40 | random.u32() % 8 + 3;
  const nexts = [0, 6, 17, 43, 44, 51, 58, 60, 135, 139, 140, 59, 132];
  const pick = () => nexts[random.u32() % nexts.length];
  if (!isIpv6) {
    bytes[9] = pick();
    if (random.u32() % 2 === 0) bytes[6] = bytes[7] = 0;
    return bytes;
  }
  bytes[6] = pick();
  for (let at = 40; at + 8 <= bytes.length; at += 8) {
    bytes[at] = pick();
    bytes[at + 1] = random.u32() % 3;
    if (random.u32() % 2 === 0) bytes[at + 2] = bytes[at + 3] = 0;
  }
  return bytes;
}

kernelTest("flow program: without a mark nothing is told, a strange mark is mark 0", NEEDS, () => {
  using bench = new Bench();
  bench.send(udp(1), 0);
  assertEquals(bench.drain(), []);
  bench.send(udp(1), MARKS_MAX + 1);
  bench.send(udp(2), 0xffff_ffff);
  assertEquals(bench.drain().map(({ mark }) => mark), [0, 0]);
  assertEquals(bench.count(0, "told"), 2);
});

kernelTest("flow program: a flow is told once, and again when its time is over", NEEDS, () => {
  using bench = new Bench();
  bench.send(udp(1), 1, 1000);
  assertEquals(bench.drain().length, 1);
  assertEquals([bench.count(1, "told"), bench.count(1, "known")], [1, 999]);

  const key = Uint8Array.fromHex(keyOf(udp(1)));
  const value = new Uint8Array(TOLD_VALUE_BYTES);
  new DataView(value.buffer).setBigUint64(0, monotonicNanoseconds() - TELL_AGAIN_NS - 1n, true);
  bench.told.update(key, value);
  bench.send(udp(1), 1, 2);
  assertEquals(bench.drain().map(({ why }) => why), [BPF_WHY.again]);
  assertEquals([bench.count(1, "told"), bench.count(1, "known")], [2, 1000]);
  // A time ahead of ours is another processor's, not a flow of long ago.
  new DataView(value.buffer).setBigUint64(0, monotonicNanoseconds() + 10n ** 9n, true);
  bench.told.update(key, value);
  bench.send(udp(1));
  assertEquals(bench.drain(), []);
});

kernelTest("flow program: a full map tells every packet and says so", NEEDS, () => {
  using bench = new Bench(4);
  for (let port = 1; port <= 200; port++) bench.send(udp(port));
  const told = bench.drain();
  assertEquals(told.length, 200);
  const full = told.filter(({ why }) => why === BPF_WHY.mapFull).length;
  assert(full >= 150, `${full} of 200 found the map full`);
  assertEquals([bench.count(1, "told"), bench.count(1, "mapFull")], [200, full]);
  const last = told.at(-1);
  bench.send(udp(200), 1, 3);
  assertEquals(bench.drain(), [last, last, last]);
});

kernelTest(
  "flow program: what finds the ring full is counted, and told when it comes again",
  NEEDS,
  () => {
    using bench = new Bench();
    const flows = 2000;
    for (let port = 1; port <= flows; port++) bench.send(udp(port), 3);
    const told = bench.drain().length;
    assert(told > 500 && told < flows, `${told} told`);
    assertEquals([bench.count(3, "told"), bench.count(3, "lost")], [told, flows - told]);
    // A lost flow is not among the told ones.
    bench.send(udp(flows), 3);
    assertEquals(bench.drain().map(({ key }) => key), [keyOf(udp(flows))]);
  },
);

kernelTest("BPF: the verifier's reason is in the error", NEEDS, () => {
  const program = new BpfAssembler().load(4, "r0", "r3", 0).exit().build();
  const error = assertThrows(() => loadCgroupSkbProgram("bad", "egress", program), BpfError);
  assertEquals(error.code, "EACCES");
  assertStringIncludes(error.message, "Cannot load BPF program bad: EACCES: R3 !read_ok");
  assertStringIncludes(error.verifierLog, "R3 !read_ok");
});

kernelTest(
  "BPF: without its capabilities the first map is refused, with the kernel's word",
  [...NEEDS, "command:setpriv"],
  async () => {
    const program = `import { FlowPrograms } from "#lib/flow/mod.ts";
      try { new FlowPrograms({ marksMax: 1 }); } catch (error) { console.log(error.message); }`;
    const path = `${REPOSITORY_ROOT}/tests/kernel/flow/.refused_${Deno.pid}.ts`;
    Deno.writeTextFileSync(path, program);
    try {
      const { stdout } = await runProcess([
        "setpriv",
        ...["--bounding-set", "-all", Deno.execPath()],
        ...["run", "-A", "--quiet", "--no-check", path],
      ]);
      assertEquals(stdout.trim(), "Cannot create BPF map celld_told: EPERM");
    } finally {
      Deno.removeSync(path);
    }
  },
);
