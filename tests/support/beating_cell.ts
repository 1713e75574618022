/**
 * A workload that beats as a client of another language would: perl, a frame each time, connecting
 * anew where the observer went away. And what it is to be seen as.
 *
 * @module
 */
import { spec, type SpecParts } from "./celld_stage.ts";

/** The frames of a client of the reference's protocol, in the plainest perl. */
export const BEAT_SCRIPT = `
  use strict; use Socket; use Time::HiRes qw(sleep time); $| = 1;
  my @t = map { my $c = $_; $c = $c & 1 ? ($c >> 1) ^ 0x82f63b78 : $c >> 1 for 1 .. 8; $c } 0 .. 255;
  sub crc { my $c = 0xffffffff; $c = ($c >> 8) ^ $t[($c ^ $_) & 255] for unpack 'C*', $_[0];
    $c ^ 0xffffffff }
  my ($s, $nonce, $start) = (undef, 0, time);
  sub beat {
    my $head = pack('a2CCVQ<Q<V', 'VA', 2, 0, $$, int((time - $start) * 1e9), ++$nonce, 0);
    my $frame = $head . pack('V', crc($head));
    for (1 .. 2) {
      if (!$s) {
        socket($s, PF_UNIX, SOCK_DGRAM, 0) or die "socket: $!";
        connect($s, pack_sockaddr_un($ENV{VARTA_SOCKET})) or do { undef $s; return };
      }
      return if defined send($s, $frame, MSG_DONTWAIT);
      undef $s;
    }
  }
`;

/** Beats until it is told otherwise. */
export const BEATS_ON = `${BEAT_SCRIPT} while (1) { beat(); sleep 0.05 }`;

/** A spec of a cell that beats. */
export function beatingSpec(
  id: string,
  liveness: Record<string, unknown>,
  parts: Partial<SpecParts> = {},
): Record<string, unknown> {
  return spec(id, {
    argv: ["perl", "-e", BEATS_ON],
    ...parts,
    run: { liveness, limits: { gracefulShutdownSeconds: 1 }, ...parts.run },
  });
}
