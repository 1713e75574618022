/**
 * A process that appends until it is killed, and says what was acknowledged: the crash tests'
 * victim.
 *
 *   append_child.ts <log> <prefix> <events a call> <checkpoint frames>
 *
 * @module
 */
import { openSqliteLog } from "#lib/eventlog/mod.ts";
import { someEvents } from "./log_fixture.ts";

const [path, prefix, size, checkpointFrames] = Deno.args;
const log = await openSqliteLog(path, { checkpointFrames: Number(checkpointFrames) });
const encoder = new TextEncoder();
for (let from = 0;; from += Number(size)) {
  const events = someEvents(prefix, Number(size), from);
  const seqs = await log.append(events);
  // Synchronous, so that a line is out before the next append begins.
  const lines = events.map(({ id }, index) => `${id} ${seqs[index]}\n`).join("");
  Deno.stdout.writeSync(encoder.encode(lines));
}
