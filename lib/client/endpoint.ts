/**
 * Which server is meant: `http://host:port`, `https://…`, or `unix:/path` of a socket.
 *
 * @module
 */
import { ClientSettingError } from "./errors.ts";

/** Where a server listens. */
export type Endpoint =
  | {
    readonly kind: "tcp";
    /** Without a slash at the end. */
    readonly baseUrl: string;
    /** Whether only this host can have put it there: the local token may be sent to it. */
    readonly isLocal: boolean;
  }
  | {
    readonly kind: "unix";
    /** Of the socket. */
    readonly path: string;
  };

/** Where a server listens unless somebody said otherwise. */
export const SERVER_DEFAULT = "http://127.0.0.1:8080";
/**
 * The host of requests over a Unix socket, where one must stand and none is meant. A name would be
 * looked up first, which waits where no name server answers.
 */
export const UNIX_BASE_URL = "http://127.0.0.1";

const UNIX_PREFIX = "unix:";
/** The kernel takes no more in an address: unix(7). */
const SOCKET_PATH_BYTES_MAX = 107;

/** Reads the name of a server. Throws {@link ClientSettingError}. */
export function parseEndpoint(text: string): Endpoint {
  const quoted = JSON.stringify(text);
  if (text.startsWith(UNIX_PREFIX)) {
    const path = text.slice(UNIX_PREFIX.length).replace(/^\/\/(?=\/)/, "");
    const sizeBytes = new TextEncoder().encode(path).length;
    if (path.startsWith("/") && !path.includes("\0") && sizeBytes <= SOCKET_PATH_BYTES_MAX) {
      return { kind: "unix", path };
    }
    throw new ClientSettingError(
      `Cannot use server ${quoted}: want unix: and an absolute path of at most ` +
        `${SOCKET_PATH_BYTES_MAX} bytes`,
    );
  }
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol) || url.search !== "" || url.hash !== "") {
    throw new ClientSettingError(`Cannot use server ${quoted}: want http://, https:// or unix:`);
  }
  if (url.username !== "" || url.password !== "") {
    throw new ClientSettingError(`Cannot use server ${quoted}: want no user in it`);
  }
  const baseUrl = `${url.origin}${url.pathname.replace(/\/+$/, "")}`;
  return { kind: "tcp", baseUrl, isLocal: isLoopback(url.hostname) };
}

/** The endpoint as people write it. */
export function endpointName(endpoint: Endpoint): string {
  return endpoint.kind === "unix" ? `${UNIX_PREFIX}${endpoint.path}` : endpoint.baseUrl;
}

function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "[::1]" ||
    /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(hostname);
}
