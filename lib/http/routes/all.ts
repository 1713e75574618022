/**
 * Every route that there is.
 *
 * @module
 */
import type { Route } from "../route.ts";
import { CELL_ROUTES } from "./cells.ts";
import { EVENT_ROUTES } from "./events.ts";
import { FLOW_ROUTES } from "./flows.ts";
import { FORMATION_ROUTES } from "./formations.ts";
import { SYSTEM_ROUTES } from "./system.ts";

/** See the module. */
export const ROUTES: readonly Route[] = [
  ...FORMATION_ROUTES,
  ...CELL_ROUTES,
  ...FLOW_ROUTES,
  ...EVENT_ROUTES,
  ...SYSTEM_ROUTES,
];
