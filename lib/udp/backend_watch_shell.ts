/**
 * How a plane's backends are: what their health says, unless they drain.
 *
 * A backend that drains stays so, whatever its health: being up does not end a drain.
 *
 * @module
 */
import type { BackendState } from "./contract.ts";
import { HEALTH_DEFAULTS, type HealthView } from "./health.ts";
import { HealthChecker, type OnHealth } from "./health_shell.ts";
import type { BackendHealth } from "./udp_shell.ts";
import type { BackendSettings, BackendTraffic } from "./worker_messages.ts";

/** Brings a backend's state in force. */
export type TellState = (backend: number, state: BackendState) => Promise<unknown>;

/** See the module. */
export class BackendWatch {
  readonly #health: HealthChecker;
  readonly #draining = new Set<number>();
  readonly #tell: TellState;

  /**
   * Starts without backends.
   *
   * @param seed Of the probes' jitter.
   * @param onHealth Told of a change once it is in force, or could not be.
   */
  constructor(seed: number, tell: TellState, onHealth: OnHealth) {
    this.#tell = tell;
    this.#health = new HealthChecker(seed, (backend, isUp, reason) => {
      const state = isUp ? this.#stateOfWell(backend) : "down";
      // A plane that is gone is told elsewhere.
      const isInForce = tell(backend, state).catch(() => {});
      void isInForce.then(() => onHealth(backend, isUp, reason));
    });
  }

  /** A backend was set: judges it as it is to be, or not at all. Throws `HealthCheckError`. */
  async set({ backend, address, port }: BackendSettings, health?: BackendHealth): Promise<void> {
    if (health === undefined) return await this.#forget(backend);
    const { probe, settings, expectsProxyHeader, isUp } = health;
    this.#health.set(backend, {
      address,
      port,
      probe: probe ?? { by: "none" },
      settings: { ...HEALTH_DEFAULTS, ...settings },
      ...(expectsProxyHeader === undefined ? {} : { expectsProxyHeader }),
      ...(isUp === undefined ? {} : { isUp }),
    });
    // One that has to prove itself first gets nothing until it did.
    if (this.view(backend)?.isUp === false) await this.#tell(backend, "down");
  }

  /** Somebody says how a backend is. */
  async setState(backend: number, state: BackendState): Promise<void> {
    if (state === "removed") this.#health.remove(backend);
    if (state === "draining") this.#draining.add(backend);
    else this.#draining.delete(backend);
    await this.#tell(backend, state);
  }

  /** What is known of a backend's health; `undefined` where nobody looks. */
  view(backend: number): HealthView | undefined {
    return this.#health.view(backend);
  }

  /** What went to a backend and what came from it. */
  handleTraffic({ backend, sent, received, icmp }: BackendTraffic): void {
    for (const code of icmp) this.#health.handleIcmp(backend, code);
    this.#health.handleTraffic(backend, sent, received);
  }

  /** Ends all probes. */
  async stop(): Promise<void> {
    await this.#health.stop();
  }

  /** Nobody looks any more: what was found is void. */
  async #forget(backend: number): Promise<void> {
    const isDown = this.view(backend)?.isUp === false;
    this.#health.remove(backend);
    if (isDown) await this.#tell(backend, this.#stateOfWell(backend));
  }

  #stateOfWell(backend: number): BackendState {
    return this.#draining.has(backend) ? "draining" : "up";
  }
}
