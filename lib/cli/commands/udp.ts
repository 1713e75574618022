/**
 * `celld udp …`: the load balancer's listeners and clusters, set, shown, drained, removed.
 *
 * @module
 */
import { parseDurationMs } from "#lib/base/mod.ts";
import type { UdpChangeView, UdpDrainTarget } from "#lib/client/mod.ts";
import { pause, type ServerFlags, untilSignal, withApi } from "../api_session.ts";
import { harmless } from "../columns.ts";
import type { CliContext } from "../context.ts";
import { EXIT_FINDING, EXIT_OK, exitCodeOfSignal, UsageError } from "../exit_codes.ts";
import {
  renderUdpBackends,
  renderUdpFlows,
  renderUdpListeners,
  renderUdpTop,
  type UdpSight,
} from "../render_udp.ts";
import { readSpecText } from "../spec_text.ts";

const REFRESH_MS = 1000;
const CLEAR = "\x1b[H\x1b[2J";

/** What the command line gave for `apply`. */
export interface UdpApplyFlags extends ServerFlags {
  readonly file: string;
  readonly prune?: boolean;
  readonly dryRun?: boolean;
}

/** Sets what a document names; exit code 0 once it is in force. */
export async function udpApplyCommand(context: CliContext, flags: UdpApplyFlags): Promise<number> {
  const text = await readSpecText(context.io, flags.file);
  const options = { isPruning: flags.prune === true, isDryRun: flags.dryRun === true };
  return await withApi(context, flags, async (api) => {
    const change = await api.udp.apply(text, options).catch(refuseDocument);
    tell(context, change, options.isDryRun ? " (dry run)" : "");
    return EXIT_OK;
  });
}

/** The server's refusal, and what it is about: its problems are no spec's. */
function refuseDocument(error: unknown): never {
  throw error instanceof Error ? Object.assign(error, { document: "UDP document" }) : error;
}

/** What can be shown. */
export type UdpThing = "listeners" | "clusters" | "flows";

/** What the command line gave for `get`. */
export interface UdpGetFlags extends ServerFlags {
  readonly listener?: string;
  readonly cluster?: string;
  readonly limit?: number;
}

/** Shows listeners, clusters or flows; exit code 1 where a name is not there. */
export async function udpGetCommand(
  context: CliContext,
  thing: UdpThing,
  name: string | undefined,
  flags: UdpGetFlags,
): Promise<number> {
  return await withApi(context, flags, async (api) => {
    if (thing === "flows") {
      if (name !== undefined) throw new UsageError("Cannot show one flow", "flows have no names");
      const { listener, cluster, limit } = flags;
      const flows = await api.udp.flows({ listener, cluster, limit });
      const code = show(context, flows, () => renderUdpFlows(flows, context.outOptions));
      if (flows.length > 0 && flows.length === limit) {
        context.io.writeErr(`Only the first ${limit} are shown; --limit says how many.\n`);
      }
      return code;
    }
    const all = thing === "listeners" ? await api.udp.listeners() : await api.udp.clusters();
    const found = name === undefined ? all : all.filter((it) => it.name === name);
    if (name !== undefined && found.length === 0) {
      context.io.writeErr(`celld: there is no ${thing.slice(0, -1)} ${JSON.stringify(name)}\n`);
      return EXIT_FINDING;
    }
    if (thing === "listeners") {
      return show(context, found, () => renderUdpListeners(found, context.outOptions));
    }
    const clusters = (await api.udp.clusters()).filter((it) =>
      found.some((f) => f.name === it.name)
    );
    return show(context, clusters, () => renderUdpBackends(clusters, context.outOptions));
  });
}

/** Removes a listener or a cluster. */
export async function udpDeleteCommand(
  context: CliContext,
  kind: "listener" | "cluster",
  name: string,
  flags: ServerFlags,
): Promise<number> {
  return await withApi(context, flags, async (api) => {
    tell(context, await api.udp.remove(kind, name));
    return EXIT_OK;
  });
}

/** What the command line gave for `drain` and `undrain`. */
export interface UdpDrainFlags extends ServerFlags {
  /** A duration. */
  readonly after?: string;
}

/** Begins or ends a drain of a listener, or of a cluster's backend. */
export async function udpDrainCommand(
  context: CliContext,
  place: string,
  isDraining: boolean,
  flags: UdpDrainFlags,
): Promise<number> {
  const afterMs = parseDurationMs(flags.after ?? "30s");
  if (afterMs === undefined) {
    throw new UsageError(
      `Cannot use --after ${JSON.stringify(flags.after)}`,
      "give a time, such as 30s",
    );
  }
  const target = targetOf(place);
  return await withApi(context, flags, async (api) => {
    tell(context, await api.udp.drain(target, { isDraining, afterMs }));
    return EXIT_OK;
  });
}

/** `listener/NAME`, or `backend/CLUSTER/NAME`. */
function targetOf(place: string): UdpDrainTarget {
  const [kind, first, ...rest] = place.split("/");
  const backend = rest.join("/");
  if (kind === "listener" && first && rest.length === 0) return { listener: first };
  if (kind === "backend" && first && backend !== "") return { cluster: first, backend };
  throw new UsageError(
    `Cannot drain ${JSON.stringify(place)}`,
    "give listener/NAME, or backend/CLUSTER/NAME",
  );
}

/** What the command line gave for `top`. */
export interface UdpTopFlags extends ServerFlags {
  readonly once?: boolean;
}

/** Shows rates, again every second until a signal ends it. */
export async function udpTopCommand(context: CliContext, flags: UdpTopFlags): Promise<number> {
  return await withApi(context, flags, async (api) => {
    const look = async (): Promise<UdpSight> => ({
      atMs: context.io.nowMs(),
      listeners: await api.udp.listeners(),
      clusters: await api.udp.clusters(),
    });
    let before = await look();
    const endedBy = await untilSignal(context.io, async (signal) => {
      do {
        await pause(REFRESH_MS, signal);
        if (signal.aborted) return;
        const now = await look();
        if (context.isJson) context.writeJson({ listeners: now.listeners, clusters: now.clusters });
        else {
          if (context.io.outIsTerminal) context.io.writeOut(CLEAR);
          context.io.writeOut(renderUdpTop(before, now, context.outOptions));
        }
        before = now;
      } while (flags.once !== true);
    });
    return endedBy === undefined ? EXIT_OK : exitCodeOfSignal(endedBy);
  });
}

function show(context: CliContext, records: readonly object[], render: () => string): number {
  if (context.isJson) { for (const record of records) context.writeJson(record); }
  else if (records.length === 0) context.io.writeErr("Nothing found.\n");
  else context.io.writeOut(render());
  return EXIT_OK;
}

function tell(context: CliContext, change: UdpChangeView, note = ""): void {
  if (context.isJson) {
    context.writeJson(change);
    return;
  }
  const lines = [
    ...change.set.map((name) => `${harmless(name)} set`),
    ...change.removed.map((name) => `${harmless(name)} removed`),
    ...change.unchanged.map((name) => `${harmless(name)} unchanged`),
  ];
  context.io.writeOut(lines.map((line) => `${line}${note}\n`).join("") || "nothing to do\n");
}
