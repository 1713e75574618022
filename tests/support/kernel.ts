/**
 * Tests that need a real kernel, root, or a program of the host.
 *
 *   kernelTest("veth: both ends exist after create", ["root"], () => { … });
 *
 * A test whose needs are not met is registered as ignored, with the reason in its name: it never
 * passes quietly. The runner fails when every kernel test was skipped as root.
 *
 * Such tests make their own namespaces and remove them; they send nothing outside this machine.
 *
 * @module
 */

/** What a test needs: root, a capability, a program in PATH, a processor, or a path that exists. */
export type Need =
  | "root"
  | `cap:CAP_${string}`
  | `command:${string}`
  | `arch:${"x86_64" | "aarch64"}`
  | `path:/${string}`;

/** Bit numbers of the capabilities that tests ask for (linux/capability.h). */
const CAPABILITY_BITS: Readonly<Record<string, number>> = {
  CAP_KILL: 5,
  CAP_SETUID: 7,
  CAP_NET_ADMIN: 12,
  CAP_NET_RAW: 13,
  CAP_SYS_PTRACE: 19,
  CAP_SYS_ADMIN: 21,
  CAP_SYS_RESOURCE: 24,
  CAP_BPF: 39,
};

/** Options of `kernelTest`. */
export interface KernelTestOptions {
  /** Passed to `Deno.test`: sub-steps, sanitizers. @default {true} */
  readonly sanitizeResources?: boolean;
  /** @default {true} */
  readonly sanitizeOps?: boolean;
}

/** Registers a test that is ignored, with the reason in its name, where a need is not met. */
export function kernelTest(
  name: string,
  needs: Need | readonly Need[],
  fn: (t: Deno.TestContext) => void | Promise<void>,
  options: KernelTestOptions = {},
): void {
  const list = typeof needs === "string" ? [needs] : needs;
  const missing = list.map(missingReason).filter((reason) => reason !== undefined);
  const ignore = missing.length > 0;
  Deno.test({
    name: ignore ? `${name} (skipped: ${missing.join(", ")})` : name,
    ignore,
    fn,
    ...options,
  });
}

/** Says why a need is not met on this machine, or `undefined` where it is. */
export function missingReason(need: Need): string | undefined {
  if (need === "root") return Deno.uid() === 0 ? undefined : "not root";
  const [kind, value] = [need.slice(0, need.indexOf(":")), need.slice(need.indexOf(":") + 1)];
  switch (kind) {
    case "cap":
      return hasEffectiveCapability(value) ? undefined : `no ${value}`;
    case "command":
      return findCommand(value) === undefined ? `no ${value} in PATH` : undefined;
    case "arch":
      return Deno.build.arch === value ? undefined : `needs ${value}`;
    default:
      return exists(value) ? undefined : `no ${value}`;
  }
}

/** Full path of a program in PATH, or `undefined`. */
export function findCommand(name: string): string | undefined {
  const folders = (Deno.env.get("PATH") ?? "").split(":").filter((folder) => folder !== "");
  // nft, ip and the like stand in sbin, which a user's PATH may leave out.
  for (const folder of [...folders, "/usr/sbin", "/sbin"]) {
    if (isExecutable(`${folder}/${name}`)) return `${folder}/${name}`;
  }
  return undefined;
}

function hasEffectiveCapability(name: string): boolean {
  const bit = CAPABILITY_BITS[name];
  if (bit === undefined) {
    throw new RangeError(`Cannot test for capability: ${JSON.stringify(name)} is not in the table`);
  }
  const line = /^CapEff:\s*([0-9a-f]+)$/m.exec(Deno.readTextFileSync("/proc/self/status"));
  return line !== null && (BigInt(`0x${line[1]}`) >> BigInt(bit) & 1n) === 1n;
}

function isExecutable(path: string): boolean {
  try {
    const info = Deno.statSync(path);
    return info.isFile && info.mode !== null && (info.mode & 0o111) !== 0;
  } catch {
    // Not there, or not ours to look at: not usable either way.
    return false;
  }
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    // Not there, or not ours to look at: not usable either way.
    return false;
  }
}
