/**
 * A worker's clusters and backends: settings by number, a balancer for each cluster.
 *
 * @module
 */
import { encodeSockaddr, inetSocketAddress, type UdpFlowSocketOptions } from "#ffi/mod.ts";
import { Balancer } from "./balance.ts";
import { type BackendState, SELECT_NONE } from "./contract.ts";
import type { HashKey } from "./keyed_hash.ts";
import { encodeTlvs } from "./proxy_protocol.ts";
import type { BackendSettings, ClusterSettings } from "./worker_messages.ts";

/** A backend made ready. */
interface ReadyBackend {
  readonly settings: BackendSettings;
  readonly options: readonly UdpFlowSocketOptions[];
  readonly tlvs: Uint8Array | undefined;
  /** Which of its sources the next flow gets. */
  turn: number;
}

/** See the module. */
export class Clusters {
  readonly #hashKey: HashKey;
  readonly #seed: number;
  readonly #flows: (backend: number) => number;
  readonly #backends = new Map<number, ReadyBackend>();
  readonly #states = new Map<number, BackendState>();
  readonly #clusters = new Map<number, { settings: ClusterSettings; balancer: Balancer }>();

  /** @param flows Live flows of a backend. */
  constructor(hashKey: HashKey, seed: number, flows: (backend: number) => number) {
    this.#hashKey = hashKey;
    this.#seed = seed;
    this.#flows = flows;
  }

  /** Numbers of all backends. */
  get backends(): IterableIterator<number> {
    return this.#backends.keys();
  }

  /** Sets a backend. Throws `TypeError` and `RangeError` on settings that cannot be. */
  setBackend(settings: BackendSettings): void {
    const backend = encodeSockaddr(inetSocketAddress(settings.address, settings.port));
    const mtu = settings.mtuDiscovery === undefined ? {} : { mtuDiscovery: settings.mtuDiscovery };
    const sources = settings.sources ?? [];
    const options = sources.length === 0 ? [{ backend, ...mtu }] : sources.map((source) => ({
      backend,
      source: encodeSockaddr(inetSocketAddress(source, 0)),
      ...mtu,
    }));
    const tlvs = settings.tlvs === undefined ? undefined : encodeTlvs(settings.tlvs);
    this.#backends.set(settings.backend, { settings, options, tlvs, turn: 0 });
    for (const { settings: cluster } of [...this.#clusters.values()]) {
      if (cluster.members.some((one) => one.backend === settings.backend)) this.setCluster(cluster);
    }
  }

  /** Takes note of a backend's state; a removed one is forgotten. */
  setState(backend: number, state: BackendState): void {
    if (state === "removed") {
      this.#backends.delete(backend);
      this.#states.delete(backend);
    } else this.#states.set(backend, state);
    for (const { balancer } of this.#clusters.values()) balancer.setState(backend, state);
  }

  /** Sets a cluster. Members that are not known yet join when they are. Throws `RangeError`. */
  setCluster(settings: ClusterSettings): void {
    const old = this.#clusters.get(settings.cluster);
    const failOpen = settings.failOpen ?? true;
    const isSame = old?.settings.policy === settings.policy &&
      (old.settings.failOpen ?? true) === failOpen;
    // The policy's own state (whose turn it is) outlives a change of members.
    const balancer = isSame ? old.balancer : new Balancer({
      policy: settings.policy,
      failOpen,
      hashKey: this.#hashKey,
      seed: this.#seed + settings.cluster,
      flows: this.#flows,
    });
    balancer.setBackends(settings.members.flatMap((member) => {
      const backend = this.#backends.get(member.backend)?.settings;
      if (backend === undefined) return [];
      return [{
        index: member.backend,
        identity: backend.identity ?? `${backend.address} ${backend.port}`,
        weight: member.weight ?? 100,
        backup: member.isBackup ?? false,
        ...(backend.limit?.maxFlows === undefined ? {} : { maxFlows: backend.limit.maxFlows }),
      }];
    }));
    for (const [backend, state] of this.#states) balancer.setState(backend, state);
    this.#clusters.set(settings.cluster, { settings, balancer });
  }

  /** Forgets a cluster: its listeners have nowhere to go. */
  removeCluster(cluster: number): void {
    this.#clusters.delete(cluster);
  }

  /** Chooses a backend. */
  pick(cluster: number, affinity: number, preferred: number, avoid: number): number {
    return this.#clusters.get(cluster)?.balancer.pick(affinity, preferred, avoid) ?? SELECT_NONE;
  }

  /** How to open the next flow's socket; `undefined` for a backend that is gone. */
  socketOptions(backend: number): UdpFlowSocketOptions | undefined {
    const ready = this.#backends.get(backend);
    if (ready === undefined) return undefined;
    const { options } = ready;
    ready.turn = (ready.turn + 1) % options.length;
    return options[ready.turn];
  }

  /** TLVs of a backend's PROXY protocol headers. */
  tlvsOf(backend: number): Uint8Array | undefined {
    return this.#backends.get(backend)?.tlvs;
  }
}
