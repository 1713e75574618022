/**
 * Reads a run back from the durable log, as another process would: the log is opened again,
 * paged through from its beginning, and its hash chain is checked.
 *
 * @module
 */
import { type DecisionView, readDecision } from "#lib/cli/mod.ts";
import { composePorts, resolveSettings } from "#lib/daemon/mod.ts";

/** Entries a page. */
const PAGE_ENTRIES = 500;

/** What the log says of the run. */
export interface LogFacts {
  /** In the order of the log. */
  readonly loggedDecisions: readonly DecisionView[];
  /** What is wrong with the log; absent when it is sound. */
  readonly logFault?: string;
}

/** Reads and checks the log of a state directory. Throws when there is none. */
export async function readLogFacts(stateDir: string): Promise<LogFacts> {
  const { settings } = resolveSettings({ flags: { stateDir }, env: {} });
  const ports = composePorts(settings);
  const loggedDecisions: DecisionView[] = [];
  const log = await ports.openLog();
  try {
    for (let since = 0;;) {
      const entries = await log.read({ since, limit: PAGE_ENTRIES });
      if (entries.length === 0) break;
      since = entries[entries.length - 1].seq;
      for (const { event } of entries) {
        const decision = readDecision(event);
        if (decision !== undefined) loggedDecisions.push(decision);
      }
    }
  } finally {
    await log.close();
  }
  const report = await ports.verifyLog();
  if (report.isSound) return { loggedDecisions };
  return { loggedDecisions, logFault: report.problems.join("; ") };
}
