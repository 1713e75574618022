/**
 * Fields that several parts of a UDP document have: endpoints, prefixes, limits, times.
 *
 * @module
 */
import {
  type Cidr,
  type FieldReader,
  formatIp,
  hasHostBits,
  joinPath,
  parseCidr,
  parseIp,
} from "#lib/base/mod.ts";
import { UDP_CONFIG_LIMITS, type UdpAddress } from "./config_types.ts";
import type { FlowLimit } from "./contract.ts";

/** Names of listeners, clusters and backends. */
const NAME = /^[A-Za-z0-9](?:[A-Za-z0-9._:[\]-]{0,126}[A-Za-z0-9\]])?$/;
const NAME_WANTED = "a name: 1 to 128 letters, digits and . _ - : inside";
const COUNT_MAX = 1_000_000_000;

/** A name. */
export function readName(reader: FieldReader, path: string, value: unknown): string {
  return reader.matching(path, value, NAME, NAME_WANTED) ?? "";
}

/** `10.0.0.1:53` or `[::1]:53`. */
export function readEndpoint(
  reader: FieldReader,
  path: string,
  value: unknown,
  portMin = 1,
): UdpAddress | undefined {
  const wanted = "an address and a port, such as 10.0.0.1:53 or [::1]:53";
  const text = reader.text(path, value, wanted, 64);
  if (text === undefined) return undefined;
  const found = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):(\d{1,5})$/.exec(text);
  const address = parseIp(found?.[1] ?? found?.[2] ?? "");
  const port = Number(found?.[3]);
  const isFamily = address !== undefined && (address.family === 6) === (found?.[1] !== undefined);
  if (!isFamily || !(port >= portMin && port <= 0xffff)) return reader.note(path, value, wanted);
  return { address: formatIp(address), port };
}

/** An endpoint as text. */
export function endpointText({ address, port }: UdpAddress): string {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

/** A list of prefixes; absent: none. */
export function readPrefixes(reader: FieldReader, path: string, value: unknown): readonly Cidr[] {
  if (value === undefined) return [];
  const items = reader.list(path, value, UDP_CONFIG_LIMITS.prefixesMax) ?? [];
  return items.flatMap((item, index) => {
    const prefix = typeof item === "string" ? parseCidr(item) : undefined;
    if (prefix !== undefined && !hasHostBits(item as string)) return [prefix];
    reader.note(`${path}[${index}]`, item, "an address or a prefix, such as 10.0.0.0/8");
    return [];
  });
}

/** A whole number, or what stands for it where it is absent. */
export function readNumber<T>(
  reader: FieldReader,
  path: string,
  value: unknown,
  bounds: { readonly min: number; readonly max: number; readonly fallback: T },
): number | T {
  return value === undefined
    ? bounds.fallback
    : reader.integer(path, value, bounds) ?? bounds.fallback;
}

/** Milliseconds from 1 to a day. */
export function readTime(
  reader: FieldReader,
  path: string,
  value: unknown,
  fallback: number,
): number {
  const bounds = { min: 1, max: UDP_CONFIG_LIMITS.timeoutMsMax, fallback };
  return readNumber(reader, path, value, bounds);
}

/** `true` or `false`, or what stands for it where it is absent. */
export function readFlag(
  reader: FieldReader,
  path: string,
  value: unknown,
  fallback: boolean,
): boolean {
  return value === undefined ? fallback : reader.flag(path, value) ?? fallback;
}

/** One of some words, or the fallback where it is absent. */
export function readChoice<T extends string>(
  reader: FieldReader,
  path: string,
  value: unknown,
  choices: readonly T[],
  fallback: T,
): T {
  return value === undefined ? fallback : reader.choice(path, value, choices) ?? fallback;
}

/** Fields of a {@link FlowLimit}. */
export const LIMIT_FIELDS = ["maxFlows", "newFlowsPerSecond", "burst"];

/** A bound on flows; absent: none. */
export function readLimit(
  reader: FieldReader,
  path: string,
  value: unknown,
): { limit?: FlowLimit } {
  if (value === undefined) return {};
  const fields = reader.object(path, value, LIMIT_FIELDS);
  return fields === undefined ? {} : { limit: limitOf(reader, path, fields) };
}

/** The members of a {@link FlowLimit} that an object has. */
export function limitOf(
  reader: FieldReader,
  path: string,
  fields: Readonly<Record<string, unknown>>,
): FlowLimit {
  const read = (name: string): Record<string, number> => {
    if (fields[name] === undefined) return {};
    const value = reader.integer(joinPath(path, name), fields[name], { min: 1, max: COUNT_MAX });
    return value === undefined ? {} : { [name]: value };
  };
  return Object.assign({}, ...LIMIT_FIELDS.map(read));
}
