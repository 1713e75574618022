/**
 * The part of a liveness file that says what is done about a stall; see `liveness_config.ts`.
 *
 * A policy is for the agents of the host that it matches, or for those of cells made from a spec.
 * An agent of a cell whose spec says `onStall: stop` is not recovered: its cell ends.
 *
 * @module
 */
import { SIGNALS } from "#ffi/mod.ts";
import { type FieldReader, type Fields } from "#lib/base/mod.ts";
import type { AgentMatch } from "#lib/liveness/mod.ts";
import {
  BACKOFF_DEFAULT,
  DEBOUNCE_MS_DEFAULT,
  makeCommand,
  type RecoveryAction,
  type RecoveryPolicy,
  type Rung,
} from "#lib/recovery/mod.ts";

const POLICIES_MAX = 256;
const RUNGS_MAX = 16;
const ATTEMPTS_MAX = 1000;
const DAY_MS = 24 * 3600 * 1000;
const CAPTURE_BYTES_MAX = 1024 * 1024;
const U32_MAX = 0xffff_ffff;

/** A policy and who it is for. */
export interface PolicyConfig {
  /** Agents of the host; absent where it is for cells. */
  readonly match?: AgentMatch;
  /** Agents of cells made from the spec of this id. */
  readonly spec?: string;
  /** There is one process of the name: attempts are counted over its restarts. */
  readonly isService: boolean;
  readonly policy: RecoveryPolicy;
}

/** What is done about stalls. */
export interface RecoveryConfig {
  /** The first that fits. */
  readonly policies: readonly PolicyConfig[];
  /** `KEY=VALUE`, for commands. */
  readonly environment: readonly string[];
  /** Commands get celld's environment. */
  readonly inheritsEnvironment: boolean;
  /** Bytes kept of a command's output. */
  readonly captureBytes?: number;
  /** Bytes at which the audit is rotated. */
  readonly auditMaxBytes?: number;
  /** File with the key of a keyed audit. */
  readonly auditKeyFile?: string;
}

const FIELDS = [
  "policies",
  "environment",
  "inheritsEnvironment",
  "captureBytes",
  "auditMaxBytes",
  "auditKeyFile",
];
const POLICY_FIELDS = [
  "match",
  "spec",
  "isService",
  "ladder",
  "debounceMs",
  "attemptsMax",
  "calmMs",
  "recoversExits",
  "timeoutMs",
  "killGraceMs",
  "backoff",
];

/** Reads what stands under `recovery`. */
export function readRecovery(reader: FieldReader, path: string, value: unknown): RecoveryConfig {
  const fields = reader.object(path, value, FIELDS) ?? {};
  const policies = reader.list(`${path}.policies`, fields.policies, POLICIES_MAX) ?? [];
  const entries = fields.environment === undefined
    ? []
    : reader.list(`${path}.environment`, fields.environment, 256) ?? [];
  const number = numbersOf(reader, path, fields);
  const { auditKeyFile, inheritsEnvironment = false } = fields;
  const keyFile = auditKeyFile === undefined
    ? undefined
    : reader.absolutePath(`${path}.auditKeyFile`, auditKeyFile);
  return {
    policies: policies.map((item, index) => readPolicy(reader, `${path}.policies[${index}]`, item)),
    environment: entries.map((entry, index) =>
      reader.matching(`${path}.environment[${index}]`, entry, /^[^=]+=/, "KEY=VALUE") ?? ""
    ),
    inheritsEnvironment: reader.flag(`${path}.inheritsEnvironment`, inheritsEnvironment) ?? false,
    ...number("captureBytes", 0, CAPTURE_BYTES_MAX),
    ...number("auditMaxBytes", 4096, Number.MAX_SAFE_INTEGER),
    ...(keyFile === undefined ? {} : { auditKeyFile: keyFile }),
  };
}

function readPolicy(reader: FieldReader, path: string, value: unknown): PolicyConfig {
  const fields = reader.object(path, value, POLICY_FIELDS) ?? {};
  const { match, spec, isService = false, recoversExits = false } = fields;
  if (match !== undefined && spec !== undefined) {
    reader.note(`${path}.spec`, spec, "match or spec, not both");
  }
  const number = numbersOf(reader, path, fields);
  const rungs = reader.list(`${path}.ladder`, fields.ladder, RUNGS_MAX) ?? [];
  if (fields.ladder !== undefined && rungs.length === 0) {
    reader.note(`${path}.ladder`, fields.ladder, "at least one rung");
  }
  return {
    ...(spec === undefined
      ? { match: match === undefined ? {} : readMatch(reader, `${path}.match`, match) }
      : { spec: reader.text(`${path}.spec`, spec, "the id of a spec", 63) ?? "" }),
    isService: reader.flag(`${path}.isService`, isService) ?? false,
    policy: {
      debounceMs: DEBOUNCE_MS_DEFAULT,
      ...number("debounceMs", 0, DAY_MS),
      ...number("attemptsMax", 1, ATTEMPTS_MAX),
      ...number("calmMs", 0, DAY_MS),
      ...number("timeoutMs", 100, DAY_MS),
      ...number("killGraceMs", 0, DAY_MS),
      recoversExits: reader.flag(`${path}.recoversExits`, recoversExits) ?? false,
      rungs: rungs.flatMap((item, index) => readRung(reader, `${path}.ladder[${index}]`, item)),
      ...(fields.backoff === undefined
        ? {}
        : { backoff: readBackoff(reader, `${path}.backoff`, fields.backoff) }),
    },
  };
}

function readRung(reader: FieldReader, path: string, value: unknown): Rung[] {
  const kinds = ["signal", "command", "restartCell", "webhook"];
  const fields = reader.object(path, value, [...kinds, "attempts"]) ?? {};
  const named = kinds.filter((kind) => fields[kind] !== undefined);
  if (named.length !== 1) {
    reader.note(path, value, `one of ${kinds.join(", ")}`);
    return [];
  }
  const action = readAction(reader, path, named[0]!, fields);
  if (action === undefined) return [];
  return [{ action, ...numbersOf(reader, path, fields)("attempts", 1, ATTEMPTS_MAX) }];
}

function readAction(
  reader: FieldReader,
  path: string,
  kind: string,
  fields: Fields,
): RecoveryAction | undefined {
  const [at, value] = [`${path}.${kind}`, fields[kind]];
  switch (kind) {
    case "signal": {
      const name = reader.choice(at, value, Object.keys(SIGNALS) as (keyof typeof SIGNALS)[]);
      return name === undefined ? undefined : { kind: "signal", signal: SIGNALS[name] };
    }
    case "command":
      return readCommand(reader, at, value);
    case "webhook": {
      const url = reader.matching(at, value, /^https?:\/\/\S+$/, "a URL, http or https");
      return url === undefined ? undefined : { kind: "webhook", url };
    }
    default:
      if (value !== true) return reader.note(at, value, "true");
      return { kind: "restart_cell" };
  }
}

function readCommand(reader: FieldReader, at: string, value: unknown): RecoveryAction | undefined {
  const words = reader.list(at, value, 256);
  if (words === undefined) return undefined;
  const argv = words.map((word, index) => reader.text(`${at}[${index}]`, word, "a text") ?? "");
  if (argv[0] === undefined || argv[0] === "") return reader.note(at, value, "a program first");
  return { kind: "command", command: makeCommand(argv), source: "inline" };
}

function readBackoff(
  reader: FieldReader,
  path: string,
  value: unknown,
): NonNullable<RecoveryPolicy["backoff"]> {
  const fields = reader.object(path, value, ["firstMs", "factor", "maxMs", "jitter"]) ?? {};
  const number = numbersOf(reader, path, fields);
  const { jitter = BACKOFF_DEFAULT.jitter } = fields;
  if (typeof jitter !== "number" || !(jitter >= 0 && jitter <= 1)) {
    reader.note(`${path}.jitter`, jitter, "a number from 0 to 1");
  }
  return {
    ...BACKOFF_DEFAULT,
    ...number("firstMs", 0, DAY_MS),
    ...number("factor", 1, 100),
    ...number("maxMs", 0, DAY_MS),
    jitter: typeof jitter === "number" ? jitter : BACKOFF_DEFAULT.jitter,
  };
}

/** Whom something is about: a name, a uid, or both. */
export function readMatch(reader: FieldReader, path: string, value: unknown): AgentMatch {
  const fields = reader.object(path, value, ["name", "uid"]) ?? {};
  const name = fields.name === undefined
    ? undefined
    : reader.text(`${path}.name`, fields.name, "the name of a program", 64);
  const uid = fields.uid === undefined
    ? undefined
    : reader.integer(`${path}.uid`, fields.uid, { min: 0, max: U32_MAX });
  return { ...(name === undefined ? {} : { name }), ...(uid === undefined ? {} : { uid }) };
}

/** Reads a number where it is given, as an object of its name to be spread. */
function numbersOf(reader: FieldReader, path: string, fields: Fields) {
  return <K extends string>(name: K, min: number, max: number): Partial<Record<K, number>> => {
    if (fields[name] === undefined) return {};
    const value = reader.integer(`${path}.${name}`, fields[name], { min, max });
    return (value === undefined ? {} : { [name]: value }) as Partial<Record<K, number>>;
  };
}
