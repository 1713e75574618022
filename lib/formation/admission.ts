/**
 * Whether a formation may be, and in which order its members start.
 *
 *   one coordinator ─▶ everybody authorised by somebody ─▶ no circle ─▶ authority only narrows
 *
 * The rules are the reference's. The specs of the members come parsed, by id: reading them is
 * `lib/cell`'s (see `manifest.ts`). A member without one has no authority, and so none to give.
 *
 * @module
 */
import { FormationError, quote } from "./errors.ts";
import { type FormationManifest, type FormationMember, REPLICAS_MAX } from "./manifest.ts";
import { type AuthorityScope, NO_AUTHORITY, widenings } from "./narrowing.ts";

/** Cells that one formation may have at once. */
export const FORMATION_CELLS_MAX = 1000;

/** What admission has to know beside the manifest. */
export interface AdmissionFacts {
  /** What each member may reach and know, by id; a member that is not there has no cell. */
  readonly scopes: ReadonlyMap<string, AuthorityScope>;
  /** Prefixes that wide rules do not open on this host: `169.254.0.0/16`, the host's own addresses. */
  readonly guarded: readonly string[];
  /** Whether a formation of that name is there and has not ended. */
  readonly isNameTaken: boolean;
}

/** A member of an admitted formation. */
export interface PlannedMember extends FormationMember {
  /** How many authorisers stand above it: 0 is the coordinator. */
  readonly rank: number;
  /** Whether celld starts cells of it. */
  readonly hasCell: boolean;
  /** Whether the formation fails when one of its cells fails for good. */
  readonly critical: boolean;
}

/** An admitted formation. */
export interface FormationPlan {
  /** Its name. */
  readonly name: string;
  /** The coordinator's id. */
  readonly coordinator: string;
  /** In the order in which they start: nobody before its authoriser. */
  readonly members: readonly PlannedMember[];
}

/** Admits a formation, or throws {@link FormationError} with the first rule that it breaks. */
export function admitFormation(manifest: FormationManifest, facts: AdmissionFacts): FormationPlan {
  const coordinator = onlyCoordinator(manifest);
  requireAuthorisers(manifest, coordinator);
  const ranks = ranksOf(manifest);
  requireReplicas(manifest, coordinator);
  requireNarrowing(manifest, facts);
  if (facts.isNameTaken) {
    throw new FormationError("Conflict", [`name: ${quote(manifest.name)} is taken`]);
  }
  return planOf(manifest, coordinator, ranks, new Set(facts.scopes.keys()));
}

/**
 * The plan of a formation that was admitted before, from its document as the log has it. Nothing
 * is judged again: rules may have changed since. Throws {@link FormationError} where there is no
 * order to be made of it, as of a document that another server took.
 */
export function planAdmitted(manifest: FormationManifest): FormationPlan {
  const coordinator = onlyCoordinator(manifest);
  const withCell = manifest.members.filter(({ spec }) => spec !== undefined);
  const ids = new Set(withCell.map(({ id }) => id));
  requireAuthorisers(manifest, coordinator);
  return planOf(manifest, coordinator, ranksOf(manifest), ids);
}

/** Another number of replicas of a member. */
export interface ScaleWish {
  /** The member's id. */
  readonly member: string;
  /** How many cells of it, from 0. */
  readonly replicas: number;
}

/**
 * Refuses a number of replicas that a formation cannot have. `current` are the numbers that were
 * changed before. Throws {@link FormationError} of kind `BadRequest`.
 */
export function checkScale(
  plan: FormationPlan,
  { member: memberId, replicas }: ScaleWish,
  current: Readonly<Record<string, number>> = {},
): void {
  const member = plan.members.find(({ id }) => id === memberId);
  if (member === undefined) refuseScale(`member: ${quote(memberId)} is not in the formation`);
  if (!member.hasCell) refuseScale(`member: ${quote(memberId)} has no cell of its own`);
  if (!Number.isInteger(replicas) || replicas < 0 || replicas > REPLICAS_MAX) {
    refuseScale(`replicas: found ${replicas}, want an integer from 0 to ${REPLICAS_MAX}`);
  }
  if (member.rank === 0 && replicas !== 1) {
    refuseScale(`replicas: found ${replicas}, want 1: ${quote(memberId)} is the coordinator`);
  }
  const wanted = { ...current, [memberId]: replicas };
  const total = plan.members.reduce(
    (sum, { id, replicas }) => sum + (Object.hasOwn(wanted, id) ? wanted[id] : replicas),
    0,
  );
  if (total > FORMATION_CELLS_MAX) refuseScale(tooManyCells(total));
}

function refuseScale(problem: string): never {
  throw new FormationError("BadRequest", [problem]);
}

function tooManyCells(total: number): string {
  return `replicas: found ${total} cells in all, want at most ${FORMATION_CELLS_MAX}`;
}

function requireReplicas({ members }: FormationManifest, coordinator: string): void {
  const problems = members.filter(({ id, replicas }) => id === coordinator && replicas !== 1)
    .map(({ id, replicas }) =>
      `member ${quote(id)}: found ${replicas} replicas, want 1 of the coordinator`
    );
  const total = members.reduce((sum, { replicas }) => sum + replicas, 0);
  if (total > FORMATION_CELLS_MAX) problems.push(tooManyCells(total));
  if (problems.length > 0) throw new FormationError("BadRequest", problems);
}

function onlyCoordinator({ coordinators, members }: FormationManifest): string {
  const known = coordinators.filter((id) => members.some((member) => member.id === id));
  if (coordinators.length > 1) {
    throw new FormationError("FormationMultipleCoordinators", [
      `coordinator: found ${coordinators.map(quote).join(", ")}, want exactly one`,
    ]);
  }
  if (known.length === 1) return known[0];
  const found = coordinators.length === 0
    ? "found nothing, want the id of a member"
    : `found ${quote(coordinators[0])}, which is not a member`;
  throw new FormationError("FormationNoCoordinator", [`coordinator: ${found}`]);
}

function requireAuthorisers({ members }: FormationManifest, coordinator: string): void {
  const ids = new Set(members.map(({ id }) => id));
  const problems = members.flatMap(({ id, authorizedBy }) => {
    if (authorizedBy === undefined) {
      if (id === coordinator) return [];
      return [`member ${quote(id)}: found no authorizedBy, want the id of a member`];
    }
    if (ids.has(authorizedBy)) return [];
    return [`member ${quote(id)}: authorizedBy ${quote(authorizedBy)} is not a member`];
  });
  if (problems.length > 0) {
    throw new FormationError("FormationAuthorityNotNarrowing", problems);
  }
}

/** The distance of each member from the top; throws where the way up runs in a circle. */
function ranksOf({ members }: FormationManifest): ReadonlyMap<string, number> {
  const byId = new Map(members.map((member) => [member.id, member]));
  const ranks = new Map<string, number>();
  for (const { id } of members) {
    const way: string[] = [];
    let at: string | undefined = id;
    while (at !== undefined && !ranks.has(at)) {
      if (way.includes(at)) refuseCycle([...way.slice(way.indexOf(at)), at]);
      way.push(at);
      at = byId.get(at)?.authorizedBy;
    }
    let rank = at === undefined ? -1 : ranks.get(at)!;
    for (const step of way.reverse()) ranks.set(step, ++rank);
  }
  return ranks;
}

function refuseCycle(way: readonly string[]): never {
  throw new FormationError("FormationCycle", [
    `authorizedBy runs in a circle: ${way.map(quote).join(" by ")}`,
  ]);
}

function requireNarrowing({ members }: FormationManifest, facts: AdmissionFacts): void {
  const problems = members.flatMap(({ id, authorizedBy }) => {
    const scope = facts.scopes.get(id);
    if (scope === undefined || authorizedBy === undefined) return [];
    const above = facts.scopes.get(authorizedBy) ?? NO_AUTHORITY;
    return widenings(scope, above, facts.guarded).map((what) =>
      `member ${quote(id)}: ${what}, which ${quote(authorizedBy)} does not have to give`
    );
  });
  if (problems.length > 0) {
    throw new FormationError("FormationAuthorityNotNarrowing", problems);
  }
}

function planOf(
  manifest: FormationManifest,
  coordinator: string,
  ranks: ReadonlyMap<string, number>,
  withCell: ReadonlySet<string>,
): FormationPlan {
  const members = manifest.members.map((member) => ({
    ...member,
    // There is exactly one coordinator, whatever an old document says of replicas.
    replicas: member.id === coordinator ? 1 : member.replicas,
    rank: ranks.get(member.id)!,
    hasCell: withCell.has(member.id),
    critical: member.critical ?? member.id === coordinator,
  }));
  // A stable sort: members of one rank start in the order of the manifest.
  members.sort((a, b) => a.rank - b.rank);
  return { name: manifest.name, coordinator, members };
}
