/**
 * Every adapter of the event log against the one contract.
 *
 * @module
 */
import { MemoryEventLog, openSqliteLog } from "#lib/eventlog/mod.ts";
import { withFolder } from "#tests/lib/eventlog/log_fixture.ts";
import { eventLogContract } from "./event_log_contract.ts";

eventLogContract({
  name: "memory",
  withLog: async (work) => {
    const log = new MemoryEventLog();
    await work(log);
    await log.close();
  },
});

eventLogContract({
  name: "sqlite",
  withLog: (work) =>
    withFolder(async (folder) => {
      const log = await openSqliteLog(`${folder}/events.db`);
      try {
        await work(log);
      } finally {
        await log.close();
      }
    }),
});
