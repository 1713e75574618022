/**
 * The liveness file: what it says, what stands where it says nothing, and every mistake told.
 *
 * @module
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { SettingError } from "#lib/daemon/config.ts";
import { LIVENESS_DEFAULTS, parseLivenessFile } from "#lib/daemon/liveness_config.ts";

const PATH = "/etc/celld/liveness.yaml";

Deno.test("liveness file: an empty one says what none would", async () => {
  assertEquals(await parseLivenessFile("", PATH), LIVENESS_DEFAULTS);
});

Deno.test("liveness file: sockets, thresholds and expected agents", async () => {
  const config = await parseLivenessFile(
    `
socket: { mode: "0666", allowedUids: [1000, 1001], notifications: false }
capacity: 100000
thresholdMs: 250
thresholds:
  - { match: { name: ingest, uid: 1000 }, thresholdMs: 1000 }
expected:
  - { match: { name: ingest }, withinSeconds: 30 }
`,
    PATH,
  );
  assertEquals(config, {
    socketMode: 0o666,
    allowedUids: [1000, 1001],
    takesNotifications: false,
    capacity: 100_000,
    thresholdMs: 250,
    thresholds: [{ match: { name: "ingest", uid: 1000 }, thresholdNs: 1e9 }],
    expected: [{ match: { name: "ingest" }, withinNs: 30e9 }],
  });
});

Deno.test("liveness file: a ladder with every kind of rung, in its order", async () => {
  const { recovery } = await parseLivenessFile(
    `
recovery:
  environment: [REGION=eu]
  captureBytes: 0
  auditMaxBytes: 65536
  auditKeyFile: /etc/celld/audit.key
  policies:
    - match: { name: db }
      isService: true
      recoversExits: true
      attemptsMax: 9
      backoff: { firstMs: 100, factor: 3, maxMs: 1000, jitter: 0.5 }
      ladder:
        - signal: SIGABRT
        - { command: [systemctl, restart, "db@{pid}"], attempts: 3 }
        - webhook: https://alerts.example/celld
    - spec: web
      ladder: [{ restartCell: true }]
`,
    PATH,
  );
  assert(recovery !== undefined);
  const [db, web] = recovery.policies;
  assertEquals(db!.match, { name: "db" });
  assertEquals([db!.isService, db!.policy.recoversExits, db!.policy.attemptsMax], [true, true, 9]);
  assertEquals(db!.policy.debounceMs, 1000);
  assertEquals(db!.policy.backoff, { firstMs: 100, factor: 3, maxMs: 1000, jitter: 0.5 });
  assertEquals(db!.policy.rungs, [
    { action: { kind: "signal", signal: 6 } },
    {
      action: {
        kind: "command",
        command: { program: "systemctl", args: ["restart", "db@{pid}"] },
        source: "inline",
      },
      attempts: 3,
    },
    { action: { kind: "webhook", url: "https://alerts.example/celld" } },
  ]);
  assertEquals([web!.match, web!.spec, web!.policy.rungs], [
    undefined,
    "web",
    [{ action: { kind: "restart_cell" } }],
  ]);
  assertEquals(recovery.environment, ["REGION=eu"]);
  assertEquals([recovery.captureBytes, recovery.auditMaxBytes, recovery.auditKeyFile], [
    0,
    65_536,
    "/etc/celld/audit.key",
  ]);
});

const REFUSED: readonly [what: string, text: string, said: string][] = [
  ["what is no YAML", "a: [", "not YAML in line"],
  ["a name that is none", "treshold: 5", "treshold"],
  ["a threshold below ten", "thresholdMs: 9", "an integer from 10"],
  ["a mode that is a number", "socket: { mode: 432 }", "octal mode in quotes"],
  ["a uid that cannot be", "socket: { allowedUids: [-1] }", "socket.allowedUids[0]"],
  ["too many agents", "capacity: 131073", "131072"],
  ["a rule without a threshold", "thresholds: [{ match: {} }]", "thresholds[0].thresholdMs"],
  [
    "a ladder of nothing",
    "recovery: { policies: [{ match: {}, ladder: [] }] }",
    "at least one rung",
  ],
  [
    "a rung of two kinds",
    "recovery: { policies: [{ ladder: [{ signal: SIGTERM, restartCell: true }] }] }",
    "one of signal, command",
  ],
  ["no such signal", "recovery: { policies: [{ ladder: [{ signal: SIGFOO }] }] }", "SIGTERM"],
  ["an empty command", "recovery: { policies: [{ ladder: [{ command: [] }] }] }", "a program"],
  [
    "a command that is a text",
    'recovery: { policies: [{ ladder: [{ command: "kill 1" }] }] }',
    "a list",
  ],
  ["no URL", "recovery: { policies: [{ ladder: [{ webhook: ftp://a }] }] }", "http"],
  [
    "match and spec",
    "recovery: { policies: [{ match: {}, spec: a, ladder: [{ restartCell: true }] }] }",
    "not both",
  ],
  [
    "a jitter above 1",
    "recovery: { policies: [{ ladder: [{ restartCell: true }], backoff: { jitter: 2 } }] }",
    "from 0 to 1",
  ],
];

for (const [what, text, said] of REFUSED) {
  Deno.test(`liveness file: refuses ${what}`, async () => {
    const error = await assertRejects(() => parseLivenessFile(text, PATH), SettingError);
    assertStringIncludes(error.message, PATH);
    assertStringIncludes(error.message, said);
  });
}

Deno.test("liveness file: tells all mistakes at once", async () => {
  const text = "thresholdMs: 1\ncapacity: 0\nexpected: no";
  const error = await assertRejects(() => parseLivenessFile(text, PATH), SettingError);
  for (const name of ["thresholdMs", "capacity", "expected"]) {
    assertStringIncludes(error.message, name);
  }
});
