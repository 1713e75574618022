/**
 * What a cell runs: `run` of a spec, with its mounts, limits and secrets.
 *
 * @module
 */
import { joinPath } from "#lib/base/mod.ts";
import type { SpecReader } from "./spec_reader.ts";
import {
  CPU_PERIOD_MICROS_DEFAULT,
  GRACEFUL_SHUTDOWN_SECONDS_DEFAULT,
  LIVENESS_STARTUP_SECONDS_DEFAULT,
  LIVENESS_THRESHOLD_MS_DEFAULT,
  LIVENESS_THRESHOLD_MS_MIN,
  type LivenessSpec,
  MEMORY_MAX_BYTES_DEFAULT,
  type MountSpec,
  OPEN_FILES_MAX_DEFAULT,
  OUTPUT_MAX_BYTES_DEFAULT,
  PIDS_MAX_DEFAULT,
  type RunLimits,
  type RunSpec,
  type SecretSource,
  TMPFS_SIZE_BYTES_DEFAULT,
  WORKSPACE_MAX_BYTES_DEFAULT,
} from "./spec_types.ts";

/** The longest time that a spec may name, in seconds: a year. */
export const SECONDS_MAX = 366 * 24 * 60 * 60;

const ARGUMENTS_MAX = 512;
const ARGUMENT_LENGTH_MAX = 32 * 1024;
const ENVIRONMENT_MAX = 256;
const MOUNTS_MAX = 64;
const SECRETS_MAX = 64;
const BYTES_MAX = 2 ** 50;
const ENV_NAME = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/;
const ENV_NAME_WANTED = "a name of letters, digits and _, that does not begin with a digit";

/** One DNS label: lower-case letters, digits, and hyphens inside. */
export const LABEL = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
/** {@link LABEL} in words. */
export const LABEL_WANTED = "1 to 63 lower-case letters, digits and hyphens inside";

const RUN_FIELDS = [
  "argv",
  "env",
  "workingDirectory",
  "user",
  "rootfs",
  "mounts",
  "limits",
  "secretDelivery",
  "secrets",
  "restart",
  "hostname",
  "liveness",
];

/** Places that the view makes itself; nothing can be mounted at or below them. */
const RESERVED_TARGETS = ["/proc", "/sys", "/dev", "/run/secrets", "/run/celld"];

/** Reads `spec.run`. `secretRefs` are the names that the cell has authority for. */
export function readRun(
  reader: SpecReader,
  path: string,
  value: unknown,
  secretRefs: readonly string[],
): RunSpec | undefined {
  const fields = reader.object(path, value, RUN_FIELDS);
  if (fields === undefined) return undefined;
  const at = (name: string) => joinPath(path, name);
  const { workingDirectory, rootfs, hostname } = fields;
  if (fields.restart !== undefined && fields.restart !== "never") {
    reader.note(at("restart"), fields.restart, '"never"', "restarts are not available yet");
  }
  const directory = workingDirectory === undefined
    ? undefined
    : readTarget(reader, at("workingDirectory"), workingDirectory, true);
  const root = rootfs === undefined ? undefined : reader.absolutePath(at("rootfs"), rootfs);
  const label = hostname === undefined
    ? undefined
    : reader.matching(at("hostname"), hostname, LABEL, LABEL_WANTED);
  const run: RunSpec = {
    argv: readArgv(reader, at("argv"), fields.argv),
    env: readEnv(reader, at("env"), fields.env),
    ...(directory === undefined ? {} : { workingDirectory: directory }),
    user: readUser(reader, at("user"), fields.user),
    ...(root === undefined ? {} : { rootfs: root }),
    mounts: readMounts(reader, at("mounts"), fields.mounts),
    limits: readLimits(reader, at("limits"), fields.limits),
    secretDelivery: readDelivery(reader, at("secretDelivery"), fields.secretDelivery),
    secrets: readSecrets(reader, at("secrets"), fields.secrets, secretRefs),
    ...(label === undefined ? {} : { hostname: label }),
    ...readLiveness(reader, at("liveness"), fields.liveness),
  };
  checkNameClashes(reader, path, run);
  return run;
}

function readArgv(reader: SpecReader, path: string, value: unknown): readonly string[] {
  const items = reader.list(path, value, ARGUMENTS_MAX) ?? [""];
  if (items.length === 0) reader.note(path, value, "at least the name of a program");
  const argv = items.map((item, index) =>
    reader.text(`${path}[${index}]`, item, "text", ARGUMENT_LENGTH_MAX) ?? "-"
  );
  if (items[0] === "" && Array.isArray(value)) {
    reader.note(`${path}[0]`, "", "the name of a program");
  }
  return argv;
}

function readEnv(
  reader: SpecReader,
  path: string,
  value: unknown,
): Readonly<Record<string, string>> {
  if (value === undefined) return {};
  const fields = reader.record(path, value);
  if (fields === undefined) return {};
  const names = Object.keys(fields);
  if (names.length > ENVIRONMENT_MAX) {
    reader.note(path, value, `at most ${ENVIRONMENT_MAX} variables`);
    return {};
  }
  const env: Record<string, string> = {};
  for (const name of names) {
    const at = joinPath(path, name);
    if (!ENV_NAME.test(name)) {
      reader.note(at, name, ENV_NAME_WANTED);
      continue;
    }
    const text = reader.text(at, fields[name], "text (in quotes)", ARGUMENT_LENGTH_MAX);
    // A name as `__proto__` must become a variable, not a prototype.
    if (text !== undefined) {
      Object.defineProperty(env, name, { value: text, enumerable: true, configurable: true });
    }
  }
  return env;
}

const LIVENESS_FIELDS = ["thresholdMs", "startupSeconds", "onStall"];

function readLiveness(
  reader: SpecReader,
  path: string,
  value: unknown,
): { liveness?: LivenessSpec } {
  if (value === undefined) return {};
  const fields = reader.object(path, value, LIVENESS_FIELDS);
  if (fields === undefined) return {};
  const { thresholdMs, startupSeconds, onStall = "stop" } = fields;
  if (onStall !== "stop" && onStall !== "report") {
    reader.note(joinPath(path, "onStall"), onStall, '"stop" or "report"');
  }
  return {
    liveness: {
      thresholdMs: thresholdMs === undefined
        ? LIVENESS_THRESHOLD_MS_DEFAULT
        : reader.integer(joinPath(path, "thresholdMs"), thresholdMs, {
          min: LIVENESS_THRESHOLD_MS_MIN,
          max: SECONDS_MAX * 1000,
        }) ?? LIVENESS_THRESHOLD_MS_DEFAULT,
      startupSeconds: startupSeconds === undefined
        ? LIVENESS_STARTUP_SECONDS_DEFAULT
        : reader.integer(joinPath(path, "startupSeconds"), startupSeconds, {
          min: 1,
          max: SECONDS_MAX,
        }) ?? LIVENESS_STARTUP_SECONDS_DEFAULT,
      onStall: onStall === "report" ? "report" : "stop",
    },
  };
}

function readUser(reader: SpecReader, path: string, value: unknown): "auto" | "root" {
  if (value === undefined || value === "auto") return "auto";
  if (value === 0 || value === "root") return "root";
  reader.note(path, value, '"auto" or "root"', "any other uid is the pool's to give");
  return "auto";
}

function readMounts(reader: SpecReader, path: string, value: unknown): readonly MountSpec[] {
  const items = reader.list(path, value ?? [], MOUNTS_MAX) ?? [];
  const mounts: MountSpec[] = [];
  for (const [index, item] of items.entries()) {
    const mount = readMount(reader, `${path}[${index}]`, item);
    if (mount === undefined) continue;
    if (mounts.some((other) => other.target === mount.target)) {
      reader.note(`${path}[${index}].target`, mount.target, "a target that no other mount has");
    }
    mounts.push(mount);
  }
  return mounts;
}

function readMount(reader: SpecReader, path: string, value: unknown): MountSpec | undefined {
  const fields = reader.object(path, value, ["source", "target", "type", "readOnly", "sizeBytes"]);
  if (fields === undefined) return undefined;
  const at = (name: string) => joinPath(path, name);
  const type = fields.type === undefined
    ? "bind"
    : reader.choice(at("type"), fields.type, ["bind", "tmpfs"]);
  const target = readTarget(reader, at("target"), fields.target, false);
  // What is bound belongs to the host: read-only unless said otherwise.
  const readOnly = fields.readOnly === undefined
    ? type === "bind"
    : reader.flag(at("readOnly"), fields.readOnly);
  if (type === "tmpfs") {
    if (fields.source !== undefined) reader.note(at("source"), fields.source, "none for tmpfs");
    const sizeBytes = readBytes(reader, at("sizeBytes"), fields.sizeBytes) ??
      TMPFS_SIZE_BYTES_DEFAULT;
    if (target === undefined || readOnly === undefined) return undefined;
    return { type, target, readOnly, sizeBytes };
  }
  if (fields.sizeBytes !== undefined) {
    reader.note(at("sizeBytes"), fields.sizeBytes, "none for bind");
  }
  const source = reader.absolutePath(at("source"), fields.source);
  if (type === undefined || source === undefined || target === undefined) return undefined;
  return readOnly === undefined ? undefined : { type, source, target, readOnly };
}

function readTarget(
  reader: SpecReader,
  path: string,
  value: unknown,
  mayBeRoot: boolean,
): string | undefined {
  const target = reader.absolutePath(path, value);
  if (target === undefined) return undefined;
  if (target === "/" && !mayBeRoot) return reader.note(path, target, 'a path below "/"');
  const reserved = RESERVED_TARGETS.find((it) => target === it || target.startsWith(`${it}/`));
  if (reserved !== undefined) {
    return reader.note(path, target, `a path outside ${JSON.stringify(reserved)}`);
  }
  return target;
}

const LIMIT_FIELDS = [
  "memoryMaxBytes",
  "cpuMax",
  "pidsMax",
  "gracefulShutdownSeconds",
  "timeoutSeconds",
  "workspaceMaxBytes",
  "outputMaxBytes",
  "openFilesMax",
];

function readLimits(reader: SpecReader, path: string, value: unknown): RunLimits {
  const fields = reader.object(path, value ?? {}, LIMIT_FIELDS) ?? {};
  const integer = (name: string, min: number, max: number, fallback: number) =>
    fields[name] === undefined
      ? fallback
      : reader.integer(joinPath(path, name), fields[name], { min, max }) ?? fallback;
  const cpuMax = readCpuMax(reader, joinPath(path, "cpuMax"), fields.cpuMax);
  const timeoutSeconds = fields.timeoutSeconds === undefined
    ? undefined
    : integer("timeoutSeconds", 1, SECONDS_MAX, 1);
  return {
    memoryMaxBytes: integer("memoryMaxBytes", 4 << 20, BYTES_MAX, MEMORY_MAX_BYTES_DEFAULT),
    ...(cpuMax === undefined ? {} : { cpuMax }),
    // The init is one, the workload another.
    pidsMax: integer("pidsMax", 2, 4_194_304, PIDS_MAX_DEFAULT),
    gracefulShutdownSeconds: integer(
      "gracefulShutdownSeconds",
      0,
      3600,
      GRACEFUL_SHUTDOWN_SECONDS_DEFAULT,
    ),
    ...(timeoutSeconds === undefined ? {} : { timeoutSeconds }),
    workspaceMaxBytes: integer("workspaceMaxBytes", 4096, BYTES_MAX, WORKSPACE_MAX_BYTES_DEFAULT),
    outputMaxBytes: integer("outputMaxBytes", 4096, BYTES_MAX, OUTPUT_MAX_BYTES_DEFAULT),
    openFilesMax: integer("openFilesMax", 16, 1_048_576, OPEN_FILES_MAX_DEFAULT),
  };
}

function readCpuMax(reader: SpecReader, path: string, value: unknown): RunLimits["cpuMax"] {
  if (value === undefined) return undefined;
  const fields = reader.object(path, value, ["quotaMicros", "periodMicros"]);
  if (fields === undefined) return undefined;
  // The kernel's own bounds (CFS bandwidth): quota from 1 ms, period from 1 ms to 1 s.
  const quotaMicros = reader.integer(joinPath(path, "quotaMicros"), fields.quotaMicros, {
    min: 1000,
    max: 1_000_000_000,
  });
  const periodMicros = fields.periodMicros === undefined
    ? CPU_PERIOD_MICROS_DEFAULT
    : reader.integer(joinPath(path, "periodMicros"), fields.periodMicros, {
      min: 1000,
      max: 1_000_000,
    });
  if (quotaMicros === undefined || periodMicros === undefined) return undefined;
  return { quotaMicros, periodMicros };
}

function readBytes(reader: SpecReader, path: string, value: unknown): number | undefined {
  return value === undefined
    ? undefined
    : reader.integer(path, value, { min: 4096, max: BYTES_MAX });
}

function readDelivery(reader: SpecReader, path: string, value: unknown): "env" | "file" {
  if (value === "runtimeBroker" || value === "runtimeLeasedBroker") {
    reader.note(path, value, '"env" or "file"', "a secret broker is not available yet");
    return "env";
  }
  return value === undefined ? "env" : reader.choice(path, value, ["env", "file"]) ?? "env";
}

function readSecrets(
  reader: SpecReader,
  path: string,
  value: unknown,
  secretRefs: readonly string[],
): readonly SecretSource[] {
  const items = reader.list(path, value ?? [], SECRETS_MAX) ?? [];
  const secrets: SecretSource[] = [];
  for (const [index, item] of items.entries()) {
    const secret = readSecret(reader, `${path}[${index}]`, item, secretRefs);
    if (secret === undefined) continue;
    if (secrets.some((other) => other.name === secret.name)) {
      reader.note(`${path}[${index}].name`, secret.name, "a name that no other secret has");
    }
    secrets.push(secret);
  }
  for (const [index, name] of secretRefs.entries()) {
    if (secrets.some((secret) => secret.name === name) || !Array.isArray(value ?? [])) continue;
    const wanted = "a secret that run.secrets says where to get";
    reader.note(`spec.authority.secretRefs[${index}]`, name, wanted);
  }
  return secrets;
}

function readSecret(
  reader: SpecReader,
  path: string,
  value: unknown,
  secretRefs: readonly string[],
): SecretSource | undefined {
  const fields = reader.object(path, value, ["name", "fromEnv", "fromFile"]);
  if (fields === undefined) return undefined;
  const at = (name: string) => joinPath(path, name);
  const name = reader.matching(at("name"), fields.name, ENV_NAME, ENV_NAME_WANTED);
  if (name !== undefined && !secretRefs.includes(name)) {
    reader.note(at("name"), name, "a name that authority.secretRefs lists");
  }
  const { fromEnv, fromFile } = fields;
  if ((fromEnv === undefined) === (fromFile === undefined)) {
    return reader.note(path, value, "either fromEnv or fromFile");
  }
  if (fromEnv !== undefined) {
    const variable = reader.matching(at("fromEnv"), fromEnv, ENV_NAME, ENV_NAME_WANTED);
    return name === undefined || variable === undefined ? undefined : { name, fromEnv: variable };
  }
  const file = reader.absolutePath(at("fromFile"), fromFile);
  return name === undefined || file === undefined ? undefined : { name, fromFile: file };
}

function checkNameClashes(reader: SpecReader, path: string, run: RunSpec): void {
  for (const { name } of run.secretDelivery === "env" ? run.secrets : []) {
    if (!Object.hasOwn(run.env, name)) continue;
    const at = joinPath(joinPath(path, "env"), name);
    reader.note(at, "a variable", "a name that no secret has");
  }
}
