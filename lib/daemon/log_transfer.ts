/**
 * Brings events from elsewhere into a local log, in order and each once.
 *
 * An event's id is its identity, so an import that was cut short is simply run again.
 *
 * @module
 */
import type { CloudEvent } from "#lib/events/mod.ts";
import { openSqliteLog, type SqliteEventLog } from "#lib/eventlog/mod.ts";
import type { LogImportReport } from "./ports.ts";

/** Events of one append. */
const BATCH_EVENTS = 512;

/** Appends events to the log at a path. Rejects as `EventLog.append` does. */
export async function importLog(
  path: string,
  events: AsyncIterable<CloudEvent>,
): Promise<LogImportReport> {
  const log = await openSqliteLog(path);
  try {
    const before = await log.lastSeq();
    let takenCount = 0;
    let batch: CloudEvent[] = [];
    for await (const event of events) {
      batch.push(event);
      if (batch.length < BATCH_EVENTS) continue;
      takenCount += await append(log, batch);
      batch = [];
    }
    takenCount += await append(log, batch);
    const lastSeq = await log.lastSeq();
    const addedCount = Math.min(lastSeq - before, takenCount);
    return { addedCount, knownCount: takenCount - addedCount, lastSeq };
  } finally {
    await log.close();
  }
}

async function append(log: SqliteEventLog, batch: readonly CloudEvent[]): Promise<number> {
  await log.append(batch);
  return batch.length;
}
