/**
 * The schemas of the catalogue: every type has one, the examples fit, and what is wrong is named.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import {
  EVENT_DATA_SCHEMAS,
  EVENT_TYPES,
  type EventDataByType,
  eventSchemaDocument,
  type EventType,
  isEventType,
  type JsonSchema,
  LEGACY_FORMATION_PREFIX,
  validateEventData,
  validateSchema,
} from "#lib/events/mod.ts";

const TIME = "2026-05-16T00:00:00Z";
const IDENTITY = { cellId: "cell-x", specId: "spec-x", runId: "run-x" };
const RUN = { cellId: "cell-x", runId: "run-x" };
const AGENT = {
  pid: 7,
  hostPid: 4007,
  status: "ok",
  origin: "kernel_attested",
  lastBeatAgeMs: 12,
  thresholdMs: 5000,
  generation: 99,
  name: "perl",
  cellId: "cell-x",
  reason: "exit",
  detail: "half way",
} as const;
const FORMATION = { formationId: "4f9c1a9e-1111-4222-8333-444455556666", formationName: "f" };

const RECOVERED = { pid: 7, generation: 8, name: "web", cellId: "cell-x" };

/** One example a type, with every member, which the compiler holds against the interfaces. */
const EXAMPLES: { readonly [K in EventType]: Required<EventDataByType[K]> } = {
  [EVENT_TYPES.cellStarted]: {
    ...IDENTITY,
    policyDigest: `sha256:${"0".repeat(64)}`,
    startedAt: TIME,
  },
  [EVENT_TYPES.cellDestroyed]: {
    ...IDENTITY,
    outcome: "failed",
    terminalState: "forced",
    reason: "it did not stop",
  },
  [EVENT_TYPES.commandCompleted]: {
    ...IDENTITY,
    exitCode: 137,
    reason: "oom",
    signal: "SIGKILL",
    durationMs: 12.5,
  },
  [EVENT_TYPES.flowDecision]: {
    schemaVersion: "1.0.0",
    ...RUN,
    decisionId: "4f9c1a9e-1111-4222-8333-444455556666",
    direction: "egress",
    decision: "allow",
    reasonCode: "nft_log_accept",
    nftRuleRef: "egress[0]",
    srcAddr: "10.213.0.1",
    srcPort: 40000,
    dstAddr: "192.0.2.1",
    dstPort: 443,
    protocol: "tcp",
    packetCount: 1,
    byteCount: 60,
    policyDigest: "sha256:x",
    keysetId: "k",
    issuerKid: "i",
    correlationId: "c",
    observedAt: TIME,
  },
  [EVENT_TYPES.formationCreated]: { ...FORMATION, cellIds: ["a"], reason: "asked" },
  [EVENT_TYPES.formationLaunching]: { ...FORMATION, cellIds: [], reason: "asked" },
  [EVENT_TYPES.formationRunning]: { ...FORMATION, cellIds: [], reason: "asked" },
  [EVENT_TYPES.formationDegraded]: { ...FORMATION, cellIds: [], reason: "asked" },
  [EVENT_TYPES.formationCompleted]: { ...FORMATION, cellIds: [], reason: "asked" },
  [EVENT_TYPES.formationFailed]: { ...FORMATION, cellIds: [], reason: "asked" },
  [EVENT_TYPES.formationCancelled]: { ...FORMATION, cellIds: [], reason: "asked" },
  [EVENT_TYPES.cellPhase]: { ...IDENTITY, phase: "preparing", detail: "netns" },
  [EVENT_TYPES.cellRefused]: { specId: "s", cellId: "c", reason: "spec", detail: "no argv" },
  [EVENT_TYPES.cellRequested]: {
    ...IDENTITY,
    spec: { apiVersion: "cellos.io/v1" },
    formationId: "4f9c1a9e-1111-4222-8333-444455556666",
    member: "lead",
    replica: 0,
    attempt: 1,
  },
  [EVENT_TYPES.cellStopRequested]: { ...IDENTITY, reason: "api", force: true },
  [EVENT_TYPES.formationCancelRequested]: { ...FORMATION, reason: "deleted" },
  [EVENT_TYPES.formationScaled]: { ...FORMATION, reason: "asked", member: "worker", replicas: 3 },
  [EVENT_TYPES.execStarted]: {
    ...IDENTITY,
    execId: "4f9c1a9e-1111-4222-8333-444455556666",
    argv: ["sh", "-c", "id"],
    requestedBy: "ci",
  },
  [EVENT_TYPES.execEnded]: {
    ...IDENTITY,
    execId: "4f9c1a9e-1111-4222-8333-444455556666",
    reason: "signaled",
    exitCode: 137,
    signal: "SIGKILL",
    detail: "killed",
    durationMs: 12,
  },
  [EVENT_TYPES.flowClosed]: {
    ...RUN,
    ruleRef: "egress[0]",
    direction: "egress",
    srcAddr: "fdce::1",
    srcPort: 1,
    dstAddr: "2001:db8::1",
    dstPort: 2,
    protocol: "udp",
    packetsOut: 1,
    bytesOut: 2,
    packetsIn: 3,
    bytesIn: 4,
    openedAt: TIME,
    closedAt: TIME,
    reason: "expired",
  },
  [EVENT_TYPES.flowGap]: {
    ...RUN,
    lost: 3,
    sequenceLost: 2,
    socketDrops: 1,
    from: TIME,
    to: TIME,
    cause: "overflow",
    isCountUnknown: true,
  },
  [EVENT_TYPES.flowCounters]: {
    ...RUN,
    rules: [{
      ruleRef: "egress-default",
      verdict: "drop",
      matchedPackets: 3,
      matchedBytes: 180,
      loggedPackets: 1,
      suppressedPackets: 2,
    }],
    listener: { seen: 1, lost: 0, decodeFailed: 0, foreign: 0, eventsEmitted: 1 },
    rows: [{
      family: "inet",
      table: "cellos_demo",
      chain: "output",
      handle: 12,
      packetCount: 3,
      byteCount: 180,
      ruleRepr: "counter goto egress_default",
    }],
    exercisedConnections: 1,
    exercisedOverflow: 0,
    backstopDrops: 0,
  },
  [EVENT_TYPES.logGap]: { lost: 3, from: TIME, to: TIME, cause: "spool_full" },
  [EVENT_TYPES.recoverySpawned]: { ...RECOVERED, childPid: 9, program: "/bin/x", attempt: 1 },
  [EVENT_TYPES.recoveryReaped]: {
    ...RECOVERED,
    childPid: 9,
    outcome: "reaped",
    exitCode: 0,
    signal: 9,
    durationMs: 5,
    stdout: "",
    stderr: "x",
    stdoutLength: 0,
    stderrLength: 1,
    truncated: false,
  },
  [EVENT_TYPES.recoveryKilled]: { ...RECOVERED, childPid: 9, reason: "timeout" },
  [EVENT_TYPES.recoveryRefused]: { ...RECOVERED, reason: "spawn_failed", detail: "ENOENT" },
  [EVENT_TYPES.recoveryEscalated]: { ...RECOVERED, action: "command", rung: 1, attempt: 2 },
  [EVENT_TYPES.recoveryGaveUp]: { ...RECOVERED, attempts: 3, reason: "exhausted" },
  [EVENT_TYPES.recoverySucceeded]: {
    ...RECOVERED,
    attempts: 1,
    action: "restart_cell",
    durationMs: 5,
  },
  [EVENT_TYPES.agentSeen]: AGENT,
  [EVENT_TYPES.agentStalled]: { ...AGENT, status: "stall" },
  [EVENT_TYPES.agentResumed]: AGENT,
  [EVENT_TYPES.agentCritical]: { ...AGENT, status: "critical", reason: "lastWord" },
  [EVENT_TYPES.agentStatus]: { ...AGENT, status: "degraded" },
  [EVENT_TYPES.agentConflict]: {
    reason: "pid",
    claimedPid: 1,
    hostPid: 4007,
    suppressed: 0,
    uid: 1000,
    cellId: "cell-x",
  },
  [EVENT_TYPES.agentGone]: AGENT,
  [EVENT_TYPES.agentMissing]: { withinMs: 5000, name: "perl", cellId: "cell-x" },
  [EVENT_TYPES.udpSet]: { kind: "cluster", name: "dns", document: { name: "dns" } },
  [EVENT_TYPES.udpRemoved]: { kind: "listener", name: "dns" },
  [EVENT_TYPES.udpBackend]: {
    cluster: "dns",
    backend: "one",
    address: "10.0.0.1:53",
    state: "down",
    reason: "no answer",
    cellId: "cell-x",
  },
  [EVENT_TYPES.udpInherited]: { restored: 9, flows: 1, listeners: 0, discarded: 0 },
  [EVENT_TYPES.udpFlowClosed]: {
    listener: "dns",
    cluster: "dns",
    backend: "one",
    client: "192.0.2.9:5353",
    reason: "idle",
    durationMs: 30_000,
    datagramsIn: 1,
    bytesIn: 20,
    datagramsOut: 1,
    bytesOut: 40,
    dropped: 0,
    firstReplyMs: 1.5,
    sampledOf: 3,
  },
  [EVENT_TYPES.hostStarted]: { host: "h", version: "0.1.0", pid: 1 },
  [EVENT_TYPES.hostStopped]: { host: "h", pid: 1, reason: "signal" },
  [EVENT_TYPES.hostWorkerRestarted]: { host: "h", worker: "flow", restarts: 1, detail: "died" },
  [EVENT_TYPES.hostRecovered]: { host: "h", adopted: [], removed: ["c"] },
};

const CASES = Object.entries(EXAMPLES) as [EventType, Record<string, unknown>][];

Deno.test("the example of every type fits its schema, alone and without its optional members", () => {
  assertEquals(CASES.length, Object.keys(EVENT_TYPES).length);
  for (const [type, example] of CASES) {
    assertEquals(validateEventData(type, example), [], type);
    const required = new Set(EVENT_DATA_SCHEMAS[type].required);
    const least = Object.fromEntries(
      Object.entries(example).filter(([name]) => required.has(name)),
    );
    assertEquals(validateEventData(type, least), [], type);
  }
});

Deno.test("every missing required member is named", () => {
  for (const [type, example] of CASES) {
    for (const name of EVENT_DATA_SCHEMAS[type].required ?? []) {
      const { [name]: _, ...rest } = example;
      const problems = validateEventData(type, rest);
      assertEquals(problems.length, 1, `${type} ${name}`);
      assert(problems[0].startsWith(`data.${name}: found nothing, want a`), problems[0]);
    }
  }
});

Deno.test("every member of the wrong type is named", () => {
  for (const [type, example] of CASES) {
    for (const name of Object.keys(example)) {
      const isObject = EVENT_DATA_SCHEMAS[type].properties?.[name].type === "object";
      const wrong = isObject ? 7 : { wrong: true };
      const problems = validateEventData(type, { ...example, [name]: wrong });
      assert(problems.length > 0 && problems[0].startsWith(`data.${name}`), `${type} ${name}`);
    }
  }
});

Deno.test("members that nobody knows yet are accepted", () => {
  for (const [type, example] of CASES) {
    assertEquals(validateEventData(type, { ...example, later: { added: 1 } }), []);
  }
});

Deno.test("types that the catalogue does not know are not judged", () => {
  assertEquals(validateEventData("com.example.other", 7), []);
  assert(isEventType(EVENT_TYPES.flowGap) && !isEventType(`${LEGACY_FORMATION_PREFIX}created`));
  assert(!isEventType("constructor"));
});

Deno.test("the decision of the reference's example fits", () => {
  const data = {
    schemaVersion: "1.0.0",
    cellId: "cell-x",
    runId: "run-x",
    decisionId: "0d9b4f0e-3b1f-4c7e-9d55-0c1e6a2b7f10",
    direction: "egress",
    decision: "deny",
    reasonCode: "nft_log_drop",
    observedAt: "2026-05-16T00:00:00Z",
  };
  assertEquals(validateEventData(EVENT_TYPES.flowDecision, data), []);
});

Deno.test("validateSchema() names path, found and wanted", () => {
  const decision = EXAMPLES[EVENT_TYPES.flowDecision];
  const cases: [Record<string, unknown>, string][] = [
    [{ dstPort: 70_000 }, "data.dstPort: found 70000, want at most 65535"],
    [{ dstPort: 1.5 }, "data.dstPort: found 1.5, want an integer"],
    [{ packetCount: -1 }, "data.packetCount: found -1, want at least 0"],
    [{ decision: "maybe" }, 'data.decision: found "maybe", want "allow" or "deny"'],
    [{ cellId: "" }, 'data.cellId: found "", want at least 1 characters'],
    [{ observedAt: "now" }, 'data.observedAt: found "now", want an RFC 3339 time'],
    [{ byteCount: 10n }, "data.byteCount: found a bigint, want an integer"],
    [{ nftRuleRef: null }, "data.nftRuleRef: found null, want a string"],
  ];
  for (const [change, wanted] of cases) {
    assertEquals(validateEventData(EVENT_TYPES.flowDecision, { ...decision, ...change }), [wanted]);
  }
  const counters = EXAMPLES[EVENT_TYPES.flowCounters];
  const rules = [counters.rules[0], { ...counters.rules[0], verdict: "reject" }];
  assertEquals(validateEventData(EVENT_TYPES.flowCounters, { ...counters, rules }), [
    'data.rules[1].verdict: found "reject", want "accept" or "drop"',
  ]);
  const signal = { ...EXAMPLES[EVENT_TYPES.commandCompleted], signal: "9" };
  assertEquals(validateEventData(EVENT_TYPES.commandCompleted, signal).length, 1);
});

Deno.test("validateEventData() never throws on any value", () => {
  const types = fc.constantFrom(...Object.values(EVENT_TYPES));
  fc.assert(fc.property(types, fc.anything(), (type, data) => {
    validateEventData(type, data);
  }));
  for (const [type, example] of CASES) {
    const names = fc.constantFrom(...Object.keys(example));
    fc.assert(
      fc.property(names, fc.anything(), (name, value) => {
        validateEventData(type, { ...example, [name]: value });
      }),
      { numRuns: 30 },
    );
  }
});

Deno.test("schema documents are complete and use only what the validator knows", () => {
  for (const type of Object.values(EVENT_TYPES)) {
    const document = eventSchemaDocument(type);
    assertEquals(document.title, type);
    assertEquals(document.$id, `urn:celld:schema:${type}`);
    assertKnownKeywords(EVENT_DATA_SCHEMAS[type]);
  }
});

Deno.test("validateSchema() without a type judges by the enumeration alone", () => {
  assertEquals(validateSchema({ enum: [1, "a"] }, "a"), []);
  assertEquals(validateSchema({ enum: [1, "a"] }, 2, "x"), ['x: found 2, want 1 or "a"']);
});

const KEYWORDS = new Set(
  ("type description enum minimum maximum minLength maxLength pattern format items properties " +
    "required").split(" "),
);

function assertKnownKeywords(schema: JsonSchema): void {
  for (const keyword of Object.keys(schema)) assert(KEYWORDS.has(keyword), keyword);
  for (const name of schema.required ?? []) assert(schema.properties?.[name] !== undefined, name);
  if (schema.items !== undefined) assertKnownKeywords(schema.items);
  for (const member of Object.values(schema.properties ?? {})) assertKnownKeywords(member);
}
