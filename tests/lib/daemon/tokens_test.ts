/**
 * @module
 */
import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import {
  createToken,
  ensureFirstToken,
  firstTokenPath,
  readTokens,
  revokeToken,
  tokensPath,
  TokenStore,
} from "#lib/daemon/tokens_file.ts";
import {
  formatTokens,
  parseTokens,
  TokenError,
  tokenRecord,
  TokenSet,
  tokenText,
} from "#lib/daemon/tokens.ts";

const NOW_MS = Date.parse("2026-05-16T00:00:00Z");

function inFolder(test: (folder: string) => void): void {
  const folder = Deno.makeTempDirSync();
  try {
    test(folder);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

function modeOf(path: string): number {
  return Deno.statSync(path).mode! & 0o777;
}

Deno.test("tokenText() is a prefix and 256 bits", () => {
  assertEquals(tokenText(new Uint8Array(32)), `celld_${"A".repeat(43)}`);
  assertThrows(() => tokenText(new Uint8Array(16)), RangeError);
});

Deno.test("tokens: what is kept holds no token", () => {
  const text = tokenText(new Uint8Array(32).fill(7));
  const record = tokenRecord(text, { name: "ci", scope: "run", nowMs: NOW_MS, ttlSeconds: 60 });
  const kept = formatTokens([record]);
  assert(!kept.includes(text.slice(6)));
  assertEquals(parseTokens(kept), [record]);
  assertEquals(record.expiresAt, "2026-05-16T00:01:00.000Z");
});

Deno.test("TokenSet: a token has its scope until it expires; nothing near it has any", () => {
  const text = tokenText(new Uint8Array(32).fill(7));
  const record = tokenRecord(text, { name: "ci", scope: "run", nowMs: NOW_MS, ttlSeconds: 60 });
  const tokens = new TokenSet([record], "hunter2");
  assertEquals(tokens.authorize(text, NOW_MS), { name: "ci", scope: "run", isGuessable: false });
  assertEquals(tokens.authorize("hunter2", NOW_MS), {
    name: "environment",
    scope: "admin",
    isGuessable: true,
  });
  assertEquals(tokens.authorize(text, NOW_MS + 60_000), undefined);
  for (const wrong of ["", text.slice(0, -1), `${text} `, record.sha256, "x".repeat(1 << 20)]) {
    assertEquals(tokens.authorize(wrong, NOW_MS), undefined);
  }
  assertEquals(new TokenSet([], "").authorize("", NOW_MS), undefined);
});

Deno.test("tokens: a file that is damaged is refused as a whole", () => {
  const good = tokenRecord("x", { name: "a", scope: "read", nowMs: NOW_MS });
  const cases: unknown[] = [
    null,
    {},
    { version: 2, tokens: [] },
    { version: 1, tokens: [null] },
    { version: 1, tokens: [good, good] },
    { version: 1, tokens: [{ ...good, scope: "root" }] },
    { version: 1, tokens: [{ ...good, sha256: "00" }] },
    { version: 1, tokens: [{ ...good, expiresAt: "soon" }] },
    { version: 1, tokens: [{ ...good, expiresAt: null }] },
    { version: 1, tokens: [{ ...good, name: "../x" }] },
  ];
  for (const value of cases) assertThrows(() => parseTokens(JSON.stringify(value)), TokenError);
  assertThrows(() => parseTokens("{"), TokenError);
});

Deno.test("tokens: names and scopes are checked when one is made", () => {
  inFolder((folder) => {
    assertThrows(() => createToken(folder, { name: "", scope: "read" }), TokenError);
    assertThrows(() => createToken(folder, { name: "a b", scope: "read" }), TokenError);
    assertThrows(() => createToken(folder, { name: "a", scope: "root" }), TokenError);
    createToken(folder, { name: "a", scope: "read" });
    assertThrows(() => createToken(folder, { name: "a", scope: "read" }), TokenError, "taken");
    assertEquals(readTokens(folder).map(({ name }) => name), ["a"]);
  });
});

Deno.test("tokens: the first start makes an admin's in a file that only its owner reads, once", () => {
  inFolder((folder) => {
    assertEquals(ensureFirstToken(folder), firstTokenPath(folder));
    const text = Deno.readTextFileSync(firstTokenPath(folder)).trim();
    assertMatch(text, /^celld_[A-Za-z0-9_-]{43}$/);
    assertEquals([modeOf(firstTokenPath(folder)), modeOf(tokensPath(folder))], [0o600, 0o600]);
    const store = new TokenStore({ stateDir: folder, onWarning: () => {} });
    assertEquals(store.authorize(text)?.scope, "admin");
    assertEquals(ensureFirstToken(folder), undefined);
    assertEquals(Deno.readTextFileSync(firstTokenPath(folder)).trim(), text);
    // Revoked stays revoked: the next start makes no other.
    revokeToken(folder, "first");
    assertEquals(ensureFirstToken(folder), undefined);
    assertEquals(readTokens(folder), []);
  });
});

Deno.test("tokens: a file that others may read or write is refused", () => {
  inFolder((folder) => {
    createToken(folder, { name: "a", scope: "read" });
    for (const mode of [0o644, 0o620, 0o602]) {
      Deno.chmodSync(tokensPath(folder), mode);
      assertThrows(
        () => new TokenStore({ stateDir: folder, onWarning: () => {} }),
        TokenError,
        "others may",
      );
    }
  });
});

Deno.test("tokens: a running server knows of one that was made, and of one that was revoked", async () => {
  const folder = Deno.makeTempDirSync();
  const warnings: string[] = [];
  const store = new TokenStore({
    stateDir: folder,
    chosen: "hunter2",
    onWarning: (text) => warnings.push(text),
  });
  assertEquals(store.authorize("hunter2")?.name, "environment");
  const { text } = createToken(folder, { name: "late", scope: "read" });
  await new Promise((resolve) => setTimeout(resolve, 20));
  assertEquals(store.authorize(text)?.name, "late");
  assertEquals(revokeToken(folder, "late"), true);
  assertEquals(revokeToken(folder, "late"), false);
  await new Promise((resolve) => setTimeout(resolve, 550));
  assertEquals(store.authorize(text), undefined);
  // A file that was damaged meanwhile changes nothing but a warning.
  Deno.writeTextFileSync(tokensPath(folder), "{");
  await new Promise((resolve) => setTimeout(resolve, 550));
  assertEquals(store.authorize("hunter2")?.scope, "admin");
  assertEquals(warnings.length, 1);
  Deno.removeSync(folder, { recursive: true });
});
