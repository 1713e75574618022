/**
 * Backends of the load balancer's clusters: told to the workers, drained with their cells, and
 * what becomes of them told as facts.
 *
 * @module
 */
import type { UdpBackendData } from "#lib/events/mod.ts";
import { type BackendConfig, type ClusterConfig, endpointText } from "#lib/udp/mod.ts";
import type { UdpPlanePort } from "#lib/udp/mod_shell.ts";
import type { ReleasedBackend } from "./inheritance.ts";
import { backendSettings } from "./udp_plan.ts";
import type { BackendNow, UdpRegistry } from "./udp_registry.ts";
import type { ToldOnce } from "./udp_told.ts";

/** A backend as a cluster wants it. */
export interface WantedBackend {
  readonly config: BackendConfig;
  /** The cell that it is. */
  readonly cellId: string | undefined;
  /** Its cell is to end. */
  readonly isStopping: boolean;
}

/** What the backends are kept with. */
export interface UdpBackendsOptions {
  readonly registry: UdpRegistry;
  readonly told: ToldOnce;
  /** What the server before knew of a backend at a place. */
  knownOf(key: string, endpoint: string): ReleasedBackend | undefined;
  onBackend(data: UdpBackendData): void;
}

/** See the module. */
export class UdpBackends {
  readonly #registry: UdpRegistry;
  readonly #told: ToldOnce;
  readonly #options: UdpBackendsOptions;

  constructor(options: UdpBackendsOptions) {
    this.#options = options;
    this.#registry = options.registry;
    this.#told = options.told;
  }

  /** Sets one; its number. */
  async set(
    plane: UdpPlanePort,
    cluster: string,
    { config, cellId, isStopping }: WantedBackend,
    { health }: ClusterConfig,
  ): Promise<number> {
    const key = `${cluster}/${config.name}`;
    const endpoint = endpointText(config);
    const before = this.#registry.backends.get(key);
    // Another place is another backend.
    if (before !== undefined && endpointText(before.config) !== endpoint) {
      await this.remove(plane, before);
    }
    const number = this.#registry.backendNumbers.give(key);
    const settings = backendSettings(config, number, cellId ?? endpoint);
    const known = this.#options.knownOf(key, endpoint);
    const { probe, isProbed, ...rest } = health;
    const isWatched = isProbed || rest.passive !== undefined;
    await this.#told.tell(`backend/${key}`, { settings: { ...config }, health }, async () => {
      const isUp = known?.isUp === undefined ? {} : { isUp: known.isUp };
      await plane.setBackend(settings, ...(isWatched ? [{ probe, settings: rest, ...isUp }] : []));
      if (known?.isDraining === true) await plane.setBackendState(number, "draining");
    });
    const isDraining = this.#registry.backends.get(key)?.isDraining ?? known?.isDraining ?? false;
    const backend: BackendNow = {
      number,
      cluster,
      config,
      isDraining,
      ...(cellId === undefined ? {} : { cellId }),
    };
    this.#registry.backends.set(key, backend);
    if (isStopping && !isDraining) await this.#drainStopping(plane, backend);
    return number;
  }

  /** Forgets one. */
  async remove(plane: UdpPlanePort, backend: BackendNow): Promise<void> {
    const key = `${backend.cluster}/${backend.config.name}`;
    this.#registry.backends.delete(key);
    this.#registry.backendNumbers.retire(key);
    this.#told.forget(`backend/${key}`);
    await plane.setBackendState(backend.number, "removed");
    this.tell(backend, "removed", "it is no longer among the cluster's backends");
  }

  /** Says how one is. */
  tell(backend: BackendNow, state: UdpBackendData["state"], reason: string): void {
    const { cluster, config, cellId } = backend;
    this.#options.onBackend({
      cluster,
      backend: config.name,
      address: endpointText(config),
      state,
      reason,
      ...(cellId === undefined ? {} : { cellId }),
    });
  }

  /** A cell that is to end answers what it has, and gets nothing new. */
  async #drainStopping(plane: UdpPlanePort, backend: BackendNow): Promise<void> {
    backend.isDraining = true;
    await plane.setBackendState(backend.number, "draining");
    this.tell(backend, "draining", "its cell is to end");
  }
}
