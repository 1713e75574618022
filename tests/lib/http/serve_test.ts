/**
 * The server on real sockets: TCP, Unix, TLS is left to the end-to-end tests.
 *
 * @module
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { type HttpAppOptions, type HttpServerOptions, startHttpServer } from "#lib/http/mod.ts";
import { FakePlane, makeApp, startedEvent, TOKENS } from "./plane.ts";
import { assertProblem } from "./problem_assert.ts";

const HEADERS = { authorization: `Bearer ${TOKENS.admin}` };

async function stage(
  options: Partial<HttpAppOptions> & Partial<HttpServerOptions> = {},
  plane = new FakePlane(),
) {
  const { app, warnings } = makeApp(plane, options);
  const server = await startHttpServer({ ...options, app, port: 0 });
  return { app, plane, server, warnings, url: server.url };
}

/** A client that keeps what it hears. */
class Follower {
  readonly seqs: number[] = [];
  readonly frames: string[] = [];
  readonly #socket: WebSocket;
  readonly closed: Promise<{ code: number; reason: string }>;
  #woken = () => {};

  constructor(url: string, query = "") {
    this.#socket = new WebSocket(`${url.replace("http", "ws")}/ws/events${query}`, {
      headers: HEADERS,
    });
    this.closed = new Promise((resolve) => {
      this.#socket.onclose = ({ code, reason }) => resolve({ code, reason });
    });
    this.#socket.onmessage = ({ data }) => {
      this.frames.push(data);
      for (const line of (data as string).split("\n")) this.seqs.push(JSON.parse(line).seq);
      this.#woken();
    };
  }

  async until(count: number): Promise<void> {
    while (this.seqs.length < count) {
      await new Promise<void>((resolve) => {
        this.#woken = resolve;
      });
    }
  }

  get opened(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#socket.addEventListener("open", () => resolve(), { once: true });
      this.#socket.addEventListener("error", () => reject(new Error("refused")), { once: true });
    });
  }

  async close(): Promise<void> {
    this.#socket.close();
    await this.closed;
  }
}

Deno.test("serve: binds to the loopback interface unless told otherwise", async () => {
  const { server, url } = await stage();
  assertEquals(server.hostname, "127.0.0.1");
  const response = await fetch(`${url}/healthz`);
  assertEquals(response.status, 200);
  await response.body?.cancel();
  await server.stop();
  await server.stop();
});

Deno.test("serve: an address that is taken is an error, and nothing stays open", async () => {
  const { server } = await stage();
  const { app } = makeApp();
  await assertRejects(
    () => startHttpServer({ app, port: server.port }),
    Deno.errors.AddrInUse,
  );
  await server.stop();
});

Deno.test("serve: the Unix socket is root's, has mode 0600, and replaces a stale one", async () => {
  const folder = Deno.makeTempDirSync();
  const path = `${folder}/celld.sock`;
  const stale = Deno.listen({ transport: "unix", path });
  stale.close();
  const { server } = await stage({ unixSocketPath: path });
  assertEquals(Deno.statSync(path).mode! & 0o777, 0o600);
  const client = Deno.createHttpClient({ proxy: { transport: "unix", path } });
  const response = await fetch("http://127.0.0.1/v1/version", { client });
  assertEquals(response.status, 200);
  await response.body?.cancel();
  client.close();
  await server.stop();
  assertEquals(Array.from(Deno.readDirSync(folder)), []);
  Deno.removeSync(folder);
});

Deno.test({
  name: "serve: another user cannot use the Unix socket, not even with another mode (root)",
  ignore: Deno.uid() !== 0,
  fn: async () => {
    const folder = Deno.makeTempDirSync();
    Deno.chmodSync(folder, 0o755);
    const path = `${folder}/celld.sock`;
    const { server } = await stage({ unixSocketPath: path });
    const ask = async (uid: number) => {
      const { stdout } = await new Deno.Command("setpriv", {
        args: [
          ...["--reuid", String(uid), "--regid", String(uid), "--clear-groups", "perl", "-e"],
          `use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new(Peer => "${path}") or
           do { print "no: $!"; exit };
           print $s "GET /v1/version HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
           print scalar <$s>;`,
        ],
      }).output();
      return new TextDecoder().decode(stdout).trim();
    };
    assertEquals(await ask(65534), "no: Permission denied");
    assertEquals(await ask(0), "HTTP/1.1 200 OK");
    Deno.chmodSync(path, 0o666);
    assertEquals(await ask(65534), "HTTP/1.1 401 Unauthorized");
    // Whoever connected meanwhile may still be there: it stays as for everybody else.
    Deno.chmodSync(path, 0o600);
    assertEquals(await ask(65534), "no: Permission denied");
    assertEquals(await ask(0), "HTTP/1.1 401 Unauthorized");
    await server.stop();
    Deno.removeSync(folder);
  },
});

Deno.test("serve: a file that is no socket is not removed for the Unix socket", async () => {
  const folder = Deno.makeTempDirSync();
  Deno.writeTextFileSync(`${folder}/notes`, "mine");
  await assertRejects(() => stage({ unixSocketPath: `${folder}/notes` }));
  assertEquals(Deno.readTextFileSync(`${folder}/notes`), "mine");
  Deno.removeSync(folder, { recursive: true });
});

Deno.test("websocket: a snapshot's cursor and then the events after it, each once", async () => {
  const { plane, server, url } = await stage();
  await plane.appendCells(..."abc");
  const snapshot = await (await fetch(`${url}/v1/cells`, { headers: HEADERS })).json();
  await plane.appendCells(..."de");
  const follower = new Follower(url, `?since=${snapshot.cursor}`);
  await follower.until(2);
  await plane.appendCells(..."fg");
  await follower.until(4);
  assertEquals(follower.seqs, [4, 5, 6, 7]);
  assertEquals(Object.keys(JSON.parse(follower.frames[0])), ["seq", "event"]);
  await follower.close();
  await server.stop();
});

Deno.test("websocket: what comes after a client is connected reaches it, cursor or not", async () => {
  const { plane, server, url } = await stage();
  const followers = Array.from({ length: 20 }, () => new Follower(url));
  await Promise.all(followers.map((one) => one.opened));
  await plane.appendCells("a");
  await Promise.all(followers.map((one) => one.until(1)));
  for (const follower of followers) assertEquals(follower.seqs, [1]);
  await Promise.all(followers.map((one) => one.close()));
  await server.stop();
});

Deno.test("websocket: filters and batches", async () => {
  const { plane, server, url } = await stage();
  await plane.appendCells("a", "b", "a", "b", "a");
  const one = new Follower(url, "?since=0&cell=b");
  const lines = new Follower(url, "?since=0&format=ndjson");
  await one.until(2);
  await lines.until(5);
  assertEquals(one.seqs, [2, 4]);
  assertEquals(lines.frames.length, 1);
  await Promise.all([one.close(), lines.close()]);
  await server.stop();
});

Deno.test("websocket: a cursor that is expired, or ahead of the log, closes with 4410", async () => {
  const { plane, server, url } = await stage({ framesMax: 2 });
  await plane.appendCells(..."abcdef");
  await plane.log.dropBefore(5);
  const expired = new Follower(url, "?since=1");
  assertEquals(await expired.closed, { code: 4410, reason: "cursor-expired; first_seq=5" });
  const ahead = new Follower(url, "?since=99");
  assertEquals(await ahead.closed, { code: 4410, reason: "cursor-ahead; last_seq=6" });
  const oldest = new Follower(url, "?since=0");
  await oldest.until(2);
  assertEquals(oldest.seqs, [5, 6]);
  await oldest.close();
  await server.stop();
});

Deno.test("websocket: refusals come before the upgrade, as problems", async () => {
  const { server, url } = await stage({ clientsMax: 1 });
  const ask = (query: string, headers: Record<string, string>) =>
    fetch(`${url}/ws/events${query}`, { headers });
  await assertProblem(await ask("", HEADERS), "upgrade-required");
  await assertProblem(await ask("", {}), "unauthorized");
  const first = new Follower(url);
  await first.opened;
  await assertRejects(() => new Follower(url).opened, Error, "refused");
  await first.close();
  await server.stop();
});

/** Opens a WebSocket by hand and never reads after the answer's head. */
async function deafClient(port: number, query: string): Promise<Deno.TcpConn> {
  const connection = await Deno.connect({ hostname: "127.0.0.1", port });
  const head = [
    `GET /ws/events${query} HTTP/1.1`,
    "host: celld",
    `authorization: ${HEADERS.authorization}`,
    "upgrade: websocket",
    "connection: upgrade",
    "sec-websocket-version: 13",
    "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    "",
    "",
  ].join("\r\n");
  await connection.write(new TextEncoder().encode(head));
  const answer = new Uint8Array(1024);
  const count = await connection.read(answer);
  assertStringIncludes(new TextDecoder().decode(answer.subarray(0, count!)), "101 Switching");
  return connection;
}

Deno.test("websocket: who never reads is closed, bounded, and slows nobody else", async () => {
  const { app, plane, server, url } = await stage({ stallMs: 300, framesMax: 1000 });
  const deaf = await deafClient(server.port, "");
  const healthy = new Follower(url, "?format=ndjson");
  await healthy.opened;
  const large = "x".repeat(8000);
  let count = 0;
  const closes = async () => {
    const response = await app.request("/metrics", { headers: HEADERS });
    return /celld_ws_closes_total\{code="4008"\} 1/.test(await response.text());
  };
  const startMs = performance.now();
  while (!await closes()) {
    assert(performance.now() - startMs < 20_000, "it was never closed");
    const events = Array.from({ length: 50 }, () => startedEvent("a", { note: large }));
    await plane.append(...events);
    count += events.length;
    await healthy.until(count);
  }
  assertEquals(healthy.seqs, Array.from({ length: count }, (_, index) => index + 1));
  await healthy.close();
  deaf.close();
  await server.stop();
});

Deno.test("serve: a stop lets a request in flight finish and tells who follows", async () => {
  const plane = new FakePlane();
  let release = () => {};
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  let entered = () => {};
  const isIn = new Promise<void>((resolve) => {
    entered = resolve;
  });
  const admit = plane.admitFormation.bind(plane);
  plane.admitFormation = async (document) => {
    entered();
    await gate;
    return await admit(document);
  };
  const { server, url } = await stage({}, plane);
  const follower = new Follower(url);
  await follower.opened;
  plane.addCell("a");
  await plane.appendCells("a");
  await follower.until(1);
  const stream = await fetch(`${url}/v1/cells/a/events?follow=true`, { headers: HEADERS });
  const posted = fetch(`${url}/v1/formations`, {
    method: "POST",
    body: JSON.stringify({ name: "x" }),
    headers: HEADERS,
  });
  await isIn;
  const stopped = server.stop();
  assertEquals(await follower.closed, { code: 1001, reason: "resume since=1" });
  assertEquals((await stream.text()).trimEnd().split("\n").length, 1);
  release();
  const response = await posted;
  assertEquals(response.status, 201);
  await response.body?.cancel();
  assertEquals(await stopped, true);
  await assertRejects(() => fetch(`${url}/healthz`));
});

Deno.test("serve: a stop does not wait for ever for what does not finish", async () => {
  const plane = new FakePlane();
  let entered = () => {};
  const isIn = new Promise<void>((resolve) => {
    entered = resolve;
  });
  let release = () => {};
  plane.admitFormation = () => {
    entered();
    return new Promise((resolve) => {
      release = () => resolve(plane.addFormation("x", "x"));
    });
  };
  const { server, url } = await stage({ drainMs: 50 }, plane);
  const posted = fetch(`${url}/v1/formations`, {
    method: "POST",
    body: JSON.stringify({ name: "x" }),
    headers: HEADERS,
  });
  await isIn;
  assertEquals(await server.stop(), false);
  release();
  await (await posted).body?.cancel();
  await server.finished;
});
