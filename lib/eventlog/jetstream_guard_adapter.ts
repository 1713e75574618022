/**
 * Errors of the client's sockets that nobody is left to hear.
 *
 * A broker that refuses us resets the connection, and the reset may reach the socket after the
 * client has taken its listeners off. A server that does not take our certificate says so after the
 * handshake, and that alert is thrown out of a callback of the runtime, past every listener. Either
 * would end the process, though all that it means is that a connection is over.
 *
 * Only sockets of the Node API fail in this way, and in celld only the broker's client has some. The
 * guard stays for the life of the process: a reset may come after the last link was closed.
 *
 * @module
 */

/** What the runtime says of a socket that the other side has cut. */
const CUT_CODES: ReadonlySet<unknown> = new Set(["ECONNRESET", "EPIPE"]);
const CUT_CALLS: ReadonlySet<unknown> = new Set(["read", "write"]);

const told = new Set<(error: Error) => void>();
let isListening = false;

/** Has TLS alerts told until the returned function is called; installs the guard. */
export function guardSockets(onAlert: (error: Error) => void): () => void {
  if (!isListening) globalThis.addEventListener("error", onError);
  isListening = true;
  told.add(onAlert);
  return () => told.delete(onAlert);
}

function onError(event: ErrorEvent): void {
  const error: unknown = event.error;
  if (!(error instanceof Error)) return;
  if (isCut(error)) return event.preventDefault();
  if (!error.message.startsWith("received fatal alert")) return;
  event.preventDefault();
  for (const tell of told) tell(error);
}

/** Whether an error only says that the other side cut a connection. */
export function isCut(error: Error): boolean {
  const { code, syscall } = error as { code?: unknown; syscall?: unknown };
  return CUT_CODES.has(code) && CUT_CALLS.has(syscall);
}
