/**
 * Which server and which token the local command line uses where nobody says.
 *
 * The Unix socket first, since its kernel vouches for who asks; else TCP on the loopback interface.
 * The first token of the state directory is sent to this host only: an address that somebody gave
 * must not collect it.
 *
 * @module
 */
import { type Endpoint, parseEndpoint, SERVER_DEFAULT } from "./endpoint.ts";
import { ClientSettingError } from "./errors.ts";

/** The characters that a header may carry. */
const TOKEN = /^[\x21-\x7e]+$/;

/** What there is to choose from. */
export interface Discovery {
  /** Named by a flag or the environment. */
  readonly server?: string | undefined;
  /** Given by a flag or the environment. */
  readonly token?: string | undefined;
  /** Where a local server's Unix socket would be. */
  readonly socketPath: string;
  /** Where a local server's first token would be. */
  readonly tokenPath: string;
}

/** The server that is meant. Throws {@link ClientSettingError}. */
export function findEndpoint({ server, socketPath }: Discovery): Endpoint {
  if (server !== undefined && server !== "") return parseEndpoint(server);
  return isOurSocket(socketPath)
    ? { kind: "unix", path: socketPath }
    : parseEndpoint(SERVER_DEFAULT);
}

/** The token for a server; `undefined` where none is known or needed. */
export function findToken(endpoint: Endpoint, { token, tokenPath }: Discovery): string | undefined {
  if (token !== undefined && token !== "") {
    if (TOKEN.test(token)) return token;
    throw new ClientSettingError("Cannot use the token: want printable ASCII without spaces");
  }
  // The kernel says who asks.
  if (endpoint.kind === "unix" || !endpoint.isLocal) return undefined;
  try {
    const text = Deno.readTextFileSync(tokenPath).trim();
    return TOKEN.test(text) ? text : undefined;
  } catch (error) {
    const isAbsent = error instanceof Deno.errors.NotFound ||
      error instanceof Deno.errors.PermissionDenied;
    if (isAbsent) return undefined;
    throw error;
  }
}

/** The socket has mode 0600: only root and its owner can use it. */
function isOurSocket(path: string): boolean {
  try {
    const { isSocket, uid } = Deno.statSync(path);
    return isSocket === true && (Deno.uid() === 0 || Deno.uid() === uid);
  } catch {
    return false;
  }
}
