/**
 * What a server is told about liveness beyond its settings: the file of `--liveness-file`.
 *
 * ```yaml
 * socket: { mode: "0660", allowedUids: [1000] }
 * thresholdMs: 5000
 * thresholds:
 *   - { match: { name: ingest }, thresholdMs: 1000 }
 * expected:
 *   - { match: { name: ingest }, withinSeconds: 30 }
 * recovery:
 *   policies:
 *     - match: { name: ingest }
 *       ladder:
 *         - signal: SIGABRT
 *         - { command: [systemctl, restart, ingest], attempts: 3 }
 *         - webhook: https://alerts.example/celld
 * ```
 *
 * It decides what is run, so it must be a trusted file (`docs/recovery.md`). It is wholly read or
 * refused, with everything that is wrong in it.
 *
 * @module
 */
import { FieldReader, type Fields, formatProblem } from "#lib/base/mod.ts";
import {
  DEFAULT_TRACKER_CAPACITY,
  type ExpectedAgent,
  MAX_TRACKER_CAPACITY,
  RULES_MAX,
  THRESHOLD_NS_MIN,
  type ThresholdRule,
} from "#lib/liveness/mod.ts";
import { SettingError } from "./config.ts";
import { readMatch, readRecovery, type RecoveryConfig } from "./liveness_config_recovery.ts";

/** The silence that is a stall where nobody says, in milliseconds. */
export const THRESHOLD_MS_DEFAULT = 5000;
/** The longest threshold, in milliseconds: a week. */
export const THRESHOLD_MS_MAX = 7 * 24 * 3600 * 1000;
const U32_MAX = 0xffff_ffff;

/** How a server watches. */
export interface LivenessConfig {
  /** Permission bits of the host's socket. */
  readonly socketMode: number;
  /** Who may send there besides celld's own user. */
  readonly allowedUids: readonly number[];
  /** Whether systemd's notifications are taken there. */
  readonly takesNotifications: boolean;
  /** Agents at once. */
  readonly capacity: number;
  /** Silence that is a stall, in milliseconds. */
  readonly thresholdMs: number;
  /** Thresholds for some; the first that fits. */
  readonly thresholds: readonly ThresholdRule[];
  /** Agents that must come. */
  readonly expected: readonly ExpectedAgent[];
  /** What is done about a stall; absent: nothing. */
  readonly recovery?: RecoveryConfig;
}

const FIELDS = ["socket", "capacity", "thresholdMs", "thresholds", "expected", "recovery"];

/** Where nothing is said. */
export const LIVENESS_DEFAULTS: LivenessConfig = {
  socketMode: 0o600,
  allowedUids: [],
  takesNotifications: true,
  capacity: 4096,
  thresholdMs: THRESHOLD_MS_DEFAULT,
  thresholds: [],
  expected: [],
};

/** Reads the text of a liveness file. Rejects with {@link SettingError}. */
export async function parseLivenessFile(text: string, path: string): Promise<LivenessConfig> {
  const { parseDocument } = await import("yaml");
  const refuse = (why: string) => new SettingError(`Cannot use ${JSON.stringify(path)}: ${why}`);
  const document = parseDocument(text, { uniqueKeys: true });
  if (document.errors.length > 0) {
    const [{ code, linePos }] = document.errors;
    throw refuse(`not YAML in line ${linePos?.[0].line ?? "?"} (${code})`);
  }
  const reader = new FieldReader();
  const config = readLiveness(reader, document.toJS({ maxAliasCount: 0 }) ?? {});
  if (reader.problems.length > 0) throw refuse(reader.problems.map(formatProblem).join("\n"));
  return config;
}

function readLiveness(reader: FieldReader, value: unknown): LivenessConfig {
  const fields = reader.object("", value, FIELDS) ?? {};
  const { capacity, recovery } = fields;
  const thresholdMs = readThreshold(reader, "thresholdMs", fields.thresholdMs) ??
    LIVENESS_DEFAULTS.thresholdMs;
  const capacities = { min: 1, max: MAX_TRACKER_CAPACITY };
  return {
    ...readSocket(reader, fields.socket),
    capacity: capacity === undefined
      ? LIVENESS_DEFAULTS.capacity
      : reader.integer("capacity", capacity, capacities) ?? DEFAULT_TRACKER_CAPACITY,
    thresholdMs,
    thresholds: readEach(reader, "thresholds", fields.thresholds, ["match", "thresholdMs"], rule),
    expected: readEach(reader, "expected", fields.expected, ["match", "withinSeconds"], expected),
    ...(recovery === undefined ? {} : { recovery: readRecovery(reader, "recovery", recovery) }),
  };
}

function readSocket(
  reader: FieldReader,
  value: unknown,
): Pick<LivenessConfig, "socketMode" | "allowedUids" | "takesNotifications"> {
  const { socketMode, allowedUids, takesNotifications } = LIVENESS_DEFAULTS;
  if (value === undefined) return { socketMode, allowedUids, takesNotifications };
  const fields = reader.object("socket", value, ["mode", "allowedUids", "notifications"]) ?? {};
  const wanted = 'an octal mode in quotes, such as "0660"';
  const mode = fields.mode === undefined
    ? undefined
    : reader.matching("socket.mode", fields.mode, /^0?[0-7]{3}$/, wanted);
  const uids = fields.allowedUids === undefined
    ? []
    : reader.list("socket.allowedUids", fields.allowedUids, RULES_MAX) ?? [];
  const notifications = fields.notifications === undefined
    ? undefined
    : reader.flag("socket.notifications", fields.notifications);
  return {
    socketMode: mode === undefined ? socketMode : parseInt(mode, 8),
    allowedUids: uids.map((uid, index) =>
      reader.integer(`socket.allowedUids[${index}]`, uid, { min: 0, max: U32_MAX }) ?? 0
    ),
    takesNotifications: notifications ?? takesNotifications,
  };
}

function readThreshold(reader: FieldReader, path: string, value: unknown): number | undefined {
  if (value === undefined) return undefined;
  return reader.integer(path, value, { min: THRESHOLD_NS_MIN / 1e6, max: THRESHOLD_MS_MAX });
}

function readEach<T>(
  reader: FieldReader,
  path: string,
  value: unknown,
  known: readonly string[],
  read: (reader: FieldReader, path: string, fields: Fields) => T,
): T[] {
  if (value === undefined) return [];
  return (reader.list(path, value, RULES_MAX) ?? []).map((item, index) => {
    const at = `${path}[${index}]`;
    return read(reader, at, reader.object(at, item, known) ?? {});
  });
}

function rule(reader: FieldReader, path: string, fields: Fields): ThresholdRule {
  const bounds = { min: THRESHOLD_NS_MIN / 1e6, max: THRESHOLD_MS_MAX };
  const thresholdMs = reader.integer(`${path}.thresholdMs`, fields.thresholdMs, bounds) ?? 0;
  return {
    match: readMatch(reader, `${path}.match`, fields.match),
    thresholdNs: thresholdMs * 1e6,
  };
}

function expected(reader: FieldReader, path: string, fields: Fields): ExpectedAgent {
  const bounds = { min: 1, max: THRESHOLD_MS_MAX / 1000 };
  const seconds = reader.integer(`${path}.withinSeconds`, fields.withinSeconds, bounds) ?? 0;
  return { match: readMatch(reader, `${path}.match`, fields.match), withinNs: seconds * 1e9 };
}
