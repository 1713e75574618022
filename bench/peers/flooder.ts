/**
 * Floods a network namespace with datagrams: `flood.c` where there is a compiler, else the same
 * in Perl, which is slower.
 *
 * @module
 */
import { type Fd, withNetns } from "#ffi/mod.ts";
import { findCommand } from "#tests/support/kernel.ts";

/** What is sent. */
export interface FloodOptions {
  readonly netns: Fd;
  readonly address: string;
  readonly packets: number;
  /** Packets a second; 0 for as many as it can. */
  readonly rate: number;
  /** Destination ports it goes round, each a flow of its own. */
  readonly ports: number;
}

const PAYLOAD_BYTES = 64;

const PERL = `use Socket; use Time::HiRes qw(time sleep);
my ($address, $packets, $rate, $size, $ports) = @ARGV;
socket(my $s, AF_INET, SOCK_DGRAM, 0) or die;
my @to = map { pack_sockaddr_in(10000 + $_, inet_aton($address)) } 0..$ports - 1;
my $began = time; my $payload = "x" x $size;
for my $n (0..$packets - 1) {
  send($s, $payload, 0, $to[$n % $ports]);
  if ($rate > 0 && $n % 64 == 63) { my $left = $began + $n / $rate - time; sleep $left if $left > 0 }
}
printf "%d 0 %.6f\\n", $packets, time - $began;`;

/** See the module. */
export class Flooder {
  readonly #command: readonly string[];
  /** What it is, for the report. */
  readonly name: string;

  /** Compiles where it can; the program is put into `directory`. */
  constructor(directory: string) {
    const compiler = findCommand("cc");
    const program = `${directory}/flood`;
    const source = new URL("./flood.c", import.meta.url).pathname;
    const isMade = compiler !== undefined &&
      new Deno.Command(compiler, { args: ["-O2", "-o", program, source] }).outputSync().success;
    this.name = isMade ? "flood.c" : "perl (no cc)";
    this.#command = isMade ? [program] : ["perl", "-e", PERL, "--"];
  }

  /** Sends, and answers how many went out in a second. */
  async run({ netns, address, packets, rate, ports }: FloodOptions): Promise<number> {
    const [command, ...first] = this.#command;
    const args = [
      ...first,
      address,
      ...[packets, Math.round(rate), PAYLOAD_BYTES, ports].map(String),
    ];
    const child = withNetns(
      netns,
      () => new Deno.Command(command!, { args, stdin: "null", stdout: "piped" }).spawn(),
    );
    const { success, stdout } = await child.output();
    const [sent, refused, seconds] = new TextDecoder().decode(stdout).split(" ").map(Number);
    if (!success || refused !== 0) throw new Error(`Cannot flood: ${refused} sends were refused`);
    return sent! / seconds!;
  }
}
