/**
 * The JetStream adapter, over one server, against the contract of all event logs.
 *
 * @module
 */
import { openJetStreamLog } from "#lib/eventlog/mod_shell.ts";
import { HAS_NATS_SERVER, startNats } from "#tests/support/nats.ts";
import { eventLogContract } from "./event_log_contract.ts";

eventLogContract({
  name: `jetstream${HAS_NATS_SERVER ? "" : " (skipped: no nats-server)"}`,
  ignore: !HAS_NATS_SERVER,
  withLog: async (work) => {
    await using server = await startNats();
    const log = await openJetStreamLog(server.url);
    try {
      await work(log);
    } finally {
      await log.close();
    }
  },
});
