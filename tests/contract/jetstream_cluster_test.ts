/**
 * The JetStream adapter, over three servers with three copies, against the contract of all event
 * logs. One cluster serves for all of it: each test begins with a new stream.
 *
 * @module
 */
import { openJetStreamLog } from "#lib/eventlog/mod_shell.ts";
import {
  deleteStream,
  HAS_NATS_SERVER,
  type NatsCluster,
  startNatsCluster,
} from "#tests/support/nats.ts";
import { eventLogContract } from "./event_log_contract.ts";

let cluster: NatsCluster | undefined;

if (HAS_NATS_SERVER) {
  Deno.test.beforeAll(async () => {
    cluster = await startNatsCluster(3);
  });
  Deno.test.afterAll(async () => await cluster?.[Symbol.asyncDispose]());
}

eventLogContract({
  name: `jetstream, three nodes${HAS_NATS_SERVER ? "" : " (skipped: no nats-server)"}`,
  ignore: !HAS_NATS_SERVER,
  withLog: async (work) => {
    const log = await openJetStreamLog(cluster!.url);
    try {
      await work(log);
    } finally {
      await log.close();
      await deleteStream(cluster!.url);
    }
  },
});
