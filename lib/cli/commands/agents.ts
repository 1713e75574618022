/**
 * `celld agents`: who says that it is alive, and who is silent.
 *
 * @module
 */
import type { AgentView, ApiClient } from "#lib/client/mod.ts";
import { pause, type ServerFlags, untilSignal, withApi } from "../api_session.ts";
import type { CliContext } from "../context.ts";
import { EXIT_OK, exitCodeOfSignal } from "../exit_codes.ts";
import { renderAgents } from "../render_agents.ts";

const REFRESH_MS = 1000;
const CLEAR = "\x1b[H\x1b[2J";

/** What the command line gave. */
export interface AgentsFlags extends ServerFlags {
  readonly cell?: string;
  readonly status?: string;
  readonly watch?: boolean;
}

/** Runs the command and returns the exit code. */
export async function agentsCommand(context: CliContext, flags: AgentsFlags): Promise<number> {
  return await withApi(context, flags, async (api) => {
    if (flags.watch !== true) {
      show(context, await readAgents(api, flags));
      return EXIT_OK;
    }
    const endedBy = await untilSignal(context.io, async (signal) => {
      while (!signal.aborted) {
        const agents = await readAgents(api, flags);
        if (context.io.outIsTerminal && !context.isJson) context.io.writeOut(CLEAR);
        show(context, agents);
        await pause(REFRESH_MS, signal);
      }
    });
    return endedBy === undefined ? EXIT_OK : exitCodeOfSignal(endedBy);
  });
}

async function readAgents(api: ApiClient, { cell, status }: AgentsFlags): Promise<AgentView[]> {
  return await Array.fromAsync(api.agents({ cell, status }));
}

function show(context: CliContext, agents: readonly AgentView[]): void {
  if (context.isJson) {
    for (const agent of agents) context.writeJson(agent);
    return;
  }
  if (agents.length === 0) context.io.writeErr("No agents.\n");
  else context.io.writeOut(renderAgents(agents, context.outOptions));
}
