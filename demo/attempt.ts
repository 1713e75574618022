/**
 * What the demo's cell says about its own attempts, and the key under which an attempt, its
 * decision, and what the far side saw are the same thing.
 *
 * The lines are those of the probe in `examples/demo.yaml`:
 * `tcp 203.0.113.10 80: answered: 200 OK, 105 bytes`. Pure.
 *
 * @module
 */

/** What came of an attempt, in the program's own words. */
export type AttemptOutcome = "answered" | "refused" | "silent";

/** One attempt, as the program inside the cell told it. */
export interface Attempt {
  /** `icmp` of both families. */
  readonly protocol: "tcp" | "udp" | "icmp";
  /** As the program was given it. */
  readonly address: string;
  /** Absent for ICMP. */
  readonly port?: number;
  /** What came of it. */
  readonly outcome: AttemptOutcome;
  /** The answer, or the error in the C library's words. */
  readonly detail: string;
}

const ATTEMPT_LINE =
  /^(tcp|udp|icmp) ([0-9a-f.:]+?)(?: (\d{1,5}))?: (answered|refused|silent): (.*)$/;

/** Reads a line of the program; `undefined` for any other line. */
export function parseAttempt(line: string): Attempt | undefined {
  const match = ATTEMPT_LINE.exec(line);
  if (match === null) return undefined;
  return {
    protocol: match[1] as Attempt["protocol"],
    address: match[2],
    ...(match[3] === undefined ? {} : { port: Number(match[3]) }),
    outcome: match[4] as AttemptOutcome,
    detail: match[5],
  };
}

/**
 * Names a destination: `tcp [2001:db8::1]:80`, `icmp 203.0.113.10`. ICMP of both families has
 * one name, as the address tells them apart.
 */
export function destinationKey(
  destination: {
    readonly protocol?: string;
    readonly address?: string;
    readonly port?: number;
  },
): string {
  const { protocol = "?", address = "?", port } = destination;
  const isIcmp = protocol.startsWith("icmp");
  const host = port === undefined || isIcmp
    ? address
    : address.includes(":")
    ? `[${address}]:${port}`
    : `${address}:${port}`;
  return `${isIcmp ? "icmp" : protocol} ${host}`;
}
