/**
 * The house rules that a program can check, as a plugin of `deno lint`.
 *
 * - `celld/import-direction`: imports go one way (`layers.ts` has the table).
 * - `celld/pure-core`: a core computes; clock, randomness, I/O and `Deno` are for shells.
 * - `celld/documented-export`: what `ffi/` and `lib/` export has a doc comment.
 *
 * Each report says what is wrong, and in its hint what to write instead. Types do not count:
 * `import type` and type annotations leave nothing behind at run time.
 *
 * @module
 */

import { importProblem, isPure } from "./layers.ts";

/** Objects that a core may not touch at all. */
const WORLD_OBJECTS: Readonly<Record<string, string>> = {
  Deno: "Move the call to a …_shell.ts or …_adapter.ts and pass its result in",
  console: "Return a value; the shell or the CLI prints it",
  performance: "Take `nowMs` or `nowNs` as an argument",
  localStorage: "Keep state in the event log",
  navigator: "Pass what is needed as an argument",
};

/** Functions that a core may not call. */
const WORLD_FUNCTIONS: Readonly<Record<string, string>> = {
  fetch: "Return a request as a value and let a shell send it",
  setTimeout: "Answer `pollTimeout()` and let the shell arm the timer",
  setInterval: "Answer `pollTimeout()` and let the shell arm the timer",
  setImmediate: "Cores are synchronous",
  queueMicrotask: "Cores are synchronous",
  Date: "Take `nowMs` as an argument",
};

/** Members that a core may not use, by object. */
const WORLD_MEMBERS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  Date: { now: "Take `nowMs` as an argument" },
  Math: { random: "Take a seeded generator (lib/base/prng.ts) as an argument" },
  crypto: {
    randomUUID: "Take 16 random bytes as an argument (lib/base/ids.ts)",
    getRandomValues: "Take the random bytes as an argument",
    subtle: "Signing is asynchronous: it belongs to shells and adapters",
  },
};

/** Classes whose construction touches the world. */
const WORLD_CLASSES: Readonly<Record<string, string>> = {
  Worker: "Only shells start workers",
  WebSocket: "Only shells open sockets",
  BroadcastChannel: "Only shells talk to other threads",
};

const ROOT = new URL("..", import.meta.url).pathname;

/** Path relative to the repository's root; as it is where it lies elsewhere. */
function relativePath(filename: string): string {
  const path = filename.startsWith("file://") ? new URL(filename).pathname : filename;
  return path.startsWith(ROOT) ? path.slice(ROOT.length) : path.replace(/^\.\//, "");
}

type ImportNode =
  | Deno.lint.ImportDeclaration
  | Deno.lint.ExportNamedDeclaration
  | Deno.lint.ExportAllDeclaration;

function isTypeOnly(node: ImportNode): boolean {
  if (node.type === "ImportDeclaration") {
    const names = node.specifiers.filter((one) => one.type === "ImportSpecifier");
    const allMarked = names.length > 0 && names.length === node.specifiers.length &&
      names.every((one) => one.importKind === "type");
    return node.importKind === "type" || allMarked;
  }
  return node.exportKind === "type";
}

function importedNames(node: ImportNode): string[] {
  if (node.type !== "ImportDeclaration") return [];
  return node.specifiers
    .filter((one) => one.type === "ImportSpecifier")
    .map((one) => one.imported.type === "Identifier" ? one.imported.name : one.imported.value);
}

const importDirection: Deno.lint.Rule = {
  create(context) {
    const from = relativePath(context.filename);
    function judge(node: ImportNode): void {
      if (node.source === null) return;
      const problem = importProblem({
        from,
        specifier: String(node.source.value),
        typeOnly: isTypeOnly(node),
        names: importedNames(node),
      });
      if (problem !== undefined) context.report({ node: node.source, ...problem });
    }
    return {
      ImportDeclaration: judge,
      ExportNamedDeclaration: judge,
      ExportAllDeclaration: judge,
      ImportExpression(node) {
        if (node.source.type !== "Literal") return;
        const specifier = String(node.source.value);
        const problem = importProblem({ from, specifier, typeOnly: false });
        if (problem !== undefined) context.report({ node: node.source, ...problem });
      },
    };
  },
};

const pureCore: Deno.lint.Rule = {
  create(context): Deno.lint.LintVisitor {
    if (!isPure(relativePath(context.filename))) return {};
    function refuse(node: Deno.lint.Node, what: string, hint: string): void {
      context.report({ node, message: `Cannot use ${what} in a core: cores compute only`, hint });
    }
    return {
      MemberExpression(node) {
        if (node.object.type !== "Identifier") return;
        const { name } = node.object;
        if (Object.hasOwn(WORLD_OBJECTS, name)) return refuse(node, name, WORLD_OBJECTS[name]);
        const member = memberName(node);
        const hint = member === undefined ? undefined : lookUp(WORLD_MEMBERS, name, member);
        if (hint !== undefined) refuse(node, `${name}.${member}`, hint);
        if (name === "globalThis" && member !== undefined && isWorldName(member)) {
          refuse(node, `globalThis.${member}`, "A core has no globals but the language's own");
        }
      },
      VariableDeclarator(node) {
        // An alias (`const clock = performance`) or a taking apart (`const { now } = Date`).
        if (node.init?.type !== "Identifier") return;
        const { name } = node.init;
        if (Object.hasOwn(WORLD_OBJECTS, name)) return refuse(node, name, WORLD_OBJECTS[name]);
        if (node.id.type === "ObjectPattern" && Object.hasOwn(WORLD_MEMBERS, name)) {
          refuse(node, `a taken-apart ${name}`, `Write ${name}.member, so that it can be checked`);
        }
        if (name !== "Date" && Object.hasOwn(WORLD_FUNCTIONS, name)) {
          refuse(node, name, WORLD_FUNCTIONS[name]);
        }
      },
      CallExpression(node) {
        if (node.callee.type !== "Identifier") return;
        const { name } = node.callee;
        if (Object.hasOwn(WORLD_FUNCTIONS, name)) refuse(node, `${name}()`, WORLD_FUNCTIONS[name]);
      },
      NewExpression(node) {
        if (node.callee.type !== "Identifier") return;
        const { name } = node.callee;
        if (name === "Date" && node.arguments.length === 0) {
          refuse(node, "new Date()", "Take `nowMs` as an argument");
        }
        if (Object.hasOwn(WORLD_CLASSES, name)) refuse(node, `new ${name}()`, WORLD_CLASSES[name]);
      },
    };
  },
};

function memberName(node: Deno.lint.MemberExpression): string | undefined {
  if (node.property.type === "Identifier" && !node.computed) return node.property.name;
  return node.property.type === "Literal" ? String(node.property.value) : undefined;
}

function lookUp(
  table: Readonly<Record<string, Readonly<Record<string, string>>>>,
  object: string,
  member: string,
): string | undefined {
  if (!Object.hasOwn(table, object)) return undefined;
  return Object.hasOwn(table[object], member) ? table[object][member] : undefined;
}

function isWorldName(name: string): boolean {
  return Object.hasOwn(WORLD_OBJECTS, name) || Object.hasOwn(WORLD_FUNCTIONS, name) ||
    Object.hasOwn(WORLD_CLASSES, name) || Object.hasOwn(WORLD_MEMBERS, name);
}

const documentedExport: Deno.lint.Rule = {
  create(context): Deno.lint.LintVisitor {
    if (!/^(ffi|lib)\//.test(relativePath(context.filename))) return {};
    /** Overloads of a function share the first one's comment. */
    const documented = new Set<string>();
    return {
      ExportNamedDeclaration(node) {
        const names = node.declaration === null ? [] : declaredNames(node.declaration);
        if (names.length === 0) return;
        if (isDocumented(context.sourceCode.getCommentsBefore(node))) {
          for (const name of names) documented.add(name);
        } else if (!names.every((name) => documented.has(name))) {
          context.report({
            node: node.declaration ?? node,
            message: `Cannot export ${names.join(", ")} without a doc comment`,
            hint: "Say above it, in /** … */, what it is: units, ranges, errors, source",
          });
        }
      },
    };
  },
};

function isDocumented(
  comments: readonly (Deno.lint.LineComment | Deno.lint.BlockComment)[],
): boolean {
  const last = comments.filter((one) => one.type === "Block").at(-1);
  return last !== undefined && last.value.startsWith("*") && !last.value.includes("@module");
}

function declaredNames(node: Deno.lint.ExportNamedDeclaration["declaration"]): string[] {
  if (node === null) return [];
  if (node.type === "VariableDeclaration") {
    return node.declarations.flatMap(({ id }) => id.type === "Identifier" ? [id.name] : []);
  }
  const id = "id" in node ? node.id : null;
  return id !== null && id !== undefined && "name" in id ? [id.name] : [];
}

/** The plugin, as `deno.json` names it. */
const plugin: Deno.lint.Plugin = {
  name: "celld",
  rules: {
    "import-direction": importDirection,
    "pure-core": pureCore,
    "documented-export": documentedExport,
  },
};

export default plugin;
