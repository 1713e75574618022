/**
 * Names on the wire: the subject of an event, and the servers in a URL.
 *
 * A subject is for people and for filters of other clients; what an event is stands in its type
 * and data.
 *
 * @module
 */
import type { CloudEvent } from "#lib/events/mod.ts";

const TOKEN_MAX = 64;

/** `cellos.events.<entity>.<id>.<phase>`, such as `cellos.events.cell.demo.started`. */
export function subjectOf(event: CloudEvent): string {
  const phase = event.type.split(".").at(-1) ?? "";
  const [entity, id] = entityOf(event);
  return `cellos.events.${token(entity)}.${token(id)}.${token(phase)}`;
}

function entityOf({ subject, source }: CloudEvent): [entity: string, id: string] {
  const parts = (subject ?? "").split(":");
  // `cell:demo`, or the same as a URN: `urn:cellos:cell:demo`.
  if (parts[0] === "urn" && parts.length >= 4) return [parts[2], parts.slice(3).join(":")];
  if (parts.length >= 2) return [parts[0], parts.slice(1).join(":")];
  return ["host", source.split("/").at(-1) ?? ""];
}

/** Only what every part of NATS takes in a token. */
function token(text: string): string {
  const safe = text.replaceAll(/[^A-Za-z0-9_-]/g, "_").slice(0, TOKEN_MAX);
  return safe === "" ? "_" : safe;
}

/** The servers of a URL, and the credentials that stand in it. */
export interface ServerList {
  /** `host:port` each. */
  readonly servers: readonly string[];
  /** Whether TLS is asked for. */
  readonly tls: boolean;
  /** Before the `:` of the user information; alone it is a token. */
  readonly user?: string;
  /** After it. */
  readonly password?: string;
  /** A token. */
  readonly token?: string;
}

/** The URL names no servers that can be understood. Its message does not repeat credentials. */
export class ServerUrlError extends Error {
  /** For logs. */
  override name = "ServerUrlError";
}

/** Port of a server that names none. */
const DEFAULT_PORT = 4222;

/**
 * Reads `nats://[user:password@|token@]host[:port]`, several separated by commas; `tls://` asks for
 * TLS. Throws {@link ServerUrlError}.
 */
export function parseServers(url: string): ServerList {
  const lists = url.split(",").map((part) => parseServer(part.trim()));
  const first = lists[0];
  const withCredentials = lists.find((list) => list.user !== undefined || list.token !== undefined);
  const { user, password, token: secret } = withCredentials ?? first;
  return {
    servers: lists.flatMap((list) => list.servers),
    tls: lists.some((list) => list.tls),
    ...(user === undefined ? {} : { user }),
    ...(password === undefined ? {} : { password }),
    ...(secret === undefined ? {} : { token: secret }),
  };
}

function parseServer(text: string): ServerList {
  const match =
    /^(nats|tls):\/\/(?:([^@/]*)@)?(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?\/?$/
      .exec(text);
  const port = Number(match?.[4] ?? DEFAULT_PORT);
  if (match === null || port === 0 || port > 65_535) {
    throw new ServerUrlError(
      `Cannot use ${JSON.stringify(text.replace(/\/\/[^@/]*@/, "//…@"))}: want nats://host:port ` +
        "or tls://host:port, several separated by commas",
    );
  }
  const server = { servers: [`${match[3]}:${port}`], tls: match[1] === "tls" };
  if (match[2] === undefined) return server;
  const [user, password] = splitOnce(match[2]).map(decode);
  return password === undefined ? { ...server, token: user } : { ...server, user, password };
}

function splitOnce(text: string): string[] {
  const at = text.indexOf(":");
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    // Not escaped at all: then it means itself.
    return text;
  }
}
