/**
 * A heavy load on a UDP load balancer, from processes of its own: senders that count the answers,
 * and backends that send back what comes.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { freePort } from "./served_udp.ts";

/** Sends back whatever comes. 33 is SO_RCVBUFFORCE: room for what comes at once. */
const ECHO = `
  use IO::Socket::INET;
  my $socket = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => $ARGV[0],
    Proto => "udp") or die $!;
  setsockopt($socket, SOL_SOCKET, 33, pack("i", 8 << 20));
  while (1) { my $from = recv($socket, my $data, 2048, 0); send($socket, $data, 0, $from) if $from }`;
/** Sends at a rate, or as fast as answers come (rate 0); says what was sent, heard and overflowed. */
const LOAD = `
  use IO::Socket::INET; use Time::HiRes qw(time sleep);
  my ($port, $rate, $seconds, $flows) = @ARGV;
  my @sockets = map {
    my $one = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port", Proto => "udp") or die $!;
    setsockopt($one, SOL_SOCKET, 33, pack("i", 1 << 20)); $one } 1 .. $flows;
  my ($bits, $sent, $heard, $failed) = ("", 0, 0, 0);
  vec($bits, fileno($_), 1) = 1 for @sockets;
  my $hear = sub {
    my $ready = $bits;
    return unless select($ready, undef, undef, $_[0]) > 0;
    for my $one (@sockets) {
      next unless vec($ready, fileno($one), 1);
      $heard++ while defined recv($one, my $data, 2048, MSG_DONTWAIT);
    }};
  my ($begin, $moved, $before, $silent) = (time(), time(), 0, 0);
  my $text = "x" x 64;
  while ((my $now = time()) < $begin + $seconds) {
    my $due = $rate ? int(($now - $begin) * $rate) - $sent : 128 - ($sent - $heard);
    $due = 64 if $due > 64;
    for (1 .. $due) { defined send($sockets[$sent % $flows], $text, 0) ? $sent++ : $failed++ }
    $hear->($due > 0 ? 0 : 0.001);
    if ($heard != $before) {
      $silent = $now - $moved if $now - $moved > $silent;
      ($moved, $before) = ($now, $heard);
    }
    if (!$rate && $now - $moved > 0.3) { $sent = $heard; $moved = $now }
  }
  my $end = time();
  $hear->(0.1) while time() < $end + 1.5;
  my %ports = map { sprintf("%04X", $_->sockport) => 1 } @sockets;
  my $overflowed = 0;
  open my $table, "<", "/proc/net/udp"; <$table>;
  while (<$table>) { my @f = split; $overflowed += $f[-1] if $ports{(split /:/, $f[1])[1]} }
  print "$sent $heard $overflowed $failed $silent\\n";`;

function perl(script: string, ...args: readonly (string | number)[]): Deno.ChildProcess {
  return new Deno.Command("perl", {
    args: ["-e", script, ...args.map(String)],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
}

/** A backend in a process of its own. */
export class Echo implements AsyncDisposable {
  readonly port: number = freePort();
  #child: Deno.ChildProcess | undefined;

  /** Starts it, at any port. */
  constructor() {
    this.start();
  }

  /** Starts it again, at the same port. */
  start(): void {
    this.#child = perl(ECHO, this.port);
  }

  /** Kills it; the second time it does nothing. */
  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined) return;
    child.kill("SIGKILL");
    await child.output();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}

/** How much is sent. */
export interface LoadWish {
  /** Datagrams a second; 0: as fast as answers come. */
  readonly rate: number;
  readonly seconds: number;
  /** Sockets that send in turn. */
  readonly flows: number;
}

/** What became of it. */
export interface LoadResult {
  readonly sent: number;
  readonly heard: number;
  /** Answers that the senders' own buffers had no room for. */
  readonly overflowed: number;
  /** The longest time without an answer. */
  readonly silentMs: number;
}

/** Sends to a port of loopback, and counts the answers. */
export async function load(
  port: number,
  { rate, seconds, flows }: LoadWish,
): Promise<LoadResult> {
  const { stdout, success } = await perl(LOAD, port, rate, seconds, flows).output();
  assert(success);
  const numbers = new TextDecoder().decode(stdout).split(" ").map(Number);
  const [sent, heard, overflowed, failed, silentSeconds] = numbers;
  assertEquals(failed, 0);
  return { sent, heard, overflowed, silentMs: Math.round(silentSeconds * 1000) };
}

/** What the kernel dropped at a socket of loopback, its buffer being full. */
export function dropsAt(port: number): number {
  const name = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const rows = Deno.readTextFileSync("/proc/net/udp").split("\n").map((row) =>
    row.trim().split(/\s+/)
  );
  return rows.filter((row) => row[1]?.endsWith(name) && row[2]?.endsWith(":0000"))
    .reduce((sum, row) => sum + Number(row.at(-1)), 0);
}
