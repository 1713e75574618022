/**
 * Fills the small disk under a folder through the log, makes room, appends again, and prints what
 * happened as JSON.
 *
 *   full_disk_child.ts <folder>
 *
 * @module
 */
import { openSqliteLog, verifyLog } from "#lib/eventlog/mod.ts";
import { someEvent } from "./log_fixture.ts";

const [folder] = Deno.args;
const path = `${folder}/events.db`;
const filler = `${folder}/filler`;
Deno.writeFileSync(filler, new Uint8Array(600_000));
const log = await openSqliteLog(path, { checkpointFrames: 40 });

let acknowledged = 0;
let error = "";
while (error === "") {
  try {
    await log.append([someEvent(`e${acknowledged}`, 2000)]);
    acknowledged++;
  } catch (refusal) {
    error = (refusal as Error).name;
  }
}
let readable = 0;
for (let since = 0;;) {
  const page = await log.read({ since });
  if (page.length === 0) break;
  readable += page.length;
  since = page[page.length - 1].seq;
}
const { problems: problemsWhenFull } = await verifyLog(path);
Deno.removeSync(filler);
const [afterwards] = await log.append([someEvent("afterwards")]);
await log.close();
const { problems } = await verifyLog(path);
console.log(
  JSON.stringify({ acknowledged, error, readable, problemsWhenFull, afterwards, problems }),
);
