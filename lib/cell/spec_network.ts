/**
 * The network rules of a spec: `authority.egressRules` and `authority.ingress`.
 *
 * What would be taken for something else than it says is refused, with what to write instead:
 * names (they come later), prefixes with bits past their length, IPv4 written as IPv6, `0.0.0.0`
 * for "everything", and wide rules of which the guards would leave nothing.
 *
 * @module
 */
import {
  type Cidr,
  cidrContains,
  formatCidr,
  formatIp,
  hasHostBits,
  isHostCidr,
  joinPath,
  lastIp,
  parseCidr,
} from "#lib/base/mod.ts";
import { guardCovering } from "./guards.ts";
import type { SpecReader } from "./spec_reader.ts";
import {
  type EgressRule,
  type IngressRule,
  type PortRange,
  type RuleProtocol,
  UDP_INGRESS_WEIGHT_DEFAULT,
  type UdpIngress,
} from "./spec_types.ts";

/** How many rules a list may have. */
export const RULES_MAX = 256;
/** How many ports or ranges one rule may name. */
export const RULE_PORTS_MAX = 64;

const PORT_MAX = 65_535;
const PORT_WANTED = 'a port from 1 to 65535, or a range as "8000-8100"';
const HOST_WANTED = 'an address or a prefix, as "192.0.2.1", "10.0.0.0/8" or "fd00::/8"';
const PROTOCOLS = ["tcp", "udp", "icmp"] as const satisfies readonly RuleProtocol[];

/** Reads `authority.egressRules`. */
export function readEgressRules(
  reader: SpecReader,
  path: string,
  value: unknown,
): readonly EgressRule[] {
  const rules = reader.list(path, value ?? [], RULES_MAX) ?? [];
  return rules.flatMap((item, index) => {
    const rule = readRule(reader, `${path}[${index}]`, item, "host");
    return rule === undefined ? [] : [{ host: rule.prefix, ...rule.what }];
  });
}

/** Reads `authority.ingress`. */
export function readIngressRules(
  reader: SpecReader,
  path: string,
  value: unknown,
): readonly IngressRule[] {
  const rules = reader.list(path, value ?? [], RULES_MAX) ?? [];
  return rules.flatMap((item, index) => {
    const rule = readRule(reader, `${path}[${index}]`, item, "from");
    return rule === undefined ? [] : [{ from: rule.prefix, ...rule.what }];
  });
}

interface ReadRule {
  readonly prefix: string;
  readonly what: { readonly ports: readonly PortRange[]; readonly protocol: RuleProtocol };
}

function readRule(
  reader: SpecReader,
  path: string,
  value: unknown,
  field: "host" | "from",
): ReadRule | undefined {
  const fields = reader.object(path, value, [field, "port", "ports", "protocol"]);
  if (fields === undefined) return undefined;
  const prefix = readPrefix(reader, joinPath(path, field), fields[field], field);
  const protocol = fields.protocol === undefined
    ? "tcp"
    : reader.choice(joinPath(path, "protocol"), fields.protocol, PROTOCOLS);
  const ports = readPorts(reader, path, fields, protocol);
  if (prefix === undefined || protocol === undefined || ports === undefined) return undefined;
  return { prefix: formatCidr(prefix), what: { ports, protocol } };
}

function readPrefix(
  reader: SpecReader,
  path: string,
  value: unknown,
  field: "host" | "from",
): Cidr | undefined {
  const text = reader.text(path, value, HOST_WANTED, 256);
  if (text === undefined) return undefined;
  const prefix = parseCidr(text);
  if (prefix === undefined) return reader.note(path, text, HOST_WANTED, whyNotPrefix(text));
  if (hasHostBits(text)) {
    const meant = JSON.stringify(formatCidr(prefix));
    return reader.note(path, text, "a prefix without bits past its length", `write ${meant}`);
  }
  const mapped = mappedIpv4(prefix);
  if (mapped !== undefined) {
    const wanted = "an IPv4 address in IPv4 form";
    return reader.note(path, text, wanted, `write ${JSON.stringify(mapped)}`);
  }
  const pointless = whyPointless(prefix, field);
  if (pointless !== undefined) return reader.note(path, text, ...pointless);
  return prefix;
}

function whyNotPrefix(text: string): string | undefined {
  if (text.includes("%")) return "an address without a zone";
  if (text.includes("://")) return "only an address: no scheme, no path";
  if (/^\[.*\]/.test(text)) return "an address without brackets; the port goes into port";
  if (/^[0-9.]+:[0-9]+$/.test(text)) return "the port goes into port";
  if (/^[A-Za-z0-9_*.-]*[A-Za-z*][A-Za-z0-9_*.-]*$/.test(text)) {
    return "host names are not available yet: write the addresses that the name stands for";
  }
  return undefined;
}

/** `::ffff:1.2.3.4` leaves a program's socket as IPv4, so a rule for it would never match. */
function mappedIpv4(prefix: Cidr): string | undefined {
  if (prefix.family !== 6 || prefix.bits >> 32n !== 0xffffn || prefix.prefixLength < 96) {
    return undefined;
  }
  const address = formatIp({ family: 4, bits: prefix.bits & 0xffff_ffffn });
  return prefix.prefixLength === 128 ? address : `${address}/${prefix.prefixLength - 96}`;
}

/** What is wanted instead of a rule that cannot do what its author thinks; and a suggestion. */
function whyPointless(
  prefix: Cidr,
  field: "host" | "from",
): readonly [wanted: string, suggestion: string] | undefined {
  if (isHostCidr(prefix)) {
    if (prefix.bits === 0n) {
      const all = JSON.stringify(prefix.family === 4 ? "0.0.0.0/0" : "::/0");
      return ["the address of a host", `write ${all} for every address`];
    }
    return isLoopback(prefix)
      ? ["an address outside the cell", "loopback is the cell's own, and needs no rule"]
      : undefined;
  }
  const guard = field === "host" ? guardCovering(prefix) : undefined;
  if (guard === undefined) return undefined;
  return [
    "a single address, or a prefix outside the guarded ones",
    `a wide rule opens nothing in ${guard.prefix} (${guard.reason})`,
  ];
}

function isLoopback(prefix: Cidr): boolean {
  const loopback = parseCidr(prefix.family === 4 ? "127.0.0.0/8" : "::1/128");
  return loopback !== undefined && cidrContains(loopback, lastIp(prefix));
}

function readPorts(
  reader: SpecReader,
  path: string,
  fields: Readonly<Record<string, unknown>>,
  protocol: RuleProtocol | undefined,
): readonly PortRange[] | undefined {
  const { port, ports } = fields;
  if (port !== undefined && ports !== undefined) {
    return reader.note(joinPath(path, "port"), port, "either port or ports, not both");
  }
  const field = port === undefined ? "ports" : "port";
  // Not `??`: a port that was left blank is null, and must not come to mean every port.
  const value = port === undefined ? ports : port;
  const at = joinPath(path, field);
  if (value === undefined) return [];
  if (protocol === "icmp") return reader.note(at, value, "no ports with icmp");
  if (field === "port") {
    const range = readPortRange(reader, at, value);
    return range === undefined ? undefined : [range];
  }
  const items = reader.list(at, value, RULE_PORTS_MAX);
  if (items === undefined) return undefined;
  // An empty list could mean none or all.
  if (items.length === 0) return reader.note(at, value, "at least one port, or no ports at all");
  const ranges = items.map((item, index) => readPortRange(reader, `${at}[${index}]`, item));
  return ranges.includes(undefined) ? undefined : mergeRanges(ranges as PortRange[]);
}

function readPortRange(reader: SpecReader, path: string, value: unknown): PortRange | undefined {
  const text = typeof value === "number" ? `${value}` : value;
  const found = typeof text === "string" ? /^([0-9]{1,5})(?:-([0-9]{1,5}))?$/.exec(text) : null;
  if (found === null) return reader.note(path, value, PORT_WANTED);
  const from = Number(found[1]);
  const to = found[2] === undefined ? from : Number(found[2]);
  if (from < 1 || to > PORT_MAX) return reader.note(path, value, PORT_WANTED);
  if (from > to) return reader.note(path, value, PORT_WANTED, `write "${to}-${from}"`);
  return { from, to };
}

/** Sorted, and joined where they touch, so that the same ports are the same policy. */
function mergeRanges(ranges: readonly PortRange[]): readonly PortRange[] {
  const merged: { from: number; to: number }[] = [];
  for (const range of [...ranges].sort((a, b) => a.from - b.from)) {
    const last = merged[merged.length - 1];
    if (last !== undefined && range.from <= last.to + 1) last.to = Math.max(last.to, range.to);
    else merged.push({ ...range });
  }
  return merged;
}

const UDP_INGRESS_MAX = 16;
const CLUSTER_NAME = /^[A-Za-z0-9](?:[A-Za-z0-9._:-]{0,126}[A-Za-z0-9])?$/;

/** Reads `spec.ingress`: ports that are backends of the host's load balancer. */
export function readIngress(
  reader: SpecReader,
  path: string,
  value: unknown,
): { ingress?: { readonly udp: readonly UdpIngress[] } } {
  if (value === undefined) return {};
  const fields = reader.object(path, value, ["udp"]);
  if (fields === undefined) return {};
  const at = joinPath(path, "udp");
  const items = reader.list(at, fields.udp ?? [], UDP_INGRESS_MAX) ?? [];
  const port = { min: 1, max: 0xffff };
  const udp = items.flatMap((item, index) => {
    const place = `${at}[${index}]`;
    const of = reader.object(place, item, ["cluster", "port", "weight"]);
    if (of === undefined) return [];
    return [{
      cluster: reader.matching(
        joinPath(place, "cluster"),
        of.cluster,
        CLUSTER_NAME,
        "the name of a cluster",
      ) ?? "",
      port: reader.integer(joinPath(place, "port"), of.port, port) ?? 0,
      weight: of.weight === undefined
        ? UDP_INGRESS_WEIGHT_DEFAULT
        : reader.integer(joinPath(place, "weight"), of.weight, port) ?? 0,
    }];
  });
  return udp.length === 0 ? {} : { ingress: { udp } };
}
