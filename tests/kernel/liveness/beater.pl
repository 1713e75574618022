# Sends beats as a client of another language would: one frame a period, never blocking.
#
#   perl beater.pl <socket> <count> <period ms> [pid=<n>|pid=host] [status=<n>] [beats=<n>] [text=<s>]
#
# Forks <count> processes that beat until they are killed (or <n> times), prints their pids (as this
# process numbers them) and then "up", and takes them along when it is told to end.
use strict;
use warnings;
use Socket;
use Time::HiRes qw(sleep time);

my ($path, $count, $period, @rest) = @ARGV;
my %option = map { split /=/, $_, 2 } @rest;
my @table = map {
  my $c = $_;
  $c = $c & 1 ? ($c >> 1) ^ 0x82f63b78 : $c >> 1 for 1 .. 8;
  $c;
} 0 .. 255;

sub crc32c {
  my $crc = 0xffffffff;
  $crc = ($crc >> 8) ^ $table[($crc ^ $_) & 0xff] for unpack 'C*', $_[0];
  return $crc ^ 0xffffffff;
}

sub own_pid {
  return $$ unless defined $option{pid};
  return $option{pid} unless $option{pid} eq 'host';
  my $link = readlink '/proc/self';    # of the host's /proc, where it is still mounted
  return $link;
}

sub beat {
  socket(my $socket, PF_UNIX, SOCK_DGRAM, 0) or die "socket: $!";
  connect($socket, pack_sockaddr_un($path)) or die "connect: $!";
  my $start = time;
  my $pid = own_pid();
  for (my $nonce = 1; ; $nonce++) {
    my $head = pack('a2CCVQ<Q<V', 'VA', 2, $option{status} // 0, $pid,
      int((time - $start) * 1e9), $nonce, 0);
    my $message = defined $option{text} ? $option{text} : $head . pack('V', crc32c($head));
    send($socket, $message, MSG_DONTWAIT);
    if (defined $option{beats} && $nonce >= $option{beats}) { sleep 3600 if $option{stay}; exit 0; }
    sleep($period / 1000);
  }
}

$SIG{CHLD} = 'IGNORE';
my @children;
for (1 .. $count) {
  my $child = fork;
  die "fork: $!" unless defined $child;
  if ($child == 0) { $SIG{TERM} = 'DEFAULT'; beat(); }
  push @children, $child;
}
$SIG{TERM} = sub { kill 'KILL', @children; exit 0; };
$| = 1;
print join(' ', @children), "\nup\n";
sleep 1 while 1;
