/**
 * The audit: rows and chain against the reference's vector, ring, resume, rotation, verification.
 *
 * @module
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import fc from "fast-check";
import { encodeUtf8, toHex } from "#lib/base/mod.ts";
import {
  AuditChain,
  AuditRing,
  RING_CRITICAL,
  RING_LINES,
  RING_WARN,
} from "#lib/recovery/audit_chain.ts";
import {
  AUDIT_HEADER,
  AUDIT_HEADER_KEYED,
  auditBody,
  type AuditRow,
  type BootReason,
  CHAIN_START,
  chainDigest,
  FREE_TEXT_BYTES_MAX,
  parseAuditRow,
  sanitizeText,
} from "#lib/recovery/audit_record.ts";
import {
  type FileEnds,
  intentsIn,
  planResume,
  RESUME_TAIL_BYTES,
} from "#lib/recovery/audit_resume.ts";
import { Rotation, rotationSteps } from "#lib/recovery/audit_rotation.ts";
import { type AuditReport, AuditVerifier } from "#lib/recovery/audit_verify.ts";
import { campaign } from "#tests/support/campaign.ts";

const TIMES = { wallMs: 1_700_000_000_000, observerNs: 0n };
const KEY = new Uint8Array(32).fill(7);

function boot(reason: BootReason = "fresh", previous?: string): AuditRow {
  return { ...TIMES, kind: "boot", daemonPid: 1234, previous, reason };
}

function refused(agentPid: number): AuditRow {
  return { ...TIMES, kind: "refused", agentPid, reason: "debounced" };
}

function fileOf(rows: readonly AuditRow[], key?: Uint8Array, chain = new AuditChain(key)): string {
  const header = key === undefined ? AUDIT_HEADER : AUDIT_HEADER_KEYED;
  return `${header}\n${rows.map((row) => chain.line(row)).join("")}`;
}

function verify(texts: readonly string[], key?: Uint8Array): AuditReport {
  const verifier = new AuditVerifier(key);
  texts.forEach((text, index) => {
    verifier.begin(`f${index}`);
    const bytes = encodeUtf8(text);
    // Chunks that end anywhere.
    for (let from = 0; from < bytes.length; from += 37) {
      verifier.push(bytes.subarray(from, from + 37));
    }
  });
  return verifier.end();
}

function endsOf(text: string): FileEnds {
  const bytes = encodeUtf8(text);
  const end = text.indexOf("\n");
  return {
    sizeBytes: bytes.length,
    firstLine: end < 0 ? undefined : text.slice(0, end),
    tail: bytes.subarray(Math.max(0, bytes.length - RESUME_TAIL_BYTES)),
  };
}

Deno.test("audit: the chain's check vector of the reference", () => {
  const body = "1\t1700000000000\t0\tboot\t1234\t-\tfresh";
  assertEquals(auditBody(1n, boot()), body);
  const digest = "ea3737cc98db3db7f5be0f369c21b100c0eae318b0b050d67bb2ac80553435e8";
  assertEquals(toHex(chainDigest("boot", CHAIN_START, body)), digest);
  assertEquals(new AuditChain().line(boot()), `${body}\t${digest}\n`);
});

Deno.test("audit: each kind of row, column by column", () => {
  const bodies = ([
    boot("resume", "ab"),
    {
      ...TIMES,
      kind: "spawn",
      agentPid: 5,
      childPid: 6,
      program: "/bin/x\ty",
      source: "inline",
      templateLength: 9,
    },
    {
      ...TIMES,
      kind: "complete",
      agentPid: 5,
      childPid: 6,
      outcome: "killed",
      exitCode: undefined,
      signal: 9,
      durationNs: 12n,
      stdoutLength: 3,
      stderrLength: 4,
      isTruncated: true,
    },
    refused(5),
    {
      ...TIMES,
      kind: "intent",
      agentPid: 5,
      generation: 7n,
      stallNs: 8n,
      attempt: 2,
      action: "signal:15",
    },
  ] as AuditRow[]).map((row) => auditBody(2n, row).split("\t").slice(3).join("|"));
  assertEquals(bodies, [
    "boot|1234|ab|resume",
    "spawn|5|6|exec|/bin/x y|inline|9",
    "complete|5|6|killed|-|9|12|3|4|true",
    "refused|5|debounced",
    "intent|5|7|8|2|signal:15",
  ]);
});

Deno.test("audit: free text has no tab and no line's end, and is cut between characters", () => {
  assertEquals(sanitizeText("a\tb\r\nc"), "a b  c");
  const cut = sanitizeText("a" + "é".repeat(FREE_TEXT_BYTES_MAX));
  assert(encodeUtf8(cut).length <= FREE_TEXT_BYTES_MAX && cut.endsWith("é"));
});

Deno.test("audit: a keyed chain is another than the keyless, and needs its key", () => {
  const body = auditBody(1n, boot());
  assert(
    toHex(chainDigest("boot", CHAIN_START, body, KEY)) !==
      toHex(chainDigest("boot", CHAIN_START, body)),
  );
  const text = fileOf([boot(), refused(1)], KEY);
  assert(verify([text], KEY).isSound);
  assert(!verify([text]).isSound);
  assert(!verify([text], new Uint8Array(32)).isSound);
  assert(!verify([fileOf([boot()])], KEY).isSound, "a keyless file where a key is wanted");
});

Deno.test("audit: a full ring burns numbers, the chain goes on, watermarks rise once", () => {
  const chain = new AuditChain();
  const ring = new AuditRing(chain);
  let text = `${AUDIT_HEADER}\n${chain.line(boot())}`;
  for (let pid = 1; pid <= RING_LINES; pid++) assert(ring.push(refused(pid)));
  assertEquals([ring.push(refused(0)), ring.push(refused(0)), ring.dropped], [false, false, 2]);
  assertEquals([ring.warnings, ring.criticals], [1, 1]);
  const drain = (count: number) => {
    for (; count > 0; count--) {
      text += ring.peek();
      ring.shift();
    }
  };
  drain(RING_LINES - RING_WARN + 1);
  for (let size = RING_WARN; size <= RING_CRITICAL; size++) ring.push(refused(size));
  assertEquals([ring.warnings, ring.criticals], [2, 2]);
  drain(ring.size);
  const report = verify([text]);
  assert(report.isSound, JSON.stringify(report.problems));
  assertEquals([report.burntCount, report.gaps.length], ["2", 1]);
  assertEquals([report.gaps[0]!.firstSeq, report.gaps[0]!.lastSeq], ["258", "259"]);
});

Deno.test("audit: resume by the table", () => {
  const whole = fileOf([boot(), refused(1)]);
  const kinds = (text: string, isKeyed = false) => {
    const plan = planResume(endsOf(text), isKeyed);
    return `${plan.kind} ${plan.reason} ${plan.kind === "set_aside" ? "" : plan.place.seq}`;
  };
  assertEquals(kinds(""), "begin fresh 0");
  assertEquals(kinds(AUDIT_HEADER.slice(0, 9)), "begin corrupt_tail 0");
  assertEquals(kinds(whole), "append resume 2");
  assertEquals(kinds(whole + "3\t17000"), "append corrupt_tail 2");
  assertEquals(kinds(`${AUDIT_HEADER}\n`), "append resume 0");
  assertEquals(kinds("# varta-watch recovery audit v1\nx\n"), "append legacy_v1 0");
  assertEquals(kinds("something else\nx\n"), "append schema_drift 0");
  assertEquals(kinds(whole, true), "set_aside schema_drift ");
  assertEquals(kinds("no line at all"), "set_aside schema_drift ");
  const bad = whole.replace(/[0-9a-f]{64}\n$/, "nonsense\n");
  assertEquals(kinds(bad), "append schema_drift 2", "the number goes on after a bad hash");
  assertEquals(kinds(whole.replace(/[0-9a-f]{64}\n$/, "-\n")), "append resume 2");
});

Deno.test("audit: a tail torn anywhere resumes after the last whole row, and verifies", () => {
  const whole = fileOf([boot(), ...Array.from({ length: 80 }, (_, pid) => refused(pid))]);
  fc.assert(
    fc.property(fc.integer({ min: 0, max: whole.length }), (length) => {
      const torn = whole.slice(0, length);
      const plan = planResume(endsOf(torn), false);
      assert(plan.kind !== "set_aside");
      const isNew = plan.kind === "begin";
      const kept = isNew ? `${AUDIT_HEADER}\n` : torn.slice(0, plan.keepBytes);
      const chain = new AuditChain(undefined, plan.place);
      const previous = !isNew && plan.isContinued ? chain.head : undefined;
      const report = verify([
        kept + chain.line(boot(plan.reason, previous)) + chain.line(refused(9)),
      ]);
      assert(report.isSound, JSON.stringify(report.problems));
      assertEquals(report.gaps, []);
      assertEquals(torn.endsWith("\n") || length === 0, plan.reason !== "corrupt_tail");
    }),
    { numRuns: campaign(300, 5000) },
  );
});

Deno.test("audit: verification names the row that was changed, removed, or put elsewhere", () => {
  const lines = fileOf([boot(), refused(1), refused(2), refused(3)]).split("\n");
  const reasons = (changed: string[]) =>
    verify([changed.join("\n")]).problems.map(({ line, reason }) => `${line} ${reason}`);
  assertEquals(reasons(lines), []);
  const edited = lines.with(2, lines[2]!.replace("debounced", "debouncex"));
  assertEquals(reasons(edited).length, 1);
  assertStringIncludes(reasons(edited)[0]!, "3 the chain does not fit");
  assertStringIncludes(reasons(lines.toSpliced(3, 1))[0]!, "4 the chain does not fit");
  const swapped = lines.with(2, lines[3]!).with(3, lines[2]!);
  assertStringIncludes(reasons(swapped)[0]!, "3 the chain does not fit");
  assert(reasons(swapped).some((text) => text.includes("comes after")));
  assertEquals(reasons(lines.with(0, "# other")), ["1 the first line is no header of ours"]);
  assertStringIncludes(reasons(lines.with(3, "hello"))[0]!, "4 this is not a row");
  const torn = verify([lines.join("\n").slice(0, -10)]);
  assertEquals([torn.isSound, torn.problemCount, torn.tornTail?.line], [false, 0, 5]);
});

Deno.test("audit: any one changed byte of a row is noticed", () => {
  const rows = [boot(), refused(1), refused(2)];
  const text = fileOf(rows);
  fc.assert(
    fc.property(
      fc.integer({ min: AUDIT_HEADER.length + 1, max: text.length - 1 }),
      fc.integer({ min: 32, max: 126 }),
      (index, code) => {
        const changed = text.slice(0, index) + String.fromCharCode(code) + text.slice(index + 1);
        // Hexadecimal digits are the same in either case.
        if (changed.toLowerCase() === text) return;
        assert(!verify([changed]).isSound, `byte ${index}`);
      },
    ),
    { numRuns: campaign(300, 5000) },
  );
});

Deno.test("audit: rotated files verify as one chain, and without the first ones too", () => {
  const chain = new AuditChain();
  const files = [fileOf([boot(), refused(1)], undefined, chain)];
  for (let pid = 2; pid < 5; pid++) {
    files.push(fileOf([boot("rotation", chain.head), refused(pid)], undefined, chain));
  }
  const whole = verify(files);
  assert(whole.isSound && whole.notes.length === 0, JSON.stringify(whole));
  assertEquals([whole.rowCount, whole.lastSeq, whole.lastHash], [8, "8", chain.head]);
  const rest = verify(files.slice(2));
  assert(rest.isSound && rest.notes.length === 1, JSON.stringify(rest));
  const without = verify(files.toSpliced(1, 1));
  assert(without.problems.some(({ reason }) => reason.includes("another row before it")));
});

Deno.test("audit: a rotation moves only what must make room, and any crash in it loses no file", () => {
  const text = (present: boolean[]) =>
    rotationSteps(present).map((it) => {
      return it.kind === "move"
        ? `${it.from}>${it.to}`
        : it.kind === "delete"
        ? `-${it.generation}`
        : it.kind;
    }).join(" ");
  const none = [false, false, false, false, false];
  assertEquals(text(none), "drain sync 0>1 drain sync open");
  assertEquals(text([true, true, false, true, true]), "drain sync 2>3 1>2 0>1 drain sync open");
  assertEquals(
    text([true, true, true, true, true]),
    "drain sync -5 4>5 3>4 2>3 1>2 0>1 drain sync open",
  );
  // Files as their contents' names; index 0 is the live one. A crash before each step, again and again.
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 12 }), { maxLength: 30 }), (crashes) => {
      let files: (number | undefined)[] = [
        0,
        undefined,
        undefined,
        undefined,
        undefined,
        undefined,
      ];
      let newest = 0;
      for (const stopAt of crashes) {
        if (files[0] === undefined) files[0] = ++newest;
        const rotation = new Rotation(files.slice(1).map((file) => file !== undefined));
        for (
          let count = 0;
          rotation.step !== undefined && count < stopAt;
          count++, rotation.done()
        ) {
          const step = rotation.step;
          if (step.kind === "delete") files[step.generation] = undefined;
          if (step.kind === "open") files[0] = ++newest;
          if (step.kind !== "move") continue;
          assertEquals(files[step.to], undefined, "nothing is overwritten");
          files[step.to] = files[step.from];
          files[step.from] = undefined;
        }
        const kept = files.filter((file) => file !== undefined);
        assertEquals(kept, kept.toSorted((a, b) => b - a), "newest first");
        files = [...files];
      }
    }),
    { numRuns: campaign(300, 5000) },
  );
});

Deno.test("audit: intents are read back, with whether they were begun", () => {
  const chain = new AuditChain();
  const intent = (agentPid: number, action: string): AuditRow => {
    return { ...TIMES, kind: "intent", agentPid, generation: 7n, stallNs: 8n, attempt: 1, action };
  };
  const spawn = { program: "x", source: "y", templateLength: 1, childPid: 9 };
  const text = fileOf(
    [
      boot(),
      intent(1, "command"),
      intent(2, "command"),
      intent(3, "signal:15"),
      { ...TIMES, kind: "spawn", agentPid: 1, ...spawn },
    ],
    undefined,
    chain,
  );
  const seen = intentsIn("1\tgarbage\n" + text + "7\t17");
  assertEquals(seen.map((it) => [it.pid, it.stallNs, it.isStarted]), [
    [1, 8n, true],
    [2, 8n, false],
    [3, 8n, true],
  ]);
});

Deno.test("audit: no text makes the parser or the verifier throw", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary", maxLength: 200 }), (text) => {
      parseAuditRow(text);
      intentsIn(text);
      planResume(endsOf(text), false);
      verify([text, `${AUDIT_HEADER}\n${text}`]);
    }),
    { numRuns: campaign(300, 5000) },
  );
});
