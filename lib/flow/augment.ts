/**
 * Rewrites an operator's nft text so that each rule's verdict is also logged:
 * `… accept` becomes `… log group N prefix "cellos-flow accept" accept`. `reject` logs as `drop`.
 *
 * The verdict itself stays, so the policy does not change, and a second run changes nothing.
 * Left alone: rules that log to a group already, the loopback shortcut, chain types and
 * policies. Understood: comments, `counter`, several statements in a line, one-line chains,
 * anonymous sets, rules that end in `comment "…"`, `add rule …` commands. Rules whose verdicts
 * cannot be told apart (verdict maps), other endings (jump, queue, none) and what follows an
 * unfinished text or lacks its closing brace are left alone and reported.
 *
 * Everything but the insertions is kept byte for byte.
 *
 * @module
 */
import { LOG_PREFIX_BASE } from "./prefix.ts";

/** A rule that was not augmented although it may decide about packets. */
export interface AugmentSkip {
  /** Line where the rule starts, from 1. */
  readonly line: number;
  /** Why. */
  readonly reason: "verdictMap" | "noVerdict" | "unbalanced";
}

/** The outcome. */
export interface AugmentResult {
  /** The ruleset with its insertions. */
  readonly text: string;
  /** Rules that now log. */
  readonly augmented: number;
  /** Rules left alone, in order. */
  readonly skipped: readonly AugmentSkip[];
}

interface Token {
  /** `word` also stands for quoted text. */
  readonly kind: "word" | "open" | "close" | "semicolon" | "newline";
  readonly text: string;
  readonly at: number;
  /** From 1. */
  readonly line: number;
}

type Block = "table" | "chain" | "object" | "inline";

interface Insertion {
  readonly at: number;
  readonly verdict: "accept" | "drop";
}

/** Words that start an object whose braces hold no rules. */
const OBJECT_WORDS = new Set([
  "set",
  "map",
  "element",
  "flowtable",
  "counter",
  "quota",
  "limit",
  "ct",
  "synproxy",
  "secmark",
  "define",
  "elements",
]);
/** Words that start something that is no rule. */
const NON_RULE_WORDS = new Set([
  "policy",
  "type",
  "hook",
  "priority",
  "device",
  "devices",
  "flags",
  "comment",
  "chain",
  "table",
  "include",
  "define",
  "redefine",
  "undefine",
  "flush",
  "delete",
  "destroy",
  "list",
  "reset",
  "rename",
  "set",
  "map",
  "element",
  "elements",
  "flowtable",
]);
const COMMAND_WORDS = new Set(["add", "create", "insert", "replace"]);

/**
 * Augments a ruleset.
 *
 * @param group The nflog group, 0 to 65535. Throws `RangeError` for any other.
 */
export function augmentRuleset(ruleset: string, group: number): AugmentResult {
  if (!Number.isInteger(group) || group < 0 || group > 0xffff) {
    throw new RangeError(`Cannot log to group ${group}: want 0 to 65535`);
  }
  const insertions: Insertion[] = [];
  const skipped: AugmentSkip[] = [];
  for (const rule of statementsOf(ruleset, skipped)) {
    const judged = judgeRule(rule);
    if (judged === undefined) continue;
    if (typeof judged === "string") {
      skipped.push({ line: rule[0].line, reason: judged });
    } else insertions.push(judged);
  }
  skipped.sort((a, b) => a.line - b.line);
  return { text: insertAll(ruleset, insertions, group), augmented: insertions.length, skipped };
}

function insertAll(ruleset: string, insertions: readonly Insertion[], group: number): string {
  let text = "";
  let done = 0;
  for (const { at, verdict } of insertions) {
    text += `${ruleset.slice(done, at)}log group ${group} prefix "${LOG_PREFIX_BASE} ${verdict}" `;
    done = at;
  }
  return text + ruleset.slice(done);
}

/** Where to log, why not, or nothing when the statement needs no logging. */
function judgeRule(rule: readonly Token[]): Insertion | AugmentSkip["reason"] | undefined {
  const words = rule.map((token) => token.text);
  if (!isRule(words) || isLogged(words) || isLoopbackShortcut(words)) return undefined;
  const end = withoutComment(words);
  if (words[end - 1] === "accept" || words[end - 1] === "drop") {
    const verdict = words[end - 1] === "accept" ? "accept" : "drop";
    return { at: rule[end - 1].at, verdict };
  }
  const reject = words.lastIndexOf("reject", end - 1);
  if (reject >= 0 && (reject === end - 1 || words[reject + 1] === "with")) {
    return { at: rule[reject].at, verdict: "drop" };
  }
  return words.includes("vmap") ? "verdictMap" : "noVerdict";
}

function isRule(words: readonly string[]): boolean {
  if (COMMAND_WORDS.has(words[0])) return words[1] === "rule";
  return !NON_RULE_WORDS.has(words[0]);
}

function isLogged(words: readonly string[]): boolean {
  const log = words.indexOf("log");
  return log >= 0 && words.indexOf("group", log) > log;
}

/** `oif "lo" accept`, also `iif`, by name, and counted: loopback is not audited. */
function isLoopbackShortcut(words: readonly string[]): boolean {
  const [field, name, ...rest] = words;
  if (!["oif", "iif", "oifname", "iifname"].includes(field)) return false;
  if (name !== `"lo"` && name !== "lo") return false;
  return rest.slice(0, withoutComment(rest)).join(" ").replace(/^counter /, "") === "accept";
}

/** The number of words before a closing `comment "…"`. */
function withoutComment(words: readonly string[]): number {
  return words.length >= 2 && words[words.length - 2] === "comment"
    ? words.length - 2
    : words.length;
}

/** The statements that stand where rules may stand: in chains, or outside any block. */
function* statementsOf(ruleset: string, skipped: AugmentSkip[]): Generator<Token[]> {
  const blocks: Block[] = [];
  let statement: Token[] = [];
  const inRules = () => blocks.length === 0 || blocks[blocks.length - 1] === "chain";
  let line = 1;
  for (const token of tokensOf(ruleset)) {
    const block = blocks[blocks.length - 1];
    line = token.line;
    if (token.text === '"') {
      // A text that never ends: from here on no word can be trusted.
      skipped.push({ line, reason: "unbalanced" });
      return;
    }
    if (token.kind === "open") {
      const opened = blockOf(block, statement);
      blocks.push(opened);
      if (opened === "inline") statement.push(token);
      else statement = [];
    } else if (token.kind === "close" && block !== undefined) {
      if (block === "inline") statement.push(token);
      else if (block === "chain" && statement.length > 0) yield statement;
      if (block !== "inline") statement = [];
      blocks.pop();
    } else if (token.kind === "word") {
      statement.push(token);
    } else if (block !== "inline") {
      if (inRules() && statement.length > 0) yield statement;
      statement = [];
    }
  }
  if (blocks.length > 0) {
    skipped.push({ line, reason: "unbalanced" });
  } else if (statement.length > 0) yield statement;
}

/** What the brace after a statement's words opens. */
function blockOf(outer: Block | undefined, statement: readonly Token[]): Block {
  if (outer === "object" || outer === "inline" || outer === "chain") {
    return outer === "object" ? "object" : "inline";
  }
  const words = statement.map((token) => token.text);
  const first = COMMAND_WORDS.has(words[0]) ? words[1] : words[0];
  if (first === "table") return "table";
  if (first === "chain") return "chain";
  if (outer === "table" || OBJECT_WORDS.has(first)) return "object";
  return "inline";
}

const TOKEN = /\\\r?\n|[^\S\n]+|#[^\n]*|"[^"\n]*"|\n|[{};]|[^\s{};"#\\]+|[^]/y;

function* tokensOf(text: string): Generator<Token> {
  let line = 1;
  for (let at = 0; at < text.length;) {
    TOKEN.lastIndex = at;
    const found = TOKEN.exec(text)?.[0] ?? text[at];
    const kind = kindOf(found);
    if (kind !== undefined) yield { kind, text: found, at, line };
    if (found.endsWith("\n")) line += 1;
    at += found.length;
  }
}

function kindOf(found: string): Token["kind"] | undefined {
  switch (found) {
    case "\n":
      return "newline";
    case "{":
      return "open";
    case "}":
      return "close";
    case ";":
      return "semicolon";
    default:
      return /^(?:\\\r?\n|\s+|#.*)$/.test(found) ? undefined : "word";
  }
}
