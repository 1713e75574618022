# Packets made by hand, sent from inside a cell's network by the host's root, as something would
# that had broken out of the cell's user. Through a raw socket they meet the cell's own table,
# as the last header on a wire they do not, and only the host is left to stop them.
#
# Arguments: name=value pairs, see the top. Prints one JSON line a packet: its name, and "sent"
# or the errno. Ends with a line "done".
use strict;
use warnings;
use Errno;
use Socket qw(:DEFAULT inet_pton pack_sockaddr_in6 IPPROTO_IP IPPROTO_IPV6);

$| = 1;
my %given = map { /^(\w+)=(.*)/ ? ($1, $2) : () } @ARGV;
my ($own4, $own6) = @given{qw(own4 own6)};
my ($allowed4, $allowed6) = @given{qw(allowed4 allowed6)};
my ($forbidden4, $forbidden6) = @given{qw(forbidden4 forbidden6)};
my $port = 7001;

sub errname {
  my $number = $! + 0;
  for my $name (keys %!) { return $name if $!{$name}; }
  return "errno $number";
}

sub report { print "{\"packet\":\"$_[0]\",\"result\":\"$_[1]\"}\n"; }

# --- what packets are made of ---

sub checksum {
  my $bytes = shift;
  $bytes .= "\0" if length($bytes) % 2;
  my $sum = 0;
  $sum += $_ for unpack("n*", $bytes);
  $sum = ($sum & 0xffff) + ($sum >> 16) while $sum >> 16;
  return ~$sum & 0xffff;
}

sub udp4 {
  my ($from, $to, $source, $destination, $text) = @_;
  my $size = 8 + length $text;
  my $header = inet_aton($from) . inet_aton($to) . pack("CCn", 0, 17, $size);
  my $sum = checksum($header . pack("nnnn", $source, $destination, $size, 0) . $text);
  return pack("nnnn", $source, $destination, $size, $sum || 0xffff) . $text;
}

sub udp6 {
  my ($from, $to, $source, $destination, $text) = @_;
  my $size = 8 + length $text;
  my $header = inet_pton(AF_INET6, $from) . inet_pton(AF_INET6, $to) . pack("NN", $size, 17);
  my $sum = checksum($header . pack("nnnn", $source, $destination, $size, 0) . $text);
  return pack("nnnn", $source, $destination, $size, $sum || 0xffff) . $text;
}

sub ip4 {
  my ($from, $to, $protocol, $payload, %more) = @_;
  my $fragment = ($more{offset} // 0) / 8 | ($more{more} ? 0x2000 : 0);
  my @fields = (0x45, 0, 20 + length $payload, $more{id} // 1, $fragment, 64, $protocol);
  my $ends = inet_aton($from) . inet_aton($to);
  my $sum = checksum(pack("CCnnnCCn", @fields, 0) . $ends);
  return pack("CCnnnCCn", @fields, $sum) . $ends . $payload;
}

sub ip6 {
  my ($from, $to, $next, $payload) = @_;
  return pack("NnCC", 0x60000000, length $payload, $next, 64) .
    inet_pton(AF_INET6, $from) . inet_pton(AF_INET6, $to) . $payload;
}

# Extension headers: the next header's number, then what follows.
sub options { my ($next, $rest) = @_; return pack("CCCCN", $next, 0, 1, 4, 0) . $rest; }
sub routing { my ($next, $rest, $address) = @_;
  return pack("CCCCN", $next, 2, 2, 1, 0) . inet_pton(AF_INET6, $address) . $rest; }
sub fragment { my ($next, $rest, %more) = @_;
  my $place = ($more{offset} // 0) | ($more{more} ? 1 : 0);
  return pack("CCnN", $next, 0, $place, $more{id} // 7) . $rest; }
my ($HOP, $ROUTING, $FRAGMENT, $DESTINATION, $UDP) = (0, 43, 44, 60, 17);

# --- two ways out ---

sub raw4 {
  my ($name, $options, @packets) = @_;
  socket(my $s, AF_INET, SOCK_RAW, 255) or return report($name, "socket: " . errname());
  setsockopt($s, IPPROTO_IP, 22, 1) if $options->{nodefrag};
  my $result = "sent";
  for my $packet (@packets) {
    my $to = pack_sockaddr_in(0, "" . substr($packet, 16, 4));
    defined(send($s, $packet, 0, $to)) or $result = errname();
  }
  report($name, $result);
}

sub raw6 {
  my ($name, @packets) = @_;
  socket(my $s, AF_INET6, SOCK_RAW, 255) or return report($name, "socket: " . errname());
  my $result = "sent";
  for my $packet (@packets) {
    my $to = pack_sockaddr_in6(0, "" . substr($packet, 24, 16));
    defined(send($s, $packet, 0, $to)) or $result = errname();
  }
  report($name, $result);
}

sub link_frames {
  my ($name, @packets) = @_;
  socket(my $s, 17, SOCK_RAW, 0) or return report($name, "socket: " . errname());
  my $macs = join "", map { pack("H*", $_ =~ s/://gr) } @given{qw(hostMac ownMac)};
  my $result = "sent";
  for my $packet (@packets) {
    my $type = ord($packet) >> 4 == 4 ? 0x0800 : 0x86dd;
    my $to = pack("SnlSCCa8", 17, $type, $given{ifindex}, 1, 0, 6, $macs);
    defined(send($s, $macs . pack("n", $type) . $packet, 0, $to)) or $result = errname();
  }
  report($name, $result);
}

sub halves4 {
  my ($to, $udp, $id) = @_;
  return (
    ip4($own4, $to, $UDP, substr($udp, 0, 16), id => $id, more => 1),
    ip4($own4, $to, $UDP, substr($udp, 16), id => $id, offset => 16),
  );
}

my $text = "by hand, " x 4;
sub to4 { my ($to, $source, $destination) = @_;
  return udp4($own4, $to, $source, $destination // $port, $text); }
sub to6 { my ($to, $source, $destination) = @_;
  return udp6($own6, $to, $source, $destination // $port, $text); }

# --- through the cell's own table ---

if ($given{way} eq "raw") {
  raw4("control: plain", {}, ip4($own4, $allowed4, $UDP, to4($allowed4, 40001)));
  raw4("control: fragments", {}, halves4($allowed4, to4($allowed4, 40002), 102));
  raw6("control: IPv6, plain", ip6($own6, $allowed6, $UDP, to6($allowed6, 40003)));
  raw6("control: IPv6, options",
    ip6($own6, $allowed6, $DESTINATION, options($UDP, to6($allowed6, 40004))));

  raw4("forbidden: plain", {}, ip4($own4, $forbidden4, $UDP, to4($forbidden4, 41001)));
  raw4("forbidden: fragments", {}, halves4($forbidden4, to4($forbidden4, 41002), 202));
  raw4("forbidden: fragments the other way round",
    {}, reverse halves4($forbidden4, to4($forbidden4, 41003), 203));
  raw4("forbidden: fragments left alone",
    { nodefrag => 1 }, halves4($forbidden4, to4($forbidden4, 41004), 204));
  raw4("forbidden port: fragments left alone",
    { nodefrag => 1 }, halves4($given{half4}, to4($given{half4}, 41005, 9999), 205));
  # The second piece writes over the first one's port. What is let through must be what was judged.
  my $good = to4($allowed4, 41006);
  my $bad = to4($allowed4, 41006, 9999);
  raw4("forbidden port: overlap", {},
    ip4($own4, $allowed4, $UDP, substr($good, 0, 16), id => 206, more => 1),
    ip4($own4, $allowed4, $UDP, substr($bad, 0, 8), id => 206, more => 1),
    ip4($own4, $allowed4, $UDP, substr($bad, 16), id => 206, offset => 16));
  raw4("forbidden: tunnel",
    {}, ip4($own4, $allowed4, 4, ip4($own4, $forbidden4, $UDP, to4($forbidden4, 41007))));
  raw4("forbidden: tunnel, GRE",
    {}, ip4($own4, $allowed4, 47, pack("nn", 0, 0x0800) .
      ip4($own4, $forbidden4, $UDP, to4($forbidden4, 41008))));
  raw4("forbidden: tunnel, 6in4",
    {}, ip4($own4, $allowed4, 41, ip6($own6, $forbidden6, $UDP, to6($forbidden6, 41009))));
  # An error about a flow that is allowed, sent to somebody else.
  raw4("forbidden: related error", {}, ip4($own4, $forbidden4, 1, do {
    my $answer = udp4($allowed4, $own4, $port, 40001, $text);
    my $inner = substr(ip4($allowed4, $own4, $UDP, $answer), 0, 28);
    my $message = pack("CCnN", 3, 3, 0, 0) . $inner;
    pack("CCnN", 3, 3, checksum($message), 0) . $inner;
  }));
  raw4("spoofed: source",
    {}, ip4($given{other4}, $allowed4, $UDP, udp4($given{other4}, $allowed4, 41010, $port, $text)));
  raw6("spoofed: source, IPv6",
    ip6($given{other6}, $allowed6, $UDP, udp6($given{other6}, $allowed6, 41011, $port, $text)));

  raw6("forbidden: IPv6, plain", ip6($own6, $forbidden6, $UDP, to6($forbidden6, 42001)));
  raw6("forbidden: IPv6, hop by hop",
    ip6($own6, $forbidden6, $HOP, options($UDP, to6($forbidden6, 42002))));
  raw6("forbidden: IPv6, options",
    ip6($own6, $forbidden6, $DESTINATION, options($UDP, to6($forbidden6, 42003))));
  raw6("forbidden: IPv6, many options",
    ip6($own6, $forbidden6, $HOP, options($DESTINATION, options($DESTINATION,
      options($DESTINATION, options($UDP, to6($forbidden6, 42004)))))));
  raw6("forbidden port: IPv6, options",
    ip6($own6, $given{half6}, $DESTINATION, options($UDP, to6($given{half6}, 42005, 9999))));
  raw6("forbidden: IPv6, atomic fragment",
    ip6($own6, $forbidden6, $FRAGMENT, fragment($UDP, to6($forbidden6, 42006))));
  my $long = to6($forbidden6, 42007);
  raw6("forbidden: IPv6, fragments",
    ip6($own6, $forbidden6, $FRAGMENT, fragment($UDP, substr($long, 0, 16), more => 1, id => 301)),
    ip6($own6, $forbidden6, $FRAGMENT, fragment($UDP, substr($long, 16), offset => 16, id => 301)));
  # The first fragment ends before the transport header begins.
  my $hidden = to6($given{half6}, 42008, 9999);
  raw6("forbidden port: IPv6, header in the second fragment",
    ip6($own6, $given{half6}, $FRAGMENT,
      fragment($DESTINATION, options($UDP, ""), more => 1, id => 302)),
    ip6($own6, $given{half6}, $FRAGMENT, fragment($DESTINATION, $hidden, offset => 8, id => 302)));
  raw6("forbidden: IPv6, routing header",
    ip6($own6, $forbidden6, $ROUTING, routing($UDP, to6($forbidden6, 42009), $allowed6)));
}

# --- past the cell's own table ---

if ($given{way} eq "link") {
  link_frames("control: plain", ip4($own4, $allowed4, $UDP, to4($allowed4, 43001)));
  link_frames("control: IPv6, plain", ip6($own6, $allowed6, $UDP, to6($allowed6, 43002)));
  link_frames("control: fragments", halves4($allowed4, to4($allowed4, 43003), 403));

  link_frames("forbidden: plain", ip4($own4, $forbidden4, $UDP, to4($forbidden4, 44001)));
  link_frames("forbidden: fragments", halves4($forbidden4, to4($forbidden4, 44002), 402));
  link_frames("forbidden port: fragments",
    halves4($given{half4}, to4($given{half4}, 44003, 9999), 403));
  link_frames("forbidden: IPv6, options",
    ip6($own6, $forbidden6, $HOP, options($DESTINATION, options($UDP, to6($forbidden6, 44004)))));
  my $hidden = to6($given{half6}, 44005, 9999);
  link_frames("forbidden port: IPv6, header in the second fragment",
    ip6($own6, $given{half6}, $FRAGMENT,
      fragment($DESTINATION, options($UDP, ""), more => 1, id => 502)),
    ip6($own6, $given{half6}, $FRAGMENT, fragment($DESTINATION, $hidden, offset => 8, id => 502)));
  link_frames("host: its address", ip4($own4, $given{host4}, $UDP, to4($given{host4}, 44006)));
  link_frames("host: its address, IPv6",
    ip6($own6, $given{host6}, $UDP, to6($given{host6}, 44007)));
  link_frames("host: gateway", ip4($own4, $given{gateway4}, $UDP, to4($given{gateway4}, 44008)));
  link_frames("host: loopback", ip4($own4, "127.0.0.1", $UDP, to4("127.0.0.1", 44009)));
  link_frames("host: broadcast",
    ip4($own4, "255.255.255.255", $UDP, to4("255.255.255.255", 44010)));
  link_frames("metadata", ip4($own4, "169.254.169.254", $UDP, to4("169.254.169.254", 44011)));
  link_frames("other cell", ip4($own4, $given{other4}, $UDP, to4($given{other4}, 44012)));
  link_frames("other cell, IPv6", ip6($own6, $given{other6}, $UDP, to6($given{other6}, 44013)));
}

if ($given{way} eq "spoof") {
  link_frames("spoofed: other cell",
    ip4($given{other4}, $allowed4, $UDP, udp4($given{other4}, $allowed4, 45001, $port, $text)));
  link_frames("spoofed: other cell, IPv6",
    ip6($given{other6}, $allowed6, $UDP, udp6($given{other6}, $allowed6, 45002, $port, $text)));
  link_frames("spoofed: host",
    ip4($given{host4}, $allowed4, $UDP, udp4($given{host4}, $allowed4, 45003, $port, $text)));
  link_frames("spoofed: host, IPv6",
    ip6($given{host6}, $allowed6, $UDP, udp6($given{host6}, $allowed6, 45004, $port, $text)));
  link_frames("spoofed: gateway",
    ip4($given{gateway4}, $allowed4, $UDP, udp4($given{gateway4}, $allowed4, 45005, $port, $text)));
  link_frames("spoofed: loopback",
    ip4("127.0.0.1", $allowed4, $UDP, udp4("127.0.0.1", $allowed4, 45006, $port, $text)));
  link_frames("spoofed: server",
    ip4($allowed4, $given{host4}, $UDP, udp4($allowed4, $given{host4}, $port, 45007, $text)));
  link_frames("spoofed: nobody",
    ip4("0.0.0.0", $allowed4, $UDP, udp4("0.0.0.0", $allowed4, 45008, $port, $text)));
}

print "done\n";
