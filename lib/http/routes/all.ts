/**
 * Every route that there is.
 *
 * @module
 */
import type { Route } from "../route.ts";
import { AGENT_ROUTES } from "./agents.ts";
import { CELL_ROUTES } from "./cells.ts";
import { EVENT_ROUTES } from "./events.ts";
import { EXEC_ROUTES } from "./exec.ts";
import { FLOW_ROUTES } from "./flows.ts";
import { FORMATION_ROUTES } from "./formations.ts";
import { SYSTEM_ROUTES } from "./system.ts";
import { UDP_ROUTES } from "./udp.ts";

/** See the module. */
export const ROUTES: readonly Route[] = [
  ...FORMATION_ROUTES,
  ...CELL_ROUTES,
  ...EXEC_ROUTES,
  ...AGENT_ROUTES,
  ...FLOW_ROUTES,
  ...EVENT_ROUTES,
  ...UDP_ROUTES,
  ...SYSTEM_ROUTES,
];
