/**
 * Flows that ended: a line each, an event for so many, and files that do not grow without end.
 *
 * @module
 */
import { assertEquals, assertGreater, assertStringIncludes } from "@std/assert";
import { FLOW_EVENTS_PER_SECOND, FlowTeller, type NamedFlow } from "#lib/daemon/udp_flows.ts";
import { FLOW_LOG_BYTES_MAX, FlowLog } from "#lib/daemon/udp_flow_log.ts";
import { NumberBook } from "#lib/daemon/udp_numbers.ts";
import type { UdpFlowClosedData } from "#lib/events/mod.ts";

const FLOW: NamedFlow = {
  listener: "dns",
  cluster: "dns",
  client: "127.0.0.1:5",
  reason: "idle",
  durationMs: 5,
  datagramsIn: 1,
  bytesIn: 4,
  datagramsOut: 0,
  bytesOut: 0,
  dropped: 0,
};

Deno.test("udp flows: each is a line, and events stand for all of them", () => {
  let nowMs = 1_000;
  const lines: string[] = [];
  const told: UdpFlowClosedData[] = [];
  const teller = new FlowTeller({
    nowMs: () => nowMs,
    writeLine: (line) => lines.push(line),
    tell: (data) => told.push(data),
  });
  for (let flow = 0; flow < 50; flow++) teller.closed({ ...FLOW, durationMs: flow });
  assertEquals(told.length, FLOW_EVENTS_PER_SECOND);
  teller.untold(100);
  nowMs += 1_000;
  teller.closed(FLOW);
  assertEquals(told.at(-1)!.sampledOf, 50 - FLOW_EVENTS_PER_SECOND + 100 + 1);
  nowMs += 999;
  for (let flow = 0; flow < FLOW_EVENTS_PER_SECOND; flow++) teller.closed(FLOW);
  teller.close();
  teller.close();
  assertEquals(told.reduce((sum, { sampledOf }) => sum + sampledOf, 0), 50 + 100 + 1 + 20);
  assertEquals(lines.length, 71);
  assertEquals(JSON.parse(lines[0]), { time: "1970-01-01T00:00:01.000Z", ...FLOW, durationMs: 0 });
});

Deno.test("udp flow log: lines are appended, and a full file is put aside", () => {
  const base = Deno.makeTempDirSync();
  const [path, warnings] = [`${base}/flows.jsonl`, [] as string[]];
  try {
    const log = new FlowLog(path, (text) => warnings.push(text));
    log.write("one");
    log.close();
    const again = new FlowLog(path, (text) => warnings.push(text));
    again.write("two");
    again.close();
    assertEquals(Deno.readTextFileSync(path), "one\ntwo\n");
    assertEquals(Deno.statSync(path).mode! & 0o777, 0o600);

    Deno.truncateSync(path, FLOW_LOG_BYTES_MAX);
    const full = new FlowLog(path, (text) => warnings.push(text));
    full.write("three");
    full.close();
    full.write("four");
    full.close();
    assertEquals(Deno.readTextFileSync(path), "four\n");
    assertGreater(Deno.statSync(`${path}.1`).size, FLOW_LOG_BYTES_MAX);
    assertEquals(warnings, []);
  } finally {
    Deno.removeSync(base, { recursive: true });
  }
});

Deno.test("udp flow log: a disk that refuses costs lines, is told once, and is asked again", () => {
  const base = Deno.makeTempDirSync();
  const path = `${base}/later/flows.jsonl`;
  const warnings: string[] = [];
  try {
    const log = new FlowLog(path, (text) => warnings.push(text));
    for (let line = 0; line < 256; line++) log.write("x");
    log.write("y");
    log.close();
    assertEquals([log.lost, warnings.length], [257, 1]);
    assertStringIncludes(warnings[0], `Cannot write ${path}: `);
    Deno.mkdirSync(`${base}/later`);
    log.write("z");
    log.close();
    assertEquals(Deno.readTextFileSync(path), "z\n");
  } finally {
    Deno.removeSync(base, { recursive: true });
  }
});

Deno.test("udp numbers: a number rests before it is another's, and its name is known till then", () => {
  const book = new NumberBook();
  assertEquals([book.give("a"), book.give("b"), book.give("a")], [0, 1, 0]);
  assertEquals([book.retire("a"), book.retire("a"), book.of("a")], [0, undefined, undefined]);
  assertEquals([book.nameOf(0), book.give("a"), book.nameOf(2)], ["a", 2, "a"]);
  // However many come and go, numbers stay small.
  for (let round = 0; round < 20_000; round++) {
    book.give(`c${round}`);
    book.retire(`c${round}`);
  }
  assertGreater(5_000, book.give("last"));
  assertEquals(book.nameOf(book.of("last")!), "last");
  assertEquals(book.nameOf(1), "b");
});
