# Attacks from inside a cell. Prints one JSON line a probe: its name, and either "ok" (the kernel
# did it), the name of the errno that it answered, or a word of the probe's own.
#
# Run as `perl -e 'do "/srv/probe/probe.pl"'`, so that no descriptor of the program stays open.
# Prints "ready" once it listens, then waits for /srv/probe/go-<name>, where it finds
# what it is to try, and after the last probe for /srv/probe/stop. Needs Debian's perl-base alone. Sends only to addresses that it is given.
use strict;
use warnings;
use Errno;
use Fcntl qw(:DEFAULT :mode);
use POSIX ();
use Socket qw(:DEFAULT inet_pton inet_ntop pack_sockaddr_in6 unpack_sockaddr_in6 IPPROTO_TCP
  IPPROTO_UDP IPPROTO_ICMP IPPROTO_ICMPV6 IPPROTO_IP IPPROTO_IPV6);

$| = 1;
my %given;
my $is_arm = (POSIX::uname())[4] eq "aarch64";

# x86-64, aarch64; -1 where there is none.
my %NR = (
  acct => [163, 89], add_key => [248, 217], adjtimex => [159, 171], bpf => [321, 280],
  capset => [126, 91], chroot => [161, 51], clock_settime => [227, 112], clone => [56, 220],
  clone3 => [435, 435], close_range => [436, 436], delete_module => [176, 106],
  fallocate => [285, 47], fanotify_init => [300, 262], finit_module => [313, 273],
  fsconfig => [431, 431], fsmount => [432, 432], fsopen => [430, 430], fspick => [433, 433],
  getpid => [39, 172], init_module => [175, 105], io_uring_setup => [425, 425],
  io_uring_enter => [426, 426], io_uring_register => [427, 427], ioperm => [173, -1],
  iopl => [172, -1], kcmp => [312, 272], kexec_load => [246, 104],
  kexec_file_load => [320, 294], keyctl => [250, 219], mknodat => [259, 33],
  mlock => [149, 228], mount => [165, 40], mount_setattr => [442, 442],
  move_mount => [429, 429], open_by_handle_at => [304, 265], open_tree => [428, 428],
  openat => [257, 56], perf_event_open => [298, 241], personality => [135, 92],
  pidfd_getfd => [438, 438], pidfd_open => [434, 434], pidfd_send_signal => [424, 424],
  pivot_root => [155, 41], prctl => [157, 167], prlimit64 => [302, 261],
  process_vm_readv => [310, 270], process_vm_writev => [311, 271], ptrace => [101, 117],
  quotactl => [179, 60], reboot => [169, 142], request_key => [249, 218],
  sched_setscheduler => [144, 119], setdomainname => [171, 162], setgid => [106, 144],
  setgroups => [116, 159], sethostname => [170, 161], setns => [308, 268], setresuid => [117, 147],
  setuid => [105, 146], settimeofday => [164, 170], swapon => [167, 224],
  syslog => [103, 116], umount2 => [166, 39], unshare => [272, 97], userfaultfd => [323, 282],
);

sub nr {
  my $pair = $NR{$_[0]} // die "no number for $_[0]";
  return $pair->[$is_arm ? 1 : 0];
}

sub errname {
  my $number = $! + 0;
  for my $name (keys %!) { no strict "refs"; return $name if $!{$name} && $name !~ /^(EWOULDBLOCK|EDEADLOCK|ENOTSUP)$/; }
  return "errno $number";
}

sub json { my $text = shift; $text =~ s/([\\"])/\\$1/g; $text =~ s/[^ -~]/?/g; return "\"$text\""; }

sub report { print "{\"probe\":", json($_[0]), ",\"result\":", json($_[1]), "}\n"; }

# Runs one probe. What it returns is the result; a death of the probe is one too, and no answer
# within the time is "silent".
sub probe {
  my ($name, $code, $seconds) = @_;
  my $result = eval {
    local $SIG{ALRM} = sub { die "silent\n" };
    alarm($seconds // 4);
    my $answer = $code->();
    alarm 0;
    $answer;
  };
  alarm 0;
  if (!defined $result) { $result = $@ eq "silent\n" ? "silent" : "died: $@"; chomp $result; }
  report($name, $result);
}

# "ok" when true, the errno's name when not.
sub outcome { return $_[0] ? "ok" : errname(); }
sub sys { my ($name, @args) = @_; return outcome(syscall(nr($name), @args) >= 0); }
sub path { return "$_[0]\0"; }

# --- sockets ---

sub address_of {
  my ($host, $port) = @_;
  return $host =~ /:/
    ? (AF_INET6, pack_sockaddr_in6($port, inet_pton(AF_INET6, $host)))
    : (AF_INET, pack_sockaddr_in($port, inet_aton($host)));
}

sub tcp {
  my ($host, $port) = @_;
  my ($family, $to) = address_of($host, $port);
  socket(my $s, $family, SOCK_STREAM, IPPROTO_TCP) or return "socket: " . errname();
  return outcome(connect($s, $to));
}

# Sends, then asks the socket what became of it.
sub udp {
  my ($host, $port) = @_;
  my ($family, $to) = address_of($host, $port);
  socket(my $s, $family, SOCK_DGRAM, IPPROTO_UDP) or return "socket: " . errname();
  connect($s, $to) or return errname();
  return answer_of($s, "hello");
}

sub ping {
  my ($host) = @_;
  my ($family, $to) = address_of($host, 0);
  my $protocol = $family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6;
  socket(my $s, $family, SOCK_DGRAM, $protocol) or return "socket: " . errname();
  connect($s, $to) or return errname();
  return answer_of($s, pack("CCnnn", $family == AF_INET ? 8 : 128, 0, 0, 1, 1) . "celld");
}

sub answer_of {
  my ($s, $message) = @_;
  defined(send($s, $message, 0)) or return errname();
  my $ready = "";
  vec($ready, fileno($s), 1) = 1;
  select($ready, undef, undef, 0.7) > 0 or return "silent";
  return outcome(defined recv($s, my $answer, 2048, 0));
}

# A datagram from a source that is not the cell's.
sub spoof {
  my ($level, $option, $from, $to, $port) = @_;
  my ($family, $target) = address_of($to, $port);
  my (undef, $source) = address_of($from, 0);
  socket(my $s, $family, SOCK_DGRAM, IPPROTO_UDP) or return "socket: " . errname();
  setsockopt($s, $level, $option, 1) or return "option: " . errname();
  bind($s, $source) or return "bind: " . errname();
  defined(send($s, "spoofed", 0, $target)) or return errname();
  return "ok";
}

sub unix_socket {
  my ($type, $name) = @_;
  socket(my $s, AF_UNIX, $type, 0) or return "socket: " . errname();
  return outcome(connect($s, pack_sockaddr_un($name)));
}

sub makes_socket {
  my ($family, $type, $protocol) = @_;
  return outcome(socket(my $s, $family, $type, $protocol));
}

# One request to the kernel's router, answered by its errno.
sub rtnetlink {
  my ($type, $flags, $body) = @_;
  socket(my $s, 16, SOCK_RAW, 0) or return "socket: " . errname();
  bind($s, pack("SSLL", 16, 0, 0, 0)) or return "bind: " . errname();
  my $message = pack("LSSLL", 16 + length $body, $type, $flags | 5, 1, 0) . $body;
  defined(send($s, $message, 0, pack("SSLL", 16, 0, 0, 0))) or return errname();
  defined(recv($s, my $answer, 4096, 0)) or return errname();
  my (undef, $kind, undef, undef, undef, $error) = unpack("LSSLLl", $answer);
  return "answer $kind" if $kind != 2;
  $! = -$error;
  return outcome($error == 0);
}

sub attribute {
  my ($type, $value) = @_;
  return pack("SS", 4 + length $value, $type) . $value . "\0" x (-length($value) & 3);
}

sub interface_index {
  open(my $file, "<", "/sys/class/net/$_[0]/ifindex") or return 2;
  return <$file> + 0;
}

# --- files ---

sub opens { my ($name, $flags) = @_; return outcome(sysopen(my $file, $name, $flags, 0644)); }

sub writes {
  my ($name, $text) = @_;
  sysopen(my $file, $name, O_WRONLY) or return errname();
  return outcome(defined syswrite($file, $text));
}

sub lists { return outcome(opendir(my $directory, $_[0])); }

sub has_read {
  my ($name) = @_;
  sysopen(my $file, $name, O_RDONLY) or return errname();
  my $count = sysread($file, my $text, 4096);
  return errname() unless defined $count;
  return $count == 0 ? "empty" : "read";
}

# --- processes ---

sub output_of {
  my @command = @_;
  my $pid = open(my $pipe, "-|") // return "fork: " . errname();
  if ($pid == 0) {
    open(STDERR, ">&", \*STDOUT);
    no warnings "exec";
    exec { $command[0] } @command or do { print errname(); POSIX::_exit(126) };
  }
  local $/;
  my $text = <$pipe> // "";
  close $pipe;
  chomp $text;
  return ($text, $?);
}

sub child { my $pid = fork // die "fork: " . errname(); if ($pid == 0) { sleep 30; POSIX::_exit(0); } return $pid; }

# Ids of a program that a setuid or capability bit would have changed.
sub ids_of { my ($program) = @_; my ($text) = output_of($program, "-e",
  'open F, "<", "/proc/self/status"; my %s = map { /^(\w+):\s*(.*)/ ? ($1, $2) : () } <F>; $s{Uid} =~ s/\s+/ /g; print "$s{Uid}, $s{CapEff}"');
  return $text; }

sub lines { open(my $file, "<", $_[0]) or return (); return <$file>; }

# --- a listener that nobody may reach ---

sub listener {
  my ($family, $type, $any) = @_;
  socket(my $s, $family, $type, 0) or die "socket: $!";
  setsockopt($s, IPPROTO_IPV6, 26, 1) if $family == AF_INET6;    # IPV6_V6ONLY
  bind($s, $any) or die "bind: $!";
  $type == SOCK_DGRAM or listen($s, 8) or die "listen: $!";
  return $s;
}

my ($guest_port, $reached) = (7777, 0);
my @guests = (
  listener(AF_INET, SOCK_STREAM, pack_sockaddr_in($guest_port, INADDR_ANY)),
  listener(AF_INET, SOCK_DGRAM, pack_sockaddr_in($guest_port, INADDR_ANY)),
  listener(AF_INET6, SOCK_STREAM, pack_sockaddr_in6($guest_port, "\0" x 16)),
  listener(AF_INET6, SOCK_DGRAM, pack_sockaddr_in6($guest_port, "\0" x 16)),
);
my $nspath = readlink("/proc/self/ns/net");
print "{\"ready\":", json($nspath), "}\n";
select(undef, undef, undef, 0.02) until -e "/srv/probe/go-$ENV{NAME}";
%given = map { chomp; /^(\w+)=(.*)/ ? ($1, $2) : () } lines("/srv/probe/go-$ENV{NAME}");

my $pid = $given{HOST_PID};
my $base = $given{HOST_DIRECTORY};
my $scratch = "/tmp";

# Controls: what a cell may do, so that a refusal elsewhere means something.
probe("control: an allowed server answers", sub { tcp($given{ALLOWED}, 7000) });
probe("control: an allowed server answers over IPv6", sub { tcp($given{ALLOWED6}, 7000) });
probe("control: a datagram is answered", sub { udp($given{ALLOWED}, 7001) });
probe("control: an echo is answered", sub { ping($given{ALLOWED}) });
probe("control: files can be made", sub { opens("$scratch/file", O_CREAT | O_WRONLY) });
probe("control: own secret", sub { has_read("/run/secrets/TOKEN") });

# The network's own settings.
my $eth0 = interface_index("eth0");
probe("route: add", sub { rtnetlink(24, 0x400, pack("CCCCCCCCL", 2, 24, 0, 0, 254, 3, 0, 1, 0) . attribute(1, inet_aton("192.0.2.0")) . attribute(4, pack("L", $eth0))) });
probe("route: delete", sub { rtnetlink(25, 0, pack("CCCCCCCCL", 2, 0, 0, 0, 254, 3, 0, 1, 0) . attribute(4, pack("L", $eth0))) });
probe("address: add", sub { rtnetlink(20, 0x400, pack("CCCCL", 2, 24, 0, 0, $eth0) . attribute(2, inet_aton("192.0.2.7")) . attribute(1, inet_aton("192.0.2.7"))) });
probe("link: down", sub { rtnetlink(16, 0, pack("CxSLLL", 0, 0, $eth0, 0, 1)) });
probe("link: add", sub { rtnetlink(16, 0x600, pack("CxSLLL", 0, 0, 0, 0, 0) . attribute(18, attribute(1, "dummy\0"))) });
probe("neighbour: add", sub { rtnetlink(28, 0x400, pack("CxSLSCC", 2, 0, $eth0, 0x80, 0, 0) . attribute(1, inet_aton("192.0.2.9")) . attribute(2, "\2\0\0\0\0\1")) });
probe("rule: add", sub { rtnetlink(32, 0x400, pack("CCCCCCCCL", 2, 0, 0, 0, 254, 0, 0, 1, 0)) });
probe("tc: add", sub { rtnetlink(36, 0x400, pack("CxxxlLLL", 0, $eth0, 0, 0xffffffff, 0) . attribute(1, "noqueue\0")) });
probe("route: ioctl", sub { socket(my $s, AF_INET, SOCK_DGRAM, 0) or return "socket"; my $request = pack("x120"); outcome(defined ioctl($s, 0x890b, $request)) });
probe("address: ioctl", sub { socket(my $s, AF_INET, SOCK_DGRAM, 0) or return "socket"; my $request = pack("a16 S n a4 x8", "eth0", 2, 0, inet_aton("192.0.2.8")); outcome(defined ioctl($s, 0x8916, $request)) });
probe("nft: socket", sub { makes_socket(16, SOCK_RAW, 12) });
probe("nft: xfrm socket", sub { makes_socket(16, SOCK_RAW, 6) });
probe("nft: audit socket", sub { makes_socket(16, SOCK_RAW, 9) });
probe("nft: iptables", sub { socket(my $s, AF_INET, SOCK_STREAM, 0) or return "socket"; outcome(setsockopt($s, IPPROTO_IP, 64, "\0" x 96)) });

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
  my @made = grep { my $family = $_; my $answer = makes_socket($family, SOCK_RAW, 0); $answer ne "EAFNOSUPPORT" } grep { $_ != 1 && $_ != 2 && $_ != 10 && $_ != 16 } 0 .. 64;
  @made ? "made: @made" : "EAFNOSUPPORT";
});
probe("protocol: sctp", sub { makes_socket(AF_INET, SOCK_STREAM, 132) });
probe("protocol: sctp, IPv6", sub { makes_socket(AF_INET6, 5, 132) });
probe("protocol: dccp", sub { makes_socket(AF_INET, 6, 33) });
probe("protocol: udplite", sub { makes_socket(AF_INET, SOCK_DGRAM, 136) });
probe("protocol: l2tp", sub { makes_socket(AF_INET, SOCK_DGRAM, 115) });
probe("protocol: mptcp", sub { makes_socket(AF_INET, SOCK_STREAM, 262) });
probe("spoof: transparent", sub { spoof(IPPROTO_IP, 19, $given{FOREIGN}, $given{ALLOWED}, 7001) });
probe("spoof: transparent, IPv6", sub { spoof(IPPROTO_IPV6, 75, $given{FOREIGN6}, $given{ALLOWED6}, 7001) });
probe("spoof: freebind", sub { spoof(IPPROTO_IP, 15, $given{FOREIGN}, $given{ALLOWED}, 7001) });
probe("spoof: freebind, IPv6", sub { spoof(IPPROTO_IPV6, 78, $given{FOREIGN6}, $given{ALLOWED6}, 7001) });
probe("spoof: other cell, IPv6", sub { spoof(IPPROTO_IPV6, 78, $given{OTHER6}, $given{ALLOWED6}, 7001) });
probe("spoof: mark", sub { socket(my $s, AF_INET, SOCK_DGRAM, 0) or return "socket"; outcome(setsockopt($s, SOL_SOCKET, 36, 7)) });
probe("spoof: header included", sub { socket(my $s, AF_INET, SOCK_DGRAM, 0) or return "socket"; outcome(setsockopt($s, IPPROTO_IP, 3, 1)) });
probe("device: lo to a forbidden address", sub {
  socket(my $s, AF_INET, SOCK_DGRAM, 0) or return "socket";
  bind($s, pack_sockaddr_in(0, inet_aton($given{OWN}))) or return "bind: " . errname();
  setsockopt($s, SOL_SOCKET, 25, "lo\0") or return "option: " . errname();
  my (undef, $to) = address_of($given{METADATA}, 7001);
  connect($s, $to) or return errname();
  answer_of($s, "hello");
});
probe("extension: hop by hop", sub { socket(my $s, AF_INET6, SOCK_DGRAM, 0) or return "socket"; outcome(setsockopt($s, IPPROTO_IPV6, 54, "\0\0\1\4\0\0\0\0")) });
probe("extension: destination", sub { socket(my $s, AF_INET6, SOCK_DGRAM, 0) or return "socket"; outcome(setsockopt($s, IPPROTO_IPV6, 59, "\0\0\1\4\0\0\0\0")) });
# The packet goes to the address in the header, the one connected to comes after it.
sub by_routing_header {
  my ($header, $host) = @_;
  my (undef, $to) = address_of($host, 7001);
  socket(my $s, AF_INET6, SOCK_DGRAM, 0) or return "socket";
  setsockopt($s, IPPROTO_IPV6, 57, $header) or return "option: " . errname();
  connect($s, $to) or return errname();
  return answer_of($s, "hello");
}

probe("extension: routing header, type 0", sub { by_routing_header(pack("CCCCL", 0, 2, 0, 1, 0) . inet_pton(AF_INET6, $given{METADATA6}), $given{ALLOWED6}) });
probe("extension: routing header, type 2", sub { by_routing_header(pack("CCCCL", 0, 2, 2, 1, 0) . inet_pton(AF_INET6, $given{METADATA6}), $given{ALLOWED6}) });
probe("extension: routing header, type 4", sub { by_routing_header(pack("CCCCCCn", 0, 4, 4, 1, 1, 0, 0) . inet_pton(AF_INET6, $given{ALLOWED6}) . inet_pton(AF_INET6, $given{METADATA6}), $given{ALLOWED6}) });
probe("extension: source route", sub {
  socket(my $s, AF_INET, SOCK_DGRAM, 0) or return "socket";
  setsockopt($s, IPPROTO_IP, 4, pack("CCCCa4", 1, 131, 7, 4, inet_aton($given{ALLOWED}))) or return "option: " . errname();
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

# Where a wide rule does not lead.
for my $target (split / /, $given{FORBIDDEN_TCP}) { my ($label, $host, $port) = split /=/, $target; probe("tcp: $label", sub { tcp($host, $port) }); }
for my $target (split / /, $given{FORBIDDEN_UDP}) { my ($label, $host, $port) = split /=/, $target; probe("udp: $label", sub { udp($host, $port) }); }
for my $target (split / /, $given{FORBIDDEN_PING}) { my ($label, $host) = split /=/, $target; probe("ping: $label", sub { ping($host) }); }

# Sockets of the host.
probe("unix: seen", sub { -S "$base/docker.sock" ? "ok" : "not there" });
probe("unix: stream", sub { unix_socket(SOCK_STREAM, "$base/docker.sock") });
probe("unix: by /proc", sub { unix_socket(SOCK_STREAM, "/proc/self/root$base/docker.sock") });
probe("unix: datagram", sub { unix_socket(SOCK_DGRAM, "$base/datagram.sock") });
probe("unix: in /run", sub { unix_socket(SOCK_STREAM, $given{RUN_SOCKET}) });
probe("unix: abstract", sub { unix_socket(SOCK_STREAM, "\0$given{ABSTRACT_SOCKET}") });
probe("unix: pipe", sub { -p "$base/pipe" or return "not there"; sysopen(my $file, "$base/pipe", O_WRONLY | O_NONBLOCK) or return errname(); outcome(defined syswrite($file, "from the cell\n")) });

# Descriptors, namespaces, processes.
probe("fds: open", sub { opendir(my $directory, "/proc/self/fd") or return errname(); my $own = fileno_of($directory); join " ", sort { $a <=> $b } grep { /^\d+$/ && $_ > 2 && !is_ours($_, $own) } readdir $directory or "none" });
probe("fds: of init", sub { my @open = grep { sysopen(my $file, "/proc/1/fd/$_", O_RDONLY) } 0 .. 3; @open ? "opened @open" : errname() });
sub fileno_of { my $number = eval { fileno($_[0]) }; return $number // -1; }
sub is_ours { my ($number, $own) = @_; return 1 if $number == $own; return 1 if grep { fileno($_) == $number } @guests; my $link = readlink("/proc/self/fd/$number"); return !defined $link || $link =~ m{^/proc/\d+/fd$}; }
probe("namespaces: setns to own", sub { sysopen(my $file, "/proc/self/ns/net", O_RDONLY) or return errname(); sys("setns", fileno($file), 0) });
for my $kind (qw(net mnt pid user uts ipc cgroup)) { probe("namespaces: open of init, $kind", sub { opens("/proc/1/ns/$kind", O_RDONLY) }); }
probe("namespaces: root of init", sub { lists("/proc/1/root") });
probe("namespaces: working directory of init", sub { lists("/proc/1/cwd") });
probe("namespaces: host process", sub { lists("/proc/$pid") });
probe("namespaces: root of a host process", sub { lists("/proc/$pid/root") });
probe("namespaces: pidfd of a host process", sub { sys("pidfd_open", $pid + 0, 0) });
probe("namespaces: setns to init", sub { my $fd = syscall(nr("pidfd_open"), 1, 0); $fd >= 0 or return "pidfd: " . errname(); sys("setns", $fd, 0x20000) });
probe("signals: host process", sub { outcome(kill 9, $pid) });
probe("signals: host process, stop", sub { outcome(kill "STOP", $pid) });
probe("signals: limits of a host process", sub { sys("prlimit64", $pid + 0, 7, 0, 0) });
probe("signals: kill init", sub { kill 9, 1; select(undef, undef, undef, 0.1); kill("STOP", 1); select(undef, undef, undef, 0.1); my ($state) = map { /^State:\s+(\S)/ ? $1 : () } lines("/proc/1/status"); $state // "gone" });
probe("ptrace: host process", sub { sys("ptrace", 16, $pid + 0, 0, 0) });
probe("ptrace: init", sub { sys("ptrace", 16, 1, 0, 0) });
probe("ptrace: init, seize", sub { sys("ptrace", 0x4206, 1, 0, 0) });
probe("ptrace: memory of init", sub { opens("/proc/1/mem", O_RDWR) });
probe("ptrace: environment of init", sub { has_read("/proc/1/environ") });
probe("ptrace: own child", sub { my $child = child(); my $answer = sys("ptrace", 16, $child, 0, 0); kill 9, $child; waitpid $child, 0; $answer });
probe("ptrace: process_vm_readv", sub { sys("process_vm_readv", 1, 0, 0, 0, 0, 0) });
probe("ptrace: process_vm_writev", sub { sys("process_vm_writev", 1, 0, 0, 0, 0, 0) });
probe("ptrace: pidfd_getfd", sub { my $fd = syscall(nr("pidfd_open"), 1, 0); $fd >= 0 or return "pidfd: " . errname(); sys("pidfd_getfd", $fd, 0, 0) });
probe("ptrace: kcmp", sub { sys("kcmp", 1, $$, 0, 0, 0) });

# More rights.
probe("setuid: copy in a host directory", sub { ids_of("$base/setuid-perl") });
probe("setuid: copy in a bind", sub { ids_of("/srv/probe/setuid-perl") });
probe("setuid: file capabilities", sub { ids_of("$base/capable-perl") });
probe("setuid: plain", sub { ids_of("/usr/bin/perl") });
probe("setuid: made by the cell", sub { output_of("/bin/cp", "/usr/bin/perl", "$scratch/own-perl"); chmod 04755, "$scratch/own-perl" or return "chmod: " . errname(); ids_of("$scratch/own-perl") });
probe("setuid: su", sub { my ($text, $status) = output_of("/bin/su", "-s", "/bin/sh", "-c", "echo became", "nobody"); $text =~ /^became$/m ? "ok" : $status == 0 ? "status 0" : "refused" });
probe("setuid: capset", sub { sys("capset", pack("LL", 0x20080522, 0), pack("L6", 0xffffffff, 0xffffffff, 0, 0xffffffff, 0xffffffff, 0)) });
probe("setuid: root", sub { sys("setresuid", 0, 0, 0) eq "ok" ? "uid $<" : errname() }) if $> != 0;
probe("setuid: another user", sub { sys("setresuid", 1000, 1000, 1000) });
probe("setuid: groups", sub { sys("setgroups", 1, pack("L", 0)) });
probe("setuid: ambient", sub { sys("prctl", 47, 2, 12, 0, 0) });
probe("setuid: state", sub { my %s = map { /^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):\s*(\S+)/ ? ($1, $2) : () } lines("/proc/self/status"); join " ", map { "$_=$s{$_}" } sort keys %s });
probe("keyrings: add_key", sub { sys("add_key", path("user"), path("celld"), "value", 5, -3) });
probe("keyrings: request_key", sub { sys("request_key", path("user"), path("celld"), 0, 0) });
probe("keyrings: keyctl", sub { sys("keyctl", 0, -3, 0) });
probe("keyrings: /proc/keys", sub { has_read("/proc/keys") });
probe("io_uring: setup", sub { my $parameters = "\0" x 120; sys("io_uring_setup", 4, $parameters) });
probe("io_uring: enter", sub { sys("io_uring_enter", 0, 0, 0, 0, 0, 0) });
probe("io_uring: register", sub { sys("io_uring_register", 0, 0, 0, 0) });
my %new = (user => 0x10000000, mnt => 0x20000, net => 0x40000000, pid => 0x20000000, uts => 0x4000000, ipc => 0x8000000, cgroup => 0x2000000, time => 0x80);
for my $kind (sort keys %new) { probe("unshare: $kind", sub { my $child = fork // return "fork"; if ($child == 0) { my $done = syscall(nr("unshare"), $new{$kind}) >= 0; POSIX::_exit($done ? 0 : $! + 0) } waitpid $child, 0; $! = $? >> 8; outcome($? == 0) }); }
probe("unshare: clone", sub { my $child = syscall(nr("clone"), $new{user} | 17, 0, 0, 0, 0); POSIX::_exit(0) if $child == 0; return "made" if $child > 0; errname() });
probe("unshare: clone, network", sub { my $child = syscall(nr("clone"), $new{net} | 17, 0, 0, 0, 0); POSIX::_exit(0) if $child == 0; return "made" if $child > 0; errname() });
probe("unshare: clone3", sub { my $args = pack("Q11", $new{user}, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0); my $child = syscall(nr("clone3"), $args, 88); POSIX::_exit(0) if $child == 0; return "made" if $child > 0; errname() });

# Mounts, devices, the kernel.
probe("mount: tmpfs", sub { sys("mount", path("none"), path("/tmp"), path("tmpfs"), 0, 0) });
probe("mount: proc", sub { sys("mount", path("proc"), path("/tmp"), path("proc"), 0, 0) });
probe("mount: bind", sub { sys("mount", path("/etc"), path("/tmp"), 0, 0x1000, 0) });
probe("mount: root writable", sub { sys("mount", 0, path("/"), 0, 0x20, 0) });
probe("mount: /proc/sys writable", sub { sys("mount", 0, path("/proc/sys"), 0, 0x1020, 0) });
probe("mount: umount", sub { sys("umount2", path("/proc/sys"), 2) });
probe("mount: open_tree", sub { sys("open_tree", -100, path("/"), 1) });
probe("mount: move_mount", sub { sys("move_mount", -100, path("/tmp"), -100, path("/run"), 0) });
probe("mount: fsopen", sub { sys("fsopen", path("tmpfs"), 0) });
probe("mount: fsmount", sub { sys("fsmount", 0, 0, 0) });
probe("mount: fsconfig", sub { sys("fsconfig", 0, 6, 0, 0, 0) });
probe("mount: fspick", sub { sys("fspick", -100, path("/"), 0) });
probe("mount: mount_setattr", sub { my $attributes = pack("Q4", 0, 1, 0, 0); sys("mount_setattr", -100, path("/"), 0, $attributes, 32) });
probe("mount: pivot_root", sub { sys("pivot_root", path("/tmp"), path("/tmp")) });
probe("chroot: call", sub { sys("chroot", path("/tmp")) });
probe("chroot: above the root", sub { my @root = stat "/"; my @above = stat "/../../../.."; chdir "/"; chdir ".." for 1 .. 64; my @walked = stat "."; chdir "/work"; "@root[0,1]" eq "@above[0,1]" && "@root[0,1]" eq "@walked[0,1]" ? "same" : "another" });
probe("chroot: the old root", sub { lists("/run/.host") eq "ok" ? join(" ", grep { !/^\.\.?$/ } do { opendir my $d, "/run/.host"; readdir $d }) || "empty" : errname() });
probe("chroot: open_by_handle_at", sub { my $handle = pack("Ll", 8, 1) . "\2\0\0\0\0\0\0\0"; sys("open_by_handle_at", -100, $handle, 0) });
probe("devices: character", sub { sys("mknodat", -100, path("$scratch/mem"), S_IFCHR | 0666, 0x101) });
probe("devices: block", sub { sys("mknodat", -100, path("$scratch/disk"), S_IFBLK | 0666, 0xfe00) });
probe("devices: pipe is allowed", sub { sys("mknodat", -100, path("$scratch/fifo"), S_IFIFO | 0666, 0) });
probe("devices: host's node", sub { -c "$base/null-node" or return "not there"; opens("$base/null-node", O_RDWR) });
for my $name (qw(mem kmem port kmsg fuse kvm loop-control net/tun vda sda)) { probe("devices: /dev/$name", sub { opens("/dev/$name", O_RDWR) }); }
probe("devices: add to /dev", sub { opens("/dev/new", O_CREAT | O_WRONLY) });
probe("terminal: TIOCSTI", sub { my $letter = "x"; outcome(defined ioctl(STDIN, 0x5412, $letter)) });
probe("terminal: TIOCSTI on an own one", sub {
  sysopen(my $master, "/dev/ptmx", O_RDWR) or return "ptmx: " . errname();
  my $unlock = pack("i", 0); ioctl($master, 0x40045431, $unlock); my $number = pack("i", 0); ioctl($master, 0x80045430, $number);
  sysopen(my $slave, "/dev/pts/" . unpack("i", $number), O_RDWR | O_NOCTTY) or return "pts: " . errname();
  my $letter = "x"; outcome(defined ioctl($slave, 0x5412, $letter)) });
probe("terminal: TIOCLINUX", sub { my $order = "\2"; outcome(defined ioctl(STDIN, 0x541c, $order)) });
probe("modules: init_module", sub { sys("init_module", "\177ELF", 4, path("")) });
probe("modules: finit_module", sub { sys("finit_module", 0, path(""), 0) });
probe("modules: delete_module", sub { sys("delete_module", path("dummy"), 0) });
probe("modules: kexec_load", sub { sys("kexec_load", 0, 0, 0, 0) });
probe("modules: kexec_file_load", sub { sys("kexec_file_load", -1, -1, 0, 0, 0) });
probe("bpf: map", sub { my $attributes = pack("LLLL", 2, 4, 4, 1) . "\0" x 112; sys("bpf", 0, $attributes, 128) });
probe("bpf: program", sub { my $attributes = "\0" x 128; sys("bpf", 5, $attributes, 128) });
probe("perf: event", sub { my $attributes = pack("LLQ", 1, 128, 0) . "\0" x 112; sys("perf_event_open", $attributes, 0, -1, -1, 0) });
probe("perf: userfaultfd", sub { sys("userfaultfd", 1) });
probe("machine: personality", sub { sys("personality", 0x0040000) });
probe("machine: personality is told", sub { sys("personality", 0xffffffff) });
probe("machine: reboot", sub { sys("reboot", 0, 0, 0, 0) });
probe("machine: sethostname", sub { sys("sethostname", "taken", 5) });
probe("machine: settimeofday", sub { my $time = pack("qq", 0, 0); sys("settimeofday", $time, 0) });
probe("machine: clock_settime", sub { my $time = pack("qq", 0, 0); sys("clock_settime", 0, $time) });
probe("machine: adjtimex", sub { my $parameters = pack("L", 1) . "\0" x 252; sys("adjtimex", $parameters) });
probe("machine: swapon", sub { sys("swapon", path("/tmp/file"), 0) });
probe("machine: acct", sub { sys("acct", path("/tmp/file")) });
probe("machine: quotactl", sub { sys("quotactl", 0x80000100, path("/dev/vda"), 0, 0) });
probe("machine: syslog", sub { my $text = "\0" x 64; sys("syslog", 3, $text, 64) });
probe("machine: iopl", sub { $is_arm ? "EPERM" : sys("iopl", 3) });
probe("machine: ioperm", sub { $is_arm ? "EPERM" : sys("ioperm", 0x70, 2, 1) });
probe("machine: real time", sub { my $parameter = pack("i", 50); sys("sched_setscheduler", 0, 1, $parameter) });
probe("machine: open files", sub { my $limits = pack("QQ", 1 << 30, 1 << 30); sys("prlimit64", 0, 7, $limits, 0) });
probe("machine: locked memory", sub { my $memory = "x" x (1 << 20); sys("mlock", $memory, 1 << 20) });
probe("machine: x32 call", sub { $is_arm ? "EPERM" : outcome(syscall(0x40000000 | 39) >= 0) });
probe("machine: i386 program", sub { $is_arm ? "signal 31" : -x "$base/i386" ? do { my (undef, $status) = output_of("$base/i386"); $status & 127 ? "signal " . ($status & 127) : $status >> 8 == 126 ? "not executable" : "code " . ($status >> 8) } : "not there" });

# Files of the host, and of celld.
probe("write: /etc/passwd", sub { opens("/etc/passwd", O_WRONLY | O_APPEND) });
probe("write: /usr/bin", sub { opens("/usr/bin/celld-probe", O_CREAT | O_WRONLY) });
probe("write: world-writable file", sub { opens("$base/open/file", O_WRONLY) });
probe("write: world-writable directory", sub { opens("$base/open/new", O_CREAT | O_WRONLY) });
probe("write: truncate", sub { outcome(truncate "$base/open/file", 0) });
probe("write: remove", sub { outcome(unlink "$base/open/file") });
probe("write: rename", sub { outcome(rename "$base/open/file", "$base/open/other") });
probe("write: link", sub { outcome(link "$base/open/file", "$base/open/link") });
probe("write: chmod", sub { outcome(chmod 0777, "$base/open/file") });
probe("write: times", sub { outcome(utime 0, 0, "$base/open/file") });
probe("write: by a link", sub { symlink "$base/open/file", "$scratch/link"; opens("$scratch/link", O_WRONLY) });
probe("write: read-only bind", sub { opens("/srv/probe/new", O_CREAT | O_WRONLY) });
probe("read: /etc/shadow", sub { has_read("/etc/shadow") });
probe("read: a root-only file", sub { has_read("$base/secret") });
probe("read: homes", sub { lists("/root") });
probe("celld: state directory", sub { lists($given{STATE_DIR}) });
probe("celld: event log", sub { has_read("$given{STATE_DIR}/events.db") });
probe("celld: runtime directory", sub { lists($given{RUNTIME_DIR}) });
probe("celld: leases", sub { lists("$given{RUNTIME_DIR}/leases") });
probe("celld: cells", sub { lists("$given{RUNTIME_DIR}/cells") });
probe("celld: secret of another cell", sub { has_read("$given{RUNTIME_DIR}/cells/$given{OTHER_CELL}/secrets/TOKEN") });
probe("celld: output of another cell", sub { has_read("$given{RUNTIME_DIR}/cells/$given{OTHER_CELL}/stdout") });
probe("celld: processes of others", sub { opendir my $d, "/proc"; my @pids = grep { /^\d+$/ && $_ != 1 && $_ != $$ } readdir $d; @pids ? "seen: @pids" : "none" });
probe("celld: own output reopened", sub { opens("/proc/self/fd/1", O_RDWR) });
probe("celld: own output preallocated", sub { sys("fallocate", 1, 1, 0, 1 << 20) });
probe("celld: own output preallocated by ioctl", sub { my $range = pack("ssx4qqlL", 0, 0, 0, 1 << 20, 0, 0) . "\0" x 16; join " ", map { outcome(defined ioctl(STDOUT, $_, $range)) } 0x40305828, 0x4030582a, 0x40305839 });
probe("celld: own output's mode", sub { outcome(chmod 0777, \*STDOUT) });
probe("kernel: sysrq", sub { writes("/proc/sysrq-trigger", "h") });
probe("kernel: core_pattern", sub { writes("/proc/sys/kernel/core_pattern", "|/tmp/x") });
probe("kernel: ip_forward", sub { writes("/proc/sys/net/ipv4/ip_forward", "1") });
probe("kernel: hostname", sub { writes("/proc/sys/kernel/hostname", "taken") });
probe("kernel: modprobe", sub { writes("/proc/sys/kernel/modprobe", "/tmp/x") });
probe("kernel: uevent_helper", sub { my $file = "/sys/kernel/uevent_helper"; -e $file ? writes($file, "/tmp/x") : opens("/sys/kernel/uevent_helper", O_WRONLY) });
probe("kernel: mtu by /sys", sub { writes("/sys/class/net/eth0/mtu", "9000") });
probe("kernel: memory settings by /sys", sub { my ($file) = grep { -e } "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/kernel/mm/ksm/run", "/sys/kernel/profiling"; writes($file // "/sys/kernel/mm", "0") });
probe("kernel: cgroups", sub { opendir my $d, "/sys/fs/cgroup" or return errname(); join(" ", grep { !/^\.\.?$/ } readdir $d) || "empty" });
probe("kernel: kcore", sub { has_read("/proc/kcore") });
probe("kernel: kmsg", sub { has_read("/proc/kmsg") });
probe("kernel: timer_list", sub { -e "/proc/timer_list" ? has_read("/proc/timer_list") : "empty" });
probe("kernel: kallsyms", sub { my ($line) = grep { !/^0+ / } lines("/proc/kallsyms"); defined $line ? "addresses" : "none" });
probe("kernel: oom_score_adj", sub { writes("/proc/self/oom_score_adj", "-1000") });
probe("kernel: binfmt", sub { opens("/proc/sys/fs/binfmt_misc/register", O_WRONLY) });

print "{\"done\":true}\n";
my $bits = "";
until (-e "/srv/probe/stop") {
  my $ready = "";
  vec($ready, fileno($_), 1) = 1 for @guests;
  $reached++ if select($ready, undef, undef, 0.05) > 0;
}
report("guest: reached", $reached);
