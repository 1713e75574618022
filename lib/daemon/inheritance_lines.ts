/**
 * Whether a line of an inheritance is what it says: a predecessor of another version may write
 * other ones. Pure.
 *
 * @module
 */
import {
  type HashKey,
  type InheritedFlow,
  type InheritedListener,
  type InheritedSource,
  TUPLE_WORDS,
} from "#lib/udp/mod.ts";

const WORD_MAX = 0xffff_ffff;

/** Counts and times of a flow: all are there, none is negative. */
const FLOW_NUMBERS = [
  "listener",
  "backend",
  "affinity",
  "flags",
  "roundTrips",
  "requests",
  "responses",
  "replies",
  "dropped",
  "reselections",
  "bytesIn",
  "bytesOut",
  "ageMs",
  "remainingMs",
] as const satisfies readonly (keyof InheritedFlow)[];

/** A whole number from 0. */
export function isWhole(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** {@link HashKey} */
export function isHashKey(value: unknown): value is HashKey {
  const { low, high } = fieldsOf(value);
  return [low, high].every((word) => isWhole(word) && word <= WORD_MAX);
}

/** {@link InheritedListener} */
export function isListener(value: unknown): value is InheritedListener {
  const { listener, fd, dropped } = fieldsOf(value);
  return isWhole(listener) && isWhole(fd) && isWhole(dropped);
}

/** {@link InheritedSource} */
export function isSource(value: unknown): value is InheritedSource {
  const { prefix, isTransparent, fd, dropped } = fieldsOf(value);
  return typeof prefix === "string" && typeof isTransparent === "boolean" && isWhole(fd) &&
    isWhole(dropped);
}

/** {@link InheritedFlow} */
export function isFlow(value: unknown): value is InheritedFlow {
  const flow = fieldsOf(value);
  return FLOW_NUMBERS.every((name) => isAmount(flow[name])) && Number.isFinite(flow.firstReplyMs) &&
    isTuple(flow.tuple) && isCaps(flow.caps) &&
    (flow.fd === undefined || isWhole(flow.fd)) &&
    (flow.proxyTuple === undefined || isTuple(flow.proxyTuple)) &&
    (flow.source === undefined || isPlace(flow.source));
}

function isPlace(value: unknown): boolean {
  const { prefix, host } = fieldsOf(value);
  return typeof prefix === "string" && isWhole(host);
}

function isCaps(value: unknown): boolean {
  const { requests, responses, amplification } = fieldsOf(value);
  if (!isWhole(requests) || !(responses === null || isWhole(responses))) return false;
  if (amplification === undefined || amplification === null) return true;
  const { factor, roundTrips } = fieldsOf(amplification);
  return isAmount(factor) && isAmount(roundTrips);
}

function isTuple(value: unknown): boolean {
  return Array.isArray(value) && value.length === TUPLE_WORDS &&
    value.every((word) => isWhole(word) && word <= WORD_MAX);
}

function isAmount(value: unknown): value is number {
  return Number.isFinite(value) && (value as number) >= 0;
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? value as Record<string, unknown> : {};
}
