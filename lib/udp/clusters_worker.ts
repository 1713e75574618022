/**
 * A worker's clusters and backends: settings by number, a balancer for each cluster.
 *
 * @module
 */
import { encodeSockaddr, inetSocketAddress, type UdpFlowSocketOptions } from "#ffi/mod.ts";
import { parseIp } from "#lib/base/mod.ts";
import { Balancer } from "./balance.ts";
import { type BackendState, SELECT_NONE } from "./contract.ts";
import type { HashKey } from "./keyed_hash.ts";
import { encodeTlvs } from "./proxy_protocol.ts";
import type { SourceAddresses } from "./source_pool.ts";
import type { SourcePeer } from "./source_socket_worker.ts";
import { type TupleEnd, writeAddress } from "./tuple.ts";
import type { UpstreamWay } from "./upstreams_worker.ts";
import type { BackendSettings, ClusterSettings } from "./worker_messages.ts";

/** A backend made ready. */
interface ReadyBackend {
  readonly settings: BackendSettings;
  readonly options: readonly UdpFlowSocketOptions[];
  readonly tlvs: Uint8Array | undefined;
  readonly peer: SourcePeer;
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
  /** By backend. */
  readonly #sources = new Map<number, SourceAddresses>();
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

  /** Whether a backend is known. */
  has(backend: number): boolean {
    return this.#backends.has(backend);
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
    const peer = peerOf(settings);
    this.#backends.set(settings.backend, { settings, options, tlvs, peer, turn: 0 });
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
    this.#findSources();
  }

  /** Forgets a cluster: its listeners have nowhere to go. */
  removeCluster(cluster: number): void {
    this.#clusters.delete(cluster);
    this.#findSources();
  }

  /** Chooses a backend. */
  pick(cluster: number, affinity: number, preferred: number, avoid: number): number {
    return this.#clusters.get(cluster)?.balancer.pick(affinity, preferred, avoid) ?? SELECT_NONE;
  }

  /** Source addresses that clusters ask for, with those of one that is about to be set. */
  sourcesWith(next?: ClusterSettings): SourceAddresses[] {
    const others = Array.from(this.#clusters.values(), ({ settings }) => settings);
    const all = next === undefined
      ? others
      : [...others.filter(({ cluster }) => cluster !== next.cluster), next];
    return all.flatMap(({ sourceAddresses }) => sourceAddresses ?? []);
  }

  /** How the next flow gets to a backend; `undefined` for one that is gone. */
  wayTo(backend: number): UpstreamWay | undefined {
    const ready = this.#backends.get(backend);
    if (ready === undefined) return undefined;
    const { options, peer, settings } = ready;
    const prefix = this.#sources.get(backend)?.[settings.address.includes(":") ? "ipv6" : "ipv4"];
    if (prefix !== undefined) return { prefix, peer };
    ready.turn = (ready.turn + 1) % options.length;
    return options[ready.turn];
  }

  /** TLVs of a backend's PROXY protocol headers. */
  tlvsOf(backend: number): Uint8Array | undefined {
    return this.#backends.get(backend)?.tlvs;
  }

  /** A backend in several clusters has the source addresses of the one that is set last. */
  #findSources(): void {
    this.#sources.clear();
    for (const { settings: { sourceAddresses, members } } of this.#clusters.values()) {
      if (sourceAddresses === undefined) continue;
      for (const { backend } of members) this.#sources.set(backend, sourceAddresses);
    }
  }
}

function peerOf({ address, port }: TupleEnd): SourcePeer {
  const words = new Uint32Array(4);
  const ip = parseIp(address);
  if (ip !== undefined) writeAddress(words, 0, ip);
  return { words, port };
}
