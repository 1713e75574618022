/**
 * What a service writes down about real commands, and what it does when the disk refuses.
 *
 * @module
 */
import { assert, assertEquals, assertGreater, assertLess, assertStringIncludes } from "@std/assert";
import { AuditLog } from "#lib/recovery/audit_log_shell.ts";
import { AUDIT_HEADER, AUDIT_HEADER_KEYED } from "#lib/recovery/audit_record.ts";
import { AuditVerifier } from "#lib/recovery/audit_verify.ts";
import type { AuditSettings } from "#lib/recovery/settings.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { runProcess } from "#tests/support/subprocess.ts";
import { ghost, once, ServiceBench, shell } from "./support.ts";

async function withDirectory(use: (directory: string) => Promise<void>): Promise<void> {
  const directory = Deno.makeTempDirSync();
  try {
    await use(directory);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

/** Runs one command with an audit; returns the file's lines as columns. */
async function auditOf(
  script: string,
  audit: AuditSettings,
  captureBytes = 4096,
): Promise<string[][]> {
  {
    await using bench = await ServiceBench.start(once(shell(script)), { audit, captureBytes });
    bench.stall(ghost(123));
    await bench.until("reaped");
  }
  return Deno.readTextFileSync(audit.path).trimEnd().split("\n").map((line) => line.split("\t"));
}

kernelTest("recovery audit: boot, intent, spawn and complete of a command", ["root"], async () => {
  await withDirectory(async (directory) => {
    const path = `${directory}/audit.tsv`;
    const [header, ...rows] = await auditOf("exit 0", { path });
    assertEquals(header, [AUDIT_HEADER]);
    assertEquals(rows.map((row) => row[3]), ["boot", "intent", "spawn", "complete"]);
    assertEquals(rows.map((row) => row[0]), ["1", "2", "3", "4"]);
    assertEquals(rows[0]!.slice(4, 7), [`${Deno.pid}`, "-", "fresh"]);
    const [, , spawn, complete] = rows as [string[], string[], string[], string[]];
    assertEquals([spawn[4], spawn[6], spawn[7], spawn[8]], ["123", "exec", "sh", "inline"]);
    assertEquals(spawn[9], `${"sh -c exit 0 recovery".length}`);
    assertEquals([complete[4], complete[5]], ["123", spawn[5]]);
    assertEquals(complete.slice(6, 9), ["reaped", "0", "-"]);
    for (const row of rows) assert(/^[0-9a-f]{64}$/.test(row.at(-1)!));
    assertEquals(Deno.statSync(path).mode! & 0o777, 0o600);
  });
});

kernelTest(
  "recovery audit: lengths of the output, and whether some was left out",
  ["root"],
  async () => {
    await withDirectory(async (directory) => {
      const chatty = "printf '%64s' '' | tr ' ' X";
      const whole = (await auditOf(chatty, { path: `${directory}/a` })).at(-1)!;
      assertEquals([whole[10], whole[11], whole[12]], ["64", "0", "false"]);
      const flood = "head -c 10000 /dev/zero | tr '\\0' X";
      const cut = (await auditOf(flood, { path: `${directory}/b` }, 64)).at(-1)!;
      assertEquals([cut[10], cut[11], cut[12]], ["10000", "0", "true"]);
    });
  },
);

kernelTest("recovery audit: a keyed chain verifies with its key only", ["root"], async () => {
  await withDirectory(async (directory) => {
    const keyFile = `${directory}/key`;
    Deno.writeTextFileSync(keyFile, "0123456789abcdef", { mode: 0o600 });
    const path = `${directory}/audit.tsv`;
    assertEquals((await auditOf("exit 0", { path, keyFile }))[0], [AUDIT_HEADER_KEYED]);
    for (
      const [key, isSound] of [["0123456789abcdef", true], ["0123456789abcdeF", false]] as const
    ) {
      const verifier = new AuditVerifier(new TextEncoder().encode(key));
      verifier.begin(path);
      verifier.push(Deno.readFileSync(path));
      assertEquals(verifier.end().isSound, isSound);
    }
  });
});

kernelTest("recovery audit: without one no file is made", ["root"], async () => {
  await withDirectory(async (directory) => {
    await using bench = await ServiceBench.start(once(shell("exit 0")));
    bench.stall(ghost(1));
    await bench.until("reaped");
    assertEquals([...Deno.readDirSync(directory)], []);
  });
});

kernelTest(
  "recovery audit: a full disk loses nothing at first, then numbers, and never the chain",
  ["root", "command:mount", "command:umount"],
  async () => {
    await withDirectory(async (directory) => {
      await host("mount", "-t", "tmpfs", "-o", "size=64k", "celld-test", directory);
      try {
        const times = { wallMs: 1, observerNs: 0n };
        const path = `${directory}/audit.tsv`;
        const monotonicMs = () => performance.now();
        const log = new AuditLog({ path, daemonPid: 1, monotonicMs }, times);
        const record = (agentPid: number) => {
          log.record({ ...times, kind: "refused", agentPid, reason: "debounced" });
          return log.commit();
        };
        fill(`${directory}/filler`);
        let pid = 0;
        while (record(pid++)) assertLess(pid, 1000);
        assertStringIncludes(log.takeError()!.message, "ENOSPC");
        assertEquals(log.counts.dropped, 0, "it waits");
        for (let more = 0; more < 300; more++) record(pid++);
        assertGreater(log.counts.dropped, 0);
        assertEquals([log.counts.warnings, log.counts.criticals], [1, 1]);
        Deno.removeSync(`${directory}/filler`);
        assert(record(pid++), "there is room again");
        log.close();
        const verifier = new AuditVerifier();
        verifier.begin(path);
        verifier.push(Deno.readFileSync(path));
        const report = verifier.end();
        assert(report.isSound, JSON.stringify(report.problems));
        assertEquals(report.burntCount, `${log.counts.dropped}`);
        assertEquals(report.lastSeq, `${pid + 1}`);
      } finally {
        await host("umount", directory);
      }
    });
  },
);

async function host(...argv: [string, ...string[]]): Promise<void> {
  const { code, stderr } = await runProcess(argv);
  if (code !== 0) throw new Error(`${argv.join(" ")}: ${stderr}`);
}

/** Writes until the file system is full. */
function fill(path: string): void {
  const block = new Uint8Array(4096);
  try {
    for (;;) Deno.writeFileSync(path, block, { append: true });
  } catch (error) {
    if (!(error instanceof Error) || !/space/.test(error.message)) throw error;
  }
}

kernelTest("recovery audit: a second celld on the same file is refused", ["root"], async () => {
  await withDirectory(async (directory) => {
    const audit = { path: `${directory}/audit.tsv` };
    await using _first = await ServiceBench.start(once(shell("exit 0")), { audit });
    let message = "";
    try {
      await using _second = await ServiceBench.start(once(shell("exit 0")), { audit });
    } catch (error) {
      message = error instanceof Error ? error.message : "";
    }
    assertStringIncludes(message, "another process writes it");
  });
});
