/**
 * Flows, the counters of rules, and hosts.
 *
 * @module
 */
import { z } from "@hono/zod-openapi";
import { parseCidr } from "#lib/base/mod.ts";
import { taggedAnswer } from "../answers.ts";
import { cutPage, membersVersion, oneMore } from "../pages.ts";
import {
  afterParameter,
  beforeParameter,
  countParameter,
  flagParameter,
  limitParameter,
  type Parameter,
  present,
  sinceParameter,
  textParameter,
  wordParameter,
} from "../parameters.ts";
import { defineRoute, type Route } from "../route.ts";
import { FLOW_SCHEMA, HOST_SCHEMA, pageSchema, RULE_SCHEMA } from "../schemas.ts";

/** Flows on a page where nobody says how many. */
const FLOWS_DEFAULT = 100;

/** An address or a prefix. */
function prefixParameter(description: string): Parameter<string> {
  return textParameter(description).refine(
    (text) => text === undefined || parseCidr(text) !== undefined,
    { error: "want an address or a prefix such as 10.0.0.0/8" },
  );
}

/** See the module. */
export const FLOW_ROUTES: readonly Route[] = [
  defineRoute({
    method: "get",
    path: "/v1/flows",
    scope: "read",
    tag: "flows",
    summary: "Recent flows of cells, newest first",
    query: z.object({
      cell: textParameter("Only of this cell"),
      formation: textParameter("Only of the cells of this formation: id or name"),
      run: textParameter("Only of this run"),
      decision: wordParameter("Only with this verdict", ["allow", "deny"]),
      direction: wordParameter("Only in this direction", ["egress", "ingress"]),
      protocol: wordParameter("Only of this protocol", ["tcp", "udp", "icmp", "icmp6"]),
      rule: textParameter("Only decided by this rule, such as egress[0]"),
      src: prefixParameter("Only from this address or prefix"),
      dst: prefixParameter("Only to this address or prefix"),
      port: countParameter({ description: "Only to this port", max: 65_535 }),
      open: flagParameter("Only those that are open, or only those that are not"),
      since: sinceParameter(),
      before: beforeParameter(),
      limit: limitParameter(),
    }),
    isStrict: true,
    answers: {
      200: {
        description: "A page; `next` is the `before` of the page after it",
        schema: pageSchema("flows", FLOW_SCHEMA),
      },
    },
    handle({ request, query, queryText }, { plane, pages }) {
      const { cell, run, rule, port, open, limit = FLOWS_DEFAULT, ...rest } = present(query);
      const wanted = {
        ...rest,
        ...(cell === undefined ? {} : { cellId: cell }),
        ...(run === undefined ? {} : { runId: run }),
        ...(rule === undefined ? {} : { ruleRef: rule }),
        ...(port === undefined ? {} : { dstPort: port }),
        ...(open === undefined ? {} : { isOpen: open }),
        ...oneMore(limit),
      };
      const key = query.formation === undefined
        ? queryText
        : `${queryText}#${membersVersion(plane)}`;
      const page = pages.page(
        "flows",
        key,
        plane.flows(wanted),
        (items) => cutPage(items, limit, ({ seq }) => String(seq)),
      );
      return taggedAnswer(request, page);
    },
  }),
  defineRoute({
    method: "get",
    path: "/v1/rules",
    scope: "read",
    tag: "flows",
    summary: "What was counted for the rules of each cell, in the order of the cells' ids",
    query: z.object({
      cell: textParameter("Only of this cell"),
      limit: limitParameter(),
      after: afterParameter(),
    }),
    isStrict: true,
    answers: { 200: { description: "A page", schema: pageSchema("rules", RULE_SCHEMA) } },
    handle({ request, query, queryText }, { plane, pages }) {
      const { cell, ...rest } = present(query);
      const wanted = {
        ...rest,
        ...(cell === undefined ? {} : { cellId: cell }),
        ...oneMore(query.limit),
      };
      const page = pages.page(
        "rules",
        queryText,
        plane.rules(wanted),
        (items) => cutPage(items, query.limit, (rule) => rule.cell_id),
      );
      return taggedAnswer(request, page);
    },
  }),
  defineRoute({
    method: "get",
    path: "/v1/hosts",
    scope: "read",
    tag: "hosts",
    summary: "Hosts that cells run on",
    query: z.object({ limit: limitParameter(), after: afterParameter() }),
    isStrict: true,
    answers: { 200: { description: "A page", schema: pageSchema("hosts", HOST_SCHEMA) } },
    handle({ request, query, queryText }, { plane, pages }) {
      const { limit, after } = query;
      const page = pages.page("hosts", queryText, plane.hosts(), (items) => {
        const rest = after === undefined ? items : items.filter(({ name }) => name > after);
        return cutPage(rest, limit, ({ name }) => name);
      });
      return taggedAnswer(request, page);
    },
  }),
];
