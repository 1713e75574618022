/**
 * The page of the protocol says what the server does.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { PROBLEMS } from "#lib/http/mod.ts";
import { ROUTES } from "#lib/http/routes/all.ts";

const PAGE = Deno.readTextFileSync(new URL("../../../docs/protocol/http.md", import.meta.url));
const ROWS = PAGE.split("\n").filter((line) => line.startsWith("| `"))
  .map((line) => line.split("|").slice(1, -1).map((cell) => cell.trim().replaceAll("`", "")));

Deno.test("docs: http.md has a row for each route, with its scope, and none for another", () => {
  const rows = ROWS.filter(([route]) => /^(GET|POST|DELETE) /.test(route))
    .map(([route, scope]) => `${route} ${scope}`);
  const routes = ROUTES.map(({ method, path, scope }) =>
    `${method.toUpperCase()} ${path} ${scope}`
  );
  assertEquals(rows.sort(), routes.sort());
});

Deno.test("docs: http.md has a row for each kind of problem, with its status", () => {
  const rows = ROWS.filter(([kind, status]) => kind in PROBLEMS || /^[45]\d\d$/.test(status))
    .map(([kind, status]) => `${kind} ${status}`);
  const kinds = Object.entries(PROBLEMS).map(([kind, { status }]) => `${kind} ${status}`);
  assertEquals(rows.sort(), kinds.sort());
});
