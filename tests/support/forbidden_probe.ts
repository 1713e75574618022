/**
 * A workload that tries forbidden destinations hundreds of times a second, over TCP and UDP, IPv4
 * and IPv6, and an allowed one now and then; the lab's far side counts what arrives.
 *
 * Its ports are few, so that the attempts are repeats of few flows: they cost the log little.
 *
 * @module
 */
import { assertEquals, assertGreater } from "@std/assert";
import { LAB, type Lab, type WatchedDestination } from "./lab.ts";

const [ALLOWED, , FORBIDDEN] = LAB.serversIpv4;
const [, , FORBIDDEN_IPV6] = LAB.serversIpv6;
const { httpPort, udpEchoPort, tcpEchoPort } = LAB;

/** The egress rules of its cell. */
export const PROBE_EGRESS = [{ host: ALLOWED, port: httpPort }];
const FORBIDDEN_DESTINATIONS: readonly WatchedDestination[] = [
  { protocol: "tcp", address: FORBIDDEN!, port: httpPort },
  { protocol: "udp", address: FORBIDDEN!, port: udpEchoPort },
  { protocol: "tcp", address: FORBIDDEN_IPV6!, port: httpPort },
  { protocol: "udp", address: FORBIDDEN_IPV6!, port: udpEchoPort },
  // The right address at the wrong port.
  { protocol: "tcp", address: ALLOWED!, port: tcpEchoPort },
  { protocol: "udp", address: ALLOWED!, port: udpEchoPort },
];
/** For `Stage.set`: what the far side is to count. */
export const PROBE_WATCH: readonly WatchedDestination[] = [
  ...FORBIDDEN_DESTINATIONS,
  { protocol: "tcp", address: ALLOWED!, port: httpPort },
];

const SCRIPT = String.raw`
use strict; use Fcntl; use Time::HiRes qw(time sleep);
use Socket qw(:DEFAULT inet_pton pack_sockaddr_in6 IPPROTO_TCP IPPROTO_UDP);
$| = 1; $SIG{PIPE} = "IGNORE";
my ($allowed, $forbidden, $forbidden6, $http, $udp, $echo) = @ARGV;
sub at { my ($ip, $port) = @_; $ip =~ /:/
  ? (AF_INET6, pack_sockaddr_in6($port, inet_pton(AF_INET6, $ip)))
  : (AF_INET, pack_sockaddr_in($port, inet_aton($ip))) }
sub any { my ($family, $port) = @_; $family == AF_INET6
  ? pack_sockaddr_in6($port, inet_pton(AF_INET6, "::")) : pack_sockaddr_in($port, INADDR_ANY) }
sub knock {
  my ($family, $to, $port) = @_;
  socket(my $s, $family, SOCK_STREAM, IPPROTO_TCP) or return;
  setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1);
  bind($s, any($family, $port)) or return;
  fcntl($s, F_SETFL, O_NONBLOCK);
  connect($s, $to); close $s;
}
my @tcp = map { [at(@$_)] } [$forbidden, $http], [$forbidden6, $http], [$allowed, $echo];
my @udp = map {
  my ($family, $to) = at(@$_);
  socket(my $s, $family, SOCK_DGRAM, IPPROTO_UDP); bind($s, any($family, 0)); [$s, $to]
} [$forbidden, $udp], [$forbidden6, $udp], [$allowed, $udp];
my ($tries, $opened, $told) = (0, 0, 0);
for (my $round = 0; ; $round++) {
  knock($_->[0], $_->[1], 20000 + $round % 8) for @tcp;
  send($_->[0], "x", 0, $_->[1]) for @udp;
  $tries += @tcp + @udp;
  if ($round % 100 == 0) {
    socket(my $s, AF_INET, SOCK_STREAM, IPPROTO_TCP);
    $opened++ if connect($s, (at($allowed, $http))[1]); close $s;
  }
  if (time - $told >= 0.2) { $told = time; print "tries $tries opened $opened\n" }
  sleep 0.002;
}
`;

/** Its command line. */
export const PROBE_ARGV: readonly string[] = [
  ...["perl", "-e", SCRIPT, ALLOWED!, FORBIDDEN!, FORBIDDEN_IPV6!],
  ...[httpPort, udpEchoPort, tcpEchoPort].map(String),
];

/** The last that it said of itself: attempts at what is forbidden, and connections that opened. */
export function probeTries(output: string): { tries: number; opened: number } {
  const last = [...output.matchAll(/^tries (\d+) opened (\d+)$/gm)].at(-1);
  return { tries: Number(last?.[1] ?? 0), opened: Number(last?.[2] ?? 0) };
}

/** Nothing forbidden has arrived, and what is allowed has. */
export function assertHeld(lab: Lab): void {
  const arrivals = lab.arrivals();
  const forbidden = arrivals.slice(0, FORBIDDEN_DESTINATIONS.length);
  assertEquals(forbidden.filter(({ packets }) => packets !== 0), [], "something got out");
  assertGreater(arrivals.at(-1)!.packets, 0, "what is allowed did not arrive: nothing was counted");
}
