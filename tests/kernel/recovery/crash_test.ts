/**
 * celld killed in the middle of recoveries and of rotations: the audit verifies, and no stall is acted
 * upon twice.
 *
 * @module
 */
import { assert, assertEquals, assertGreater } from "@std/assert";
import { AuditLog } from "#lib/recovery/audit_log_shell.ts";
import type { AuditRow } from "#lib/recovery/audit_record.ts";
import { ROTATED_FILES } from "#lib/recovery/audit_rotation.ts";
import { type AuditReport, AuditVerifier } from "#lib/recovery/audit_verify.ts";
import { campaign, campaignSeed, recordCampaign } from "#tests/support/campaign.ts";
import { Prng } from "#lib/base/mod.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { REPOSITORY_ROOT } from "#tests/support/subprocess.ts";

/** Stalls told in a round; half of them were told in the round before. */
const STALLS = 24;
const SCRIPT = new URL("./recoverer.ts", import.meta.url).pathname;
const KILL_AFTER_MS_MAX = 400;

function verifyFiles(path: string, key?: Uint8Array): AuditReport {
  const verifier = new AuditVerifier(key);
  for (let generation = ROTATED_FILES; generation >= 0; generation--) {
    const file = generation === 0 ? path : `${path}.${generation}`;
    try {
      const bytes = Deno.readFileSync(file);
      verifier.begin(file);
      verifier.push(bytes);
    } catch (cause) {
      if (!(cause instanceof Deno.errors.NotFound)) throw cause;
    }
  }
  return verifier.end();
}

async function round(
  audit: string,
  fired: string,
  first: number,
  killAfterMs: number,
): Promise<string> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", "--quiet", SCRIPT, audit, fired, `${first}`, `${STALLS}`],
    cwd: REPOSITORY_ROOT,
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    while (!text.includes("ready")) {
      const { value, done } = await reader.read();
      assert(!done, `it ended early: ${text}`);
      text += value;
    }
    await new Promise((resolve) => setTimeout(resolve, killAfterMs));
  } finally {
    child.kill("SIGKILL");
    await child.status;
    await reader.cancel();
  }
  return text;
}

kernelTest("recovery: killed again and again, no stall is acted upon twice", ["root"], async () => {
  const rounds = campaign(10, 200);
  const prng = new Prng(campaignSeed());
  const directory = Deno.makeTempDirSync();
  const [audit, fired] = [`${directory}/audit.tsv`, `${directory}/fired`];
  Deno.writeTextFileSync(fired, "");
  let torn = 0;
  let cutShort = 0;
  try {
    for (let index = 0; index < rounds; index++) {
      const first = 1_000_000 + index * STALLS / 2;
      const text = await round(audit, fired, first, prng.below(KILL_AFTER_MS_MAX));
      cutShort += text.split("cut short").length - 1;
      const report = verifyFiles(audit);
      assertEquals(report.problems, [], `seed ${prng.seed}, round ${index}`);
      if (report.tornTail !== undefined) torn++;
    }
    const counts = new Map<string, number>();
    for (const line of Deno.readTextFileSync(fired).trim().split("\n")) {
      counts.set(line, (counts.get(line) ?? 0) + 1);
    }
    assertGreater(counts.size, rounds, "commands were run");
    assertEquals([...counts].filter(([, count]) => count > 1), [], `seed ${prng.seed}`);
    recordCampaign("recovery: kill -9 while recovering and rotating", {
      rounds,
      fired: counts.size,
      twice: 0,
      torn,
      cutShort,
    });
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
});

Deno.test("audit log: rotates, resumes, repairs a torn tail, goes on after a cut rotation", () => {
  const directory = Deno.makeTempDirSync();
  const path = `${directory}/audit.tsv`;
  const times = { wallMs: 1, observerNs: 0n };
  const monotonicMs = () => performance.now();
  const open = (key?: Uint8Array) =>
    new AuditLog({
      path,
      daemonPid: 1,
      monotonicMs,
      maxBytes: 4096,
      ...(key === undefined ? {} : { key }),
    }, times);
  const refused = (agentPid: number): AuditRow => {
    return { ...times, kind: "refused", agentPid, reason: "debounced" };
  };
  try {
    let log = open();
    assertEquals(log.bootReason, "fresh");
    assertEquals(Deno.statSync(path).mode! & 0o777, 0o600);
    for (let pid = 0; pid < 400; pid++) {
      log.record(refused(pid));
      log.flush(1000);
      log.rotate(times, 1000);
    }
    assertGreater(log.rotations, ROTATED_FILES);
    assert(log.takeSyncDurations().length > 0);
    log.close();
    assert(verifyFiles(path).isSound);

    log = open();
    assertEquals(log.bootReason, "resume");
    log.close();
    Deno.writeTextFileSync(path, "999\t1\t", { append: true });
    assertEquals(verifyFiles(path).tornTail?.file, path);
    log = open();
    assertEquals(log.bootReason, "corrupt_tail");
    log.close();
    assert(verifyFiles(path).isSound, JSON.stringify(verifyFiles(path).problems));

    // A celld that ended between two steps of a rotation: .1 is free, or the live file is not there.
    for (let generation = ROTATED_FILES - 1; generation >= 0; generation--) {
      Deno.renameSync(
        generation === 0 ? path : `${path}.${generation}`,
        `${path}.${generation + 1}`,
      );
    }
    log = open();
    assertEquals(log.bootReason, "rotation");
    log.record(refused(1));
    log.close();
    const report = verifyFiles(path);
    assert(report.isSound, JSON.stringify(report.problems));
    assertEquals(report.gaps, []);

    // Another kind of chain never goes on in the same file.
    const key = new Uint8Array(32).fill(3);
    log = open(key);
    assertEquals(log.bootReason, "schema_drift");
    log.close();
    const verifier = new AuditVerifier(key);
    verifier.begin(path);
    verifier.push(Deno.readFileSync(path));
    assert(verifier.end().isSound);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
});
