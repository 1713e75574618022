/**
 * `ulogd2` as a listener in a network namespace: nflog in, one line a packet out, to a file on a
 * tmpfs.
 *
 * @module
 */
import { type Fd, readFileIn, withNetns } from "#ffi/mod.ts";

/** Where Debian and others put its plugins. */
const PLUGIN_FOLDERS = ["x86_64-linux-gnu/ulogd", "aarch64-linux-gnu/ulogd", "ulogd"]
  .map((folder) => `/usr/lib/${folder}`);
const PLUGINS = [
  "inppkt_NFLOG",
  "raw2packet_BASE",
  "filter_IFINDEX",
  "filter_IP2STR",
  "filter_PRINTPKT",
  "output_LOGEMU",
];
const POLL_MS = 20;
const START_TIMEOUT_MS = 5_000;
/**
 * When its processor time stands still for so long, it has read all there is: as packaged, the
 * kernel keeps the last packets for a second.
 */
const QUIET_MS = 1500;
/** Processor time is told in these (`sysconf(_SC_CLK_TCK)` is 100 on every Linux). */
const TICK_MS = 10;

/** Options of its NFLOG input beside the group; the defaults of the package, or as celld has it. */
export const ULOGD_INPUTS = {
  default: "",
  tuned: [
    "netlink_socket_buffer_size=8388608",
    "netlink_socket_buffer_maxsize=8388608",
    "netlink_qthreshold=32",
    "netlink_qtimeout=1",
  ].join("\n"),
} as const;

/** A running ulogd. */
export class Ulogd {
  readonly #child: Deno.ChildProcess;
  readonly #output: string;
  readonly #startedCpuMs: number;

  private constructor(child: Deno.ChildProcess, output: string) {
    this.#child = child;
    this.#output = output;
    this.#startedCpuMs = processCpuMs(child.pid);
  }

  /** Starts it; when it resolves, the group is bound. */
  static async start(
    options: { netns: Fd; group: number; input: string; directory: string },
  ): Promise<Ulogd> {
    const { netns, group, directory } = options;
    const [config, output] = [`${directory}/ulogd.conf`, `${directory}/ulogd.log`];
    const folder = PLUGIN_FOLDERS.find((path) => isThere(`${path}/ulogd_inppkt_NFLOG.so`));
    if (folder === undefined) throw new Error("Cannot find the plugins of ulogd");
    Deno.writeTextFileSync(config, configText({ ...options, folder, output }));
    const child = withNetns(
      netns,
      () =>
        new Deno.Command("ulogd", { args: ["-c", config], stdin: "null", stdout: "null" }).spawn(),
    );
    const deadline = performance.now() + START_TIMEOUT_MS;
    while (!isBound(netns, group)) {
      if (performance.now() > deadline) {
        child.kill("SIGKILL");
        throw new Error("Cannot start ulogd: it has bound no group");
      }
      await pause(POLL_MS);
    }
    return new Ulogd(child, output);
  }

  /** Lets it read what there is, ends it, and answers lines written and processor time used. */
  async finish(): Promise<{ seen: number; cpuMs: number }> {
    let cpuMs = processCpuMs(this.#child.pid);
    for (let quietSinceMs = performance.now(); performance.now() - quietSinceMs < QUIET_MS;) {
      await pause(POLL_MS);
      const now = processCpuMs(this.#child.pid);
      if (now !== cpuMs) quietSinceMs = performance.now();
      cpuMs = now;
    }
    this.#child.kill("SIGTERM");
    await this.#child.status;
    const seen = await countLines(this.#output);
    Deno.removeSync(this.#output);
    return { seen, cpuMs: cpuMs - this.#startedCpuMs };
  }
}

/** User and system time of a process, all its threads, in milliseconds, in steps of 10. */
export function processCpuMs(pid: number): number {
  const text = Deno.readTextFileSync(`/proc/${pid}/stat`);
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
}

function configText(
  { group, input, folder, output }: {
    group: number;
    input: string;
    folder: string;
    output: string;
  },
): string {
  return [
    "[global]",
    'logfile="/dev/null"',
    ...PLUGINS.map((name) => `plugin="${folder}/ulogd_${name}.so"`),
    "stack=log1:NFLOG,base1:BASE,ifi1:IFINDEX,ip2str1:IP2STR,print1:PRINTPKT,emu1:LOGEMU",
    "[log1]",
    `group=${group}`,
    input,
    "[emu1]",
    `file="${output}"`,
    "sync=0",
    "",
  ].join("\n");
}

/** The namespace's list of bound groups: the group is the first column. */
function isBound(netns: Fd, group: number): boolean {
  const text = withNetns(netns, () => readFileIn("/proc/thread-self/net/netfilter/nfnetlink_log"));
  return text.split("\n").some((line) =>
    Number(line.trim().split(/\s+/)[0]) === group && line !== ""
  );
}

async function countLines(path: string): Promise<number> {
  using file = await Deno.open(path);
  let lines = 0;
  const bytes = new Uint8Array(1 << 20);
  for (;;) {
    const count = await file.read(bytes);
    if (count === null) return lines;
    for (let at = 0; at < count; at++) if (bytes[at] === 10) lines += 1;
  }
}

function isThere(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) return false;
    throw cause;
  }
}

async function pause(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}
