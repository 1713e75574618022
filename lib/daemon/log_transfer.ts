/**
 * Brings events from elsewhere into the log, in order and each once.
 *
 * An event's id is its identity, so an import that was cut short is simply run again.
 *
 * @module
 */
import type { CloudEvent } from "#lib/events/mod.ts";
import type { EventLog } from "#lib/eventlog/mod.ts";
import type { Settings } from "./config.ts";
import { openEventLog } from "./log_store.ts";
import type { LogImportReport } from "./ports.ts";

/** Events of one append. */
const BATCH_EVENTS = 512;

/** Appends events to the log of the settings. Rejects as `EventLog.append` does. */
export async function importLog(
  settings: Settings,
  events: AsyncIterable<CloudEvent>,
): Promise<LogImportReport> {
  const log = await openEventLog(settings);
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

async function append(log: EventLog, batch: readonly CloudEvent[]): Promise<number> {
  await log.append(batch);
  return batch.length;
}
