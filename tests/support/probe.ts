/**
 * A program for cells that tries one destination a line and says what happened, as JSON: what a
 * program sees of a decision, down to the error's number and the time it took.
 *
 * @module
 */

/** One line of the probe's output. */
export interface ProbeResult {
  readonly protocol: "tcp" | "udp" | "icmp";
  readonly address: string;
  readonly port: number;
  /** The probe's own port; of an echo, its identifier. */
  readonly localPort: number;
  /** 0, or the errno of what failed. */
  readonly errno: number;
  /** The call that failed. */
  readonly call: string;
  /** Bytes of the answer. */
  readonly answerBytes: number;
  /** From the first call to the end. */
  readonly ms: number;
}

/** A script for `perl -e`; its arguments are {@link probeArguments}. */
export const PROBE = String.raw`
use strict; use Socket qw(:DEFAULT inet_pton inet_ntop pack_sockaddr_in6 unpack_sockaddr_in6
  IPPROTO_TCP IPPROTO_UDP IPPROTO_ICMP IPPROTO_ICMPV6); use Time::HiRes qw(time);
$| = 1;
sub try {
  my ($protocol, $address, $port, $request) = @_;
  my $v6 = $address =~ /:/;
  my $family = $v6 ? AF_INET6 : AF_INET;
  my $ip = inet_pton($family, $address);
  my $to = $v6 ? pack_sockaddr_in6($port, $ip) : pack_sockaddr_in($port, $ip);
  my ($type, $number) = $protocol eq "tcp" ? (SOCK_STREAM, IPPROTO_TCP)
    : $protocol eq "udp" ? (SOCK_DGRAM, IPPROTO_UDP)
    : (SOCK_DGRAM, $v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
  my ($started, $local, $errno, $call, $answer) = (time, 0, 0, "", 0);
  my $s;
  my $fails = sub { ($call, $errno) = (shift, $! + 0); };
  my $body = sub {
    socket($s, $family, $type, $number) or return $fails->("socket");
    # Bound by hand: a port is then known even where connecting fails.
    my $any = $v6 ? pack_sockaddr_in6(0, inet_pton($family, "::")) : pack_sockaddr_in(0, INADDR_ANY);
    bind($s, $any) or return $fails->("bind");
    my $name = getsockname($s);
    $local = $v6 ? (unpack_sockaddr_in6($name))[0] : (unpack_sockaddr_in($name))[0];
    connect($s, $to) or return $fails->("connect");
    my $message = $protocol eq "icmp" ? pack("CCnnn", $v6 ? 128 : 8, 0, 0, 1, 1) . "celld"
      : $request ? "GET $request HTTP/1.1\r\nHost: lab\r\n\r\n" : "hello";
    defined(syswrite($s, $message)) or return $fails->("write");
    do {
      my $part = "";
      defined(sysread($s, $part, 65536)) or return $fails->("read");
      $answer += length $part;
      return if $part eq "";
    } while ($request);
  };
  $body->();
  close $s if $s;
  printf qq({"protocol":"%s","address":"%s","port":%d,"localPort":%d,"errno":%d,"call":"%s",) .
    qq("answerBytes":%d,"ms":%d}\n), $protocol, $address, $port, $local, $errno, $call, $answer,
    (time - $started) * 1000;
}
for (@ARGV) {
  if ($_ eq "wait") { print "waiting\n"; <STDIN>; next }
  try(split / /);
}
`;

/** One attempt as an argument of the probe; `wait` says so and waits for a line of input. */
export function probeArguments(
  attempts: readonly (readonly [string, string, number, string?])[],
): string[] {
  return attempts.map((attempt) => attempt.filter((part) => part !== undefined).join(" "));
}

/** Reads what the probe printed. */
export function readProbe(stdout: string): ProbeResult[] {
  return stdout.split("\n").filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
}
