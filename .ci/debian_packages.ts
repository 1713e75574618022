/**
 * Installs the Debian packages that a task can use, where it may, and says so.
 *
 * celld itself needs none of them. Each is optional: where it is missing and cannot be installed
 * (no root, no `apt-get`, no mirror), the tests that need it are skipped with the reason in their
 * name, and everything else runs.
 *
 * @module
 */

/** A package, the program by which it is recognised, and what is lost without it. */
export interface OptionalPackage {
  readonly name: string;
  readonly program: string;
  readonly purpose: string;
  /** A service that the package would start, which nobody here wants. */
  readonly service?: string;
}

/** What the tests compare with. */
export const TEST_PACKAGES: readonly OptionalPackage[] = [
  { name: "nftables", program: "nft", purpose: "compare our rulesets with what nft prints" },
  { name: "binutils", program: "as", purpose: "assemble the launch stub again and compare" },
  {
    name: "nats-server",
    program: "nats-server",
    purpose: "run the event log over a real JetStream",
    service: "nats-server.service",
  },
  { name: "bind9-dnsutils", program: "dig", purpose: "ask DNS servers behind the UDP balancer" },
  {
    name: "unbound",
    program: "unbound",
    purpose: "be a DNS server behind the UDP balancer",
    service: "unbound.service",
  },
  {
    name: "nsd",
    program: "nsd",
    purpose: "be another DNS server behind the UDP balancer",
    service: "nsd.service",
  },
  {
    name: "iperf3",
    program: "iperf3",
    purpose: "send streams through the UDP balancer",
    service: "iperf3.service",
  },
];

const PROGRAM_FOLDERS = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/bin"];

/** Says which of the packages are missing; installs them where this process may. */
export async function ensurePackages(packages: readonly OptionalPackage[]): Promise<void> {
  const missing = packages.filter((one) => !hasProgram(one.program));
  if (missing.length === 0) return;
  const reason = whyNotInstallable();
  if (reason === undefined) {
    const names = missing.map((one) => one.name);
    console.log(`Debian packages: installing ${names.join(", ")} (optional, for tests only)`);
    await aptGet(["update", "-qq"]);
    for (const { service } of missing) if (service !== undefined) await maskService(service);
    await aptGet(["install", "-y", "-qq", "--no-install-recommends", ...names]);
  }
  for (const one of missing.filter((item) => !hasProgram(item.program))) {
    const why = reason ?? "apt-get could not install it";
    console.log(`Debian packages: without ${one.name} (${why}); it serves to ${one.purpose}`);
  }
}

/** True where a program stands in one of the usual folders. */
export function hasProgram(name: string): boolean {
  return PROGRAM_FOLDERS.some((folder) => isFile(`${folder}/${name}`));
}

function whyNotInstallable(): string | undefined {
  if (Deno.uid() !== 0) return "not root";
  return hasProgram("apt-get") ? undefined : "no apt-get";
}

async function aptGet(args: readonly string[]): Promise<void> {
  const timeout = AbortSignal.timeout(180_000);
  const command = new Deno.Command("apt-get", {
    args: ["-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20", ...args],
    env: { DEBIAN_FRONTEND: "noninteractive" },
    stdin: "null",
    stdout: "null",
    stderr: "null",
    signal: timeout,
  });
  // A failure shows below: the program is still missing, and that is told by its name.
  await command.output();
}

/** Keeps a service of a package from running: it would listen on all addresses of the machine. */
async function maskService(service: string): Promise<void> {
  if (!hasProgram("systemctl")) return;
  const command = new Deno.Command("systemctl", {
    args: ["mask", "--quiet", service],
    stdin: "null",
    stdout: "null",
    stderr: "null",
  });
  await command.output();
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    // Not there is the answer.
    return false;
  }
}
