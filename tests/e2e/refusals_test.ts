/**
 * What a server refuses, on every route that its own description names: bodies, filters, cursors,
 * ids. Each refusal is a problem, and nothing has changed after all of them.
 *
 * @module
 */
import { assert, assertEquals, assertGreater } from "@std/assert";
import { spec, Stage } from "#tests/support/celld_stage.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { Served } from "#tests/support/served.ts";
import { runCell } from "#tests/support/served_facts.ts";

const NEEDS = ["root", "cap:CAP_SYS_ADMIN", "cap:CAP_NET_ADMIN", "cap:CAP_SYS_PTRACE"] as const;
const ABSENT = "00000000-0000-4000-8000-000000000000";
const DEEP = `{"a":${"[".repeat(70)}${"]".repeat(70)}}`;
const BODIES: readonly (readonly [name: string, body: BodyInit])[] = [
  ["nothing", ""],
  ["an array", "[]"],
  ["null", "null"],
  ["a number", "7"],
  ["a text", '"a"'],
  ["an empty object", "{}"],
  ["cut JSON", '{"name":'],
  ["a trailing comma", '{"name":"a",}'],
  ["a key twice", '{"name":"a","name":"b"}'],
  ["a key twice, deep", '{"spec":{"a":[{"b":1,"b":2}]}}'],
  ["too deep", DEEP],
  ["half-open, too deep", "[".repeat(60_000)],
  ["not UTF-8", new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])],
  [
    "members of wrong types",
    '{"name":7,"state":[],"member":{},"replicas":"1","argv":"sh","spec":1}',
  ],
  ["words of wrong types", '{"argv":[1],"state":"odd","member":"a","replicas":-1,"members":"a"}'],
  ["oversized", `{"a":"${"x".repeat(3 * 1024 * 1024)}"}`],
];

interface Parameter {
  readonly in: string;
  readonly name: string;
  readonly schema: { readonly type?: string; readonly enum?: readonly string[] };
}

interface Operation {
  readonly method: string;
  readonly path: string;
  readonly parameters: readonly Parameter[];
  readonly mediaTypes: readonly string[];
}

/** A server's own list of what it can be asked. */
async function operationsOf(served: Served): Promise<Operation[]> {
  const document = (await served.ask("GET", "/openapi.json")).json<{
    paths: Record<string, Record<string, Record<string, unknown>>>;
  }>();
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { parameters, requestBody }]) => ({
      method: method.toUpperCase(),
      path,
      parameters: (parameters ?? []) as Parameter[],
      mediaTypes: Object.keys((requestBody as { content: object } | undefined)?.content ?? {}),
    }))
  );
}

/** Values that a parameter cannot have. */
function badValuesOf({ schema }: Parameter): string[] {
  if (schema.enum !== undefined) return ["odd", ""];
  if (schema.type === "integer") return ["", "x", "-1", "1.5", "0x10", "1e3", "9".repeat(17), "٣"];
  if (schema.type === "boolean") return ["maybe", "2"];
  return ["", "x".repeat(300), "%00", "a%0Ab"];
}

/** Asks, and checks that the answer is a refusal and a problem. */
async function assertRefused(
  client: Deno.HttpClient,
  method: string,
  path: string,
  init: RequestInit,
  what: string,
): Promise<void> {
  const response = await fetch(`http://127.0.0.1${path}`, { method, client, ...init });
  const text = await response.text();
  const label = `${method} ${path.slice(0, 120)}: ${what}: ${response.status} ${
    text.slice(0, 200)
  }`;
  // A part that this server was not given can be asked nothing.
  const isAbsent = response.status === 503 && text.includes("urn:celld:problem:udp-unavailable");
  assert(isAbsent || (response.status >= 400 && response.status < 500), label);
  assertEquals(response.headers.get("content-type"), "application/problem+json", label);
  const { type, title, status, detail, requestId } = JSON.parse(text);
  assert(String(type).startsWith("urn:celld:problem:"), label);
  for (const member of [title, detail, requestId]) assert(member !== "" && member, label);
  assertEquals(status, response.status, label);
}

kernelTest(
  "refusals: no bad body, filter, cursor or id changes anything, on any route",
  NEEDS,
  async () => {
    await using stage = await Stage.set();
    await using served = new Served(stage);
    await served.start();
    const cellId = await runCell(served, spec("kept", { argv: ["sleep", "600"] }));
    const formation = await served.ask("POST", "/v1/formations", {
      name: "kept",
      coordinator: "lead",
      members: [{ id: "lead" }],
    });
    const formationId = formation.json<{ id: string }>().id;
    await served.cellBecomes(cellId, { state: "running" });
    const stateOf = async () => {
      const texts = [];
      for (const path of ["/v1/cells", "/v1/formations", "/v1/hosts"]) {
        texts.push(JSON.stringify({ ...(await served.ask("GET", path)).json(), cursor: 0 }));
      }
      return texts;
    };
    const wishesOf = async () =>
      (await served.events()).map(({ event }) => event.type)
        .filter((type) => /requested|scaled|exec|created|formation/.test(type)).length;
    const [before, wishes] = [await stateOf(), await wishesOf()];
    const operations = await operationsOf(served);
    const place = ({ path }: Operation) =>
      path.replace("/by-name/{name}", "/by-name/kept").replace("{exec}", ABSENT)
        .replace("{id}", path.startsWith("/v1/formations") ? formationId : cellId);
    const socket = `${stage.settings.runtimeDir}/api.sock`;
    const client = Deno.createHttpClient({ proxy: { transport: "unix", path: socket } });
    const counts = { bodies: 0, parameters: 0, ids: 0, methods: 0 };
    try {
      for (const operation of operations) {
        const { method, mediaTypes, parameters, path } = operation;
        const at = place(operation);
        for (const [name, body] of mediaTypes.length === 0 ? [] : BODIES) {
          // To ask for nothing is no mistake there.
          if (path === "/v1/udp" && name === "an empty object") continue;
          const headers = { "content-type": mediaTypes[0]! };
          await assertRefused(client, method, at, { body, headers }, name);
          counts.bodies += 1;
        }
        if (mediaTypes.length > 0) {
          const init = { body: "x", headers: { "content-encoding": "gzip" } };
          await assertRefused(client, method, at, init, "compressed");
        }
        for (const parameter of parameters.filter((one) => one.in === "query")) {
          const { name } = parameter;
          for (const value of badValuesOf(parameter)) {
            // An empty flag is a flag.
            await assertRefused(client, method, `${at}?${name}=${value}`, {}, "a bad value");
            counts.parameters += 1;
          }
          await assertRefused(client, method, `${at}?${name}=1&${name}=1`, {}, "twice");
        }
        const hasId = /\{(id|name)\}/.test(path);
        if (hasId && !path.endsWith("}/status") && mediaTypes.length === 0) {
          const nowhere = path.replace(/\{[a-z]+\}/g, ABSENT);
          await assertRefused(client, method, nowhere, {}, "nobody");
          counts.ids += 1;
        }
        await assertRefused(client, "PATCH", at, {}, "another method");
        counts.methods += 1;
      }
    } finally {
      client.close();
    }
    assertGreater(counts.bodies, 5 * BODIES.length - 1);
    assertGreater(counts.parameters, 100);
    assertGreater(counts.ids, 5);
    assertGreater(counts.methods, 25);
    assertEquals(await stateOf(), before);
    assertEquals(await wishesOf(), wishes);
    assertEquals(await served.end("SIGTERM"), 0);
  },
);
