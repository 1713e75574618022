# The network: its settings, sockets that go around the policy, and where a wide rule does not
# lead. Part of main.pl.
use strict;
use warnings;
use Fcntl qw(:DEFAULT :mode);
use POSIX ();
use Socket qw(:DEFAULT inet_pton IPPROTO_TCP IPPROTO_UDP IPPROTO_IP IPPROTO_IPV6);

our (%given, @guests, $base, $is_arm, $pid, $scratch);

# The network's own settings.
my $eth0 = interface_index("eth0");
probe("route: add", sub {
  my $route = pack("CCCCCCCCL", 2, 24, 0, 0, 254, 3, 0, 1, 0);
  $route .= attribute(1, inet_aton("192.0.2.0")) . attribute(4, pack("L", $eth0));
  rtnetlink(24, 0x400, $route);
});
probe("route: delete", sub {
  rtnetlink(25, 0, pack("CCCCCCCCL", 2, 0, 0, 0, 254, 3, 0, 1, 0) . attribute(4, pack("L", $eth0)));
});
probe("address: add", sub {
  my $own = inet_aton("192.0.2.7");
  my $address = pack("CCCCL", 2, 24, 0, 0, $eth0) . attribute(2, $own) . attribute(1, $own);
  rtnetlink(20, 0x400, $address);
});
probe("link: down", sub { rtnetlink(16, 0, pack("CxSLLL", 0, 0, $eth0, 0, 1)) });
probe("link: add", sub {
  rtnetlink(16, 0x600, pack("CxSLLL", 0, 0, 0, 0, 0) . attribute(18, attribute(1, "dummy\0")));
});
probe("neighbour: add", sub {
  my $neighbour = pack("CxSLSCC", 2, 0, $eth0, 0x80, 0, 0);
  $neighbour .= attribute(1, inet_aton("192.0.2.9")) . attribute(2, "\2\0\0\0\0\1");
  rtnetlink(28, 0x400, $neighbour);
});
probe("rule: add", sub { rtnetlink(32, 0x400, pack("CCCCCCCCL", 2, 0, 0, 0, 254, 0, 0, 1, 0)) });
probe("tc: add", sub {
  rtnetlink(36, 0x400, pack("CxxxlLLL", 0, $eth0, 0, 0xffffffff, 0) . attribute(1, "noqueue\0"));
});
probe("route: ioctl", sub {
  socket(my $s, AF_INET, SOCK_DGRAM, 0) or return "socket";
  my $request = pack("x120");
  outcome(defined ioctl($s, 0x890b, $request));
});
probe("address: ioctl", sub {
  socket(my $s, AF_INET, SOCK_DGRAM, 0) or return "socket";
  my $request = pack("a16 S n a4 x8", "eth0", 2, 0, inet_aton("192.0.2.8"));
  outcome(defined ioctl($s, 0x8916, $request));
});
probe("nft: socket", sub { makes_socket(16, SOCK_RAW, 12) });
probe("nft: xfrm socket", sub { makes_socket(16, SOCK_RAW, 6) });
probe("nft: audit socket", sub { makes_socket(16, SOCK_RAW, 9) });
probe("nft: iptables", sub {
  socket(my $s, AF_INET, SOCK_STREAM, 0) or return "socket";
  outcome(setsockopt($s, IPPROTO_IP, 64, "\0" x 96));
});

# Sockets that go around the policy.
probe("raw: IPv4", sub { makes_socket(AF_INET, SOCK_RAW, 1) });
probe("raw: IPv4, any protocol", sub { makes_socket(AF_INET, SOCK_RAW, 255) });
probe("raw: IPv6", sub { makes_socket(AF_INET6, SOCK_RAW, 58) });
probe("packet: raw", sub { makes_socket(17, SOCK_RAW, 0x0300) });
probe("packet: datagram", sub { makes_socket(17, SOCK_DGRAM, 0x0300) });
probe("packet: old", sub { makes_socket(AF_INET, 10, 0x0300) });
probe("vsock: stream", sub { makes_socket(40, SOCK_STREAM, 0) });
probe("vsock: datagram", sub { makes_socket(40, SOCK_DGRAM, 0) });
probe("vsock: device", sub { opens("/dev/vsock", O_RDWR) });
probe("family: all others", sub {
  my @others = grep { $_ != 1 && $_ != 2 && $_ != 10 && $_ != 16 } 0 .. 64;
  my @made = grep { makes_socket($_, SOCK_RAW, 0) ne "EAFNOSUPPORT" } @others;
  @made ? "made: @made" : "EAFNOSUPPORT";
});
probe("protocol: sctp", sub { makes_socket(AF_INET, SOCK_STREAM, 132) });
probe("protocol: sctp, IPv6", sub { makes_socket(AF_INET6, 5, 132) });
probe("protocol: dccp", sub { makes_socket(AF_INET, 6, 33) });
probe("protocol: udplite", sub { makes_socket(AF_INET, SOCK_DGRAM, 136) });
probe("protocol: l2tp", sub { makes_socket(AF_INET, SOCK_DGRAM, 115) });
probe("protocol: mptcp", sub { makes_socket(AF_INET, SOCK_STREAM, 262) });
probe("spoof: transparent", sub { spoof(IPPROTO_IP, 19, $given{FOREIGN}, $given{ALLOWED}, 7001) });
probe("spoof: transparent, IPv6", sub {
  spoof(IPPROTO_IPV6, 75, $given{FOREIGN6}, $given{ALLOWED6}, 7001);
});
probe("spoof: freebind", sub { spoof(IPPROTO_IP, 15, $given{FOREIGN}, $given{ALLOWED}, 7001) });
probe("spoof: freebind, IPv6", sub {
  spoof(IPPROTO_IPV6, 78, $given{FOREIGN6}, $given{ALLOWED6}, 7001);
});
probe("spoof: other cell, IPv6", sub {
  spoof(IPPROTO_IPV6, 78, $given{OTHER6}, $given{ALLOWED6}, 7001);
});
probe("spoof: mark", sub {
  socket(my $s, AF_INET, SOCK_DGRAM, 0) or return "socket";
  outcome(setsockopt($s, SOL_SOCKET, 36, 7));
});
probe("spoof: header included", sub {
  socket(my $s, AF_INET, SOCK_DGRAM, 0) or return "socket";
  outcome(setsockopt($s, IPPROTO_IP, 3, 1));
});
probe("device: lo to a forbidden address", sub {
  socket(my $s, AF_INET, SOCK_DGRAM, 0) or return "socket";
  bind($s, pack_sockaddr_in(0, inet_aton($given{OWN}))) or return "bind: " . errname();
  setsockopt($s, SOL_SOCKET, 25, "lo\0") or return "option: " . errname();
  my (undef, $to) = address_of($given{METADATA}, 7001);
  connect($s, $to) or return errname();
  answer_of($s, "hello");
});
probe("extension: hop by hop", sub {
  socket(my $s, AF_INET6, SOCK_DGRAM, 0) or return "socket";
  outcome(setsockopt($s, IPPROTO_IPV6, 54, "\0\0\1\4\0\0\0\0"));
});
probe("extension: destination", sub {
  socket(my $s, AF_INET6, SOCK_DGRAM, 0) or return "socket";
  outcome(setsockopt($s, IPPROTO_IPV6, 59, "\0\0\1\4\0\0\0\0"));
});
# The packet goes to the address in the header, the one connected to comes after it.
sub by_routing_header {
  my ($header, $host) = @_;
  my (undef, $to) = address_of($host, 7001);
  socket(my $s, AF_INET6, SOCK_DGRAM, 0) or return "socket";
  setsockopt($s, IPPROTO_IPV6, 57, $header) or return "option: " . errname();
  connect($s, $to) or return errname();
  return answer_of($s, "hello");
}

probe("extension: routing header, type 0", sub {
  my $header = pack("CCCCL", 0, 2, 0, 1, 0) . inet_pton(AF_INET6, $given{METADATA6});
  by_routing_header($header, $given{ALLOWED6});
});
probe("extension: routing header, type 2", sub {
  my $header = pack("CCCCL", 0, 2, 2, 1, 0) . inet_pton(AF_INET6, $given{METADATA6});
  by_routing_header($header, $given{ALLOWED6});
});
probe("extension: routing header, type 4", sub {
  my @segments = map { inet_pton(AF_INET6, $_) } @given{qw(ALLOWED6 METADATA6)};
  my $header = pack("CCCCCCn", 0, 4, 4, 1, 1, 0, 0) . join "", @segments;
  by_routing_header($header, $given{ALLOWED6});
});
probe("extension: source route", sub {
  socket(my $s, AF_INET, SOCK_DGRAM, 0) or return "socket";
  my $option = pack("CCCCa4", 1, 131, 7, 4, inet_aton($given{ALLOWED}));
  setsockopt($s, IPPROTO_IP, 4, $option) or return "option: " . errname();
  my (undef, $to) = address_of($given{METADATA}, 7001);
  connect($s, $to) or return errname();
  answer_of($s, "hello");
});
probe("fragments: of a forbidden datagram", sub {
  my (undef, $to) = address_of($given{METADATA}, 7001);
  socket(my $s, AF_INET, SOCK_DGRAM, 0) or return "socket";
  connect($s, $to) or return errname();
  answer_of($s, "f" x 9000);
});
probe("fragments: of a forbidden datagram, IPv6", sub {
  my (undef, $to) = address_of($given{METADATA6}, 7001);
  socket(my $s, AF_INET6, SOCK_DGRAM, 0) or return "socket";
  connect($s, $to) or return errname();
  answer_of($s, "f" x 9000);
});

# Where a wide rule does not lead. A target is a label, an address, and a port.
sub target { my ($label, @rest) = split /=/, $_[0]; return ($label =~ tr/_/ /r, @rest); }
for my $target (split / /, $given{FORBIDDEN_TCP}) {
  my ($label, $host, $port) = target($target);
  probe("tcp: $label", sub { tcp($host, $port) });
}
for my $target (split / /, $given{FORBIDDEN_UDP}) {
  my ($label, $host, $port) = target($target);
  probe("udp: $label", sub { udp($host, $port) });
}
for my $target (split / /, $given{FORBIDDEN_PING}) {
  my ($label, $host) = target($target);
  probe("ping: $label", sub { ping($host) });
}

1;
