import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { runCli } from "#lib/cli/mod.ts";
import { composePorts } from "#lib/daemon/mod.ts";
import { AUDIT_HEADER, AUDIT_HEADER_KEYED, AuditChain, type AuditRow } from "#lib/recovery/mod.ts";
import { fakeIo } from "./fake_io.ts";

const TIMES = { wallMs: 1, observerNs: 0n };

function rows(chain: AuditChain, previous: string | undefined, header: string): string {
  const reason = previous === undefined ? "fresh" as const : "rotation" as const;
  const list: AuditRow[] = [
    { ...TIMES, kind: "boot", daemonPid: 1, previous, reason },
    { ...TIMES, kind: "refused", agentPid: 2, reason: "debounced" },
  ];
  return `${header}\n${list.map((row) => chain.line(row)).join("")}`;
}

async function verify(args: string, files: Record<string, string>) {
  const io = fakeIo({ files });
  const code = await runCli(["audit", "verify", ...args.split(" ")], { io, connect: composePorts });
  return { code, out: io.out(), err: io.err() };
}

Deno.test("audit verify: sound files are 0, the last hash is told", async () => {
  const chain = new AuditChain();
  const old = rows(chain, undefined, AUDIT_HEADER);
  const live = rows(chain, chain.head, AUDIT_HEADER);
  const files = { "a.1": old, a: live };
  const rotated = await verify("--rotated a", files);
  assertEquals(rotated.code, 0, rotated.out + rotated.err);
  assertStringIncludes(rotated.out, "4 rows checked, all as they were written");
  assertStringIncludes(rotated.out, `row 4 has hash ${chain.head}`);
  assertEquals((await verify("a.1 a", files)).out, rotated.out);
  const json = JSON.parse((await verify("a --json", files)).out);
  assertEquals([json.isSound, json.rowCount, json.notes.length], [true, 2, 1]);
});

Deno.test("audit verify: a changed row, a torn end and a wrong key are 1, a missing file is 2", async () => {
  const text = rows(new AuditChain(), undefined, AUDIT_HEADER);
  const changed = await verify("a", { a: text.replace("debounced", "debounceD") });
  assertEquals(changed.code, 1);
  assertMatch(changed.out, /DAMAGED\n {2}a:3: the chain does not fit the row/);
  const torn = await verify("a", { a: text.slice(0, -3) });
  assertEquals(torn.code, 1);
  assertStringIncludes(torn.out, "a:3: the line has no end");
  const missing = await verify("a", {});
  assertEquals(missing.code, 2);
  assertStringIncludes(missing.err, "no such file");
  const key = new TextEncoder().encode("0123456789abcdef");
  const keyed = rows(new AuditChain(key), undefined, AUDIT_HEADER_KEYED);
  assertEquals((await verify("a --key-file k", { a: keyed, k: "0123456789abcdef" })).code, 0);
  assertEquals((await verify("a --key-file k", { a: keyed, k: "0123456789abcdeF" })).code, 1);
  assertEquals((await verify("a", { a: keyed })).code, 1);
});

Deno.test("audit verify: has help with examples, and completion knows it", async () => {
  const io = fakeIo();
  assertEquals(await runCli(["audit", "verify", "--help"], { io, connect: composePorts }), 0);
  assert(io.out().includes("--key-file") && io.out().includes("Examples:"));
  const other = fakeIo();
  await runCli(["completion", "bash"], { io: other, connect: composePorts });
  assertStringIncludes(other.out(), "--key-file");
});
