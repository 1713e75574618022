# Says what reaches it: listens for datagrams on a port of every address, IPv4 and IPv6, and
# prints a line for each. Takes the port. Ends when it is killed, or when the file that the
# second argument names is there.
use strict;
use warnings;
use Socket qw(:DEFAULT pack_sockaddr_in6 IPPROTO_IPV6);

$| = 1;
my ($port, $stop) = @ARGV;
socket(my $four, AF_INET, SOCK_DGRAM, 0) or die "socket: $!";
bind($four, pack_sockaddr_in($port, INADDR_ANY)) or die "bind: $!";
socket(my $six, AF_INET6, SOCK_DGRAM, 0) or die "socket: $!";
setsockopt($six, IPPROTO_IPV6, 26, 1) or die "option: $!";    # IPV6_V6ONLY
bind($six, pack_sockaddr_in6($port, "\0" x 16)) or die "bind: $!";
print "ready ", readlink("/proc/self/ns/net"), "\n";
until (defined $stop && -e $stop) {
  my $ready = "";
  vec($ready, fileno($_), 1) = 1 for $four, $six;
  next unless select($ready, undef, undef, 0.05) > 0;
  for my $socket ($four, $six) {
    next unless vec($ready, fileno($socket), 1);
    recv($socket, my $text, 4096, 0);
    print "reached ", length($text), "\n";
  }
}
