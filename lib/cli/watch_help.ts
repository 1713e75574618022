/**
 * The help of `celld watch`: each flag with what it is for, its default and its bounds.
 *
 * @module
 */
import { BOUNDS, SWITCHES, TEXTS } from "./watch_settings.ts";

/** A flag as people read it. */
export interface WatchFlagRow {
  /** `--name`. */
  readonly flag: string;
  /** What its value stands for; absent: it takes none. */
  readonly placeholder?: string;
  /** What it is for. */
  readonly text: string;
  /** Its default, as one would write it; absent: off, or needed. */
  readonly fallback?: string;
  /** `least..most` of a number. */
  readonly range?: string;
}

/** In the order in which they are shown: placeholder (none: a switch), text. */
const FLAGS: readonly (readonly [flag: string, placeholder: string, text: string])[] = [
  ["--socket", "PATH", "where agents beat (needed)"],
  ["--threshold-ms", "MS", "silence that is a stall (needed)"],
  ["--recovery-exec", "CMD", "run on a stall, split at white space; {pid} is the agent"],
  ["--recovery-exec-file", "PATH", "the same, from a file that only you can read"],
  ["--recovery-debounce-ms", "MS", "least time between two recoveries of one process"],
  ["--recovery-env", "K=V", "a variable of the command's environment; may be repeated"],
  ["--recovery-inherit-env", "", "the command gets this process's environment"],
  ["--recovery-timeout-ms", "MS", "a command that runs longer is killed"],
  ["--shutdown-grace-ms", "MS", "how long killed commands are waited for at the end"],
  ["--recovery-capture-stdio", "", "take the command's output"],
  ["--recovery-capture-bytes", "N", "bytes of it that are kept"],
  ["--socket-mode", "OCT", "permission bits of the socket"],
  ["--read-timeout-ms", "MS", "checked and unused: reads never wait"],
  ["--uds-rcvbuf-bytes", "N", "receive buffer of the socket; 0 leaves the kernel's"],
  ["--tracker-capacity", "N", "agents at once"],
  ["--eviction-scan-window", "N", "slots looked at for one to give away"],
  ["--tracker-eviction-policy", "WORD", "strict, balanced"],
  ["--max-beat-rate", "N", "beats a second of one pid; 0: any"],
  ["--global-beat-rate", "N", "beats a second of all; 0: any"],
  ["--global-beat-burst", "N", "beats of all at once; 0: any"],
  ["--clock-source", "WORD", "monotonic, boottime (goes on in suspend)"],
  ["--signal-handler-mode", "WORD", "direct, libc: checked and unused"],
  ["--shutdown-after-secs", "S", "end by itself"],
  ["--export-file", "PATH", "append beats and stalls, tab-separated"],
  ["--export-file-max-bytes", "N", "rotate it at this size; 5 are kept"],
  ["--export-file-sync-every", "N", "rows after which it is synchronised; 0: never"],
  ["--heartbeat-file", "PATH", "replaced at every round: rounds and nanoseconds"],
  ["--self-watchdog-secs", "S", "abort when the loop stands still (4 under a systemd watchdog)"],
  ["--hw-watchdog", "PATH", "a watchdog device to feed"],
  ["--prom-addr", "IP:PORT", "serve metrics; needs --prom-token-file"],
  ["--prom-token-file", "PATH", "64 hex digits, in a file that only you can read"],
  ["--prom-rate-limit-per-sec", "N", "scrapes a second of one address"],
  ["--prom-rate-limit-burst", "N", "scrapes of one address at once; 0: any"],
  ["--iteration-budget-ms", "MS", "longer rounds are counted"],
  ["--scrape-budget-ms", "MS", "longer scrapes are counted"],
  ["--udp-port", "PORT", "also take beats by UDP; 0: any port"],
  ["--udp-bind-addr", "IP", "where (127.0.0.1 with keys, else 0.0.0.0)"],
  ["--key-file", "PATH", "the key of sealed beats, 64 hex digits"],
  ["--accepted-key-file", "PATH", "more keys, one a line"],
  ["--master-key-file", "PATH", "the key that agents' keys are derived from"],
  ["--i-accept-plaintext-udp", "", "needed for UDP without keys"],
  ["--i-accept-secure-udp-non-loopback", "", "needed for sealed UDP past loopback"],
  [
    "--secure-udp-i-accept-recovery-on-unauthenticated-transport",
    "",
    "recover agents that beat by sealed UDP",
  ],
  [
    "--plaintext-udp-i-accept-recovery-on-unauthenticated-transport",
    "",
    "recover agents that beat by plain UDP",
  ],
  ["--allow-cross-namespace-agents", "", "take beats of other pid namespaces"],
  ["--strict-namespace-check", "", "end with 1 at a beat of another pid namespace"],
  ["--recovery-audit-file", "PATH", "record of recoveries; see celld audit verify"],
  ["--recovery-audit-max-bytes", "N", "rotate it at this size; 5 are kept"],
  ["--recovery-audit-sync-every", "N", "rows after which it is synchronised"],
  ["--audit-fsync-budget-ms", "MS", "a longer synchronisation puts others off"],
  ["--audit-sync-interval-ms", "MS", "synchronise at least so often; 0: by rows only"],
  ["--audit-rotation-budget-ms", "MS", "rotating in one go"],
];

/** All flags. */
export function watchFlagRows(): WatchFlagRow[] {
  return FLAGS.map(([flag, placeholder, text]) => {
    if (Object.hasOwn(SWITCHES, flag)) return { flag, text };
    const bound = BOUNDS[flag];
    const fallback = bound?.fallback?.toString() ?? TEXTS[flag]?.fallback;
    return {
      flag,
      placeholder,
      text,
      ...(fallback === undefined ? {} : { fallback }),
      ...(bound === undefined ? {} : { range: rangeText(bound.least, bound.most) }),
    };
  });
}

/** All of the help. */
export function watchHelp(): string {
  const rows = watchFlagRows().map(({ flag, placeholder = "", text, fallback, range }) => {
    const head = `  ${flag}${placeholder === "" ? "" : ` ${placeholder}`}`;
    const notes = [
      ...(fallback === undefined ? [] : [`default ${fallback}`]),
      ...(range === undefined ? [] : [range]),
    ];
    const more = notes.length === 0 ? "" : ` [${notes.join(", ")}]`;
    return `${head.length > 34 ? `${head}\n${" ".repeat(36)}` : head.padEnd(36)}${text}${more}`;
  });
  return `Usage: celld watch --socket PATH --threshold-ms MS [FLAGS]

Observes agents by itself, without a server: hears their beats, tells who is silent, and recovers
them. Each value is a word of its own.

${rows.join("\n")}
  -h, --help                        show this help

Exit codes: 0 it was told to end; 1 it could not go on; 2 its flags cannot be used.
`;
}

function rangeText(least: number, most: number): string {
  return most === Number.MAX_SAFE_INTEGER ? `${least} or more` : `${least}..${most}`;
}
