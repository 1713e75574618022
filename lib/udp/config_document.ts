/**
 * Settings as a document again, every default filled in: what `config.ts` would read as the same
 * settings.
 *
 * @module
 */
import { formatCidr } from "#lib/base/mod.ts";
import { endpointText } from "./config_fields.ts";
import type { BackendConfig, ClusterConfig, ListenerConfig } from "./config_types.ts";

/** A part of a document. */
export type UdpDocument = Readonly<Record<string, unknown>>;

/** A listener as a document. */
export function listenerDocument(config: ListenerConfig): UdpDocument {
  const { name, listen, cluster, route, access, proxyFrom, ...rest } = config;
  return {
    name,
    listen: endpointText(listen),
    cluster,
    ...route,
    ...rest,
    allow: access.allow.map(formatCidr),
    deny: access.deny.map(formatCidr),
    proxyFrom: proxyFrom.map(formatCidr),
  };
}

/** A cluster as a document. */
export function clusterDocument(config: ClusterConfig): UdpDocument {
  const { health: { isProbed: _, ...health }, backends, ...rest } = config;
  return { ...rest, backends: backends.map(backendDocument), health };
}

function backendDocument(config: BackendConfig): UdpDocument {
  const { address, port, ...rest } = config;
  return { ...rest, address: endpointText({ address, port }) };
}
