# Attacks from inside a cell. Prints one JSON line a probe: its name, and either "ok" (the kernel
# did it), the name of the errno that it answered, or a word of the probe's own.
#
# Run as `perl -e 'do "/srv/probe/main.pl"'`, so that no descriptor of the program stays open.
# Prints "ready" once it listens, then waits for /srv/probe/go-<name>, where it finds
# what it is to try, and after the last probe for /srv/probe/stop. Needs Debian's perl-base
# alone. Sends only to addresses that it is given.
use strict;
use warnings;
use Errno;
use Fcntl qw(:DEFAULT :mode);
use POSIX ();
use Socket qw(:DEFAULT inet_pton inet_ntop pack_sockaddr_in6 unpack_sockaddr_in6 IPPROTO_TCP
  IPPROTO_UDP IPPROTO_ICMP IPPROTO_ICMPV6 IPPROTO_IP IPPROTO_IPV6);

$| = 1;
our %given;
our $is_arm = (POSIX::uname())[4] eq "aarch64";

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
  for my $name (keys %!) {
    return $name if $!{$name} && $name !~ /^(EWOULDBLOCK|EDEADLOCK|ENOTSUP)$/;
  }
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

sub child {
  my $pid = fork // die "fork: " . errname();
  if ($pid == 0) { sleep 30; POSIX::_exit(0); } return $pid;
}

# Ids of a program that a setuid or capability bit would have changed.
sub ids_of {
  my ($program) = @_;
  my ($text) = output_of($program, "-e", 'open F, "<", "/proc/self/status"; ' .
    'my %s = map { /^(\w+):\s*(.*)/ ? ($1, $2) : () } <F>; ' .
    '$s{Uid} =~ s/\s+/ /g; print "$s{Uid}, $s{CapEff}"');
  return $text =~ s/\b$>\b/own/gr;
}

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
our @guests = (
  listener(AF_INET, SOCK_STREAM, pack_sockaddr_in($guest_port, INADDR_ANY)),
  listener(AF_INET, SOCK_DGRAM, pack_sockaddr_in($guest_port, INADDR_ANY)),
  listener(AF_INET6, SOCK_STREAM, pack_sockaddr_in6($guest_port, "\0" x 16)),
  listener(AF_INET6, SOCK_DGRAM, pack_sockaddr_in6($guest_port, "\0" x 16)),
);
my $nspath = readlink("/proc/self/ns/net");
print "{\"ready\":", json($nspath), "}\n";
select(undef, undef, undef, 0.02) until -e "/srv/probe/go-$ENV{NAME}";
%given = map { chomp; /^(\w+)=(.*)/ ? ($1, $2) : () } lines("/srv/probe/go-$ENV{NAME}");

our $pid = $given{HOST_PID};
our $base = $given{HOST_DIRECTORY};
our $scratch = "/tmp";

# Controls: what a cell may do, so that a refusal elsewhere means something.
probe("control: an allowed server answers", sub { tcp($given{ALLOWED}, 7000) });
probe("control: an allowed server answers over IPv6", sub { tcp($given{ALLOWED6}, 7000) });
probe("control: a datagram is answered", sub { udp($given{ALLOWED}, 7001) });
probe("control: an echo is answered", sub { ping($given{ALLOWED}) });
probe("control: files can be made", sub { opens("$scratch/file", O_CREAT | O_WRONLY) });
probe("control: own secret", sub { has_read("/run/secrets/TOKEN") });

for my $part (qw(network host processes kernel files)) {
  defined do "/srv/probe/$part.pl" or die $@ || "$part.pl: $!";
}

print "{\"done\":true}\n";
my $bits = "";
until (-e "/srv/probe/stop") {
  my $ready = "";
  vec($ready, fileno($_), 1) = 1 for @guests;
  $reached++ if select($ready, undef, undef, 0.05) > 0;
}
report("guest: reached", $reached);
