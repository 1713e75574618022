/**
 * Reads a UDP document, whole or a part of it, and says everything that is wrong with it at once.
 *
 * ```ts
 * import { readUdpConfig } from "#lib/udp/mod.ts";
 *
 * const { listeners } = readUdpConfig({
 *   clusters: [{ name: "dns", backends: ["192.0.2.1:53"] }],
 *   listeners: [{ name: "dns", listen: "127.0.0.1:5353", cluster: "dns" }],
 * });
 * if (listeners[0].route.frontTimeoutMs !== 30_000) throw new Error("unexpected");
 * ```
 *
 * @module
 */
import { type FieldProblem, FieldReader, formatProblem } from "#lib/base/mod.ts";
import { readCluster } from "./config_cluster.ts";
import { LIMIT_FIELDS, limitOf, readChoice, readNumber } from "./config_fields.ts";
import { readListener } from "./config_listener.ts";
import {
  type BalancerConfig,
  type ClusterConfig,
  type ListenerConfig,
  type ShellChoice,
  UDP_CONFIG_LIMITS,
  type UdpConfig,
} from "./config_types.ts";

const SHELLS: readonly ShellChoice[] = ["auto", "fast", "portable"];

/** A document that says something that cannot be. Its message is one line a problem. */
export class UdpConfigError extends SyntaxError {
  /** For logs. */
  override name = "UdpConfigError";

  /** Says each problem in a line. */
  constructor(
    /** At least one, in the order in which the document was read. */
    readonly problems: readonly FieldProblem[],
  ) {
    super(`Cannot read the UDP configuration: ${problems.map(formatProblem).join("\n")}`);
  }
}

/**
 * A whole document. `clustersElsewhere` are names that its listeners may use too. Throws
 * {@link UdpConfigError}.
 */
export function readUdpConfig(
  value: unknown,
  clustersElsewhere: Iterable<string> = [],
): UdpConfig {
  return finish((reader) => {
    const fields = reader.object("", value, ["balancer", "clusters", "listeners"]) ?? {};
    const clusters = readAll(
      reader,
      "clusters",
      fields.clusters,
      UDP_CONFIG_LIMITS.clustersMax,
      readCluster,
    );
    const listeners = readAll(
      reader,
      "listeners",
      fields.listeners,
      UDP_CONFIG_LIMITS.listenersMax,
      readListener,
    );
    const names = new Set([...clustersElsewhere, ...clusters.map(({ name }) => name)]);
    for (const [index, { cluster }] of listeners.entries()) {
      if (cluster === null || names.has(cluster)) continue;
      reader.note(`listeners[${index}].cluster`, cluster, "the name of a cluster");
    }
    return { balancer: readBalancer(reader, "balancer", fields.balancer), clusters, listeners };
  });
}

/** One listener; that its cluster exists is the caller's to check. Throws {@link UdpConfigError}. */
export function readUdpListener(value: unknown): ListenerConfig {
  return finish((reader) => readListener(reader, "", value)!);
}

/** One cluster. Throws {@link UdpConfigError}. */
export function readUdpCluster(value: unknown): ClusterConfig {
  return finish((reader) => readCluster(reader, "", value)!);
}

/** The balancer's own settings. Throws {@link UdpConfigError}. */
export function readUdpBalancer(value: unknown): BalancerConfig {
  return finish((reader) => readBalancer(reader, "", value));
}

function finish<T>(read: (reader: FieldReader) => T): T {
  const reader = new FieldReader();
  const result = read(reader);
  if (reader.problems.length > 0) throw new UdpConfigError(reader.problems);
  return result;
}

function readAll<T extends { readonly name: string }>(
  reader: FieldReader,
  path: string,
  value: unknown,
  countMax: number,
  read: (reader: FieldReader, path: string, value: unknown) => T | undefined,
): readonly T[] {
  if (value === undefined) return [];
  const names = new Set<string>();
  return (reader.list(path, value, countMax) ?? []).flatMap((item, index) => {
    const at = `${path}[${index}]`;
    const found = read(reader, at, item);
    if (found === undefined) return [];
    if (names.has(found.name)) reader.note(`${at}.name`, found.name, "a name that is not taken");
    names.add(found.name);
    return [found];
  });
}

function readBalancer(reader: FieldReader, path: string, value: unknown): BalancerConfig {
  const { workersMax, maxFlowsMax, maxFlowsDefault } = UDP_CONFIG_LIMITS;
  const known = ["shell", "workers", "maxFlows", "whenFull", "prefixes"];
  const fields = value === undefined ? {} : reader.object(path, value, known) ?? {};
  const at = (name: string) => path === "" ? name : `${path}.${name}`;
  const { workers, maxFlows, whenFull, prefixes } = fields;
  const shell = readChoice(reader, at("shell"), fields.shell, SHELLS, "auto");
  const bounds = { min: 1, max: workersMax, fallback: 1 };
  const count = readNumber(reader, at("workers"), workers, bounds);
  if (shell === "portable" && count > 1) {
    reader.note(at("workers"), workers, "1, since the portable shell has one thread");
  }
  return {
    shell,
    workers: count,
    maxFlows: readNumber(reader, at("maxFlows"), maxFlows, {
      min: 1,
      max: maxFlowsMax,
      fallback: maxFlowsDefault,
    }),
    whenFull: readChoice(reader, at("whenFull"), whenFull, ["refuse", "evict-unreplied"], "refuse"),
    ...(prefixes === undefined ? {} : readPrefixLimit(reader, at("prefixes"), prefixes)),
  };
}

function readPrefixLimit(
  reader: FieldReader,
  path: string,
  value: unknown,
): Pick<BalancerConfig, "prefixes"> {
  const fields = reader.object(path, value, [...LIMIT_FIELDS, "ipv4Bits", "ipv6Bits"]);
  if (fields === undefined) return {};
  const bits = (name: string, max: number, fallback: number) =>
    readNumber(reader, `${path}.${name}`, fields[name], { min: 1, max, fallback });
  return {
    prefixes: {
      ...limitOf(reader, path, fields),
      ipv4Bits: bits("ipv4Bits", 32, 32),
      ipv6Bits: bits("ipv6Bits", 128, 64),
    },
  };
}
