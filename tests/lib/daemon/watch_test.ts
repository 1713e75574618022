/**
 * The parts of a stand-alone observer: who may ask how often, what the export file says, which keys are
 * taken.
 *
 * @module
 */
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { ExportFile } from "#lib/daemon/watch_export.ts";
import { ADDRESSES_MAX, IpBuckets } from "#lib/daemon/watch_ip_buckets.ts";
import { readWatchKeys, Warnings, WatchConfigError } from "#lib/daemon/watch_support.ts";
import type { AgentState } from "#lib/liveness/agent_events.ts";

function withFolder(use: (folder: string) => void): void {
  const folder = Deno.makeTempDirSync({ prefix: "celld-watch-" });
  try {
    use(folder);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

Deno.test("buckets: a burst, then so many a second, each address for itself", () => {
  const buckets = new IpBuckets({ ratePerSecond: 5, burst: 10 });
  const taken = (address: string, atMs: number, count: number) =>
    Array.from({ length: count }, () => buckets.take(address, atMs)).filter(Boolean).length;
  assertEquals(taken("a", 0, 20), 10);
  assertEquals(taken("b", 0, 3), 3);
  assertEquals(taken("a", 1000, 20), 5);
  assertEquals(taken("a", 3_600_000, 20), 10);
  assert(new IpBuckets({ ratePerSecond: 5, burst: 0 }).take("a", 0));
});

Deno.test("buckets: addresses are bounded, the one that asked longest ago is forgotten", () => {
  const buckets = new IpBuckets({ ratePerSecond: 1, burst: 1 });
  for (let at = 0; at < ADDRESSES_MAX + 5; at++) assert(buckets.take(`a${at}`, at));
  assertEquals(buckets.evicted, 5);
  assertEquals(buckets.take(`a${ADDRESSES_MAX}`, ADDRESSES_MAX + 5), false);
  // After a minute nobody has to give way.
  assert(buckets.take("late", 10 * 60_000));
  assertEquals(buckets.evicted, 5);
});

const AGENT: AgentState = {
  hostPid: 7,
  pid: 7,
  status: "ok",
  origin: "kernel_attested",
  generation: 1,
  namespaceInode: 1,
  lastNs: 0,
};

Deno.test("export: each row has six columns, nonces past 2^53 are whole", () => {
  withFolder((folder) => {
    const path = `${folder}/export.tsv`;
    const file = new ExportFile({ path, syncEvery: 2 });
    file.beats(Float64Array.from([11, 7, 0, 0, 1, 42, 3, 12, 7, 2, 0xffffffff, 0xfffffffd, 0, 3]));
    file.events([
      { kind: "seen", atNs: 11, agent: AGENT },
      { kind: "stalled", atNs: 13, agent: { ...AGENT, status: "stall" } },
      {
        kind: "conflict",
        atNs: 14,
        reason: "origin",
        claimedPid: 9,
        hostPid: 0,
        suppressed: 0,
      },
      { kind: "gone", atNs: 15, agent: { ...AGENT, hostPid: 8 }, reason: "evicted" },
      // It was told as a stall already.
      { kind: "gone", atNs: 16, agent: { ...AGENT, status: "stall" }, reason: "exit" },
      { kind: "gone", atNs: 17, agent: { ...AGENT, hostPid: 5 }, reason: "exit" },
    ]);
    file.refusals({ 'varta_decode_errors_total{kind="bad_crc"}': 3, varta_io_errors_total: 0 }, 18);
    file.refusals({ 'varta_decode_errors_total{kind="bad_crc"}': 3, varta_io_errors_total: 1 }, 19);
    file.close();
    assertEquals(Deno.readTextFileSync(path).trimEnd().split("\n"), [
      "11\tbeat\t7\t1\tok\t42",
      "12\tbeat\t7\t18446744073709551613\tcritical\t0",
      "13\tstall\t7\t18446744073709551613\tstall\t-",
      "14\tmismatch\t9\t-\t-\torigin_conflict",
      "15\teviction\t8\t-\t-\t-",
      "17\tstall\t5\t0\tstall\t-",
      "18\tdecode\t-\t-\t-\tbad_crc (3)",
      "19\tio\t-\t-\t-\tpeer refused (1)",
    ]);
    assertEquals((Deno.statSync(path).mode ?? 0) & 0o777, 0o600);
  });
});

Deno.test("export: five generations are kept, and each row is in one of them", () => {
  withFolder((folder) => {
    const path = `${folder}/export.tsv`;
    const file = new ExportFile({ path, maxBytes: 4096, syncEvery: 0 });
    const row = (at: number) => Float64Array.from([at, 7, 0, 0, at, 0, 3]);
    for (let at = 0; at < 2000; at++) file.beats(row(at));
    file.close();
    const names = Array.from(Deno.readDirSync(folder), ({ name }) => name).sort();
    assertEquals(names, ["", ".1", ".2", ".3", ".4", ".5"].map((it) => `export.tsv${it}`));
    const kept = [...names].reverse().flatMap((name) =>
      Deno.readTextFileSync(`${folder}/${name}`).split("\n").filter((line) => line !== "")
    ).map((line) => Number(line.split("\t")[0]));
    const sorted = kept.sort((a, b) => a - b);
    assertEquals(sorted, sorted.map((_, index) => sorted[0]! + index));
    assertEquals(sorted.at(-1), 1999);
  });
});

Deno.test("export: no link, no file with two names, no directory", () => {
  withFolder((folder) => {
    Deno.writeTextFileSync(`${folder}/there`, "");
    Deno.symlinkSync("there", `${folder}/link`);
    Deno.linkSync(`${folder}/there`, `${folder}/second`);
    for (const name of ["link", "second", "."]) {
      assertThrows(() => new ExportFile({ path: `${folder}/${name}`, syncEvery: 0 }), Error);
    }
  });
});

Deno.test("keys: one for --key-file, several with comments for --accepted-key-file", () => {
  withFolder((folder) => {
    const write = (name: string, text: string, mode = 0o600) => {
      Deno.writeTextFileSync(`${folder}/${name}`, text);
      Deno.chmodSync(`${folder}/${name}`, mode);
      return `${folder}/${name}`;
    };
    const [one, two] = ["01".repeat(32), "Ab".repeat(32)];
    const keyFile = write("one", `${one}\n`);
    const acceptedKeyFile = write("more", `# old\n\n${one}\n  ${two}\n`);
    const masterKeyFile = write("master", two);
    const keys = readWatchKeys({ keyFile, acceptedKeyFile, masterKeyFile });
    assertEquals(keys.sharedKeys.map((key) => key[0]), [1, 1, 0xab]);
    assertEquals(keys.masterKey?.length, 32);
    for (const text of ["", `${one}\n${two}`, one.slice(1), `${one} `.repeat(2)]) {
      const error = assertThrows(() => readWatchKeys({ keyFile: write("bad", text) }));
      assertEquals((error as WatchConfigError).exitCode, 2);
      assertEquals((error as Error).message.includes("0101"), false, "a key is not shown");
    }
    const open = write("open", one, 0o644);
    const error = assertThrows(() => readWatchKeys({ masterKeyFile: open }), WatchConfigError);
    assertStringIncludes(error.message, "--master-key-file");
  });
});

Deno.test("warnings: each kind now and then, the rest is counted", () => {
  const told: string[] = [];
  let nowMs = 0;
  const warnings = new Warnings((text) => told.push(text), () => nowMs);
  for (; nowMs < 25_000; nowMs += 1000) warnings.warn("heartbeat_io", `at ${nowMs}`);
  warnings.warn("prom_serve", "another");
  assertEquals(told, ["at 0", "at 10000", "at 20000", "another"]);
  assertEquals(warnings.suppressed.get("heartbeat_io"), 22);
  assertEquals(warnings.suppressed.get("prom_serve"), 0);
});
