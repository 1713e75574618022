import { assertEquals, assertThrows } from "@std/assert";
import {
  ClientSettingError,
  endpointName,
  findEndpoint,
  findToken,
  parseEndpoint,
} from "#lib/client/mod.ts";

Deno.test("a server is named by URL or by the path of its socket", () => {
  assertEquals(parseEndpoint("http://127.0.0.1:8080/"), {
    kind: "tcp",
    baseUrl: "http://127.0.0.1:8080",
    isLocal: true,
  });
  assertEquals(parseEndpoint("https://example.test/celld/"), {
    kind: "tcp",
    baseUrl: "https://example.test/celld",
    isLocal: false,
  });
  for (const text of ["unix:/run/celld/api.sock", "unix:///run/celld/api.sock"]) {
    const endpoint = parseEndpoint(text);
    assertEquals(endpoint, { kind: "unix", path: "/run/celld/api.sock" });
    assertEquals(endpointName(endpoint), "unix:/run/celld/api.sock");
  }
});

Deno.test("a server that cannot be one is refused with what is wanted", () => {
  const texts = [
    "",
    "localhost:8080",
    "ftp://a",
    "http://",
    "http://a/?b",
    "http://a/#b",
    "http://user:secret@a/",
    "unix:relative",
    `unix:/${"a".repeat(107)}`,
    "unix:/a\0b",
  ];
  for (const text of texts) assertThrows(() => parseEndpoint(text), ClientSettingError);
});

Deno.test("only this host is local", () => {
  const isLocal = (text: string) => {
    const endpoint = parseEndpoint(text);
    return endpoint.kind === "tcp" && endpoint.isLocal;
  };
  assertEquals(["http://localhost", "http://[::1]:1", "http://127.9.9.9"].map(isLocal), [
    true,
    true,
    true,
  ]);
  const others = [
    "http://localhost.example.test",
    "http://127.0.0.1.example.test",
    "http://10.0.0.1",
  ];
  assertEquals(others.map(isLocal), [false, false, false]);
});

Deno.test("the local token is sent to this host only, and not where it is not needed", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const tokenPath = `${folder}/token`;
    const discovery = { socketPath: `${folder}/none`, tokenPath };
    const local = parseEndpoint("http://127.0.0.1:8080");
    assertEquals(findToken(local, discovery), undefined);
    await Deno.writeTextFile(tokenPath, "celld_local\n");
    assertEquals(findToken(local, discovery), "celld_local");
    assertEquals(findToken(local, { ...discovery, token: "given" }), "given");
    assertEquals(findToken(parseEndpoint("http://10.0.0.1"), discovery), undefined);
    assertEquals(findToken(parseEndpoint("unix:/a"), discovery), undefined);
    assertThrows(() => findToken(local, { ...discovery, token: "a\nb" }), ClientSettingError);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("the local server is its socket where there is one, else the default port", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const socketPath = `${folder}/api.sock`;
    const discovery = { socketPath, tokenPath: `${folder}/token` };
    assertEquals(endpointName(findEndpoint(discovery)), "http://127.0.0.1:8080");
    await Deno.writeTextFile(socketPath, "");
    assertEquals(endpointName(findEndpoint(discovery)), "http://127.0.0.1:8080");
    await Deno.remove(socketPath);
    const listener = Deno.listen({ transport: "unix", path: socketPath });
    assertEquals(endpointName(findEndpoint(discovery)), `unix:${socketPath}`);
    const named = findEndpoint({ ...discovery, server: "http://a.test" });
    assertEquals(endpointName(named), "http://a.test");
    listener.close();
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
