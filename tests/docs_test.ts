/**
 * The pages say what the program does: examples parse, and tables name every setting, exit code,
 * event type and default that there is.
 *
 * @module
 */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { parseDocumentText } from "#lib/cell/mod.ts";
import { parseCellSpec } from "#lib/cell/spec.ts";
import * as SPEC from "#lib/cell/spec_types.ts";
import { EXIT_MEANINGS } from "#lib/cli/exit_codes.ts";
import { SETTING_DEFINITIONS } from "#lib/daemon/config.ts";
import { EVENT_TYPES } from "#lib/events/mod.ts";
import {
  CLOSE_NAMES,
  clusterDocument,
  DROP_NAMES,
  listenerDocument,
  POLICIES,
  readUdpCluster,
  readUdpConfig,
  readUdpListener,
} from "#lib/udp/mod.ts";
import { listFiles, readText } from "../.ci/files.ts";

const UDP_EXAMPLE = "examples/udp.yaml";

const PAGES = listFiles().filter((path) => path.endsWith(".md"));

/** Contents of the fenced blocks of one language. */
function blocks(text: string, language: string): string[] {
  const fence = new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\`$`, "gm");
  return Array.from(text.matchAll(fence), (match) => match[1]);
}

/** Rows of Markdown tables, as their cells without code marks. */
function rows(text: string): string[][] {
  return text.split("\n").filter((line) => line.startsWith("|"))
    .map((line) => line.split("|").slice(1, -1).map((cell) => cell.trim().replaceAll("`", "")));
}

Deno.test("docs: every cell specification on a page parses", () => {
  const specs = PAGES.flatMap((path) => blocks(readText(path), "yaml"))
    .filter((text) => text.includes("kind: ExecutionCell"));
  assert(specs.length >= 2, "the pages show specifications");
  for (const text of specs) assert(parseCellSpec(text).id.length > 0);
});

Deno.test("docs: every example in examples/ parses", () => {
  const examples = listFiles(["examples"]).filter((path) => /\.(ya?ml|json)$/.test(path));
  const cells = examples.filter((path) => path !== UDP_EXAMPLE);
  assertEquals(cells.length, examples.length - 1);
  for (const path of cells) assert(parseCellSpec(readText(path)).id.length > 0, path);
  const { clusters, listeners } = readUdpConfig(parseDocumentText(readText(UDP_EXAMPLE)));
  assertEquals(listeners.map(({ cluster }) => cluster), clusters.map(({ name }) => name));
});

Deno.test("docs: udp.md has each field of a UDP document with its default", () => {
  const page = rows(readText("docs/protocol/udp.md"));
  const cluster = { name: "a", backends: ["192.0.2.1:1"], health: { probe: { by: "tcp" } } };
  const { backends, health, ...rest } = clusterDocument(readUdpCluster(cluster));
  const [backend] = backends as Record<string, unknown>[];
  const { balancer } = readUdpConfig({});
  const listener = listenerDocument(readUdpListener({ name: "a", listen: "[::]:1" }));
  let compared = 0;
  for (const part of [listener, rest, backend, health as object, balancer]) {
    for (const [name, value] of Object.entries(part)) {
      const found = page.filter((row) => row[0] === name);
      assert(found.length > 0, name);
      if (typeof value === "object" || ["name", "listen", "address"].includes(name)) continue;
      assert(found.some((row) => row[2].startsWith(String(value))), `${name}: ${value}`);
      compared += 1;
    }
  }
  assert(compared > 20);
  const text = readText("docs/protocol/udp.md");
  for (const name of [...DROP_NAMES, ...CLOSE_NAMES, ...POLICIES]) {
    assertStringIncludes(text, `\`${name}\``);
  }
});

Deno.test("docs: operations.md has a row for each setting, with its variable and default", () => {
  const page = rows(readText("docs/operations.md"));
  for (const { flag, variable, fallback, help } of Object.values(SETTING_DEFINITIONS)) {
    assertEquals(page.find((row) => row[0] === flag), [flag, variable, fallback, help]);
  }
});

Deno.test("docs: operations.md has the table of exit codes that the program prints", () => {
  const page = rows(readText("docs/operations.md"));
  for (const { code, meaning } of EXIT_MEANINGS) {
    const row = page.find((one) => one[0] === String(code));
    assertEquals(row, [String(code), meaning.replaceAll("`", "")]);
  }
});

Deno.test("docs: events.md has a row for each event type, and none for another", () => {
  const named = rows(readText("docs/protocol/events.md")).map((row) => row[0])
    .filter((name) => name.startsWith("dev."));
  assertEquals(named.sort(), Object.values(EVENT_TYPES).sort());
});

Deno.test("docs: cell-spec.md tells each limit's default", () => {
  const page = rows(readText("docs/protocol/cell-spec.md"));
  const told: [string, number][] = [
    ["memoryMaxBytes", SPEC.MEMORY_MAX_BYTES_DEFAULT],
    ["pidsMax", SPEC.PIDS_MAX_DEFAULT],
    ["gracefulShutdownSeconds", SPEC.GRACEFUL_SHUTDOWN_SECONDS_DEFAULT],
    ["workspaceMaxBytes", SPEC.WORKSPACE_MAX_BYTES_DEFAULT],
    ["outputMaxBytes", SPEC.OUTPUT_MAX_BYTES_DEFAULT],
    ["openFilesMax", SPEC.OPEN_FILES_MAX_DEFAULT],
  ];
  for (const [name, value] of told) {
    assertEquals(page.find((row) => row[0] === name)?.[1], String(value), name);
  }
  const cpu = page.find((row) => row[0] === "cpuMax") ?? [];
  assertStringIncludes(cpu.join(" "), String(SPEC.CPU_PERIOD_MICROS_DEFAULT));
});

Deno.test("docs: the README's tasks are those of deno.json", () => {
  const tasks = Object.keys(JSON.parse(readText("deno.json")).tasks);
  const readme = readText("README.md");
  for (const [, name] of readme.matchAll(/\btask ([a-z:]+)/g)) {
    assert(tasks.includes(name), `README.md names the task ${JSON.stringify(name)}`);
  }
  const table = rows(readme.slice(readme.indexOf("## Tasks"))).slice(2).map((row) => row[0]);
  assertEquals(table.filter((name) => !tasks.includes(name)), []);
});
