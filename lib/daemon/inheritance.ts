/**
 * What a server leaves to its successor, as lines of JSON: the UDP load balancer's open sockets and
 * the flows that live on them.
 *
 * ```
 * {"celld":"inheritance","version":1,…}      who leaves it, names of numbers
 * {"worker":0,"listener":{"listener":0,"fd":31,…}}
 * {"worker":0,"flow":{"listener":0,"backend":2,"fd":47,…}}
 * {"end":3}                                  how many lines there were before
 * ```
 *
 * Descriptors are the numbers that they have with the writer; who passes them on says which they
 * became. A successor may be another version: what it does not understand of one line it leaves,
 * and counts. Pure.
 *
 * @module
 */
import type {
  HashKey,
  InheritedFlow,
  InheritedListener,
  InheritedSource,
  ReleasedWorker,
} from "#lib/udp/mod.ts";
import { isFlow, isHashKey, isListener, isSource, isWhole } from "./inheritance_lines.ts";

/** Of the lines. A reader refuses any other. */
export const INHERITANCE_VERSION = 1;

/** A listener by its name. */
export interface ReleasedListener {
  readonly name: string;
  /** Its number in the lines. */
  readonly number: number;
  readonly address: string;
  /** The port that it has, whoever chose it. */
  readonly port: number;
  /** It drains, and for how long still, in milliseconds. */
  readonly drainMs?: number;
}

/** A backend by its name. */
export interface ReleasedBackend {
  /** `cluster/backend`. */
  readonly key: string;
  /** Its number in the lines. */
  readonly number: number;
  /** `10.0.0.1:53`: another place is another backend. */
  readonly endpoint: string;
  /** What was known of its health; absent where nobody looked. */
  readonly isUp?: boolean;
  readonly isDraining: boolean;
}

/** All that a load balancer leaves. */
export interface ReleasedUdp {
  /** Of the hashing policies: with it new flows get the backends that they would have had. */
  readonly hashKey: HashKey;
  readonly listeners: readonly ReleasedListener[];
  readonly backends: readonly ReleasedBackend[];
  /** By the workers' numbers. */
  readonly workers: readonly ReleasedWorker[];
}

/** It cannot be read. */
export class InheritanceError extends Error {
  override name = "InheritanceError";

  /** Says what is wrong. */
  constructor(reason: string) {
    super(`Cannot take over what the server before left: ${reason}`);
  }
}

/** The lines of what is left, without line ends. */
export function* inheritanceLines(
  { hashKey, listeners, backends, workers }: ReleasedUdp,
  pid: number,
): Generator<string> {
  const head: Head & Record<string, unknown> = {
    celld: "inheritance",
    version: INHERITANCE_VERSION,
    pid,
    descriptors: descriptorsOf({ workers }),
    workers: workers.length,
    hashKey,
    listeners,
    backends,
  };
  yield JSON.stringify(head);
  let lines = 1;
  for (const [worker, { listeners, sources, flows, discarded }] of workers.entries()) {
    for (const listener of listeners) yield JSON.stringify({ worker, listener });
    for (const source of sources) yield JSON.stringify({ worker, source });
    for (const flow of flows) yield JSON.stringify({ worker, flow });
    yield JSON.stringify({ worker, discarded });
    lines += listeners.length + sources.length + flows.length + 1;
  }
  yield JSON.stringify({ end: lines });
}

/** The descriptors that are left, each once. */
export function descriptorsOf({ workers }: Pick<ReleasedUdp, "workers">): number[] {
  return workers.flatMap(({ listeners, sources, flows }) => [
    ...listeners.map(({ fd }) => fd),
    ...sources.map(({ fd }) => fd),
    ...flows.flatMap(({ fd }) => fd === undefined ? [] : [fd]),
  ]);
}

/** Collects lines; see {@link InheritanceReader.finish}. */
export class InheritanceReader {
  readonly #numberOf: (fd: number) => number | undefined;
  /** Of the writer's. */
  readonly #known = new Set<number>();
  #head: Head | undefined;
  #workers: Worker[] = [];
  #lines = 0;
  #isWhole = false;
  #refused = 0;

  /** @param numberOf What became of a descriptor of the writer's; `undefined`: it did not come. */
  constructor(numberOf: (fd: number) => number | undefined = (fd) => fd) {
    this.#numberOf = numberOf;
  }

  /** The writer's descriptors, of lines that are not understood too; known with the first line. */
  get descriptors(): readonly number[] {
    return this.#head?.descriptors ?? [];
  }

  /** Lines that were not understood. */
  get refused(): number {
    return this.#refused;
  }

  /** Takes the next line. Throws {@link InheritanceError} where nothing can come of it. */
  push(text: string): void {
    const line = parse(text);
    if (this.#head === undefined) {
      this.#head = readHead(line);
      this.#workers = Array.from({ length: this.#head.workers }, newWorker);
    } else if (isWhole(line.end)) {
      this.#isWhole = line.end === this.#lines;
      return;
    } else if (!this.#take(line)) this.#refused += 1;
    this.#lines += 1;
  }

  /** All of it. Throws {@link InheritanceError} where its end is missing. */
  finish(): ReleasedUdp & { readonly pid: number } {
    if (this.#head === undefined) throw new InheritanceError("there is nothing");
    if (!this.#isWhole) throw new InheritanceError(`it ends after ${this.#lines} lines`);
    const { pid, hashKey, listeners, backends } = this.#head;
    return { pid, hashKey, listeners, backends, workers: this.#workers };
  }

  #take({ worker, listener, source, flow, discarded }: Line): boolean {
    const of = isWhole(worker) ? this.#workers[worker] : undefined;
    if (of === undefined) return false;
    if (isWhole(discarded)) of.discarded = discarded;
    else if (isListener(listener)) return this.#add(of.listeners, listener);
    else if (isSource(source)) return this.#add(of.sources, source);
    else if (!isFlow(flow)) return false;
    else if (flow.fd !== undefined) return this.#add(of.flows, { ...flow, fd: flow.fd });
    else of.flows.push(flow);
    return true;
  }

  #add<T extends { readonly fd: number }>(list: (T | InheritedFlow)[], one: T): boolean {
    const fd = this.#numberOf(one.fd);
    // One socket is one thing: it would be closed twice.
    if (fd === undefined || this.#known.has(one.fd)) return false;
    this.#known.add(one.fd);
    list.push({ ...one, fd });
    return true;
  }
}

interface Worker {
  readonly listeners: InheritedListener[];
  readonly sources: InheritedSource[];
  readonly flows: InheritedFlow[];
  discarded: number;
}

type Line = Readonly<Record<string, unknown>>;

interface Head {
  readonly pid: number;
  readonly descriptors: readonly number[];
  readonly workers: number;
  readonly hashKey: HashKey;
  readonly listeners: readonly ReleasedListener[];
  readonly backends: readonly ReleasedBackend[];
}

/** Workers that there may be. */
const WORKERS_MAX = 1024;

function newWorker(): Worker {
  return { listeners: [], sources: [], flows: [], discarded: 0 };
}

function parse(text: string): Line {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null) return value as Line;
  } catch {
    // Told below.
  }
  throw new InheritanceError(`${JSON.stringify(text.slice(0, 60))} is no line of it`);
}

function readHead(line: Line): Head {
  const { celld, version, pid, descriptors, workers, hashKey, listeners, backends } = line;
  if (celld !== "inheritance" || version !== INHERITANCE_VERSION) {
    throw new InheritanceError(
      `it is of version ${JSON.stringify(version)}, want ${INHERITANCE_VERSION}`,
    );
  }
  const isSound = isWhole(pid) && Array.isArray(descriptors) && descriptors.every(isWhole) &&
    isWhole(workers) && workers <= WORKERS_MAX &&
    isHashKey(hashKey) && Array.isArray(listeners) && listeners.every(isReleasedListener) &&
    Array.isArray(backends) && backends.every(isReleasedBackend);
  if (!isSound) throw new InheritanceError("its first line has no names");
  return { pid, descriptors, workers, hashKey, listeners, backends };
}

function isReleasedListener(value: unknown): value is ReleasedListener {
  const { name, number, address, port, drainMs } = (value ?? {}) as Partial<ReleasedListener>;
  return typeof name === "string" && isWhole(number) && typeof address === "string" &&
    isWhole(port) && (drainMs === undefined || Number.isFinite(drainMs));
}

function isReleasedBackend(value: unknown): value is ReleasedBackend {
  const { key, number, endpoint, isUp, isDraining } = (value ?? {}) as Partial<ReleasedBackend>;
  return typeof key === "string" && isWhole(number) && typeof endpoint === "string" &&
    typeof isDraining === "boolean" && (isUp === undefined || typeof isUp === "boolean");
}
