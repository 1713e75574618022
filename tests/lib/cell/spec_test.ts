import { assert, assertEquals, assertInstanceOf, assertStringIncludes, fail } from "@std/assert";
import fc from "fast-check";
import {
  effectiveTimeout,
  MEMORY_MAX_BYTES_DEFAULT,
  parseCellSpec,
  readCellSpec,
  SPEC_BYTES_MAX,
  SpecError,
  type SpecProblem,
} from "#lib/cell/spec.ts";
import { PROBLEMS_MAX } from "#lib/base/mod.ts";
import { campaign } from "#tests/support/campaign.ts";

const document = (spec: Record<string, unknown>) => ({
  apiVersion: "cellos.io/v1",
  kind: "ExecutionCell",
  spec: { id: "demo", ...spec },
});

function problemsOf(run: () => unknown): readonly SpecProblem[] {
  try {
    run();
  } catch (error) {
    assertInstanceOf(error, SpecError);
    return error.problems;
  }
  return fail("the spec was taken");
}

const problemsIn = (spec: Record<string, unknown>) =>
  problemsOf(() => readCellSpec(document(spec)));

/** The one problem of a single egress rule. */
function ruleProblem(rule: unknown): SpecProblem {
  const problems = problemsIn({ authority: { egressRules: [rule] } });
  assertEquals(problems.length, 1, JSON.stringify(problems));
  return problems[0];
}

const SKELETON = `{ "apiVersion": "cellos.io/v1", "kind": "ExecutionCell",
  "spec": {
    "id": "demo-cell-001",
    "correlation": { "platform": "github-actions", "externalRunId": "42", "attempt": 3 },
    "authority": { "secretRefs": [], "egressRules": [] },
    "lifetime": { "ttlSeconds": 60 },
    "run": { "secretDelivery": "env", "argv": ["true"], "workingDirectory": "/work",
             "limits": { "memoryMaxBytes": 268435456, "cpuMax": { "quotaMicros": 50000, "periodMicros": 100000 },
                          "gracefulShutdownSeconds": 5 } } } }`;

Deno.test("parseCellSpec() reads the reference's document and fills in every default", () => {
  assertEquals(parseCellSpec(SKELETON), {
    id: "demo-cell-001",
    correlation: { platform: "github-actions", externalRunId: "42", attempt: "3" },
    authority: {
      mode: "enforce",
      deny: "reject",
      audit: { flow: "required" },
      secretRefs: [],
      egressRules: [],
      ingress: [],
    },
    lifetime: { ttlSeconds: 60 },
    run: {
      argv: ["true"],
      env: {},
      workingDirectory: "/work",
      user: "auto",
      mounts: [],
      limits: {
        memoryMaxBytes: 268435456,
        cpuMax: { quotaMicros: 50000, periodMicros: 100000 },
        pidsMax: 512,
        gracefulShutdownSeconds: 5,
        workspaceMaxBytes: 268435456,
        outputMaxBytes: 16777216,
        openFilesMax: 1024,
      },
      secretDelivery: "env",
      secrets: [],
    },
  });
});

Deno.test("parseCellSpec() reads the same from YAML as from JSON", () => {
  const yaml = `
apiVersion: cellos.io/v1
kind: ExecutionCell
spec:
  id: demo-cell-001
  correlation: { platform: github-actions, externalRunId: "42", attempt: 3 }
  authority: { secretRefs: [], egressRules: [] }
  lifetime: { ttlSeconds: 60 }
  run:
    secretDelivery: env
    argv: ["true"]
    workingDirectory: /work
    limits:
      memoryMaxBytes: 268435456
      cpuMax: { quotaMicros: 50000 }
      gracefulShutdownSeconds: 5
`;
  assertEquals(parseCellSpec(yaml), parseCellSpec(SKELETON));
});

Deno.test("parseCellSpec() takes a cell without authority as one that may reach nothing", () => {
  const { authority } = readCellSpec(document({}));
  assertEquals([authority.egressRules, authority.ingress, authority.secretRefs], [[], [], []]);
});

Deno.test("parseCellSpec() makes rules canonical", () => {
  const { authority } = readCellSpec(document({
    authority: {
      egressRules: [
        { host: "10.0.0.0/8", ports: [443, "8000-8100", "8050-8200", 442] },
        { host: "2001:DB8:0::1", port: "53", protocol: "udp" },
        { host: "192.0.2.1", protocol: "icmp" },
      ],
      ingress: [{ from: "0.0.0.0/0", port: 80 }],
    },
  }));
  assertEquals(authority.egressRules, [
    {
      host: "10.0.0.0/8",
      ports: [{ from: 442, to: 443 }, { from: 8000, to: 8200 }],
      protocol: "tcp",
    },
    { host: "2001:db8::1/128", ports: [{ from: 53, to: 53 }], protocol: "udp" },
    { host: "192.0.2.1/32", ports: [], protocol: "icmp" },
  ]);
  assertEquals(authority.ingress, [
    { from: "0.0.0.0/0", ports: [{ from: 80, to: 80 }], protocol: "tcp" },
  ]);
});

Deno.test("parseCellSpec() tells all problems at once, each with its path", () => {
  const problems = problemsOf(() =>
    readCellSpec({
      apiVersion: "v1",
      kind: "ExecutionCel",
      spec: {
        id: "Demo_1",
        authority: {
          mode: "enforced",
          egressRule: [],
          egressRules: [{ host: "192.0.2.1", port: 443 }, { host: "192.0.2.2", port: 70000 }],
        },
        lifetime: { ttlSeconds: 0 },
        run: { argv: [], limits: { memoryMaxBytes: "1G" } },
      },
    })
  );
  assertEquals(problems.map((it) => [it.path, it.found, it.suggestion]), [
    ["apiVersion", '"v1"', undefined],
    ["kind", '"ExecutionCel"', 'did you mean "ExecutionCell"?'],
    ["spec.id", '"Demo_1"', undefined],
    ["spec.authority.egressRule", "[]", 'did you mean "egressRules"?'],
    ["spec.authority.mode", '"enforced"', 'did you mean "enforce"?'],
    ["spec.authority.egressRules[1].port", "70000", undefined],
    ["spec.lifetime.ttlSeconds", "0", undefined],
    ["spec.run.argv", "[]", undefined],
    ["spec.run.limits.memoryMaxBytes", '"1G"', undefined],
  ]);
});

Deno.test("SpecError's message is one line a problem: path, found, wanted, suggestion", () => {
  try {
    readCellSpec(document({ authority: { egressRules: [{ host: "10.1.2.3/8", prot: 443 }] } }));
    fail("the spec was taken");
  } catch (error) {
    assertEquals(
      (error as Error).message,
      "Cannot read the spec: spec.authority.egressRules[0].prot: found 443, want no unknown " +
        'field; known are host, port, ports, protocol (did you mean "port"?)\n' +
        'spec.authority.egressRules[0].host: found "10.1.2.3/8", want a prefix without bits past ' +
        'its length (write "10.0.0.0/8")',
    );
  }
});

const HOSTS: readonly [string, string][] = [
  ["example.org", "host names are not available yet"],
  ["*.example.org", "host names are not available yet"],
  ["10.1.2.3/8", 'write "10.0.0.0/8"'],
  ["::ffff:192.0.2.1", 'write "192.0.2.1"'],
  ["::ffff:192.0.2.0/120", 'write "192.0.2.0/24"'],
  ["0.0.0.0", 'write "0.0.0.0/0"'],
  ["::", 'write "::/0"'],
  ["127.0.0.1", "loopback is the cell's own"],
  ["::1", "loopback is the cell's own"],
  ["169.254.0.0/16", "a wide rule opens nothing in 169.254.0.0/16"],
  ["64:ff9b::/96", "a wide rule opens nothing in 64:ff9b::/96"],
  ["2002::/16", "a wide rule opens nothing in 2002::/16"],
  ["fe80::1%eth0", "an address without a zone"],
  ["https://192.0.2.1/", "no scheme"],
  ["192.0.2.1:443", "the port goes into port"],
  ["[2001:db8::1]:443", "without brackets"],
];
for (const [host, suggestion] of HOSTS) {
  Deno.test(`parseCellSpec() refuses the host ${JSON.stringify(host)} and says what to do`, () => {
    const problem = ruleProblem({ host, port: 443 });
    assertEquals(problem.path, "spec.authority.egressRules[0].host");
    assertEquals(problem.found, JSON.stringify(host));
    assertStringIncludes(problem.suggestion ?? "", suggestion);
  });
}

for (const host of ["10.0.0.1/33", "010.0.0.1", "1.2.3", "", 4, null, ["10.0.0.1"]]) {
  Deno.test(`parseCellSpec() refuses the host ${JSON.stringify(host)}`, () => {
    assertEquals(ruleProblem({ host }).path, "spec.authority.egressRules[0].host");
  });
}

for (const port of [0, 65536, -1, 1.5, "http", "80-", "90-80", "0-80", null, true]) {
  Deno.test(`parseCellSpec() refuses the port ${JSON.stringify(port)}`, () => {
    assertEquals(
      ruleProblem({ host: "192.0.2.1", port }).path,
      "spec.authority.egressRules[0].port",
    );
  });
}

Deno.test("parseCellSpec() refuses an empty list of ports, which could mean none or all", () => {
  assertStringIncludes(ruleProblem({ host: "192.0.2.1", ports: [] }).wanted, "at least one port");
});

Deno.test("parseCellSpec() refuses port beside ports, and ports of icmp", () => {
  const rule = { host: "192.0.2.1" };
  assertStringIncludes(ruleProblem({ ...rule, port: 1, ports: [1] }).wanted, "not both");
  assertStringIncludes(ruleProblem({ ...rule, port: 1, protocol: "icmp" }).wanted, "no ports");
});

Deno.test("parseCellSpec() allows guarded addresses when they are named exactly", () => {
  const hosts = ["169.254.169.254", "64:ff9b::102:304", "10.213.0.7", "fe80::1"];
  const egressRules = hosts.map((host) => ({ host, port: 80 }));
  assertEquals(
    readCellSpec(document({ authority: { egressRules } })).authority.egressRules.length,
    4,
  );
});

Deno.test("parseCellSpec() refuses what is known elsewhere and does nothing here yet", () => {
  const problems = problemsIn({
    authority: { dnsAuthority: {} },
    run: { argv: ["a"], restart: "always", secretDelivery: "runtimeBroker" },
  });
  assertEquals(problems.map((it) => it.path).sort(), [
    "spec.authority.dnsAuthority",
    "spec.run.restart",
    "spec.run.secretDelivery",
  ]);
  for (const { suggestion } of problems) {
    assertStringIncludes(suggestion ?? "", "not available yet");
  }
});

Deno.test("parseCellSpec() fills in what liveness does not say, and refuses what it cannot be", () => {
  const liveness = (value: unknown) =>
    readCellSpec(document({ run: { argv: ["a"], liveness: value } })).run?.liveness;
  assertEquals(liveness(undefined), undefined);
  assertEquals(liveness({}), { thresholdMs: 5000, startupSeconds: 30, onStall: "stop" });
  const given = { thresholdMs: 10, startupSeconds: 1, onStall: "report" };
  assertEquals(liveness(given), given);
  const problems = problemsIn({
    run: { argv: ["a"], liveness: { thresholdMs: 9, startupSeconds: 0.5, onStall: "x", on: 1 } },
  });
  assertEquals(problems.map((it) => it.path).sort(), [
    "spec.run.liveness.on",
    "spec.run.liveness.onStall",
    "spec.run.liveness.startupSeconds",
    "spec.run.liveness.thresholdMs",
  ]);
});

Deno.test("parseCellSpec() wants every secret named by authority and given a source", () => {
  const problems = problemsIn({
    authority: { secretRefs: ["A", "B"] },
    run: {
      argv: ["a"],
      env: { C: "x" },
      secrets: [{ name: "A", fromEnv: "X", fromFile: "/x" }, { name: "C", fromEnv: "X" }],
    },
  });
  assertEquals(problems.map((it) => it.path), [
    "spec.run.secrets[0]",
    "spec.run.secrets[1].name",
    "spec.authority.secretRefs[0]",
    "spec.authority.secretRefs[1]",
    "spec.run.env.C",
  ]);
});

Deno.test("parseCellSpec() reads mounts, read-only unless they say otherwise", () => {
  const { run } = readCellSpec(document({
    run: {
      argv: ["a"],
      mounts: [
        { source: "/srv/data/", target: "/data" },
        { source: "/srv/out", target: "/out", readOnly: false },
        { type: "tmpfs", target: "/scratch", sizeBytes: 8192 },
      ],
    },
  }));
  assertEquals(run?.mounts, [
    { type: "bind", source: "/srv/data", target: "/data", readOnly: true },
    { type: "bind", source: "/srv/out", target: "/out", readOnly: false },
    { type: "tmpfs", target: "/scratch", readOnly: false, sizeBytes: 8192 },
  ]);
});

const MOUNTS: readonly [string, Record<string, unknown>, string][] = [
  ["the root", { source: "/a", target: "/" }, "target"],
  ["/proc", { source: "/a", target: "/proc/sys" }, "target"],
  ["/dev", { source: "/a", target: "/dev" }, "target"],
  ["a relative target", { source: "/a", target: "b" }, "target"],
  ["a target with ..", { source: "/a", target: "/b/../proc" }, "target"],
  ["a relative source", { source: "a", target: "/b" }, "source"],
  ["a bind without source", { target: "/b" }, "source"],
  ["a tmpfs with source", { type: "tmpfs", source: "/a", target: "/b" }, "source"],
  ["a size of a bind", { source: "/a", target: "/b", sizeBytes: 8192 }, "sizeBytes"],
];
for (const [name, mount, field] of MOUNTS) {
  Deno.test(`parseCellSpec() refuses to mount: ${name}`, () => {
    const [problem] = problemsIn({ run: { argv: ["a"], mounts: [mount] } });
    assertEquals(problem.path, `spec.run.mounts[0].${field}`);
  });
}

Deno.test("parseCellSpec() refuses environment names and texts that a process cannot have", () => {
  const problems = problemsIn({ run: { argv: ["a\0b"], env: { "A=B": "x", N: 1, Z: "a\0" } } });
  assertEquals(problems.map((it) => it.path), [
    "spec.run.argv[0]",
    'spec.run.env["A=B"]',
    "spec.run.env.N",
    "spec.run.env.Z",
  ]);
});

Deno.test("parseCellSpec() takes __proto__ as the plain name that it is", () => {
  const text = '{"__proto__": 1, "apiVersion": "cellos.io/v1", "kind": "ExecutionCell", "spec": ' +
    '{"id": "a", "run": {"argv": ["a"], "env": {"__proto__": "x"}}}}';
  const [problem] = problemsOf(() => parseCellSpec(text));
  assertEquals(problem.path, "__proto__");
  const { run } = parseCellSpec(text.replace('"__proto__": 1, ', ""));
  assertEquals(Object.entries(run?.env ?? {}), [["__proto__", "x"]]);
});

Deno.test("parseCellSpec() refuses doubled keys, of which one would win", () => {
  const json = '{"spec": {"id": "a", "x": "{\\"id\\": 1}", "id" : "b"}}';
  assertStringIncludes(problemsOf(() => parseCellSpec(json))[0].found, 'the key "id" twice');
  const yaml = "spec:\n  id: a\n  id: b\n";
  assertStringIncludes(problemsOf(() => parseCellSpec(yaml))[0].found, 'the key "id" twice');
});

Deno.test("parseCellSpec() refuses text that is too long, too deep, empty, or several documents", () => {
  const found = (text: string) => problemsOf(() => parseCellSpec(text))[0].found;
  assertStringIncludes(found(" ".repeat(SPEC_BYTES_MAX + 1)), "characters");
  assertEquals(found("é".repeat(SPEC_BYTES_MAX / 2 + 1)), `${SPEC_BYTES_MAX / 2 + 1} characters`);
  assertEquals(found("  \n"), "nothing");
  assertEquals(found("a: 1\n---\nb: 2\n"), "broken YAML");
  assertEquals(found('{"a": [}'), "broken JSON");
  for (const deep of ["[", '{"a":', "- ", "a:\n "]) {
    assert(problemsOf(() => parseCellSpec(deep.repeat(40_000))).length > 0);
  }
  const nested = `${"[".repeat(40)}${"]".repeat(40)}`;
  assertEquals(found(`{"a": ${nested}}`), "deeper nesting");
  assertEquals(found(`a: ${nested}`), "deeper nesting");
});

Deno.test("parseCellSpec() is not held up by aliases that multiply", () => {
  const lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"];
  for (let level = 1; level < 12; level++) {
    const before = `*a${level - 1}`;
    lines.push(`a${level}: &a${level} [${Array(9).fill(before).join(", ")}]`);
  }
  assertEquals(problemsOf(() => parseCellSpec(lines.join("\n")))[0].found, "broken YAML");
  assert(problemsOf(() => parseCellSpec("a: &a [*a, *a]")).length > 0);
});

Deno.test("parseCellSpec() lists a bounded number of problems", () => {
  const egressRules = Array.from({ length: 200 }, () => ({}));
  assertEquals(problemsIn({ authority: { egressRules } }).length, PROBLEMS_MAX);
});

Deno.test("effectiveTimeout() is the smaller bound, and says whose it is", () => {
  const spec = (ttlSeconds?: number, timeoutSeconds?: number) =>
    readCellSpec(document({
      lifetime: ttlSeconds === undefined ? {} : { ttlSeconds },
      run: { argv: ["a"], limits: timeoutSeconds === undefined ? {} : { timeoutSeconds } },
    }));
  assertEquals(effectiveTimeout(spec()), undefined);
  assertEquals(effectiveTimeout(spec(60)), { seconds: 60, source: "spec.lifetime.ttlSeconds" });
  assertEquals(effectiveTimeout(spec(60, 5)), {
    seconds: 5,
    source: "spec.run.limits.timeoutSeconds",
  });
});

Deno.test("readCellSpec() takes what it gave as a document again", () => {
  const given = parseCellSpec(SKELETON);
  assertEquals(readCellSpec(document({ ...given })), given);
  assertEquals(MEMORY_MAX_BYTES_DEFAULT, 1024 ** 3);
});

const runs = { numRuns: campaign(300, 20_000) };

Deno.test("parseCellSpec() throws nothing but SpecError on any text", () => {
  const words = fc.constantFrom(
    ..."apiVersion kind spec id run argv authority egressRules host port - : { } [ ] , & * ! | > ' # \n"
      .split(" "),
    "\n  ",
    '"',
    "cellos.io/v1",
    "ExecutionCell",
    "192.0.2.1",
    "&a",
    "*a",
    "<<",
    "!!binary",
    "%YAML",
    "---",
    "\t",
  );
  const text = fc.oneof(
    fc.string({ unit: "binary", maxLength: 200 }),
    fc.array(words, { maxLength: 60 }).map((list) => list.join(" ")),
    fc.array(words, { maxLength: 60 }).map((list) => list.join("")),
    fc.json(),
  );
  fc.assert(
    fc.property(text, (given) => {
      try {
        parseCellSpec(given);
      } catch (error) {
        assertInstanceOf(error, SpecError);
        assert(error.problems.length > 0);
      }
    }),
    runs,
  );
});

Deno.test("readCellSpec() throws nothing but SpecError on any value", () => {
  const known = fc.constantFrom(
    ..."apiVersion kind spec id correlation authority mode deny audit flow secretRefs egressRules"
      .split(" "),
    ..."ingress host from port ports protocol lifetime ttlSeconds run argv env workingDirectory"
      .split(" "),
    ..."user rootfs mounts source target type limits cpuMax secrets name fromEnv hostname".split(
      " ",
    ),
  );
  const value = fc.letrec<{ node: unknown }>((tie) => ({
    node: fc.oneof(
      { depthSize: "small", withCrossShrink: true },
      fc.constantFrom(null, true, 0, 1, 443, -1, NaN, 1e300, "", "/", "tcp", "10.0.0.0/8", "root"),
      fc.anything({ maxDepth: 1 }),
      fc.array(tie("node"), { maxLength: 4 }),
      fc.dictionary(known, tie("node"), { maxKeys: 8 }),
    ),
  })).node;
  fc.assert(
    fc.property(value, (spec) => {
      for (const given of [spec, { apiVersion: "cellos.io/v1", kind: "ExecutionCell", spec }]) {
        try {
          readCellSpec(given);
        } catch (error) {
          assertInstanceOf(error, SpecError);
        }
      }
    }),
    runs,
  );
});

Deno.test("readCellSpec() reads the ports that the load balancer may bring datagrams to", () => {
  const read = (udp: unknown) => readCellSpec(document({ run: { argv: ["x"] }, ingress: { udp } }));
  assertEquals(
    read([{ cluster: "dns", port: 53 }, { cluster: "dns", port: 54, weight: 7 }]).ingress,
    {
      udp: [{ cluster: "dns", port: 53, weight: 100 }, { cluster: "dns", port: 54, weight: 7 }],
    },
  );
  assertEquals(read([]).ingress, undefined);
  const wrong = [{ cluster: "-", port: 0 }, { cluster: "a", port: 1, weight: 70_000, more: 1 }, 5];
  assertEquals(problemsOf(() => read(wrong)).map(({ path }) => path), [
    "spec.ingress.udp[0].cluster",
    "spec.ingress.udp[0].port",
    "spec.ingress.udp[1].more",
    "spec.ingress.udp[1].weight",
    "spec.ingress.udp[2]",
  ]);
  const many = Array.from({ length: 17 }, (_, port) => ({ cluster: "a", port: port + 1 }));
  assertEquals(problemsOf(() => read(many)).map(({ path }) => path), ["spec.ingress.udp"]);
});
