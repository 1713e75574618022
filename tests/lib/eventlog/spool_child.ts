/**
 * A process that spools until it is killed, and says what was acknowledged; now and then it drops
 * what it has: the spool tests' victim.
 *
 *   spool_child.ts <spool> <prefix> <events a call> <drop every so many calls>
 *
 * @module
 */
import { openSpool } from "#lib/eventlog/spool_shell.ts";
import { someEvents } from "./log_fixture.ts";

const [path, prefix, size, dropEvery] = Deno.args;
const spool = await openSpool(path, { capacityBytes: 256 * 1024 });
const encoder = new TextEncoder();
for (let call = 1;; call++) {
  const events = someEvents(prefix, Number(size), call * Number(size));
  const { kept } = await spool.append(events.map((event) => JSON.stringify(event)));
  // Synchronous, so that a line is out before anything else happens.
  const lines = events.slice(0, kept).map(({ id }) => `kept ${id}\n`).join("");
  Deno.stdout.writeSync(encoder.encode(lines));
  if (call % Number(dropEvery) !== 0) continue;
  const items = spool.peek(Number(size));
  const ids = items.flatMap((item) => item.kind === "event" ? [JSON.parse(item.body).id] : []);
  // "Stored elsewhere" before it is dropped: a kill between the two leaves it in both places.
  Deno.stdout.writeSync(encoder.encode(ids.map((id) => `stored ${id}\n`).join("")));
  if (items.length > 0) spool.drop(items.at(-1)!.index);
}
