/**
 * Who may import whom, as one table: the lint plugin and the tidy test ask it.
 *
 *   main → cli → daemon → { http, ui, shells, adapters } → cores → base
 *                                └──────────────→ ffi ────────→ base
 *
 * A file says what it is by its place and its name: in a domain folder `…_shell.ts`,
 * `…_adapter.ts` and `…_worker.ts` may touch the world, `mod.ts` is the door (`mod_shell.ts` a second one), and any
 * other file is a core, which computes and nothing else. Pure functions over repository paths.
 *
 * @module
 */

/** What a file is, as far as imports and purity are concerned. */
export type Kind =
  | "main"
  | "cli"
  | "daemon"
  | "http"
  | "ui"
  | "telemetry"
  | "shell"
  | "core"
  | "door"
  | "events"
  | "base"
  | "ffi"
  | "demo"
  | "tests"
  | "bench"
  | "tool"
  | "outside";

/** A file's kind and the folder that it belongs to (`lib/cell`, `ffi`, `tests` …). */
export interface Zone {
  readonly kind: Kind;
  readonly folder: string;
}

/** Folders of `lib/` that are not domains: their name is their kind. */
const PLAIN_FOLDERS: ReadonlySet<string> = new Set(
  ["base", "events", "cli", "daemon", "http", "ui", "telemetry"] satisfies Kind[],
);

const TOP_FOLDERS: Readonly<Record<string, Kind>> = {
  ffi: "ffi",
  demo: "demo",
  tests: "tests",
  bench: "bench",
  examples: "demo",
  ".ci": "tool",
};

/** A folder whose acting part is costly to load has a second door for it. */
const DOOR_NAME = /\/mod(_shell)?\.ts$/;
const SHELL_NAME = /_(shell|adapter|worker)\.ts$/;

/** Tells what the file at a path (relative to the repository's root, with `/`) is. */
export function zoneOf(path: string): Zone {
  const [top, second] = path.split("/");
  if (path === "main.ts") return { kind: "main", folder: "main" };
  if (top !== "lib") {
    const kind = TOP_FOLDERS[top];
    return kind === undefined ? { kind: "outside", folder: top } : { kind, folder: top };
  }
  const folder = `lib/${second}`;
  if (PLAIN_FOLDERS.has(second)) return { kind: second as Kind, folder };
  if (SHELL_NAME.test(path)) return { kind: "shell", folder };
  if (DOOR_NAME.test(path)) return { kind: "door", folder };
  return { kind: "core", folder };
}

/** True for a file that must compute only: no clock, no randomness, no I/O, no `Deno`. */
export function isPure(path: string): boolean {
  const { kind } = zoneOf(path);
  return kind === "core" || kind === "base" || kind === "events";
}

/** Kinds whose values each kind may import from another folder. Its own folder is always allowed. */
const VALUES: Readonly<Record<Kind, readonly Kind[]>> = {
  main: ["cli", "daemon", "base"],
  cli: ["daemon", "door", "events", "base", "telemetry"],
  daemon: ["http", "ui", "telemetry", "door", "events", "base", "ffi"],
  http: ["door", "events", "base", "telemetry"],
  ui: ["events", "base"],
  telemetry: ["events", "base"],
  shell: ["ffi", "telemetry", "events", "base"],
  core: ["events", "base"],
  door: [],
  events: ["base"],
  base: [],
  ffi: ["base"],
  demo: ["main", "cli", "daemon", "door", "events", "base", "ffi", "tests"],
  tests: [
    "main",
    "cli",
    "daemon",
    "http",
    "ui",
    "telemetry",
    "shell",
    "core",
    "door",
    "events",
    "base",
    "ffi",
    "demo",
    "tool",
    "bench",
  ],
  bench: [
    "main",
    "cli",
    "daemon",
    "http",
    "telemetry",
    "shell",
    "core",
    "door",
    "events",
    "base",
    "ffi",
    "demo",
    "tests",
  ],
  tool: ["base"],
  outside: [],
};

/** Kinds of which each kind may, past `VALUES`, import types. */
const TYPES: Readonly<Partial<Record<Kind, readonly Kind[]>>> = {
  cli: ["core", "shell"],
  daemon: ["core", "shell"],
  http: ["core", "daemon"],
  shell: ["core", "door", "shell"],
  core: ["ffi"],
  demo: ["core", "shell"],
};

/** Folders whose door a folder may import past `VALUES`: what programs outside speak, it speaks. */
const NEIGHBOURS: Readonly<Record<string, readonly string[]>> = {
  "lib/client": ["lib/liveness"],
};

/** Packages and who may import them. A package without a row is refused: add the row, and why. */
const PACKAGES: Readonly<Record<string, readonly Kind[]>> = {
  commander: ["cli", "tests"],
  yaml: ["core", "shell", "cli", "daemon", "http", "demo", "tests", "bench"],
  hono: ["http", "tests", "bench"],
  "@hono/zod-openapi": ["http", "tests"],
  "prom-client": ["http", "telemetry", "tests"],
  "fast-check": ["tests", "bench"],
  cloudevents: ["tests"],
  "@nats-io/transport-node": ["shell", "tests", "bench"],
  "@nats-io/jetstream": ["shell", "tests", "bench"],
  "@std/assert": ["tests"],
  "@std/testing": ["tests"],
  "@std/cli": ["cli", "demo", "bench", "tests", "tool"],
};

/** Built-in modules that a pure file may import: they compute and nothing else. */
const PURE_BUILTINS: ReadonlySet<string> = new Set(["node:crypto", "node:util", "node:buffer"]);

/** What a pure file may not take from `node:crypto`. */
const RANDOM_NAME = /^(random|generate|getRandom|webcrypto|prng|pseudoRandom)/;

/** One import, as written. */
export interface ImportFound {
  /** The importing file, relative to the repository's root. */
  readonly from: string;
  /** The specifier, as written. */
  readonly specifier: string;
  /** True for `import type` and `export type`, and where every name is marked so. */
  readonly typeOnly: boolean;
  /** Names taken, where they are listed. */
  readonly names?: readonly string[];
}

/** What is wrong with an import, and what to do instead. */
export interface ImportProblem {
  readonly message: string;
  readonly hint: string;
}

/** Judges one import; `undefined` means that it is allowed. */
export function importProblem(found: ImportFound): ImportProblem | undefined {
  const zone = zoneOf(found.from);
  if (zone.kind === "outside") return undefined;
  const target = resolveSpecifier(found.from, found.specifier);
  if (target === undefined) return packageProblem(zone, found);
  return folderProblem(zone, zoneOf(target), target, found);
}

/** Path of the file that a specifier names inside the repository; `undefined` for packages. */
export function resolveSpecifier(from: string, specifier: string): string | undefined {
  if (specifier.startsWith("#")) return specifier.slice(1);
  if (!specifier.startsWith("./") && !specifier.startsWith("../")) return undefined;
  const parts = from.split("/").slice(0, -1);
  for (const part of specifier.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== ".") parts.push(part);
  }
  return parts.join("/");
}

function packageProblem(zone: Zone, found: ImportFound): ImportProblem | undefined {
  const { specifier, from } = found;
  if (specifier.startsWith("node:")) return builtinProblem(from, found);
  if (/^[a-z]+:/.test(specifier)) {
    return {
      message: `Cannot import ${JSON.stringify(specifier)}: versions stand in deno.json only`,
      hint: "Add an exact version to the import map and import the bare name",
    };
  }
  const name = specifier.split("/").slice(0, specifier.startsWith("@") ? 2 : 1).join("/");
  const allowed = PACKAGES[name];
  if (allowed === undefined) {
    return {
      message: `Cannot import ${JSON.stringify(name)}: it has no row in the table of packages`,
      hint: "Add a row to PACKAGES in .ci/layers.ts that says who may use it",
    };
  }
  if (allowed.includes(zone.kind)) return undefined;
  return {
    message: `Cannot import ${JSON.stringify(name)} in ${describe(zone)}`,
    hint: `It is for: ${allowed.join(", ")}`,
  };
}

function builtinProblem(from: string, found: ImportFound): ImportProblem | undefined {
  if (!isPure(from) || found.typeOnly) return undefined;
  if (!PURE_BUILTINS.has(found.specifier)) {
    return {
      message: `Cannot import ${JSON.stringify(found.specifier)} in a core: it touches the world`,
      hint: "Move the call to a …_shell.ts or …_adapter.ts and pass its result in",
    };
  }
  const random = found.names?.find((name) => RANDOM_NAME.test(name));
  if (random === undefined) return undefined;
  return {
    message: `Cannot import ${JSON.stringify(random)} in a core: randomness is an argument`,
    hint: "Take the random bytes or a seeded generator (lib/base/prng.ts) as an argument",
  };
}

function folderProblem(
  zone: Zone,
  to: Zone,
  target: string,
  found: ImportFound,
): ImportProblem | undefined {
  if (zone.folder === to.folder) return ownFolderProblem(zone, to, found);
  const direction = directionProblem(zone, to, target, found);
  if (direction !== undefined) return direction;
  if (
    found.specifier.startsWith("..") && to.kind !== "tool" && to.kind !== "main" &&
    to.kind !== "demo" && to.kind !== "bench"
  ) {
    return {
      message: `Cannot leave ${JSON.stringify(zone.folder)} by a relative path`,
      hint: `Write ${JSON.stringify(`#${target}`)}`,
    };
  }
  const isFreeToChoose = found.typeOnly || zone.kind === "tests" || zone.kind === "bench";
  if (isFreeToChoose || to.kind === "main" || DOOR_NAME.test(target)) return undefined;
  return {
    message: `Cannot import ${JSON.stringify(target)} past the door of its folder`,
    hint: `Import ${JSON.stringify(`#${to.folder}/mod.ts`)}`,
  };
}

function ownFolderProblem(zone: Zone, to: Zone, found: ImportFound): ImportProblem | undefined {
  if (zone.kind !== "core" || found.typeOnly) return undefined;
  if (to.kind === "shell") {
    return {
      message: "Cannot import a shell from a core: a core never acts",
      hint: "Return a value that says what to do, and let the shell do it",
    };
  }
  if (to.kind === "door") {
    return {
      message: "Cannot import the door of the own folder: it brings the shells along",
      hint: "Import the file itself",
    };
  }
  return undefined;
}

function directionProblem(
  zone: Zone,
  to: Zone,
  target: string,
  found: ImportFound,
): ImportProblem | undefined {
  // A file of a folder is judged as its door: which of the two is meant is another question.
  const kinds = to.kind === "core" || to.kind === "shell" ? ["door" as Kind, to.kind] : [to.kind];
  if (kinds.some((kind) => VALUES[zone.kind].includes(kind))) return undefined;
  if (to.kind === "door" && NEIGHBOURS[zone.folder]?.includes(to.folder)) return undefined;
  if (found.typeOnly) {
    if (kinds.some((kind) => TYPES[zone.kind]?.includes(kind))) return undefined;
    if (zone.kind === "core" && isPublicFact(target)) return undefined;
  }
  return {
    message: `Cannot import ${JSON.stringify(target)} in ${describe(zone)}`,
    hint: directionHint(zone, to),
  };
}

/** A domain's events and the ports are facts and contracts; types of them are free to all cores. */
function isPublicFact(target: string): boolean {
  return target.endsWith("/events.ts") || target === "lib/eventlog/log.ts";
}

function directionHint(zone: Zone, to: Zone): string {
  if (to.kind === "tests" || to.kind === "bench" || to.kind === "tool") {
    return "What ships never imports tests, benches or tools";
  }
  switch (zone.kind) {
    case "core":
      return to.kind === "ffi"
        ? "From ffi a core takes types only: write `import type`"
        : "A core imports lib/base, lib/events and its own folder; of another domain only `import type` of its events.ts";
    case "shell":
      return "Shells never import each other: lib/daemon introduces them";
    case "ffi":
      return "ffi imports lib/base only, so that no domain word crosses that line";
    case "base":
      return "lib/base imports nothing of ours";
    case "cli":
    case "http":
    case "ui":
      return "Take what acts as a port, given by lib/daemon";
    default:
      return "See the table in .ci/layers.ts";
  }
}

function describe(zone: Zone): string {
  return zone.kind === "core" || zone.kind === "shell" || zone.kind === "door"
    ? `a ${zone.kind} of ${zone.folder}`
    : zone.folder;
}
