# Sockets and pipes of the host. Part of main.pl.
use strict;
use warnings;
use Fcntl qw(:DEFAULT :mode);
use POSIX ();
use Socket qw(:DEFAULT inet_pton IPPROTO_TCP IPPROTO_UDP IPPROTO_IP IPPROTO_IPV6);

our (%given, @guests, $base, $is_arm, $pid, $scratch);

probe("unix: seen", sub { -S "$base/docker.sock" ? "ok" : "not there" });
probe("unix: stream", sub { unix_socket(SOCK_STREAM, "$base/docker.sock") });
probe("unix: by /proc", sub { unix_socket(SOCK_STREAM, "/proc/self/root$base/docker.sock") });
probe("unix: datagram", sub { unix_socket(SOCK_DGRAM, "$base/datagram.sock") });
probe("unix: in /run", sub { unix_socket(SOCK_STREAM, $given{RUN_SOCKET}) });
probe("unix: abstract", sub { unix_socket(SOCK_STREAM, "\0$given{ABSTRACT_SOCKET}") });
probe("unix: pipe", sub {
  -p "$base/pipe" or return "not there";
  sysopen(my $file, "$base/pipe", O_WRONLY | O_NONBLOCK) or return errname();
  outcome(defined syswrite($file, "from the cell\n"));
});

1;
