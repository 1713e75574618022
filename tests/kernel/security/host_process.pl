# A process of the host for cells to aim at; it holds an abstract socket and a datagram socket.
# Takes their names. Ends by itself after ten minutes.
use strict;
use warnings;
use Socket;

my ($name, $path) = @ARGV;
socket(my $stream, AF_UNIX, SOCK_STREAM, 0) or die "socket: $!";
bind($stream, pack_sockaddr_un("\0$name")) or die "bind: $!";
listen($stream, 8) or die "listen: $!";
socket(my $datagram, AF_UNIX, SOCK_DGRAM, 0) or die "socket: $!";
bind($datagram, pack_sockaddr_un($path)) or die "bind: $!";
chmod 0777, $path;
sleep 600;
