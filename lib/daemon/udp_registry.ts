/**
 * Names and numbers of the load balancer, and what its workers were told of them last: made into
 * records, metrics and flows with names. It asks and tells nobody.
 *
 * @module
 */
import type {
  UdpBackendRecord,
  UdpClusterRecord,
  UdpFlowQuery,
  UdpFlowRecord,
  UdpListenerRecord,
} from "#lib/http/mod.ts";
import type { UdpSetting } from "#lib/projection/mod.ts";
import {
  type BackendConfig,
  clientOf,
  type ClusterConfig,
  clusterDocument,
  endpointText,
  type FlowSnapshot,
  type ListenerConfig,
  readUdpCluster,
} from "#lib/udp/mod.ts";
import type { ClosedFlow, PlaneCounters } from "#lib/udp/mod_shell.ts";
import type { ReleasedBackend, ReleasedListener } from "./inheritance.ts";
import type { NamedFlow } from "./udp_flows.ts";
import { NumberBook } from "./udp_numbers.ts";
import { keyOf } from "./udp_plan.ts";
import { backendRecord, listenerRecord, sumRow, udpMetrics } from "./udp_records.ts";

/** A backend as it was told last. */
export interface BackendNow {
  readonly number: number;
  readonly cluster: string;
  readonly config: BackendConfig;
  readonly cellId?: string;
  isDraining: boolean;
}

/** A listener as it was told last. */
export interface ListenerNow {
  readonly config: ListenerConfig;
  readonly port: number;
  isDraining: boolean;
  /** When its drain ends, in milliseconds of the monotonic clock. */
  drainUntilMs?: number;
}

/** What is known of a backend's health. */
export type HealthOf = (
  backend: number,
) => { readonly isUp: boolean; readonly reason: string } | undefined;

/** See the module. */
export class UdpRegistry {
  readonly listenerNumbers: NumberBook = new NumberBook();
  readonly clusterNumbers: NumberBook = new NumberBook();
  readonly backendNumbers: NumberBook = new NumberBook();
  readonly listeners: Map<string, ListenerNow> = new Map();
  readonly clusters: Map<string, ClusterConfig> = new Map();
  readonly backends: Map<string, BackendNow> = new Map();
  /** Why a setting is not in force, by its key. */
  readonly failures: Map<string, string> = new Map();

  /** Everything was lost: it is to be told again, under new numbers. */
  clear(): void {
    for (const name of this.listeners.keys()) this.listenerNumbers.retire(name);
    for (const name of this.clusters.keys()) this.clusterNumbers.retire(name);
    for (const name of this.backends.keys()) this.backendNumbers.retire(name);
    this.listeners.clear();
    this.clusters.clear();
    this.backends.clear();
  }

  /** Listeners with what they did. */
  listenerRecords(settings: readonly UdpSetting[], counters: PlaneCounters): UdpListenerRecord[] {
    return settings.filter(({ kind }) => kind === "listener").map((setting) => {
      const now = this.listeners.get(setting.name);
      const number = this.listenerNumbers.of(setting.name);
      return listenerRecord(setting, {
        failure: this.failures.get(keyOf(setting)),
        counters: number === undefined ? {} : sumRow(counters, "listeners", number),
        ...(now === undefined ? {} : { port: now.port, isDraining: now.isDraining }),
      });
    });
  }

  /** Clusters with their backends and what these did. */
  clusterRecords(
    settings: readonly UdpSetting[],
    counters: PlaneCounters,
    healthOf: HealthOf,
  ): UdpClusterRecord[] {
    return settings.filter(({ kind }) => kind === "cluster").map(({ name, document }) => {
      const config = readUdpCluster(document);
      const backends = this.backendsOf(name).map((backend): UdpBackendRecord =>
        backendRecord(backend, {
          health: healthOf(backend.number),
          counters: sumRow(counters, "backends", backend.number),
        })
      );
      return { name, balance: config.balance, backends, settings: clusterDocument(config) };
    });
  }

  /** Live flows. */
  flowRecords(
    flows: readonly FlowSnapshot[],
    { listener, cluster, limit }: UdpFlowQuery,
  ): UdpFlowRecord[] {
    const records: UdpFlowRecord[] = [];
    for (const flow of flows) {
      if (records.length >= limit) break;
      const backend = this.backendNamed(flow.backend);
      const listenerName = this.listenerNumbers.nameOf(flow.listener) ?? "";
      if (listener !== undefined && listener !== listenerName) continue;
      if (cluster !== undefined && cluster !== backend?.cluster) continue;
      records.push({
        listener: listenerName,
        cluster: backend?.cluster ?? "",
        backend: backend?.config.name ?? null,
        client: endpointText(clientOf(Uint32Array.from(flow.tuple), 0)),
        duration_ms: flow.ageMs,
        datagrams_in: flow.requests,
        bytes_in: flow.bytesIn,
        datagrams_out: flow.replies,
        bytes_out: flow.bytesOut,
      });
    }
    return records;
  }

  /** A closed flow with names instead of numbers. */
  name(flow: ClosedFlow): NamedFlow {
    // A backend that is gone has a name all the same.
    const cluster = this.clusterNumbers.nameOf(flow.cluster) ?? "";
    const backend = this.backendNumbers.nameOf(flow.backend)?.slice(cluster.length + 1);
    const { durationMs, datagramsIn, bytesIn, datagramsOut, bytesOut, dropped } = flow;
    return {
      listener: this.listenerNumbers.nameOf(flow.listener) ?? "",
      cluster,
      ...(backend === undefined ? {} : { backend }),
      client: endpointText(flow.client),
      reason: flow.reason,
      durationMs,
      datagramsIn,
      bytesIn,
      datagramsOut,
      bytesOut,
      dropped,
      ...(flow.firstReplyMs === undefined ? {} : { firstReplyMs: flow.firstReplyMs }),
    };
  }

  /** Metrics in the text format of Prometheus. */
  metricsText(counters: PlaneCounters, healthOf: HealthOf): string {
    return udpMetrics({
      counters,
      listeners: [...this.listeners.keys()].map((name) => ({
        name,
        row: sumRow(counters, "listeners", this.listenerNumbers.of(name) ?? -2),
      })),
      backends: [...this.backends.values()].map((backend) => ({
        backend,
        isUp: healthOf(backend.number)?.isUp ?? true,
        row: sumRow(counters, "backends", backend.number),
      })),
    });
  }

  /** Listeners for a successor, at a time of the monotonic clock. */
  releasedListeners(nowMs: number): ReleasedListener[] {
    return [...this.listeners].map(([name, { config, port, isDraining, drainUntilMs = 0 }]) => ({
      name,
      number: this.listenerNumbers.of(name) ?? -1,
      address: config.listen.address,
      port,
      ...(isDraining ? { drainMs: Math.max(0, drainUntilMs - nowMs) } : {}),
    }));
  }

  /** Backends for a successor. */
  releasedBackends(healthOf: HealthOf): ReleasedBackend[] {
    return [...this.backends].map(([key, { number, config, isDraining }]) => {
      const health = healthOf(number);
      const known = health === undefined ? {} : { isUp: health.isUp };
      return { key, number, endpoint: endpointText(config), isDraining, ...known };
    });
  }

  /** Numbers of listeners that expect no replies. */
  oneWayListeners(): Set<number> {
    const names = [...this.listeners].filter(([, { config }]) => config.route.responses === 0);
    return new Set(names.map(([name]) => this.listenerNumbers.of(name) ?? -1));
  }

  /** Backends of a cluster. */
  backendsOf(cluster: string): BackendNow[] {
    return [...this.backends.values()].filter((backend) => backend.cluster === cluster);
  }

  /** The backend that has, or had, a number. */
  backendNamed(number: number): BackendNow | undefined {
    const key = this.backendNumbers.nameOf(number);
    return key === undefined ? undefined : this.backends.get(key);
  }
}
