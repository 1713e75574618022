/**
 * Tests of the table of layers: what each kind of file may import.
 *
 * @module
 */

import { assertEquals, assertStringIncludes } from "@std/assert";
import { importProblem, isPure, resolveSpecifier, zoneOf } from "../../.ci/layers.ts";

interface Case {
  readonly from: string;
  readonly specifier: string;
  readonly type?: boolean;
  readonly names?: readonly string[];
}

function problemOf({ from, specifier, type = false, names }: Case): string | undefined {
  const found = { from, specifier, typeOnly: type, ...(names === undefined ? {} : { names }) };
  return importProblem(found)?.message;
}

Deno.test("zoneOf() tells a core, a shell, a door and the plain folders by place and name", () => {
  assertEquals(zoneOf("lib/flow/packet.ts"), { kind: "core", folder: "lib/flow" });
  assertEquals(zoneOf("lib/flow/audit_shell.ts"), { kind: "shell", folder: "lib/flow" });
  assertEquals(zoneOf("lib/flow/audit_worker.ts"), { kind: "shell", folder: "lib/flow" });
  assertEquals(zoneOf("lib/eventlog/sqlite_adapter.ts").kind, "shell");
  assertEquals(zoneOf("lib/flow/mod.ts").kind, "door");
  assertEquals(zoneOf("lib/cli/commands/run.ts"), { kind: "cli", folder: "lib/cli" });
  assertEquals(zoneOf("ffi/netlink/conn.ts"), { kind: "ffi", folder: "ffi" });
  assertEquals(zoneOf("somewhere/else.ts").kind, "outside");
});

Deno.test("isPure() holds for cores, base and events, and for nothing that acts", () => {
  const pure = ["lib/flow/packet.ts", "lib/base/bytes.ts", "lib/events/envelope.ts"];
  const acting = [
    "lib/flow/audit_shell.ts",
    "lib/cli/io.ts",
    "ffi/fd.ts",
    "main.ts",
    "lib/flow/mod.ts",
  ];
  assertEquals(pure.map(isPure), [true, true, true]);
  assertEquals(acting.map(isPure), [false, false, false, false, false]);
});

Deno.test("resolveSpecifier() finds the repository path of relative and mapped specifiers", () => {
  assertEquals(resolveSpecifier("lib/flow/a.ts", "./b.ts"), "lib/flow/b.ts");
  assertEquals(resolveSpecifier("lib/cli/commands/a.ts", "../b.ts"), "lib/cli/b.ts");
  assertEquals(resolveSpecifier("lib/flow/a.ts", "#ffi/mod.ts"), "ffi/mod.ts");
  assertEquals(resolveSpecifier("lib/flow/a.ts", "yaml"), undefined);
});

const ALLOWED: readonly Case[] = [
  { from: "lib/flow/packet.ts", specifier: "#lib/base/mod.ts" },
  { from: "lib/flow/packet.ts", specifier: "#lib/events/mod.ts" },
  { from: "lib/flow/packet.ts", specifier: "./decision.ts" },
  { from: "lib/client/beat_sequence.ts", specifier: "#lib/liveness/mod.ts" },
  { from: "lib/flow/packet.ts", specifier: "#ffi/netlink/nftables/ruleset.ts", type: true },
  { from: "lib/flow/packet.ts", specifier: "#lib/cell/events.ts", type: true },
  { from: "lib/flow/packet.ts", specifier: "node:crypto", names: ["createHash"] },
  { from: "lib/flow/audit_shell.ts", specifier: "#ffi/mod.ts" },
  { from: "lib/flow/audit_shell.ts", specifier: "node:fs" },
  { from: "lib/flow/mod.ts", specifier: "./audit_shell.ts" },
  { from: "lib/daemon/compose.ts", specifier: "#lib/flow/mod.ts" },
  { from: "lib/cli/run.ts", specifier: "#lib/daemon/mod.ts" },
  { from: "lib/cli/args.ts", specifier: "commander" },
  { from: "ffi/netlink/conn.ts", specifier: "#lib/base/mod.ts" },
  { from: "ffi/netlink/route/link.ts", specifier: "../message.ts" },
  { from: "main.ts", specifier: "#lib/cli/mod.ts" },
  { from: "tests/lib/flow/packet_test.ts", specifier: "#lib/flow/packet.ts" },
  { from: "bench/lib/flow/flow_bench.ts", specifier: "#lib/flow/audit_shell.ts" },
];

for (const one of ALLOWED) {
  const kind = one.type ? "a type of " : "";
  Deno.test(`importProblem() lets ${one.from} import ${kind}${one.specifier}`, () => {
    assertEquals(problemOf(one), undefined);
  });
}

const REFUSED: readonly (Case & { readonly because: string })[] = [
  { from: "lib/flow/packet.ts", specifier: "#ffi/mod.ts", because: "in a core of lib/flow" },
  { from: "lib/flow/packet.ts", specifier: "./audit_shell.ts", because: "a shell from a core" },
  { from: "lib/flow/packet.ts", specifier: "./mod.ts", because: "the door of the own folder" },
  { from: "lib/flow/packet.ts", specifier: "#lib/cell/mod.ts", because: "in a core of lib/flow" },
  {
    from: "lib/flow/packet.ts",
    specifier: "#lib/cell/policy.ts",
    type: true,
    because: "in a core of lib/flow",
  },
  { from: "lib/flow/packet.ts", specifier: "#lib/base/bytes.ts", because: "past the door" },
  { from: "lib/flow/packet.ts", specifier: "../base/mod.ts", because: "by a relative path" },
  { from: "lib/flow/packet.ts", specifier: "node:fs", because: "touches the world" },
  {
    from: "lib/flow/packet.ts",
    specifier: "node:crypto",
    names: ["createHash", "randomUUID"],
    because: "randomness is an argument",
  },
  { from: "lib/flow/audit_shell.ts", specifier: "#lib/cell/mod.ts", because: "in a shell" },
  { from: "lib/base/bytes.ts", specifier: "#lib/events/mod.ts", because: "in lib/base" },
  { from: "ffi/fd.ts", specifier: "#lib/flow/mod.ts", because: "in ffi" },
  { from: "lib/cli/run.ts", specifier: "#ffi/mod.ts", because: "in lib/cli" },
  { from: "lib/daemon/compose.ts", specifier: "#lib/cli/mod.ts", because: "in lib/daemon" },
  { from: "lib/flow/audit_shell.ts", specifier: "#tests/support/kernel.ts", because: "in a shell" },
  { from: "lib/flow/packet.ts", specifier: "fast-check", because: "in a core" },
  { from: "lib/flow/packet.ts", specifier: "left-pad", because: "no row in the table" },
  {
    from: "lib/flow/packet.ts",
    specifier: "npm:yaml@2.9.1",
    because: "versions stand in deno.json",
  },
];

for (const one of REFUSED) {
  const kind = one.type ? "a type of " : "";
  Deno.test(`importProblem() refuses ${kind}${one.specifier} in ${one.from}`, () => {
    assertStringIncludes(problemOf(one) ?? "allowed", one.because);
  });
}
