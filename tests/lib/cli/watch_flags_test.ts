/**
 * The command line of `celld watch`: the reference's flags, defaults, bounds and refusals.
 *
 * @module
 */
import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { parseWatchFlags } from "#lib/cli/watch_flags.ts";
import {
  BOUNDS,
  REMOVED_FLAGS,
  SWITCHES,
  TEXTS,
  WatchFlagError,
  type WatchFlagProblem,
} from "#lib/cli/watch_settings.ts";

const NEEDED = ["--socket", "/run/v.sock", "--threshold-ms", "500"];

function refusal(...words: string[]): [WatchFlagProblem, string] {
  const error = assertThrows(() => parseWatchFlags(words), WatchFlagError);
  return [error.problem, error.flag];
}

Deno.test("watch: a socket and a threshold are enough, the rest has the reference's defaults", () => {
  assertEquals(parseWatchFlags(NEEDED), {
    socket: "/run/v.sock",
    thresholdMs: 500,
    recoveryDebounceMs: 1000,
    recoveryEnv: [],
    recoveryInheritEnv: false,
    shutdownGraceMs: 5000,
    recoveryCaptureStdio: false,
    recoveryCaptureBytes: 4096,
    socketMode: 0o600,
    readTimeoutMs: 100,
    udsRcvbufBytes: 1_048_576,
    trackerCapacity: 256,
    evictionScanWindow: 256,
    trackerEvictionPolicy: "strict",
    maxBeatRate: 100,
    globalBeatRate: 5000,
    globalBeatBurst: 10_000,
    clockSource: "monotonic",
    signalHandlerMode: "direct",
    exportFileSyncEvery: 0,
    promRateLimitPerSec: 5,
    promRateLimitBurst: 10,
    iterationBudgetMs: 250,
    scrapeBudgetMs: 250,
    acceptPlaintextUdp: false,
    acceptSecureUdpNonLoopback: false,
    acceptRecoveryOnSecureUdp: false,
    acceptRecoveryOnPlaintextUdp: false,
    allowCrossNamespaceAgents: false,
    strictNamespaceCheck: false,
    recoveryAuditSyncEvery: 1,
    auditFsyncBudgetMs: 50,
    auditSyncIntervalMs: 0,
    auditRotationBudgetMs: 50,
  });
});

Deno.test("watch: the socket and the threshold are needed, even with UDP", () => {
  assertEquals(refusal("--threshold-ms", "500"), ["MissingRequired", "--socket"]);
  assertEquals(refusal("--socket", "/s"), ["MissingRequired", "--threshold-ms"]);
  assertEquals(
    refusal("--threshold-ms", "500", "--udp-port", "1", "--i-accept-plaintext-udp"),
    ["MissingRequired", "--socket"],
  );
});

Deno.test("watch: every whole number has its bounds, and says on which side a value is", () => {
  for (const [flag, { name, least, most }] of Object.entries(BOUNDS)) {
    const words = (value: number | string) => [...NEEDED, flag, String(value)];
    assertEquals(refusal(...words("ten")), ["BadInteger", flag]);
    assertEquals(refusal(...words("-1")), ["BadInteger", flag]);
    assertEquals(refusal(...words("1.5")), ["BadInteger", flag]);
    if (least > 0) assertEquals(refusal(...words(least - 1)), ["TooLow", flag]);
    if (most < Number.MAX_SAFE_INTEGER) {
      assertEquals(refusal(...words(most + 1)), ["TooLarge", flag]);
    }
    const others = flag === "--udp-port" ? ["--i-accept-plaintext-udp"] : [];
    assertEquals(parseWatchFlags([...words(least), ...others])[name], least);
  }
});

Deno.test("watch: a value is a word of its own, and the last one wins", () => {
  assertEquals(refusal(...NEEDED, "--udp-port"), ["MissingValue", "--udp-port"]);
  assertEquals(refusal(...NEEDED, "--max-beat-rate=5"), ["UnknownFlag", "--max-beat-rate=5"]);
  assertEquals(parseWatchFlags([...NEEDED, "--threshold-ms", "600"]).thresholdMs, 600);
});

Deno.test("watch: an unknown flag is refused with the one that was probably meant", () => {
  const error = assertThrows(
    () => parseWatchFlags([...NEEDED, "--treshold-ms", "1"]),
    WatchFlagError,
    "--threshold-ms is one",
  );
  assertEquals(error.problem, "UnknownFlag");
});

Deno.test("watch: a flag that is gone says what to use instead", () => {
  for (const flag of Object.keys(REMOVED_FLAGS)) {
    assertEquals(refusal(...NEEDED, flag, "x"), ["RemovedFlag", flag]);
  }
});

Deno.test("watch: a socket's mode is octal, in the three ways that are written", () => {
  for (const text of ["660", "0660", "0o660"]) {
    assertEquals(parseWatchFlags([...NEEDED, "--socket-mode", text]).socketMode, 0o660);
  }
  for (const text of ["rw", "0800", "1777", ""]) {
    assertEquals(refusal(...NEEDED, "--socket-mode", text), ["BadSocketMode", "--socket-mode"]);
  }
});

Deno.test("watch: the words of a choice are the known ones", () => {
  for (
    const [flag, good, problem] of [
      ["--tracker-eviction-policy", "balanced", "BadValue"],
      ["--clock-source", "boottime", "BadValue"],
      ["--signal-handler-mode", "libc", "BadValue"],
    ] as const
  ) {
    parseWatchFlags([...NEEDED, flag, good]);
    assertEquals(refusal(...NEEDED, flag, "other"), [problem, flag]);
  }
  assertEquals(refusal(...NEEDED, "--clock-source", "monotonic-raw"), [
    "ClockSourceUnsupported",
    "--clock-source",
  ]);
});

Deno.test("watch: recovery is one command, and its environment adds up", () => {
  const flags = ["--recovery-exec", "restart {pid}", "--recovery-env", "A=1"];
  const settings = parseWatchFlags([...NEEDED, ...flags, "--recovery-env", "B=x=y"]);
  assertEquals(settings.recoveryEnv, ["A=1", "B=x=y"]);
  assertEquals(settings.recoveryExec, "restart {pid}");
  assertEquals(refusal(...NEEDED, "--recovery-exec", " "), ["BadValue", "--recovery-exec"]);
  assertEquals(refusal(...NEEDED, "--recovery-env", "A"), ["BadValue", "--recovery-env"]);
  assertEquals(
    refusal(...NEEDED, "--recovery-exec", "a", "--recovery-exec-file", "/b"),
    ["MutuallyExclusive", "--recovery-exec"],
  );
  assertEquals(refusal(...NEEDED, "--recovery-capture-stdio"), [
    "RecoveryCaptureRequiresRecovery",
    "--recovery-capture-stdio",
  ]);
});

Deno.test("watch: UDP needs a consent for each thing that it gives up", () => {
  const udp = [...NEEDED, "--udp-port", "9000"];
  const secure = [...udp, "--key-file", "/k"];
  assertEquals(refusal(...udp), ["MissingRequired", "--udp-port"]);
  assertEquals(parseWatchFlags([...udp, "--i-accept-plaintext-udp"]).udpPort, 9000);
  assertEquals(parseWatchFlags([...secure, "--udp-bind-addr", "127.0.0.1"]).udpPort, 9000);
  assertEquals(refusal(...secure, "--udp-bind-addr", "0.0.0.0"), [
    "SecureUdpRequiresLoopbackBind",
    "--udp-bind-addr",
  ]);
  parseWatchFlags([...secure, "--udp-bind-addr", "::", "--i-accept-secure-udp-non-loopback"]);
  for (
    const [words, kind] of [[[...udp, "--i-accept-plaintext-udp"], "plaintext"], [
      secure,
      "secure",
    ]] as const
  ) {
    const recovering = [...words, "--recovery-exec", "x"];
    assertEquals(refusal(...recovering), ["RecoveryRequiresAuthenticatedTransport", "--udp-port"]);
    const other = kind === "secure" ? "plaintext" : "secure";
    const consent = (name: string) =>
      `--${name}-udp-i-accept-recovery-on-unauthenticated-transport`;
    assertEquals(
      refusal(...recovering, consent(other))[0],
      "RecoveryRequiresAuthenticatedTransport",
    );
    parseWatchFlags([...recovering, consent(kind)]);
  }
  assertEquals(refusal(...udp, "--udp-bind-addr", "localhost"), ["BadAddr", "--udp-bind-addr"]);
});

Deno.test("watch: metrics need an address and a token", () => {
  const addr = ["--prom-addr", "127.0.0.1:9100"];
  const token = ["--prom-token-file", "/t"];
  assertEquals(refusal(...NEEDED, ...addr), ["PromAddrRequiresToken", "--prom-addr"]);
  assertEquals(refusal(...NEEDED, ...token), ["PromAddrRequiresToken", "--prom-addr"]);
  assertEquals(parseWatchFlags([...NEEDED, ...addr, ...token]).promAddr, {
    hostname: "127.0.0.1",
    port: 9100,
  });
  assertEquals(parseWatchFlags([...NEEDED, "--prom-addr", "[::1]:0", ...token]).promAddr, {
    hostname: "::1",
    port: 0,
  });
  assertEquals(refusal(...NEEDED, "--prom-addr", "localhost:1", ...token), [
    "BadAddr",
    "--prom-addr",
  ]);
});

Deno.test("watch: a read may take half of the self-watchdog's time", () => {
  const watchdog = [...NEEDED, "--self-watchdog-secs", "1", "--read-timeout-ms"];
  assertEquals(parseWatchFlags([...watchdog, "500"]).readTimeoutMs, 500);
  assertEquals(refusal(...watchdog, "501"), ["TooLarge", "--read-timeout-ms"]);
});

Deno.test("watch: any words give settings or a WatchFlagError, nothing else", () => {
  const flags = [...Object.keys(BOUNDS), ...Object.keys(TEXTS), ...Object.keys(SWITCHES)];
  const word = fc.oneof(fc.constantFrom(...flags, ...NEEDED), fc.string(), fc.nat().map(String));
  fc.assert(fc.property(fc.array(word, { maxLength: 20 }), (words) => {
    try {
      parseWatchFlags([...NEEDED, ...words]);
    } catch (error) {
      if (!(error instanceof WatchFlagError)) throw error;
    }
  }));
});
