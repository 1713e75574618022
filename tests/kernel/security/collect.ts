/**
 * Runs the probes of `probes/` in two cells at once, one as its own user and one as uid 0 of
 * the cell, and answers what each probe was told.
 *
 * Both cells have wide rules, for every address and port, so that whatever is refused is
 * refused by more than an absent rule. The host has what they must not reach: listeners on its
 * addresses, Unix sockets by path and by name, programs with a setuid bit, a process of its own.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { NetlinkConn, NftConn, withNetns } from "#ffi/mod.ts";
import { HOST_TABLE_NAME } from "#lib/cell/host_ruleset.ts";
import type { CloudEvent } from "#lib/events/mod.ts";
import { type Arrival, LAB, type Lab } from "#tests/support/lab.ts";
import { runProcess } from "#tests/support/subprocess.ts";
import { i386Program } from "./i386.ts";
import {
  cellDirectories,
  type CellUser,
  runningCells,
  type SharedDirectory,
  Stage,
  USERS,
} from "./support.ts";

/** A port of the host that a program listens on. */
const HOST_PORT = 8899;
/** A metadata service's address in IPv6. */
const METADATA6 = "fd00:ec2::254";
/** Where every cell's listener is; see `probes/`. */
const GUEST_PORT = 7777;
const WIDE = ["tcp", "udp", "icmp"].flatMap((protocol) => [
  { host: "0.0.0.0/0", protocol },
  { host: "::/0", protocol },
]);

/** What the probes of one cell were told, by probe. */
export type Answers = ReadonlyMap<string, string>;

/** What was found. */
export interface Collected {
  readonly answers: Readonly<Record<CellUser, Answers>>;
  /** Connections that a listener of the host saw. */
  readonly hostConnections: number;
  /** Connections that a Unix socket of the host saw. */
  readonly unixConnections: number;
  /** What came out of the host's named pipe. */
  readonly pipeText: string;
  /** Requests that the lab's metadata service saw. */
  readonly metadataRequests: number;
  /** Whether the host's own process lived through it. */
  readonly isHostProcessAlive: boolean;
  /** What the setuid and capability programs give to an ordinary user of the host. */
  readonly programsOnHost: { readonly setuid: string; readonly capable: string };
  readonly exitCodes: readonly number[];
  /** What arrived on the far side at addresses that are forbidden. */
  readonly arrivals: readonly Arrival[];
  /** Packets with another source that were left for the host to drop. */
  readonly spoofedDrops: number;
  /** What each cell's log says. */
  readonly events: Readonly<Record<CellUser, readonly CloudEvent[]>>;
}

let collected: Promise<Collected> | undefined;

/** Runs the cells once; later calls answer the same. */
export function collect(): Promise<Collected> {
  return collected ??= collectNow();
}

async function collectNow(): Promise<Collected> {
  const watch = [LAB.metadata, METADATA6].flatMap((address) => [
    { protocol: "udp", address } as const,
    { protocol: "tcp", address } as const,
  ]);
  await using stage = await Stage.start({ watch });
  const { lab, shared } = stage;
  await using host = await HostSide.start(lab, shared);
  const cells = USERS.map((user) => {
    return {
      user,
      cell: stage.run({
        id: `probe-${user}`,
        authority: { egressRules: WIDE, secretRefs: ["TOKEN"] },
        env: { SECRET: `secret of ${user}` },
        // Descriptors of all sorts, none marked to be closed.
        wrapper: `exec 7</etc/passwd 8</proc/self/ns/net 9>>${host.scratch} 6</ 5<>/dev/null; ` +
          'exec "$@"',
        run: {
          argv: ["/usr/bin/perl", "-e", 'do "/srv/probe/main.pl"; die $@ if $@'],
          user,
          workingDirectory: "/work",
          env: { NAME: user },
          mounts: [{ source: host.probeDirectory, target: "/srv/probe" }],
          secretDelivery: "file",
          secrets: [{ name: "TOKEN", fromEnv: "SECRET" }],
          limits: { timeoutSeconds: 60 },
        },
      }),
    };
  });
  for (const { cell } of cells) await cell.waitFor(/"ready"/);
  const addresses = cells.map(({ user }) => host.addressesOf(user));
  for (const [index, { user }] of cells.entries()) {
    host.tell(user, addresses[index]!, addresses[1 - index]!);
  }
  for (const { cell } of cells) await cell.waitFor(/"done"/);
  const spoofedDrops = host.spoofedDrops();
  host.allowEnd();
  const outcomes = await Promise.all(cells.map(({ cell }) => cell.end()));
  await lab.settle();
  const [auto, root] = outcomes.map(({ stdout, stderr }) => parseAnswers(stdout, stderr));
  return {
    answers: { auto: auto!, root: root! },
    ...host.witness(),
    metadataRequests: lab.seen().filter(({ local }) => local.address === LAB.metadata).length,
    programsOnHost: await host.runPrograms(),
    exitCodes: outcomes.map(({ code }) => code),
    arrivals: lab.arrivals(),
    spoofedDrops,
    events: { auto: outcomes[0]!.events, root: outcomes[1]!.events },
  };
}

function parseAnswers(stdout: string, stderr: string): Answers {
  const answers = new Map<string, string>();
  for (const line of stdout.split("\n")) {
    if (!line.startsWith("{")) continue;
    const { probe, result } = JSON.parse(line);
    if (typeof probe === "string") answers.set(probe, result);
  }
  assertEquals(stderr, "", "the probes say nothing on stderr");
  return answers;
}

interface CellAddresses {
  readonly cell: string;
  readonly index: number;
}

/** Everything of the host that the cells must not get at. */
class HostSide implements AsyncDisposable {
  readonly probeDirectory: string;
  readonly scratch: string;
  readonly #shared: SharedDirectory;
  readonly #lab: Lab;
  readonly #stack = new AsyncDisposableStack();
  #hostConnections = 0;
  #unixConnections = 0;
  #process: Deno.ChildProcess | undefined;
  #pipe: Deno.FsFile | undefined;
  #runSocket = "";
  #abstractSocket = "";
  #isAlive = true;

  static async start(lab: Lab, shared: SharedDirectory): Promise<HostSide> {
    const host = new HostSide(lab, shared);
    try {
      await host.#makeFiles();
      host.#listen();
      host.#startProcess();
      return host;
    } catch (error) {
      await host[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(lab: Lab, shared: SharedDirectory) {
    this.#lab = lab;
    this.#shared = shared;
    this.probeDirectory = shared.directory("probe");
    this.scratch = shared.file("scratch", "", 0o666);
  }

  addressesOf(user: CellUser): CellAddresses {
    const cell = runningCells(this.#shared.path).find((id) => id.startsWith(`probe-${user}-`));
    if (cell === undefined) throw new Error(`Cannot find the cell of user ${user}`);
    const { runtimeDir } = cellDirectories(this.#shared.path);
    return {
      cell,
      index: Number(Deno.readTextFileSync(`${runtimeDir}/cells/${cell}/lease`)),
    };
  }

  /** Lets a cell begin. */
  tell(user: CellUser, own: CellAddresses, other: CellAddresses): void {
    const { runtimeDir, stateDir } = cellDirectories(this.#shared.path);
    const other4 = `10.213.0.${2 * other.index + 1}`;
    const other6 = `fdce:11d0::${(2 * other.index + 1).toString(16)}`;
    const gateway4 = `10.213.0.${2 * own.index}`;
    const gateway6 = `fdce:11d0::${(2 * own.index).toString(16)}`;
    const destinations = (port: number, guestPort: number) =>
      [
        ["other cell", other4, guestPort],
        ["other cell, IPv6", other6, guestPort],
        ["host", LAB.hostIpv4, port],
        ["host, IPv6", LAB.hostIpv6, port],
        ["gateway", gateway4, port],
        ["gateway, IPv6", gateway6, port],
        ["metadata", LAB.metadata, LAB.httpPort],
        ["link-local", "169.254.1.1", port],
        ["multicast", "224.0.0.1", port],
        ["own loopback", "127.0.0.1", port],
        ["IPv4 in IPv6", `64:ff9b::${LAB.serversIpv4[2]}`, port],
        ["multicast, IPv6", "ff02::1", port],
      ].map(([label, address, to]) => `${String(label).replaceAll(" ", "_")}=${address}=${to}`);
    const values = {
      HOST_PID: this.#process!.pid,
      HOST_DIRECTORY: this.#shared.path,
      ALLOWED: LAB.serversIpv4[0],
      ALLOWED6: LAB.serversIpv6[0],
      OWN: `10.213.0.${2 * own.index + 1}`,
      FOREIGN: LAB.gatewayIpv4,
      FOREIGN6: "2001:db8:51::77",
      OTHER6: other6,
      OTHER_CELL: other.cell,
      METADATA: LAB.metadata,
      METADATA6,
      FORBIDDEN_TCP: destinations(HOST_PORT, GUEST_PORT).join(" "),
      FORBIDDEN_UDP: destinations(HOST_PORT, GUEST_PORT).join(" "),
      FORBIDDEN_PING: destinations(0, 0).join(" "),
      RUN_SOCKET: this.#runSocket,
      ABSTRACT_SOCKET: this.#abstractSocket,
      STATE_DIR: stateDir,
      RUNTIME_DIR: runtimeDir,
    };
    const lines = Object.entries(values).map(([name, value]) => `${name}=${value}\n`);
    const path = `${this.probeDirectory}/go-${user}`;
    Deno.writeTextFileSync(`${path}.new`, lines.join(""));
    Deno.renameSync(`${path}.new`, path);
  }

  /** Lets both cells end. */
  allowEnd(): void {
    Deno.writeTextFileSync(`${this.probeDirectory}/stop`, "");
  }

  spoofedDrops(): number {
    return this.#lab.inHost(() => {
      using conn = NetlinkConn.open("netfilter");
      const rows = new NftConn(conn).ruleCounters(HOST_TABLE_NAME);
      return rows.filter(({ comment }) => comment === "spoofed source")
        .reduce((sum, { packets }) => sum + Number(packets ?? 0n), 0);
    });
  }

  witness() {
    const buffer = new Uint8Array(4096);
    const count = readNow(this.#pipe!, buffer);
    return {
      hostConnections: this.#hostConnections,
      unixConnections: this.#unixConnections,
      pipeText: new TextDecoder().decode(buffer.subarray(0, count)),
      isHostProcessAlive: this.#isAlive,
    };
  }

  async runPrograms(): Promise<{ setuid: string; capable: string }> {
    const run = async (name: string) => {
      const script = 'open F, "<", "/proc/self/status"; ' +
        'my %s = map { /^(\\w+):\\s*(.*)/ ? ($1, $2) : () } <F>; print "$> $s{CapEff}"';
      const output = await new Deno.Command(`${this.#shared.path}/${name}`, {
        args: ["-e", script],
        uid: 65534,
        gid: 65534,
      }).output();
      return new TextDecoder().decode(output.stdout);
    };
    return { setuid: await run("setuid-perl"), capable: await run("capable-perl") };
  }

  async #makeFiles(): Promise<void> {
    const shared = this.#shared;
    shared.directory("open", 0o777);
    shared.file("open/file", "of the host\n", 0o666);
    shared.file("secret", "of root\n", 0o600);
    const probes = new URL("./probes/", import.meta.url);
    for (const { name } of Deno.readDirSync(probes)) {
      shared.file(`probe/${name}`, Deno.readTextFileSync(new URL(name, probes)));
    }
    const perl = Deno.readFileSync("/usr/bin/perl");
    shared.file("setuid-perl", perl, 0o4755);
    shared.file("probe/setuid-perl", perl, 0o4755);
    shared.file("capable-perl", perl, 0o755);
    shared.file("i386", i386Program(), 0o755);
    const script = new URL("./host_files.pl", import.meta.url).pathname;
    const made = await runProcess(["perl", script, shared.path]);
    assertEquals([made.code, made.stderr], [0, ""]);
    this.#pipe = this.#stack.use(Deno.openSync(`${shared.path}/pipe`, { read: true, write: true }));
  }

  #listen(): void {
    const onHost = withNetns(
      this.#lab.hostNetns,
      () => Deno.listen({ hostname: "::", port: HOST_PORT }),
    );
    this.#count(onHost, () => this.#hostConnections++);
    this.#runSocket = `/run/celld-security-${Deno.pid}.sock`;
    this.#abstractSocket = `celld-security-${Deno.pid}`;
    for (const path of [`${this.#shared.path}/docker.sock`, this.#runSocket]) {
      const listener = Deno.listen({ transport: "unix", path });
      Deno.chmodSync(path, 0o777);
      this.#count(listener, () => this.#unixConnections++);
      this.#stack.defer(() => Deno.removeSync(path));
    }
  }

  #count(listener: Deno.Listener, onConnection: () => void): void {
    const accepting = (async () => {
      for await (const connection of listener) {
        onConnection();
        connection.close();
      }
    })();
    this.#stack.defer(async () => {
      listener.close();
      await accepting;
    });
  }

  /** Holds what has no door in Deno: an abstract socket, a datagram socket, and its own life. */
  #startProcess(): void {
    const script = new URL("./host_process.pl", import.meta.url).pathname;
    const child = new Deno.Command("perl", {
      args: [script, this.#abstractSocket, `${this.#shared.path}/datagram.sock`],
      stdin: "null",
    }).spawn();
    this.#process = child;
    const ended = child.status.then(() => {
      this.#isAlive = false;
    });
    this.#stack.defer(async () => {
      if (this.#isAlive) child.kill("SIGKILL");
      await ended;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

/** Reads without waiting; what the pipe holds now. */
function readNow(file: Deno.FsFile, buffer: Uint8Array): number {
  // A byte of our own makes sure that the read returns.
  file.writeSync(new TextEncoder().encode("."));
  const count = file.readSync(buffer) ?? 0;
  return count - 1;
}
