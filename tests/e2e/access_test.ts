/**
 * Who gets in, on the sockets of a real server: HTTPS with a certificate of one's own, tokens of
 * each scope on every route that the server itself names, guesses that are slowed down, pages of
 * other origins.
 *
 * @module
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { Stage } from "#tests/support/celld_stage.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { Served } from "#tests/support/served.ts";
import { REPOSITORY_ROOT } from "#tests/support/subprocess.ts";

const NEEDS = [
  "root",
  "cap:CAP_SYS_ADMIN",
  "cap:CAP_NET_ADMIN",
  "cap:CAP_SYS_PTRACE",
  "path:/usr/bin/openssl",
] as const;
const ABSENT = "00000000-0000-4000-8000-000000000000";
const SCOPES = ["read", "run", "admin"];

/** Makes a certificate for 127.0.0.1, signed by nobody but itself. */
async function makeCertificate(base: string): Promise<{ cert: string; key: string }> {
  const [cert, key] = [`${base}/cert.pem`, `${base}/key.pem`];
  const { success, stderr } = await new Deno.Command("openssl", {
    args: [
      ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"],
      ...["-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=celld test"],
      ...[
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
      ],
    ],
    stderr: "piped",
  }).output();
  assert(success, new TextDecoder().decode(stderr));
  return { cert, key };
}

/** Runs a program where the server listens. */
async function runThere(
  stage: Stage,
  program: string,
  args: readonly string[],
): Promise<{ code: number; out: string; err: string }> {
  const child = stage.lab.spawnInHost(program, {
    args: [...args],
    env: { NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  });
  const { code, stdout, stderr } = await child.output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, out: text(stdout), err: text(stderr) };
}

function celld(stage: Stage, args: readonly string[]) {
  const { stateDir, runtimeDir } = stage.settings;
  return runThere(stage, Deno.execPath(), [
    ...["run", "-A", "--quiet", "--no-check", `${REPOSITORY_ROOT}/main.ts`, ...args],
    ...["--state-dir", stateDir, "--runtime-dir", runtimeDir],
  ]);
}

async function makeToken(stage: Stage, scope: string): Promise<string> {
  const { code, out } = await celld(stage, [
    "--json",
    "token",
    "create",
    `t-${scope}`,
    "--scope",
    scope,
  ]);
  assertEquals(code, 0);
  return JSON.parse(out).text;
}

/** What each request of a table is answered, asked by one process where the server listens. */
async function statusesOf(
  stage: Stage,
  requests: readonly { url: string; method: string; headers: Record<string, string> }[],
  ca?: string,
): Promise<{ status: number; type: string; headers: Record<string, string> }[]> {
  const script = `
    const client = Deno.createHttpClient(${
    ca === undefined ? "{}" : `{ caCerts: [${JSON.stringify(ca)}] }`
  });
    const answers = [];
    for (const { url, method, headers } of ${JSON.stringify(requests)}) {
      const response = await fetch(url, { method, headers, client, redirect: "manual" });
      const type = response.headers.get("content-type") ?? "";
      const reader = response.body?.getReader();
      const first = await reader?.read();
      await reader?.cancel();
      const isProblem = type === "application/problem+json";
      const text = new TextDecoder().decode(first?.value);
      answers.push({
        status: response.status,
        type: isProblem ? JSON.parse(text).type : "",
        headers: Object.fromEntries(response.headers),
      });
    }
    console.log(JSON.stringify(answers));`;
  const path = `${stage.base}/ask-${crypto.randomUUID()}.ts`;
  Deno.writeTextFileSync(path, script);
  const { code, out, err } = await runThere(stage, Deno.execPath(), [
    ...["run", "-A", "--quiet", "--no-check", "--no-config", path],
  ]);
  assertEquals(code, 0, err);
  return JSON.parse(out);
}

kernelTest(
  "access: HTTPS from files, trusted by who is told to, and tokens on every route",
  NEEDS,
  async () => {
    await using stage = await Stage.set();
    const { cert, key } = await makeCertificate(stage.base);
    await using served = new Served(stage, ["--tls-cert", cert, "--tls-key", key]);
    await served.start();
    const url =
      JSON.parse(served.printed.split("\n").find((line) => line.includes('"ready"'))!).url;
    assertMatch(url, /^https:\/\/127\.0\.0\.1:\d+$/);

    const tokens = new Map<string, string>();
    for (const scope of SCOPES) tokens.set(scope, await makeToken(stage, scope));
    const read = ["--server", url, "--token", tokens.get("read")!];
    const doubted = await celld(stage, ["get", "hosts", ...read]);
    assertEquals(doubted.code, 4);
    assertMatch(doubted.err, /certificate/i);
    const trusted = await celld(stage, ["get", "hosts", ...read, "--ca-cert", cert]);
    assertEquals([trusted.code, trusted.err], [0, ""]);
    const version = await celld(stage, ["version", ...read, "--ca-cert", cert]);
    assertMatch(
      version.out,
      new RegExp(`^celld .*\\nserver \\d+\\.\\d+\\.\\d+.* \\(${url}\\)\\n$`),
    );
    const missing = await celld(stage, ["get", "hosts", ...read, "--ca-cert", "/nowhere"]);
    assertEquals(missing.code, 2);
    const followed = await celld(stage, ["events", ...read, "--ca-cert", cert]);
    assertStringIncludes(followed.out, "host");

    const document = (await served.ask("GET", "/openapi.json")).json<{
      paths: Record<string, Record<string, { description?: string; security?: unknown }>>;
    }>();
    const routes = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, { description, security }]) => ({
        path,
        method: method.toUpperCase(),
        isOpen: security === undefined,
        scope: /`(\w+)`/.exec(description ?? "")?.[1] ?? "",
      }))
    );
    const guarded = routes.filter(({ isOpen }) => !isOpen);
    assert(guarded.length > 20 && guarded.some(({ path }) => path === "/ws/events"));
    assertEquals(routes.filter(({ isOpen }) => isOpen).map(({ path }) => path), [
      "/healthz",
      "/readyz",
    ]);
    const ca = Deno.readTextFileSync(cert);
    const requestsAs = (headers: Record<string, string>, some = guarded) =>
      some.map(({ path, method }) => ({
        url: url + path.replace(/\{[a-z]+\}/g, ABSENT),
        method,
        headers: { ...headers },
      }));
    for (const { status, type } of await statusesOf(stage, requestsAs({}), ca)) {
      assertEquals([status, type], [401, "urn:celld:problem:unauthorized"]);
    }
    for (const scope of SCOPES) {
      const headers = { authorization: `Bearer ${tokens.get(scope)}` };
      const answers = await statusesOf(stage, requestsAs(headers), ca);
      for (const [index, route] of guarded.entries()) {
        const isEnough = SCOPES.indexOf(scope) >= SCOPES.indexOf(route.scope);
        const label = `${scope} ${route.method} ${route.path}`;
        assertEquals(answers[index]!.status === 403, !isEnough, label);
        assert(answers[index]!.status !== 401, label);
      }
    }
    // Ten wrong ones, on whichever routes, and the address waits; who knows a token does not.
    const wrong = await statusesOf(stage, requestsAs({ authorization: "Bearer wrong" }), ca);
    const statuses = wrong.map(({ status }) => status);
    assertEquals(statuses, statuses.map((_, index) => index < 10 ? 401 : 429));
    assertMatch(wrong.at(-1)!.headers["retry-after"] ?? "", /^\d+$/);
    const [right] = await statusesOf(stage, [{
      url: `${url}/v1/version`,
      method: "GET",
      headers: { authorization: `Bearer ${tokens.get("read")}`, origin: "https://evil.test" },
    }], ca);
    assertEquals(right!.status, 200);
    assertEquals(right!.headers["access-control-allow-origin"], undefined);
    const [asked] = await statusesOf(stage, [{
      url: `${url}/v1/version`,
      method: "OPTIONS",
      headers: {
        authorization: `Bearer ${tokens.get("read")}`,
        origin: "https://evil.test",
        "access-control-request-method": "GET",
      },
    }], ca);
    assertEquals([asked!.status, asked!.headers["access-control-allow-origin"]], [405, undefined]);
    assertEquals(await served.end("SIGTERM"), 0);
  },
);
