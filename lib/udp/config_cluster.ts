/**
 * A cluster of a UDP document: its backends and how they are watched.
 *
 * @module
 */
import {
  type FieldReader,
  type Fields,
  formatCidr,
  hasHostBits,
  joinPath,
  parseCidr,
  parseIp,
} from "#lib/base/mod.ts";
import { POLICIES } from "./balance_policies.ts";
import {
  endpointText,
  readChoice,
  readEndpoint,
  readFlag,
  readLimit,
  readName,
  readNumber,
  readTime,
} from "./config_fields.ts";
import {
  type BackendConfig,
  type CellBackends,
  type ClusterConfig,
  type HealthConfig,
  UDP_CONFIG_LIMITS,
} from "./config_types.ts";
import { HEALTH_DEFAULTS, type HealthSettings } from "./health.ts";
import {
  compileProbe,
  DNS_CODES,
  DNS_TYPES,
  HealthCheckError,
  type HealthProbe,
} from "./health_check.ts";

const CLUSTER_FIELDS = [
  "name",
  "balance",
  "failOpen",
  "backends",
  "cells",
  "health",
  "limit",
  "sourceAddresses",
];
const BACKEND_FIELDS = [
  "address",
  "name",
  "weight",
  "backup",
  "limit",
  "quicServerId",
  "sources",
];
const WEIGHT = { min: 1, max: 0xffff, fallback: 100 };
const PORT = { min: 1, max: 0xffff };
const SOURCES_MAX = 64;

/** Reads a cluster; `undefined` where it is none at all. */
export function readCluster(
  reader: FieldReader,
  path: string,
  value: unknown,
): ClusterConfig | undefined {
  const fields = reader.object(path, value, CLUSTER_FIELDS);
  if (fields === undefined) return undefined;
  const at = (name: string) => joinPath(path, name);
  return {
    name: readName(reader, at("name"), fields.name),
    balance: readChoice(reader, at("balance"), fields.balance, POLICIES, "round-robin"),
    failOpen: readFlag(reader, at("failOpen"), fields.failOpen, true),
    backends: readBackends(reader, at("backends"), fields.backends),
    ...readCells(reader, at("cells"), fields.cells),
    health: readHealth(reader, at("health"), fields.health),
    ...readLimit(reader, at("limit"), fields.limit),
    ...readSourceAddresses(reader, at("sourceAddresses"), fields.sourceAddresses),
  };
}

function readSourceAddresses(
  reader: FieldReader,
  path: string,
  value: unknown,
): Pick<ClusterConfig, "sourceAddresses"> {
  if (value === undefined) return {};
  const fields = reader.object(path, value, ["ipv4", "ipv6", "transparent"]);
  if (fields === undefined) return {};
  const read = (name: "ipv4" | "ipv6"): { [name: string]: string } => {
    const text = fields[name];
    if (text === undefined) return {};
    const prefix = typeof text === "string" && !hasHostBits(text) ? parseCidr(text) : undefined;
    if (prefix?.family === (name === "ipv4" ? 4 : 6)) return { [name]: formatCidr(prefix) };
    const example = name === "ipv4" ? "127.77.0.0/16" : "fd00:77::/64";
    return reader.note(joinPath(path, name), text, `a prefix, such as ${example}`) ?? {};
  };
  const prefixes = { ...read("ipv4"), ...read("ipv6") };
  if (fields.ipv4 === undefined && fields.ipv6 === undefined) {
    reader.note(path, value, "an object with ipv4, ipv6 or both");
  }
  const at = joinPath(path, "transparent");
  return {
    sourceAddresses: { ...prefixes, transparent: readFlag(reader, at, fields.transparent, false) },
  };
}

function readBackends(
  reader: FieldReader,
  path: string,
  value: unknown,
): readonly BackendConfig[] {
  if (value === undefined) return [];
  const items = reader.list(path, value, UDP_CONFIG_LIMITS.backendsMax) ?? [];
  const names = new Set<string>();
  return items.flatMap((item, index) => {
    const at = `${path}[${index}]`;
    const backend = readBackend(reader, at, item);
    if (backend === undefined) return [];
    if (names.has(backend.name)) {
      reader.note(joinPath(at, "name"), backend.name, "a name that no other backend here has");
    }
    names.add(backend.name);
    return [backend];
  });
}

function readBackend(reader: FieldReader, path: string, value: unknown): BackendConfig | undefined {
  // The short form: its address alone.
  const fields = typeof value === "string"
    ? { address: value }
    : reader.object(path, value, BACKEND_FIELDS);
  if (fields === undefined) return undefined;
  const all: Fields = fields;
  const at = (name: string) => joinPath(path, name);
  const endpoint = readEndpoint(reader, at("address"), all.address);
  if (endpoint === undefined) return undefined;
  const hex = all.quicServerId === undefined ? undefined : reader.matching(
    at("quicServerId"),
    all.quicServerId,
    /^(?:[0-9a-f]{2}){1,19}$/,
    "2 to 38 hex digits, lower case",
  );
  return {
    ...endpoint,
    name: all.name === undefined ? endpointText(endpoint) : readName(reader, at("name"), all.name),
    weight: readNumber(reader, at("weight"), all.weight, WEIGHT),
    backup: readFlag(reader, at("backup"), all.backup, false),
    ...readLimit(reader, at("limit"), all.limit),
    ...(hex === undefined ? {} : { quicServerId: hex }),
    ...readSources(reader, at("sources"), all.sources),
  };
}

function readSources(
  reader: FieldReader,
  path: string,
  value: unknown,
): { sources?: readonly string[] } {
  if (value === undefined) return {};
  const items = reader.list(path, value, SOURCES_MAX) ?? [];
  const sources = items.filter((item, index): item is string => {
    if (typeof item === "string" && parseIp(item) !== undefined) return true;
    reader.note(`${path}[${index}]`, item, "an address of this host");
    return false;
  });
  return { sources };
}

function readCells(reader: FieldReader, path: string, value: unknown): { cells?: CellBackends } {
  if (value === undefined) return {};
  const fields = reader.object(path, value, ["formation", "member", "port", "weight"]);
  if (fields === undefined) return {};
  const { member } = fields;
  return {
    cells: {
      formation: readName(reader, joinPath(path, "formation"), fields.formation),
      ...(member === undefined
        ? {}
        : { member: readName(reader, joinPath(path, "member"), member) }),
      port: reader.integer(joinPath(path, "port"), fields.port, PORT) ?? 1,
      weight: readNumber(reader, joinPath(path, "weight"), fields.weight, WEIGHT),
    },
  };
}

const HEALTH_FIELDS = [
  "probe",
  "intervalMs",
  "timeoutMs",
  "rise",
  "fall",
  "jitter",
  "startsUp",
  "passive",
];
const STREAK_MAX = 1000;

function readHealth(reader: FieldReader, path: string, value: unknown): HealthConfig {
  const none: HealthConfig = { ...HEALTH_DEFAULTS, isProbed: false, probe: { by: "none" } };
  if (value === undefined) return none;
  const fields = reader.object(path, value, HEALTH_FIELDS);
  if (fields === undefined) return none;
  const at = (name: string) => joinPath(path, name);
  const probe = readProbe(reader, at("probe"), fields.probe);
  const streak = (name: "rise" | "fall") =>
    readNumber(reader, at(name), fields[name], {
      min: 1,
      max: STREAK_MAX,
      fallback: HEALTH_DEFAULTS[name],
    });
  return {
    probe,
    isProbed: probe.by !== "none",
    intervalMs: readTime(reader, at("intervalMs"), fields.intervalMs, HEALTH_DEFAULTS.intervalMs),
    timeoutMs: readTime(reader, at("timeoutMs"), fields.timeoutMs, HEALTH_DEFAULTS.timeoutMs),
    rise: streak("rise"),
    fall: streak("fall"),
    jitter: readJitter(reader, at("jitter"), fields.jitter),
    startsUp: readFlag(reader, at("startsUp"), fields.startsUp, HEALTH_DEFAULTS.startsUp),
    ...readPassive(reader, at("passive"), fields.passive),
  };
}

function readJitter(reader: FieldReader, path: string, value: unknown): number {
  if (value === undefined) return HEALTH_DEFAULTS.jitter;
  if (typeof value === "number" && value >= 0 && value <= 1) return value;
  reader.note(path, value, "a number from 0 to 1");
  return HEALTH_DEFAULTS.jitter;
}

function readPassive(
  reader: FieldReader,
  path: string,
  value: unknown,
): Pick<HealthSettings, "passive"> {
  if (value === undefined) return {};
  const fields = reader.object(path, value, ["errors", "unanswered", "holdMs"]);
  if (fields === undefined) return {};
  const count = (name: string, fallback: number) =>
    readNumber(reader, joinPath(path, name), fields[name], { min: 0, max: 1_000_000, fallback });
  return {
    passive: {
      errors: count("errors", 3),
      unanswered: count("unanswered", 0),
      holdMs: readTime(reader, joinPath(path, "holdMs"), fields.holdMs, 10_000),
    },
  };
}

const PROBE_FIELDS: Readonly<Record<HealthProbe["by"], readonly string[]>> = {
  none: [],
  tcp: ["port"],
  udp: ["port", "send", "expect"],
  dns: ["port", "name", "type", "codes"],
};

/** A probe is judged by making it ready: what cannot be carried out is refused here. */
function readProbe(reader: FieldReader, path: string, value: unknown): HealthProbe {
  if (value === undefined) return { by: "none" };
  const kinds = Object.keys(PROBE_FIELDS) as HealthProbe["by"][];
  const by = reader.choice(joinPath(path, "by"), reader.record(path, value)?.by, kinds);
  if (by === undefined) return { by: "none" };
  const fields = reader.object(path, value, ["by", ...PROBE_FIELDS[by]]) ?? {};
  if (fields.port !== undefined) reader.integer(joinPath(path, "port"), fields.port, PORT);
  const probe = by === "udp" ? { expect: { any: true }, send: { text: "" }, ...fields } : fields;
  if (by === "udp" && !isUdpProbe(reader, path, probe)) return { by: "none" };
  if (by === "dns" && !isDnsProbe(reader, path, probe)) return { by: "none" };
  try {
    compileProbe(probe as unknown as HealthProbe);
    return probe as unknown as HealthProbe;
  } catch (error) {
    if (!(error instanceof HealthCheckError || error instanceof TypeError)) throw error;
    reader.note(path, value, `a probe that can be made (${error.message})`);
    return { by: "none" };
  }
}

function isDnsProbe(reader: FieldReader, path: string, { type, codes }: Fields): boolean {
  const types = Object.keys(DNS_TYPES);
  const isType = type === undefined ||
    reader.choice(joinPath(path, "type"), type, types) !== undefined;
  if (codes === undefined) return isType;
  const known = Object.keys(DNS_CODES);
  const list = reader.list(joinPath(path, "codes"), codes, known.length);
  const areCodes = list?.every((code, index) =>
    reader.choice(`${joinPath(path, "codes")}[${index}]`, code, known) !== undefined
  );
  return isType && areCodes === true;
}

function isUdpProbe(reader: FieldReader, path: string, probe: Fields): boolean {
  const bytes = (at: string, value: unknown) => {
    const fields = reader.object(at, value, ["text", "hex"]);
    if (fields === undefined) return false;
    const [given, ...more] = Object.values(fields);
    if (typeof given === "string" && more.length === 0) return true;
    reader.note(at, value, "either text or hex");
    return false;
  };
  const at = joinPath(path, "expect");
  const expect = reader.object(at, probe.expect, ["any", "contains", "equals", "matches"]);
  if (!bytes(joinPath(path, "send"), probe.send) || expect === undefined) return false;
  const [[name, given] = ["", undefined], ...more] = Object.entries(expect);
  if (more.length > 0 || name === "") {
    reader.note(at, probe.expect, "one of any, contains, equals, matches");
    return false;
  }
  if (name === "any") {
    if (given !== true) reader.note(joinPath(at, name), given, "true");
    return given === true;
  }
  if (name === "matches") return reader.text(joinPath(at, name), given, "a pattern") !== undefined;
  return bytes(joinPath(at, name), given);
}
