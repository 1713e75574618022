/**
 * `celld watch` as a unit file runs it: flags in, rows, commands, metrics and words to systemd out.
 *
 * @module
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { createCipheriv } from "node:crypto";
import { createSocket } from "node:dgram";
import { ReceiveBatch, UnixDatagramSocket } from "#ffi/mod.ts";
import { fromHex } from "#lib/base/mod.ts";
import { encodeFrame, FRAME_BYTES, VlpFrame } from "#lib/liveness/mod.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { REPOSITORY_ROOT, runCelld, signalIfRunning } from "#tests/support/subprocess.ts";
import { until, Watching } from "#tests/support/watching.ts";

const TOKEN = "00112233445566778899AABBCCDDEEFF".repeat(2);
const KEY = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/** A socket that stands for systemd's. */
class Systemd implements Disposable {
  readonly #batch = new ReceiveBatch({ slots: 16, payloadBytes: 256 });
  readonly #socket: UnixDatagramSocket;
  readonly #words: string[] = [];

  constructor(path: string) {
    this.#socket = UnixDatagramSocket.bind({ path });
  }

  /** All words so far. */
  words(): string[] {
    for (let count = this.#receive(); count > 0; count = this.#receive());
    return this.#words;
  }

  #receive(): number {
    const count = this.#batch.receive(this.#socket.fd);
    for (let at = 0; at < count; at++) {
      const from = this.#batch.payloadAt(at);
      const bytes = this.#batch.bytes.slice(from, from + this.#batch.lengthAt(at));
      this.#words.push(new TextDecoder().decode(bytes));
    }
    this.#batch.closeDescriptors();
    return count;
  }

  [Symbol.dispose](): void {
    this.#socket.close();
  }
}

/** A frame as the reference's clients make it. */
function frameOf(pid: number, nonce: number): Uint8Array {
  const bytes = new Uint8Array(FRAME_BYTES);
  encodeFrame(Object.assign(new VlpFrame(), { pid, nonceLo: nonce, timestampLo: nonce }), bytes);
  return bytes;
}

/** A sealed packet of 60 bytes, written from the note: prefix, counter, ciphertext, tag. */
function seal(key: string, counter: number, frame: Uint8Array): Uint8Array {
  const nonce = new Uint8Array(12);
  nonce.set([1, 2, 3, 4, 5, 6, 7, 8]);
  new DataView(nonce.buffer).setUint32(8, counter, true);
  const cipher = createCipheriv("chacha20-poly1305", fromHex(key)!, nonce, { authTagLength: 16 });
  const sealed = [cipher.update(frame), cipher.final(), cipher.getAuthTag()];
  return new Uint8Array([...nonce, ...sealed.flatMap((part) => [...part])]);
}

function send(port: number, packet: Uint8Array): Promise<void> {
  const socket = createSocket("udp4");
  return new Promise((resolve, reject) => {
    socket.send(packet, port, "127.0.0.1", (error) => {
      socket.close();
      if (error) reject(error);
      else resolve();
    });
  });
}

/** A port that was free a moment ago. */
function freePort(): Promise<number> {
  const socket = createSocket("udp4");
  return new Promise((resolve) =>
    socket.bind(0, "127.0.0.1", () => {
      const { port } = socket.address();
      socket.close(() => resolve(port));
    })
  );
}

/** The whole answer to a request, as text; empty where the connection was closed. */
async function ask(address: string, head: string): Promise<string> {
  const [hostname, port] = address.split(":") as [string, string];
  using connection = await Deno.connect({ hostname, port: Number(port) });
  const chunks: Uint8Array[] = [];
  try {
    await connection.write(new TextEncoder().encode(`${head}\r\n\r\n`));
    const buffer = new Uint8Array(65_536);
    for (;;) {
      const count = await connection.read(buffer);
      if (count === null) break;
      chunks.push(buffer.slice(0, count));
    }
  } catch (error) {
    const isClosed = error instanceof Deno.errors.ConnectionReset ||
      error instanceof Deno.errors.BrokenPipe;
    if (!isClosed) throw error;
  }
  return await new Blob(chunks as BlobPart[]).text();
}

function scrape(address: string): Promise<string> {
  return ask(address, `GET /metrics HTTP/1.1\r\nauthorization: bearer  ${TOKEN.toLowerCase()}`);
}

function valueOf(metrics: string, series: string): number {
  const line = metrics.split("\n").find((text) => text.startsWith(`${series} `));
  assert(line !== undefined, `no ${series} in\n${metrics}`);
  return Number(line.slice(series.length + 1));
}

Deno.test("watch: a process that is stopped is one stall and one recovery, and told when it beats again", async () => {
  await using watching = new Watching();
  using systemd = new Systemd(watching.path("systemd.sock"));
  const command = watching.write("recover", '#!/bin/sh\necho "$1 $KIND" >> "$2"\n', 0o700);
  const audit = watching.path("audit.tsv");
  await watching.start([
    ...["--threshold-ms", "800", "--recovery-exec", `${command} {pid} ${watching.path("done")}`],
    ...["--recovery-env", "KIND=test", "--recovery-audit-file", audit],
    ...["--heartbeat-file", watching.path("heartbeat")],
  ], { NOTIFY_SOCKET: watching.path("systemd.sock"), WATCHDOG_USEC: "400000" });
  const { pid } = watching.agent();
  await until("beats", () => watching.rows("beat").length > 2 ? true : undefined);
  Deno.kill(pid, "SIGSTOP");
  const stall = await until("a stall", () => watching.rows("stall")[0]);
  await until("a recovery", () => watching.read("done") || undefined);
  // Long enough for a second one, were there any.
  await new Promise((resolve) => setTimeout(resolve, 1500));
  const last = watching.rows("beat").at(-1)!;
  assertEquals(stall.slice(1), ["stall", `${pid}`, last[3], "stall", "-"]);
  assert(Number(stall[0]) - Number(last[0]) >= 800e6, "not before the threshold");
  assertEquals(watching.rows("stall").length, 1);
  assertEquals(watching.read("done"), `${pid} test\n`);
  Deno.kill(pid, "SIGCONT");
  await until("beats again", () => watching.rows("beat").at(-1)![3] === last[3] ? undefined : true);
  const [rounds, ns] = watching.read("heartbeat").split(" ");
  assert(Number(rounds) > 0 && Number(ns) > Number(stall[0]));
  await until("a word to systemd", () => systemd.words().includes("WATCHDOG=1\n") || undefined);
  assertEquals(await watching.end("SIGTERM"), 0);
  assertEquals(watching.printed.stdout, "");
  const words = systemd.words();
  assertEquals([words[0], words.at(-1)], ["READY=1\n", "STOPPING=1\n"]);
  assertEquals(words.filter((word) => word === "READY=1\n").length, 1);
  const kinds = watching.read("audit.tsv").split("\n").slice(1, -1).map((row) =>
    row.split("\t")[3]
  );
  assertEquals(kinds.filter((kind) => kind !== "intent"), ["boot", "spawn", "complete"]);
  assertEquals((await runCelld(["audit", "verify", audit])).code, 0);
  assertEquals(
    [...Deno.readDirSync(watching.directory)].some(({ name }) => name === "beat.sock"),
    false,
  );
});

Deno.test("watch: a process that is killed is a stall at once, and recovered", async () => {
  await using watching = new Watching();
  const command = watching.write("recover", '#!/bin/sh\necho "$1" >> "$2"\n', 0o700);
  const file = watching.write("command", `${command} {pid} ${watching.path("done")}\n`);
  await watching.start(["--threshold-ms", "60000", "--recovery-exec-file", file]);
  const { pid } = watching.agent();
  await until("beats", () => watching.rows("beat").length > 0 ? true : undefined);
  Deno.kill(pid, "SIGKILL");
  await until("a recovery", () => watching.read("done") || undefined);
  assertEquals(watching.read("done"), `${pid}\n`);
  assertEquals(watching.rows("stall").map((row) => row[2]), [`${pid}`]);
  assertEquals(await watching.end("SIGINT"), 0);
});

Deno.test("watch: sealed beats are taken, wrong keys and replays counted, metrics given to who has the token", async () => {
  await using watching = new Watching();
  const port = await freePort();
  await watching.start([
    ...["--threshold-ms", "60000", "--udp-port", `${port}`, "--clock-source", "boottime"],
    ...["--key-file", watching.write("key", `# ours\n\n${KEY}\n`)],
    ...["--prom-addr", "127.0.0.1:0", "--prom-token-file", watching.write("token", `${TOKEN}\n`)],
    ...["--prom-rate-limit-burst", "6", "--prom-rate-limit-per-sec", "1"],
  ]);
  const address = await until("an address", () => {
    const found = /^(.*)\n$/.exec(watching.printed.stdout);
    return found === null ? undefined : found[1];
  });
  assertMatch(address, /^127\.0\.0\.1:\d+$/);
  const first = await scrape(address);
  assertStringIncludes(first, "HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n");
  for (const series of FIRST_SERIES) valueOf(first, series);
  const names = first.split("\r\n\r\n")[1]!.split("\n").map((line) =>
    line.slice(0, line.lastIndexOf(" "))
  );
  assertEquals(names.filter((name, at) => names.indexOf(name) !== at), [], "each series once");
  assertMatch(
    await ask(address, "GET / HTTP/1.1"),
    /^HTTP\/1\.0 401 .*\r\nWWW-Authenticate: Bearer realm="varta"\r\n/,
  );
  assertMatch(await ask(address, "POST /metrics HTTP/1.1"), /^HTTP\/1\.0 405 .*\r\nAllow: GET\r\n/);

  const pid = Deno.pid;
  await send(port, seal(KEY, 0, frameOf(pid, 1)));
  await until("a beat", () => watching.rows("beat")[0]);
  await send(port, seal(KEY, 0, frameOf(pid, 1)));
  await send(port, seal(KEY.replaceAll("0", "f"), 1, frameOf(pid, 2)));
  await send(port, seal(KEY, 2, frameOf(pid, 2)));
  await until("another beat", () => watching.rows("beat")[1]);
  assertEquals(watching.rows("beat").map((row) => row.slice(1)), [
    ["beat", `${pid}`, "1", "ok", "0"],
    ["beat", `${pid}`, "2", "ok", "0"],
  ]);
  // A body is kept for a second.
  await new Promise((resolve) => setTimeout(resolve, 1100));
  const then = await scrape(address);
  assertEquals(valueOf(then, "varta_secure_replay_refused_total"), 1);
  assertEquals(valueOf(then, "varta_frame_decrypt_failures_total"), 1);
  assertEquals(valueOf(then, "varta_prom_auth_failures_total"), 1);
  assertEquals(valueOf(then, "varta_watch_pids_tracked"), 1);
  assertMatch(then, new RegExp(`^varta_beats_total\\{pid="${pid}"[^\n]*\\} 2$`, "m"));
  const answers = await Promise.all(Array.from({ length: 20 }, () => scrape(address)));
  assert(answers.includes(""), "past the burst a connection is closed without an answer");
  assertEquals(await watching.end("SIGTERM"), 0);
  assertEquals(watching.printed.stdout, `${address}\n`);
});

/** Some of each group of the reference's; all that must be there from the first scrape. */
const FIRST_SERIES = [
  ...["bad_magic", "bad_version", "bad_status", "bad_pid", "bad_timestamp", "bad_nonce"]
    .map((kind) => `varta_decode_errors_total{kind="${kind}"}`),
  'varta_decode_errors_total{kind="stall_on_wire"}',
  'varta_decode_errors_total{kind="bad_crc"}',
  ...["frame_auth_failures", "io_errors", "ctrl_truncated", "truncated_datagrams"]
    .map((name) => `varta_${name}_total`),
  ...["frame_decrypt_failures", "secure_replay_refused", "secure_aead_attempts"]
    .map((name) => `varta_${name}_total`),
  ...["sender_state_full", "nonce_wrap", "origin_conflict", "frame_namespace_mismatch"]
    .map((name) => `varta_${name}_total`),
  'varta_rate_limited_total{reason="per_pid"}',
  'varta_rate_limited_total{reason="global"}',
  "varta_tracker_namespace_conflict_total",
  "varta_frame_rejected_pid_above_max_total",
  "varta_pid_max_current",
  ...["evicted", "capacity_exceeded", "eviction_scan_truncated", "pid_recycle"]
    .map((name) => `varta_tracker_${name}_total`),
  ...["invariant_violations", "pid_index_probe_exhausted", "removed_pid_drops"]
    .map((name) => `varta_tracker_${name}_total`),
  "varta_tracker_capacity",
  "varta_tracker_eviction_scan_window_max",
  ...["spawned", "debounced", "reaped_zero", "killed", "skipped_stall_unverifiable"]
    .map((outcome) => `varta_recovery_outcomes_total{outcome="${outcome}"}`),
  'varta_recovery_refused_total{reason="socket_mode_only"}',
  ...["duration_ns_sum", "duration_count_total", "last_fired_evictions_total"]
    .map((name) => `varta_recovery_${name}`),
  ...["invariant_violations", "outstanding_probe_exhausted", "reap_truncated"]
    .map((name) => `varta_recovery_${name}_total`),
  "varta_recovery_spawn_budget_exceeded_total",
  "varta_recovery_audit_dropped_total",
  "varta_recovery_audit_flush_budget_exceeded_total",
  "varta_audit_fsync_budget_exceeded_total",
  "varta_audit_rotation_budget_exceeded_total",
  'varta_audit_ring_watermark_total{level="warn"}',
  'varta_audit_ring_watermark_total{level="critical"}',
  'varta_audit_fsync_seconds_bucket{le="+Inf"}',
  'varta_observer_iteration_seconds_bucket{le="1"}',
  "varta_observer_serve_pending_seconds_count",
  ...["drain_pending", "poll", "maintenance", "recovery_reap", "serve_pending", "housekeeping"]
    .map((stage) => `varta_observer_stage_seconds_count{stage="${stage}"}`),
  "varta_observer_iteration_budget_exceeded_total",
  "varta_observer_scrape_budget_exceeded_total",
  "varta_observer_clock_regression_total",
  "varta_observer_clock_jump_forward_total",
  "varta_observer_uds_rcvbuf_bytes",
  "varta_scrape_skipped_total",
  "varta_scrape_budget_exhausted_total",
  "varta_prom_auth_failures_total",
  ...["drain", "rate_limit", "ip_table_full"]
    .map((reason) => `varta_prom_connections_dropped_total{reason="${reason}"}`),
  "varta_prom_ip_state_probe_exhausted_total",
  ...["file_export_io", "audit_io", "prom_serve", "heartbeat_io", "audit_ring_critical"]
    .map((kind) => `varta_log_suppressed_total{kind="${kind}"}`),
  "varta_socket_bind_dir_fsync_failed_total",
  'varta_signal_handler_install_total{mode="direct"}',
  "varta_watch_uptime_seconds",
  "varta_watch_last_poll_loop_timestamp_seconds",
  "varta_watch_pids_tracked",
];

/** Beats as the process that the kernel of the observer's pid namespace names. */
const FOREIGN_AGENT = `import { call, connectUnixDatagram, withScratch } from "#ffi/mod.ts";
  import { encodeFrame, VlpFrame } from "#lib/liveness/mod.ts";
  const pid = Number(Deno.readLinkSync("/proc/self"));
  const bytes = new Uint8Array(32);
  encodeFrame(Object.assign(new VlpFrame(), { pid, nonceLo: 1 }), bytes);
  const fd = connectUnixDatagram(Deno.args[0]);
  withScratch((arena) => call("sendto", fd.number, arena.copy(bytes), 32, 0, 0, 0));
  // It must still be there when it is looked at.
  await new Promise((resolve) => setTimeout(resolve, 20_000));`;

for (const isStrict of [true, false]) {
  kernelTest(
    `watch: an agent of another pid namespace is ${isStrict ? "the end" : "refused and told"}`,
    ["root", "cap:CAP_SYS_ADMIN", "path:/usr/bin/unshare"],
    async () => {
      await using watching = new Watching();
      const strict = isStrict ? ["--strict-namespace-check"] : [];
      await watching.start(["--threshold-ms", "60000", ...strict]);
      const socket = watching.path("beat.sock");
      const deno = [Deno.execPath(), "eval", "--quiet", FOREIGN_AGENT, socket];
      const agent = new Deno.Command("/usr/bin/unshare", {
        args: ["--pid", "--fork", "--kill-child", ...deno],
        cwd: REPOSITORY_ROOT,
      }).spawn();
      try {
        const row = await until("a conflict", () => watching.rows("mismatch")[0]);
        assertEquals(row.slice(3), ["-", "-", "namespace_conflict"]);
        assertEquals(watching.rows("beat"), []);
        assertEquals(isStrict ? await watching.code() : await watching.end("SIGTERM"), +isStrict);
      } finally {
        signalIfRunning(agent, "SIGKILL");
        await agent.status;
      }
    },
  );
}

Deno.test("watch: it ends by itself when it is told to", async () => {
  await using watching = new Watching();
  await watching.start(["--threshold-ms", "500", "--shutdown-after-secs", "1"]);
  assertEquals(await watching.code(), 0);
});

Deno.test("watch: flags and files that cannot be used end it with 2, what cannot be done with 1", async () => {
  await using watching = new Watching();
  const socket = watching.path("beat.sock");
  const fixed = ["watch", "--socket", socket, "--threshold-ms", "500"];
  const help = await runCelld(["watch", "--help"]);
  assertEquals([help.code, help.stderr], [0, ""]);
  assertStringIncludes(help.stdout, "--tracker-eviction-policy WORD");
  const open = watching.write("open", KEY, 0o644);
  const two = watching.write("two", `${KEY}\n${KEY}\n`);
  const keyed = [...fixed, "--udp-port", "0", "--key-file"];
  for (
    const [code, argv, says] of [
      [2, ["watch"], "Usage: celld watch"],
      [2, [...fixed, "--wrong", "1"], "there is no such flag"],
      [2, [...keyed, open], "mode is 644"],
      [2, [...keyed, two], "found 2 keys"],
      [1, [...fixed, "--hw-watchdog", open], "not a character device"],
      [1, [...fixed, "--hw-watchdog", "/dev/null"], "does not tell its timeout"],
      [1, [...fixed.slice(0, 2), open, ...fixed.slice(3)], "is no socket"],
    ] as const
  ) {
    const { code: found, stdout, stderr } = await runCelld(argv);
    assertEquals([found, stdout], [code, ""], stderr);
    assertStringIncludes(stderr, says);
  }
});
