/**
 * A cell specification from text: `apiVersion: cellos.io/v1, kind: ExecutionCell`.
 *
 * Strict, since it grants authority: an unknown field is refused, not ignored, and so is one
 * that is known elsewhere but does nothing here yet. All that is wrong is told at once, each
 * with its path, what was found, what is wanted, and often what was meant. What comes out has
 * every default filled in and every prefix in canonical form.
 *
 * Never throws anything but {@link SpecError}, whatever the text.
 *
 * Source: `docs/protocol/cell-spec.md`.
 *
 * @module
 */
import { readEgressRules, readIngress, readIngressRules } from "./spec_network.ts";
import { joinPath } from "#lib/base/mod.ts";
import { SpecError, SpecReader } from "./spec_reader.ts";
import { LABEL, LABEL_WANTED, readRun, SECONDS_MAX } from "./spec_run.ts";
import { parseDocumentText, type SpecFormat } from "./spec_text.ts";
import { type Authority, type CellSpec, SPEC_API_VERSION, SPEC_KIND } from "./spec_types.ts";

export { SpecError } from "./spec_reader.ts";
export type { SpecProblem } from "./spec_reader.ts";
export { parseDocumentText, SPEC_BYTES_MAX, SPEC_DEPTH_MAX } from "./spec_text.ts";
export type { SpecFormat } from "./spec_text.ts";
export * from "./spec_types.ts";

const CORRELATION_MAX = 32;
const CORRELATION_LENGTH_MAX = 1024;
const SECRET_REFS_MAX = 64;
const SECRET_REF = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/;

const NOT_YET = "not available yet";

/** Parses a document. Throws {@link SpecError} with everything that is wrong with it. */
export function parseCellSpec(text: string, format: SpecFormat = "auto"): CellSpec {
  return readCellSpec(parseDocumentText(text, format));
}

/** The same from a value that was parsed before, as the body of a request. */
export function readCellSpec(document: unknown): CellSpec {
  const reader = new SpecReader();
  const fields = reader.object("", document, ["apiVersion", "kind", "spec"]);
  if (fields !== undefined) {
    reader.choice("apiVersion", fields.apiVersion, [SPEC_API_VERSION]);
    reader.choice("kind", fields.kind, [SPEC_KIND]);
  }
  const spec = fields === undefined ? undefined : readSpec(reader, "spec", fields.spec);
  reader.throwIfAny();
  // A reader that answers nothing has noted why; this is for the type system.
  if (spec === undefined) throw new SpecError([]);
  return spec;
}

/** How long a run may take, and which of the spec's fields says so: the smaller of the two. */
export function effectiveTimeout(
  spec: CellSpec,
): { readonly seconds: number; readonly source: string } | undefined {
  const bounds = [
    { seconds: spec.run?.limits.timeoutSeconds, source: "spec.run.limits.timeoutSeconds" },
    { seconds: spec.lifetime.ttlSeconds, source: "spec.lifetime.ttlSeconds" },
  ].flatMap(({ seconds, source }) => seconds === undefined ? [] : [{ seconds, source }]);
  return bounds.sort((a, b) => a.seconds - b.seconds)[0];
}

function readSpec(reader: SpecReader, path: string, value: unknown): CellSpec | undefined {
  const fields = reader.object(path, value, [
    "id",
    "correlation",
    "authority",
    "lifetime",
    "run",
    "ingress",
  ]);
  if (fields === undefined) return undefined;
  const at = (name: string) => joinPath(path, name);
  const id = reader.matching(at("id"), fields.id, LABEL, LABEL_WANTED);
  const correlation = readCorrelation(reader, at("correlation"), fields.correlation);
  const authority = readAuthority(
    reader,
    at("authority"),
    // Without any, the cell may reach and know nothing.
    fields.authority === undefined ? {} : fields.authority,
  );
  const lifetime = readLifetime(reader, at("lifetime"), fields.lifetime);
  const run = fields.run === undefined
    ? undefined
    : readRun(reader, at("run"), fields.run, authority?.secretRefs ?? []);
  if (id === undefined || authority === undefined) return undefined;
  const ingress = readIngress(reader, at("ingress"), fields.ingress);
  return {
    id,
    correlation,
    authority,
    lifetime,
    ...(run === undefined ? {} : { run }),
    ...ingress,
  };
}

function readAuthority(reader: SpecReader, path: string, value: unknown): Authority | undefined {
  const known = ["mode", "deny", "audit", "secretRefs", "egressRules", "ingress"];
  const fields = reader.object(path, value, known, {
    dnsAuthority: NOT_YET,
    cdnAuthority: NOT_YET,
    authorityDerivation: NOT_YET,
  });
  if (fields === undefined) return undefined;
  const at = (name: string) => joinPath(path, name);
  const { mode, deny, audit } = fields;
  const auditFields = audit === undefined ? {} : reader.object(at("audit"), audit, ["flow"]) ?? {};
  const flow = auditFields.flow === undefined
    ? "required"
    : reader.choice(joinPath(at("audit"), "flow"), auditFields.flow, ["required", "best-effort"]);
  return {
    mode:
      (mode === undefined ? undefined : reader.choice(at("mode"), mode, ["enforce", "audit"])) ??
        "enforce",
    deny: (deny === undefined ? undefined : reader.choice(at("deny"), deny, ["reject", "drop"])) ??
      "reject",
    audit: { flow: flow ?? "required" },
    secretRefs: readSecretRefs(reader, at("secretRefs"), fields.secretRefs),
    egressRules: readEgressRules(reader, at("egressRules"), fields.egressRules),
    ingress: readIngressRules(reader, at("ingress"), fields.ingress),
  };
}

function readSecretRefs(reader: SpecReader, path: string, value: unknown): readonly string[] {
  const items = reader.list(path, value ?? [], SECRET_REFS_MAX) ?? [];
  const names: string[] = [];
  for (const [index, item] of items.entries()) {
    const wanted = "a name of letters, digits and _";
    const name = reader.matching(`${path}[${index}]`, item, SECRET_REF, wanted);
    if (name === undefined) continue;
    if (names.includes(name)) reader.note(`${path}[${index}]`, name, "each name once");
    names.push(name);
  }
  return names;
}

function readCorrelation(
  reader: SpecReader,
  path: string,
  value: unknown,
): Readonly<Record<string, string>> {
  if (value === undefined) return {};
  const fields = reader.record(path, value);
  if (fields === undefined) return {};
  const entries = Object.entries(fields);
  if (entries.length > CORRELATION_MAX) {
    reader.note(path, value, `at most ${CORRELATION_MAX} fields`);
    return {};
  }
  const texts = entries.flatMap(([name, item]) => {
    const isScalar = typeof item === "boolean" || Number.isFinite(item);
    const text = isScalar ? String(item) : reader.text(
      joinPath(path, name),
      item,
      "text, a number, true or false",
      CORRELATION_LENGTH_MAX,
    );
    return text === undefined ? [] : [[name, text] as const];
  });
  return Object.fromEntries(texts);
}

function readLifetime(reader: SpecReader, path: string, value: unknown): CellSpec["lifetime"] {
  if (value === undefined) return {};
  const fields = reader.object(path, value, ["ttlSeconds"]);
  if (fields?.ttlSeconds === undefined) return {};
  const ttlSeconds = reader.integer(joinPath(path, "ttlSeconds"), fields.ttlSeconds, {
    min: 1,
    max: SECONDS_MAX,
  });
  return ttlSeconds === undefined ? {} : { ttlSeconds };
}
