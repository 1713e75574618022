/**
 * @module
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { type HttpApp, type Scope, scopeIncludes, SCOPES } from "#lib/http/mod.ts";
import type { Route } from "#lib/http/route.ts";
import { ROUTES } from "#lib/http/routes/all.ts";
import { as, makeApp, peerAt, TOKENS } from "./plane.ts";
import { assertProblem } from "./problem_assert.ts";

/** A path of a route, with something in the place of its parts. */
function pathOf({ path }: Route): string {
  return path.replace("{id}", "6f1c1b4e-8c1f-4d3a-9f65-0d9f0a6f7b11").replace("{name}", "build")
    .replace("{exec}", "a");
}

function ask(app: HttpApp, route: Route, headers: Record<string, string>): Promise<Response> {
  const upgrade: Record<string, string> = route.path.startsWith("/ws/")
    ? {
      upgrade: "websocket",
      connection: "upgrade",
      "sec-websocket-version": "13",
      "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    : {};
  const method = route.method.toUpperCase();
  return app.request(pathOf(route), { method, headers: { ...upgrade, ...headers } });
}

const GUARDED = ROUTES.filter(({ scope }) => scope !== "none");

Deno.test("access: the routes of these tests are those that the server's description names", async () => {
  const { app } = makeApp();
  const { paths } = await (await app.request("/openapi.json", as("read"))).json() as {
    paths: Record<string, Record<string, { description?: string; security?: unknown }>>;
  };
  const named = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { description, security }]) => {
      const scope = /^Scope: `(\w+)`$/.exec(description ?? "")?.[1];
      return `${method} ${path} ${security === undefined ? "none" : scope}`;
    })
  );
  const tried = ROUTES.map(({ method, path, scope }) => `${method} ${path} ${scope}`);
  assertEquals(named.sort(), tried.sort());
});

Deno.test("access: no token is a 401 on every route but the probes, the WebSocket included", async () => {
  const { app, plane } = makeApp();
  assert(GUARDED.some(({ path }) => path === "/ws/events"));
  for (const route of GUARDED) {
    const response = await ask(app, route, {});
    assertEquals(response.headers.get("www-authenticate"), "Bearer", route.path);
    const { detail } = await assertProblem(response, "unauthorized");
    assertEquals(detail, "missing Authorization header");
  }
  assertEquals(plane.commands, []);
});

Deno.test("access: a wrong token is a 401 on every route, the WebSocket included", async () => {
  for (const route of GUARDED) {
    const { app, plane } = makeApp();
    const response = await ask(app, route, { authorization: "Bearer wrong" });
    assertEquals((await assertProblem(response, "unauthorized")).detail, "invalid token");
    assertEquals(plane.commands, []);
  }
});

Deno.test("access: a scope below the route's is a 403 and changes nothing, on every route", async () => {
  let refused = 0;
  for (const route of GUARDED) {
    for (const scope of SCOPES) {
      if (scopeIncludes(scope, route.scope as Scope)) continue;
      const { app, plane } = makeApp();
      const response = await ask(app, route, { authorization: `Bearer ${TOKENS[scope]}` });
      const body = await assertProblem(response, "forbidden");
      assertEquals(body.wantedScope, route.scope);
      assertEquals(plane.commands, []);
      refused += 1;
    }
  }
  assert(refused >= 6, "routes of every scope were tried");
});

Deno.test("access: a scope that includes the route's gets past it, on every plain route", async () => {
  for (const route of GUARDED.filter(({ path }) => !path.startsWith("/ws/"))) {
    for (const scope of SCOPES) {
      if (!scopeIncludes(scope, route.scope as Scope)) continue;
      const { app } = makeApp();
      const response = await ask(app, route, { authorization: `Bearer ${TOKENS[scope]}` });
      assert(response.status !== 401 && response.status !== 403, `${route.path} ${scope}`);
      await response.body?.cancel();
    }
  }
});

Deno.test("access: scopes of routes are as documented", () => {
  const scopeOf = (method: string, path: string) =>
    ROUTES.find((route) => route.method === method && route.path === path)?.scope;
  assertEquals(scopeOf("post", "/v1/formations"), "run");
  assertEquals(scopeOf("delete", "/v1/formations/{id}"), "run");
  assertEquals(scopeOf("post", "/v1/formations/{id}/status"), "admin");
  assertEquals(scopeOf("post", "/v1/cells"), "run");
  assertEquals(scopeOf("post", "/v1/cells/{id}/stop"), "run");
  assertEquals(scopeOf("get", "/metrics"), "read");
  const open = ROUTES.filter(({ scope }) => scope === "none").map(({ path }) => path);
  assertEquals(open, ["/healthz", "/readyz"]);
  for (const route of GUARDED.filter(({ method }) => method === "get")) {
    assertEquals(route.scope, "read");
  }
});

Deno.test("access: the four details of a 401 are the original's", async () => {
  const { app } = makeApp();
  const detailOf = async (authorization: string) => {
    const response = await app.request("/v1/version", { headers: { authorization } });
    return (await assertProblem(response, "unauthorized")).detail;
  };
  assertEquals(await detailOf("Bearer caf\u00e9"), "non-ascii Authorization header");
  assertEquals(await detailOf(`bearer ${TOKENS.admin}`), "expected Bearer scheme");
  assertEquals(await detailOf(`Basic ${TOKENS.admin}`), "expected Bearer scheme");
  assertEquals(await detailOf("Bearer"), "expected Bearer scheme");
  // One space: the second one belongs to the token.
  assertEquals(await detailOf(`Bearer  ${TOKENS.admin}`), "invalid token");
  assertEquals(await detailOf(`Bearer ${TOKENS.admin}x`), "invalid token");
});

Deno.test("access: probes need no token", async () => {
  const { app } = makeApp();
  for (const path of ["/healthz", "/readyz"]) {
    const response = await app.request(path);
    assertEquals(response.status, 200);
    await response.body?.cancel();
  }
});

Deno.test("access: what is not there is a 401 for strangers, a 404 for the others", async () => {
  const { app } = makeApp();
  await assertProblem(await app.request("/v1/secrets"), "unauthorized");
  await assertProblem(await app.request("/v1/secrets", as("read")), "not-found");
});

Deno.test("access: root on the Unix socket needs no token", async () => {
  const { app } = makeApp();
  const response = await app.request("/v1/version", {}, { address: "unix", isRoot: true });
  assertEquals(response.status, 200);
  await response.body?.cancel();
});

Deno.test("access: an address with ten wrong tokens waits; others and unguessable tokens do not", async () => {
  const { app } = makeApp();
  const guess = (token: string, address: string) =>
    app.request(
      "/v1/version",
      { headers: { authorization: `Bearer ${token}` } },
      peerAt(address),
    );
  for (let count = 0; count < 10; count++) {
    await assertProblem(await guess(`wrong-${count}`, "192.0.2.1"), "unauthorized");
  }
  const waiting = await guess("wrong", "192.0.2.1");
  assertMatch(waiting.headers.get("retry-after") ?? "", /^\d+$/);
  await assertProblem(waiting, "too-many-failures");
  // A right guess of a token that a person chose is answered like a wrong one.
  await assertProblem(await guess("hunter2", "192.0.2.1"), "too-many-failures");
  for (
    const [token, address] of [[TOKENS.read, "192.0.2.1"], ["hunter2", "192.0.2.2"]]
  ) {
    const response = await guess(token, address);
    assertEquals(response.status, 200);
    await response.body?.cancel();
  }
});

Deno.test("access: a request without a token is no guess", async () => {
  const { app } = makeApp();
  for (let count = 0; count < 20; count++) {
    await assertProblem(await app.request("/v1/version", {}, peerAt("192.0.2.3")), "unauthorized");
  }
});

Deno.test("access: pages of other origins are let in only where an operator named them", async () => {
  const ask = async (origins: string[], origin: string, method = "GET") => {
    const { app } = makeApp(undefined, { corsOrigins: origins });
    const response = await app.request(
      "/v1/version",
      as("read", {
        method,
        headers: { origin, "access-control-request-method": "GET" },
      }),
    );
    await response.body?.cancel();
    return [response.status, response.headers.get("access-control-allow-origin")];
  };
  assertEquals(await ask([], "https://evil.test"), [200, null]);
  assertEquals(await ask([], "https://evil.test", "OPTIONS"), [405, null]);
  assertEquals(await ask(["https://ui.test"], "https://evil.test"), [200, null]);
  assertEquals(await ask(["https://ui.test"], "https://ui.test"), [200, "https://ui.test"]);
  assertEquals(await ask(["https://ui.test"], "https://ui.test", "OPTIONS"), [
    204,
    "https://ui.test",
  ]);
});

Deno.test("access: a page of another origin cannot open the WebSocket", async () => {
  const { app } = makeApp();
  const route = ROUTES.find(({ path }) => path === "/ws/events")!;
  const response = await ask(app, route, {
    authorization: `Bearer ${TOKENS.admin}`,
    origin: "https://evil.test",
  });
  await assertProblem(response, "forbidden");
});
