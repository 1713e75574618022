/**
 * A table as nft text: what `celld policy show` prints, and what `nft --stateless list table`
 * prints of the same table in the kernel, byte for byte.
 *
 * It can be read by a human, compared with the kernel's, and loaded by `nft -f`. Counters are
 * printed without values and dynamic sets without elements: those are state.
 *
 * Written as nft 1.0.6 writes: tabs, one statement after another, keys of sets by `typeof`, priorities and ICMP types by
 * name, states of connections in a fixed order, elements of a map sorted.
 *
 * Source: nft(8).
 *
 * @module
 */
import type {
  NftChain,
  NftField,
  NftHook,
  NftRange,
  NftRule,
  NftSet,
  NftStatement,
  NftTable,
  NftVerdictElement,
  NftVerdictMap,
} from "#ffi/netlink/nftables/ruleset.ts";

/** The whole table, ending with a newline. */
export function formatTable(table: NftTable): string {
  const blocks = [
    ...table.sets.map(formatSet),
    ...table.maps.map(formatMap),
    ...table.chains.map(formatChain),
  ];
  const body = blocks.map((lines) => lines.map((line) => `\t${line}\n`).join("")).join("\n");
  return `table inet ${table.name} {\n${body}}\n`;
}

/** One rule on one line, without indentation. */
export function formatRule(rule: NftRule): string {
  const statements = rule.statements.map(formatStatement).join(" ");
  return rule.comment === undefined ? statements : `${statements} comment "${rule.comment}"`;
}

/** nft names these priorities, depending on the hook. */
const PRIORITY_NAMES: Readonly<Record<number, string>> = {
  [-300]: "raw",
  [-150]: "mangle",
  0: "filter",
  50: "security",
};

const ICMP_TYPES: Readonly<Record<number, string>> = {
  0: "echo-reply",
  3: "destination-unreachable",
  4: "source-quench",
  5: "redirect",
  8: "echo-request",
  9: "router-advertisement",
  10: "router-solicitation",
  11: "time-exceeded",
  12: "parameter-problem",
  13: "timestamp-request",
  14: "timestamp-reply",
  15: "info-request",
  16: "info-reply",
  17: "address-mask-request",
  18: "address-mask-reply",
};

const ICMPV6_TYPES: Readonly<Record<number, string>> = {
  1: "destination-unreachable",
  2: "packet-too-big",
  3: "time-exceeded",
  4: "parameter-problem",
  128: "echo-request",
  129: "echo-reply",
  130: "mld-listener-query",
  131: "mld-listener-report",
  132: "mld-listener-done",
  133: "nd-router-solicit",
  134: "nd-router-advert",
  135: "nd-neighbor-solicit",
  136: "nd-neighbor-advert",
  137: "nd-redirect",
  138: "router-renumbering",
  141: "ind-neighbor-solicit",
  142: "ind-neighbor-advert",
  143: "mld2-listener-report",
};

/** As nft orders them: by their bit. */
const CT_STATES = ["invalid", "established", "related", "new", "untracked"] as const;

function formatSet(set: NftSet): readonly string[] {
  const lines = [`set ${set.name} {`, `\ttypeof ${formatKey(set.key)}`];
  if (set.sizeMax !== undefined) lines.push(`\tsize ${set.sizeMax}`);
  const flags = [
    ...(set.dynamic ? ["dynamic"] : []),
    ...(set.timeoutMs === undefined ? [] : ["timeout"]),
  ];
  if (flags.length > 0) lines.push(`\tflags ${flags.join(",")}`);
  if (set.timeoutMs !== undefined) lines.push(`\ttimeout ${formatTimeout(set.timeoutMs)}`);
  return [...lines, "}"];
}

function formatMap(map: NftVerdictMap): readonly string[] {
  const lines = [`map ${map.name} {`, `\ttypeof ${formatKey(map.key)} : verdict`];
  if (map.elements.length > 0) {
    const elements = [...map.elements].sort(compareElements).map(formatElement);
    // Elements after the first stand under it, as nft aligns them.
    lines.push(`\telements = { ${elements.join(",\n\t\t\t     ")} }`);
  }
  return [...lines, "}"];
}

function formatElement({ key, verdict, chain }: NftVerdictElement): string {
  const parts = key.map((part) => typeof part === "string" ? JSON.stringify(part) : `${part}`);
  return `${parts.join(" . ")} : ${verdict} ${chain}`;
}

/** nft sorts names as little-endian numbers: a longer one after, then from the last byte on. */
function compareElements(a: NftVerdictElement, b: NftVerdictElement): number {
  const reversed = (element: NftVerdictElement) => [...`${element.key[0]}`].reverse().join("");
  const [left, right] = [reversed(a), reversed(b)];
  if (left.length !== right.length) return left.length - right.length;
  return left < right ? -1 : left > right ? 1 : 0;
}

function formatKey(key: readonly NftField[]): string {
  return key.map(formatField).join(" . ");
}

/** nft leaves `meta` out before a name that says enough. */
function formatField(field: NftField): string {
  return field === "meta iifname" || field === "meta oifname" ? field.slice(5) : field;
}

function formatTimeout(timeoutMs: number): string {
  const units = [["d", 86_400_000], ["h", 3_600_000], ["m", 60_000], ["s", 1000], [
    "ms",
    1,
  ]] as const;
  let rest = timeoutMs;
  let text = "";
  for (const [name, size] of units) {
    const count = Math.floor(rest / size);
    if (count > 0) text += `${count}${name}`;
    rest -= count * size;
  }
  return text;
}

function formatChain(chain: NftChain): readonly string[] {
  return [
    `chain ${chain.name} {`,
    ...(chain.hook === undefined ? [] : [`\t${formatHook(chain.hook)}`]),
    ...chain.rules.map((rule) => `\t${formatRule(rule)}`),
    "}",
  ];
}

function formatHook({ type, hook, priority, policy }: NftHook): string {
  return `type ${type} hook ${hook} priority ${formatPriority(hook, priority)}; policy ${policy};`;
}

function formatPriority(hook: NftHook["hook"], priority: number): string {
  if (hook === "prerouting" && priority === -100) return "dstnat";
  if (hook === "postrouting" && priority === 100) return "srcnat";
  return PRIORITY_NAMES[priority] ?? `${priority}`;
}

function formatStatement(statement: NftStatement): string {
  switch (statement.kind) {
    case "match": {
      const operator = statement.negated ? "!= " : "";
      const { field, value } = statement;
      return `${formatField(field)} ${operator}${formatValue(field, value)}`;
    }
    case "ctState":
      return `ct state ${CT_STATES.filter((it) => statement.states.includes(it)).join(",")}`;
    case "lookup":
      return `${formatKey(statement.key)} ${statement.negated ? "!= " : ""}@${statement.set}`;
    case "vmap":
      return `${formatKey(statement.key)} vmap @${statement.map}`;
    case "dynset":
      return `${statement.op} @${statement.set} { ${formatKey(statement.key)} }`;
    case "counter":
      return "counter";
    case "log":
      return `log prefix "${statement.prefix}" group ${statement.group}`;
    case "mark":
      return `meta mark set 0x${statement.value.toString(16).padStart(8, "0")}`;
    case "reject":
      // Port unreachable is what nft takes for granted, and so does not write.
      return statement.with === "icmpx port-unreachable"
        ? "reject"
        : `reject with ${statement.with}`;
    case "verdict":
      return statement.verdict;
    case "jump":
    case "goto":
      return `${statement.kind} ${statement.chain}`;
    case "masquerade":
      return "masquerade";
  }
}

function formatValue(field: NftField, value: string | number | NftRange): string {
  if (typeof value === "object") return `${value.from}-${value.to}`;
  if (field === "meta iifname" || field === "meta oifname") return JSON.stringify(value);
  if (typeof value === "string") return value;
  if (field === "icmp type") return ICMP_TYPES[value] ?? `${value}`;
  if (field === "icmpv6 type") return ICMPV6_TYPES[value] ?? `${value}`;
  return `${value}`;
}
