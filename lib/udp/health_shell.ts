/**
 * Makes health probes and keeps the machine's time: the acting half of `health.ts`.
 *
 * One timer; as many probes at once as there are backends, up to a bound. A probe's socket is
 * closed when it ended, was cancelled, or the checker stopped.
 *
 * @module
 */
import { createSocket } from "node:dgram";
import { parseIp } from "#lib/base/mod.ts";
import { type CompiledProbe, compileProbe, type HealthProbe } from "./health_check.ts";
import { HealthMachine, type HealthSettings, type HealthView } from "./health.ts";
import { encodeLocalHeader } from "./proxy_protocol.ts";

/** A backend to be judged. */
export interface CheckedBackend {
  /** An IPv4 or IPv6 address. */
  readonly address: string;
  /** The port. */
  readonly port: number;
  /** How it is asked. */
  readonly probe: HealthProbe;
  /** `isProbed` follows from `probe`. */
  readonly settings: Omit<HealthSettings, "isProbed">;
  /** Probes carry a PROXY protocol header that says so. @default {false} */
  readonly expectsProxyHeader?: boolean;
  /** What a predecessor knew; of use when it is new here. */
  readonly isUp?: boolean;
}

/** Told of each change. */
export type OnHealth = (backend: number, isUp: boolean, reason: string) => void;

interface Target {
  readonly backend: CheckedBackend;
  readonly probe: CompiledProbe;
}

const PROXY_LOCAL = encodeLocalHeader();

/** Judges backends until it is stopped. */
export class HealthChecker {
  readonly #machine: HealthMachine;
  readonly #targets = new Map<number, Target>();
  readonly #running = new Map<number, AbortController>();
  readonly #ended = new Set<Promise<void>>();
  readonly #onHealth: OnHealth;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isStopped = false;

  /**
   * Starts without backends.
   *
   * @param seed Of the probes' jitter.
   */
  constructor(seed: number, onHealth: OnHealth) {
    this.#machine = new HealthMachine(seed);
    this.#onHealth = onHealth;
  }

  /** Judges a backend, or judges it in another way. Throws `HealthCheckError`. */
  set(backend: number, checked: CheckedBackend): void {
    const probe = compileProbe(checked.probe);
    const settings = { ...checked.settings, isProbed: probe.by !== "none" };
    this.#targets.set(backend, { backend: checked, probe });
    this.#machine.update(backend, settings, performance.now(), checked.isUp);
    this.#go();
  }

  /** Forgets a backend. */
  remove(backend: number): void {
    this.#targets.delete(backend);
    this.#machine.remove(backend);
    this.#go();
  }

  /** What is known of a backend. */
  view(backend: number): HealthView | undefined {
    return this.#machine.view(backend);
  }

  /** The kernel reported an ICMP message about this backend. */
  handleIcmp(backend: number, code: string): void {
    this.#machine.handleIcmp(backend, code, performance.now());
    this.#go();
  }

  /** Datagrams to and from a backend since the last call. */
  handleTraffic(backend: number, sent: number, received: number): void {
    this.#machine.handleTraffic(backend, sent, received, performance.now());
    this.#go();
  }

  /** Ends all probes; resolves when their sockets are closed. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    for (const controller of this.#running.values()) controller.abort();
    await Promise.all(this.#ended);
  }

  #go(): void {
    if (this.#isStopped) return;
    this.#drain();
    clearTimeout(this.#timer);
    const dueMs = this.#machine.pollTimeout();
    if (dueMs === undefined) return;
    const delayMs = Math.max(0, Math.ceil(dueMs - performance.now()));
    this.#timer = setTimeout(() => {
      this.#machine.handleTimeout(performance.now());
      this.#go();
    }, delayMs);
  }

  #drain(): void {
    for (;;) {
      const output = this.#machine.pollOutput();
      if (output === undefined) return;
      if (output.type === "changed") this.#onHealth(output.backend, output.isUp, output.reason);
      else if (output.type === "cancel") this.#running.get(output.probe)?.abort();
      else this.#start(output.backend, output.probe);
    }
  }

  #start(backend: number, probe: number): void {
    const target = this.#targets.get(backend);
    if (target === undefined) return;
    const controller = new AbortController();
    this.#running.set(probe, controller);
    const ended = makeProbe(target, probe & 0xffff, controller.signal).then((failure) => {
      this.#running.delete(probe);
      this.#ended.delete(ended);
      if (this.#isStopped || controller.signal.aborted) return;
      this.#machine.handleResult(probe, failure, performance.now());
      this.#go();
    });
    this.#ended.add(ended);
  }
}

/** Never throws: what went wrong is the answer. */
async function makeProbe(
  { backend, probe }: Target,
  nonce: number,
  signal: AbortSignal,
): Promise<string | undefined> {
  try {
    if (probe.by === "tcp") return await connectTcp(backend, probe.port, signal);
    if (probe.by === "udp") return await askUdp(backend, probe, nonce, signal);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

async function connectTcp(
  { address, port }: CheckedBackend,
  own: number | undefined,
  signal: AbortSignal,
): Promise<string | undefined> {
  const connection = await Deno.connect({
    hostname: address,
    port: own ?? port,
    signal,
    autoSelectFamily: false,
  });
  connection.close();
  return undefined;
}

async function askUdp(
  backend: CheckedBackend,
  probe: CompiledProbe & { by: "udp" },
  nonce: number,
  signal: AbortSignal,
): Promise<string | undefined> {
  const { address, port, expectsProxyHeader } = backend;
  const socket = createSocket(parseIp(address)?.family === 6 ? "udp6" : "udp4");
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  const onAbort = () => resolve("cancelled");
  signal.addEventListener("abort", onAbort);
  socket.on("error", (error) => resolve(error.message));
  // The socket is connected: an answer is from who was asked.
  socket.on("message", (answer) => resolve(probe.judge(new Uint8Array(answer), nonce)));
  try {
    await new Promise<void>((connected) => socket.connect(probe.port ?? port, address, connected));
    const request = probe.request(nonce);
    const datagram = expectsProxyHeader === true
      ? new Uint8Array([...PROXY_LOCAL, ...request])
      : request;
    socket.send(datagram);
    return await promise;
  } finally {
    signal.removeEventListener("abort", onAbort);
    await new Promise<void>((closed) => socket.close(() => closed()));
  }
}
