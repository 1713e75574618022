/**
 * What a UDP document changes, and what the workers are told of settings: the pure half of
 * `udp_service.ts`.
 *
 * @module
 */
import { canonicalJson } from "#lib/base/mod.ts";
import type { UdpSetting } from "#lib/projection/mod.ts";
import {
  type BackendConfig,
  type ClusterConfig,
  endpointText,
  type ListenerConfig,
  readUdpConfig,
  readUdpListener,
  UDP_CONFIG_LIMITS,
  type UdpConfig,
} from "#lib/udp/mod.ts";
import type { BackendSettings, ClusterSettings, ListenerSettings } from "#lib/udp/mod_shell.ts";

/** A setting, by kind and name. */
export type UdpKey = `${UdpSetting["kind"]}/${string}`;

/** What a document comes to. */
export interface UdpPlan {
  /** New, or other than before: with the document of each. */
  readonly set: readonly Pick<UdpSetting, "kind" | "name" | "document">[];
  readonly removed: readonly Pick<UdpSetting, "kind" | "name">[];
  readonly unchanged: readonly Pick<UdpSetting, "kind" | "name">[];
}

/** Something about the wish itself cannot be, whatever its document says. */
export class UdpConflictError extends Error {
  /** For logs. */
  override name = "UdpConflictError";
}

/** The key of a setting. */
export function keyOf({ kind, name }: Pick<UdpSetting, "kind" | "name">): UdpKey {
  return `${kind}/${name}`;
}

/**
 * Compares a document with what there is. Throws `UdpConfigError` for one that cannot be read, and
 * {@link UdpConflictError} where the two do not go together.
 */
export function planDocument(
  document: Readonly<Record<string, unknown>>,
  current: readonly UdpSetting[],
  isPruning: boolean,
): UdpPlan {
  if (document.balancer !== undefined) {
    throw new UdpConflictError(
      "Cannot change the balancer while it runs: give `balancer` to `celld serve`",
    );
  }
  const elsewhere = isPruning ? [] : current.filter(({ kind }) => kind === "cluster");
  const config = readUdpConfig(document, elsewhere.map(({ name }) => name));
  const wanted = [
    ...entriesOf(config, document, "cluster"),
    ...entriesOf(config, document, "listener"),
  ];
  const known = new Map(current.map((setting) => [keyOf(setting), setting]));
  const isSame = (one: Pick<UdpSetting, "kind" | "name" | "document">) => {
    const there = known.get(keyOf(one));
    return there !== undefined && canonicalJson(there.document) === canonicalJson(one.document);
  };
  const named = new Set(wanted.map(keyOf));
  const removed = isPruning ? current.filter((setting) => !named.has(keyOf(setting))) : [];
  checkAddresses(config, current, new Set(removed.map(keyOf)));
  checkCounts([...current.filter((one) => !removed.includes(one)), ...wanted]);
  return {
    set: wanted.filter((one) => !isSame(one)),
    // Listeners go before the clusters that they name.
    removed: removed.toSorted((a, b) => a.kind < b.kind ? 1 : a.kind > b.kind ? -1 : 0),
    unchanged: wanted.filter(isSame),
  };
}

/** What the removal of one setting comes to. Throws {@link UdpConflictError}. */
export function planRemoval(
  setting: UdpSetting,
  current: readonly UdpSetting[],
): UdpPlan {
  const users = current.filter(({ kind, document }) =>
    setting.kind === "cluster" && kind === "listener" && document.cluster === setting.name
  );
  if (users.length > 0) {
    const names = users.map(({ name }) => JSON.stringify(name)).join(", ");
    throw new UdpConflictError(
      `Cannot remove the cluster ${JSON.stringify(setting.name)}: used by listener ${names}`,
    );
  }
  return { set: [], removed: [setting], unchanged: [] };
}

function entriesOf(
  config: UdpConfig,
  document: Readonly<Record<string, unknown>>,
  kind: UdpSetting["kind"],
): Pick<UdpSetting, "kind" | "name" | "document">[] {
  const read: readonly { readonly name: string }[] = config[`${kind}s`];
  const written = (document[`${kind}s`] ?? []) as readonly UdpSetting["document"][];
  return read.map(({ name }, index) => ({ kind, name, document: written[index] }));
}

/** A listener keeps its address, and no two have one. */
function checkAddresses(
  config: UdpConfig,
  current: readonly UdpSetting[],
  removed: ReadonlySet<string>,
): void {
  const there = new Map<string, string>();
  const places = new Map<string, string>();
  for (const { kind, name, document } of current) {
    if (kind !== "listener" || removed.has(`listener/${name}`)) continue;
    // As it is understood: an address can be written in several ways.
    const text = endpointText(readUdpListener(document).listen);
    there.set(name, text);
    places.set(text, name);
  }
  for (const { name, listen } of config.listeners) {
    const text = endpointText(listen);
    const before = there.get(name) ?? text;
    if (before !== text) {
      throw new UdpConflictError(
        `Cannot move the listener ${JSON.stringify(name)} from ${before} to ${text}: ` +
          "delete it first",
      );
    }
    const owner = places.get(text);
    if (owner !== undefined && owner !== name && listen.port !== 0) {
      throw new UdpConflictError(
        `Cannot listen at ${text} for ${JSON.stringify(name)}: ${JSON.stringify(owner)} does`,
      );
    }
    places.set(text, name);
  }
}

function checkCounts(all: readonly Pick<UdpSetting, "kind" | "name">[]): void {
  for (const kind of ["listener", "cluster"] as const) {
    const most = UDP_CONFIG_LIMITS[`${kind}sMax`];
    const names = new Set(all.filter((one) => one.kind === kind).map(({ name }) => name));
    if (names.size > most) throw new UdpConflictError(`Cannot have more than ${most} ${kind}s`);
  }
}

/** A listener as workers take it. */
export function listenerSettings(
  config: ListenerConfig,
  listener: number,
  cluster: number | null,
): ListenerSettings {
  const { listen, route, maxDatagramBytes, access, limit, onChange, proxyFrom } = config;
  return {
    listener,
    address: listen.address,
    port: listen.port,
    route: cluster === null ? null : { ...route, cluster },
    maxDatagramBytes,
    access,
    ...(limit === undefined ? {} : { limit }),
    flows: onChange,
    receiveBufferBytes: config.receiveBufferBytes,
    isV6Only: config.ipv6Only,
    takesRuns: config.gro,
    proxyFrom,
  };
}

/** A backend as workers take it. */
export function backendSettings(
  config: BackendConfig,
  backend: number,
  identity: string,
): BackendSettings {
  const { address, port, limit, quicServerId, sources } = config;
  return {
    backend,
    address,
    port,
    identity,
    ...(limit === undefined ? {} : { limit }),
    ...(quicServerId === undefined ? {} : { quicServerId: Uint8Array.fromHex(quicServerId) }),
    ...(sources === undefined ? {} : { sources }),
  };
}

/** A cluster as workers take it. */
export function clusterSettings(
  config: ClusterConfig,
  cluster: number,
  members: readonly { readonly backend: number; readonly config: BackendConfig }[],
): ClusterSettings {
  const { balance, failOpen, limit, sourceAddresses } = config;
  return {
    cluster,
    policy: balance,
    failOpen,
    members: members.map(({ backend, config: { weight, backup } }) => ({
      backend,
      weight,
      isBackup: backup,
    })),
    ...(limit === undefined ? {} : { limit }),
    ...(sourceAddresses === undefined ? {} : { sourceAddresses }),
  };
}
