/**
 * A listener of a UDP document.
 *
 * @module
 */
import { type FieldReader, type Fields, joinPath } from "#lib/base/mod.ts";
import type { Affinity } from "./affinity.ts";
import {
  readChoice,
  readEndpoint,
  readFlag,
  readLimit,
  readName,
  readNumber,
  readPrefixes,
  readTime,
} from "./config_fields.ts";
import { type ListenerConfig, UDP_CONFIG_LIMITS } from "./config_types.ts";
import { ROUTE_DEFAULTS, type RouteConfig } from "./contract.ts";

const ROUTE_FIELDS = [
  "affinity",
  "requests",
  "responses",
  "frontTimeoutMs",
  "backTimeoutMs",
  "unrepliedTimeoutMs",
  "proxyProtocol",
  "pending",
  "amplification",
  "whenDown",
  "whenRemoved",
  "whenUpstreamError",
  "forwardEmpty",
];
const LISTENER_FIELDS = [
  "name",
  "listen",
  "cluster",
  ...ROUTE_FIELDS,
  "maxDatagramBytes",
  "allow",
  "deny",
  "limit",
  "onChange",
  "proxyFrom",
  "receiveBufferBytes",
  "ipv6Only",
  "gro",
];
const CAP_MAX = 0xffff_ffff;
const WHEN_GONE = ["reselect", "keep", "close"] as const;
const PROXY_MODES = ["none", "first", "until-reply", "every"] as const;

/** Reads a listener; `undefined` where it is none at all. */
export function readListener(
  reader: FieldReader,
  path: string,
  value: unknown,
): ListenerConfig | undefined {
  const fields = reader.object(path, value, LISTENER_FIELDS);
  if (fields === undefined) return undefined;
  const at = (name: string) => joinPath(path, name);
  const { cluster, gro, ipv6Only } = fields;
  return {
    name: readName(reader, at("name"), fields.name),
    listen: readEndpoint(reader, at("listen"), fields.listen, 0) ?? { address: "", port: 0 },
    cluster: cluster === undefined || cluster === null
      ? null
      : readName(reader, at("cluster"), cluster),
    route: readRoute(reader, path, fields),
    maxDatagramBytes: readNumber(reader, at("maxDatagramBytes"), fields.maxDatagramBytes, {
      min: 1,
      max: UDP_CONFIG_LIMITS.maxDatagramBytesMax,
      fallback: UDP_CONFIG_LIMITS.maxDatagramBytesDefault,
    }),
    access: {
      allow: readPrefixes(reader, at("allow"), fields.allow),
      deny: readPrefixes(reader, at("deny"), fields.deny),
    },
    ...readLimit(reader, at("limit"), fields.limit),
    onChange: readChoice(reader, at("onChange"), fields.onChange, ["keep", "close"], "keep"),
    proxyFrom: readPrefixes(reader, at("proxyFrom"), fields.proxyFrom),
    receiveBufferBytes: readNumber(reader, at("receiveBufferBytes"), fields.receiveBufferBytes, {
      min: 4096,
      max: UDP_CONFIG_LIMITS.receiveBufferBytesMax,
      fallback: UDP_CONFIG_LIMITS.receiveBufferBytesDefault,
    }),
    ipv6Only: readFlag(reader, at("ipv6Only"), ipv6Only, true),
    gro: readFlag(reader, at("gro"), gro, false),
  };
}

function readRoute(
  reader: FieldReader,
  path: string,
  fields: Fields,
): Omit<RouteConfig, "cluster"> {
  const at = (name: string) => joinPath(path, name);
  const whenGone = (name: "whenDown" | "whenRemoved" | "whenUpstreamError") =>
    readChoice(reader, at(name), fields[name], WHEN_GONE, ROUTE_DEFAULTS[name]);
  const { responses, unrepliedTimeoutMs } = fields;
  return {
    affinity: readAffinity(reader, at("affinity"), fields.affinity),
    requests: readNumber(reader, at("requests"), fields.requests, {
      min: 0,
      max: CAP_MAX,
      fallback: ROUTE_DEFAULTS.requests,
    }),
    responses: responses === null ? null : readNumber(reader, at("responses"), responses, {
      min: 0,
      max: CAP_MAX,
      fallback: ROUTE_DEFAULTS.responses,
    }),
    frontTimeoutMs: readTime(
      reader,
      at("frontTimeoutMs"),
      fields.frontTimeoutMs,
      ROUTE_DEFAULTS.frontTimeoutMs,
    ),
    backTimeoutMs: readTime(
      reader,
      at("backTimeoutMs"),
      fields.backTimeoutMs,
      ROUTE_DEFAULTS.backTimeoutMs,
    ),
    unrepliedTimeoutMs: unrepliedTimeoutMs === undefined || unrepliedTimeoutMs === null
      ? null
      : readTime(reader, at("unrepliedTimeoutMs"), unrepliedTimeoutMs, 1),
    proxyProtocol: readChoice(
      reader,
      at("proxyProtocol"),
      fields.proxyProtocol,
      PROXY_MODES,
      ROUTE_DEFAULTS.proxyProtocol,
    ),
    pending: readPending(reader, at("pending"), fields.pending),
    amplification: readAmplification(reader, at("amplification"), fields.amplification),
    whenDown: whenGone("whenDown"),
    whenRemoved: whenGone("whenRemoved"),
    whenUpstreamError: whenGone("whenUpstreamError"),
    forwardEmpty: readFlag(
      reader,
      at("forwardEmpty"),
      fields.forwardEmpty,
      ROUTE_DEFAULTS.forwardEmpty,
    ),
  };
}

const AFFINITY_WORDS = ["source", "source-port"] as const;
const AFFINITY_FIELDS: Readonly<Record<string, readonly string[]>> = {
  "source": [],
  "source-port": [],
  "prefix": ["ipv4Bits", "ipv6Bits"],
  "payload": ["offset", "length"],
  "quic": ["connectionIdBytes", "serverIdBytes"],
};

/** A word, or `{by, …}`. */
function readAffinity(reader: FieldReader, path: string, value: unknown): Affinity {
  if (value === undefined) return ROUTE_DEFAULTS.affinity;
  if (typeof value === "string") {
    return { by: reader.choice(path, value, AFFINITY_WORDS) ?? "source" };
  }
  const kinds = Object.keys(AFFINITY_FIELDS) as Affinity["by"][];
  const by = reader.choice(joinPath(path, "by"), reader.record(path, value)?.by, kinds);
  if (by === undefined) return ROUTE_DEFAULTS.affinity;
  const fields = reader.object(path, value, ["by", ...AFFINITY_FIELDS[by]]) ?? {};
  const read = (name: string, min: number, max: number, fallback: number) =>
    readNumber(reader, joinPath(path, name), fields[name], { min, max, fallback });
  switch (by) {
    case "source":
    case "source-port":
      return { by };
    case "prefix":
      return { by, ipv4Bits: read("ipv4Bits", 0, 32, 24), ipv6Bits: read("ipv6Bits", 0, 128, 64) };
    case "payload":
      return { by, offset: read("offset", 0, 65_535, 0), length: read("length", 1, 65_535, 16) };
    case "quic":
      return {
        by,
        connectionIdBytes: read("connectionIdBytes", 1, 20, 8),
        serverIdBytes: read("serverIdBytes", 0, 19, 0),
      };
  }
}

function readPending(reader: FieldReader, path: string, value: unknown): RouteConfig["pending"] {
  const fallback = ROUTE_DEFAULTS.pending;
  if (value === undefined) return fallback;
  const fields = reader.object(path, value, ["datagrams", "bytes", "drops"]);
  if (fields === undefined) return fallback;
  const number = (name: "datagrams" | "bytes", max: number) =>
    readNumber(reader, joinPath(path, name), fields[name], {
      min: 0,
      max,
      fallback: fallback[name],
    });
  return {
    datagrams: number("datagrams", 1024),
    bytes: number("bytes", 16 * 1024 * 1024),
    drops: readChoice(
      reader,
      joinPath(path, "drops"),
      fields.drops,
      ["newest", "oldest"],
      fallback.drops,
    ),
  };
}

function readAmplification(
  reader: FieldReader,
  path: string,
  value: unknown,
): RouteConfig["amplification"] {
  if (value === undefined || value === null) return null;
  const fields = reader.object(path, value, ["factor", "roundTrips"]);
  if (fields === undefined) return null;
  const number = (name: string, max: number, fallback: number) =>
    readNumber(reader, joinPath(path, name), fields[name], { min: 1, max, fallback });
  return { factor: number("factor", 1000, 3), roundTrips: number("roundTrips", 255, 1) };
}
