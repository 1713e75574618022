# Descriptors, namespaces, other processes, and more rights. Part of main.pl.
use strict;
use warnings;
use Fcntl qw(:DEFAULT :mode);
use POSIX ();
use Socket qw(:DEFAULT inet_pton IPPROTO_TCP IPPROTO_UDP IPPROTO_IP IPPROTO_IPV6);

our (%given, @guests, $base, $is_arm, $pid, $scratch);

# Descriptors, namespaces, processes.
probe("fds: open", sub {
  opendir(my $directory, "/proc/self/fd") or return errname();
  my $own = fileno_of($directory);
  my @foreign = grep { /^\d+$/ && $_ > 2 && !is_ours($_, $own) } readdir $directory;
  @foreign ? "open: @foreign" : "none";
});
probe("fds: of init", sub {
  my @open = grep { sysopen(my $file, "/proc/1/fd/$_", O_RDONLY) } 0 .. 3;
  @open ? "opened @open" : errname();
});
sub fileno_of { my $number = eval { fileno($_[0]) }; return $number // -1; }
sub is_ours {
  my ($number, $own) = @_;
  return 1 if $number == $own;
  return 1 if grep { fileno($_) == $number } @guests;
  my $link = readlink("/proc/self/fd/$number");
  return !defined $link || $link =~ m{^/proc/\d+/fd$};
}
probe("namespaces: setns to own", sub {
  sysopen(my $file, "/proc/self/ns/net", O_RDONLY) or return errname();
  sys("setns", fileno($file), 0);
});
for my $kind (qw(net mnt pid user uts ipc cgroup)) {
  probe("init's namespace: $kind", sub { opens("/proc/1/ns/$kind", O_RDONLY) });
}
probe("namespaces: root of init", sub { lists("/proc/1/root") });
probe("namespaces: working directory of init", sub { lists("/proc/1/cwd") });
probe("namespaces: host process", sub { lists("/proc/$pid") });
probe("namespaces: root of a host process", sub { lists("/proc/$pid/root") });
probe("namespaces: pidfd of a host process", sub { sys("pidfd_open", $pid + 0, 0) });
probe("namespaces: setns to init", sub {
  my $fd = syscall(nr("pidfd_open"), 1, 0);
  $fd >= 0 or return "pidfd: " . errname();
  sys("setns", $fd, 0x20000);
});
probe("signals: host process", sub { outcome(kill 9, $pid) });
probe("signals: host process, stop", sub { outcome(kill "STOP", $pid) });
probe("signals: limits of a host process", sub { sys("prlimit64", $pid + 0, 7, 0, 0) });
probe("signals: kill init", sub {
  kill 9, 1;
  select(undef, undef, undef, 0.1);
  kill("STOP", 1);
  select(undef, undef, undef, 0.1);
  my ($state) = map { /^State:\s+(\S)/ ? $1 : () } lines("/proc/1/status");
  $state // "gone";
});
probe("ptrace: host process", sub { sys("ptrace", 16, $pid + 0, 0, 0) });
probe("ptrace: init", sub { sys("ptrace", 16, 1, 0, 0) });
probe("ptrace: init, seize", sub { sys("ptrace", 0x4206, 1, 0, 0) });
probe("ptrace: memory of init", sub { opens("/proc/1/mem", O_RDWR) });
probe("ptrace: environment of init", sub { has_read("/proc/1/environ") });
probe("ptrace: own child", sub {
  my $child = child();
  my $answer = sys("ptrace", 16, $child, 0, 0);
  kill 9, $child;
  waitpid $child, 0;
  $answer;
});
probe("ptrace: process_vm_readv", sub { sys("process_vm_readv", 1, 0, 0, 0, 0, 0) });
probe("ptrace: process_vm_writev", sub { sys("process_vm_writev", 1, 0, 0, 0, 0, 0) });
probe("ptrace: pidfd_getfd", sub {
  my $fd = syscall(nr("pidfd_open"), 1, 0);
  $fd >= 0 or return "pidfd: " . errname();
  sys("pidfd_getfd", $fd, 0, 0);
});
probe("ptrace: kcmp", sub { sys("kcmp", 1, $$, 0, 0, 0) });

# More rights.
probe("setuid: copy in a host directory", sub { ids_of("$base/setuid-perl") });
probe("setuid: copy in a bind", sub { ids_of("/srv/probe/setuid-perl") });
probe("setuid: file capabilities", sub { ids_of("$base/capable-perl") });
probe("setuid: plain", sub { ids_of("/usr/bin/perl") });
probe("setuid: made by the cell", sub {
  output_of("/bin/cp", "/usr/bin/perl", "$scratch/own-perl");
  chmod 04755, "$scratch/own-perl" or return "chmod: " . errname();
  ids_of("$scratch/own-perl");
});
probe("setuid: su", sub {
  my ($text, $status) = output_of("/bin/su", "-s", "/bin/sh", "-c", "echo became", "nobody");
  $text =~ /^became$/m ? "ok" : $status == 0 ? "status 0" : "refused";
});
probe("setuid: capset", sub {
  my $all = pack("L6", 0xffffffff, 0xffffffff, 0, 0xffffffff, 0xffffffff, 0);
  sys("capset", pack("LL", 0x20080522, 0), $all);
});
probe("setuid: root", sub { sys("setresuid", 0, 0, 0) });
probe("setuid: another user", sub { sys("setresuid", 1000, 1000, 1000) });
probe("setuid: groups", sub { sys("setgroups", 1, pack("L", 0)) });
probe("setuid: ambient", sub { sys("prctl", 47, 2, 12, 0, 0) });
probe("setuid: state", sub {
  my $wanted = qr/^(Cap\w+|NoNewPrivs|Seccomp):\s*(\S+)/;
  my %s = map { $_ =~ $wanted ? ($1, $2) : () } lines("/proc/self/status");
  join " ", map { "$_=$s{$_}" } sort keys %s;
});
probe("keyrings: add_key", sub { sys("add_key", path("user"), path("celld"), "value", 5, -3) });
probe("keyrings: request_key", sub { sys("request_key", path("user"), path("celld"), 0, 0) });
probe("keyrings: keyctl", sub { sys("keyctl", 0, -3, 0) });
probe("keyrings: /proc/keys", sub { has_read("/proc/keys") });
probe("io_uring: setup", sub {
  my $parameters = "\0" x 120;
  sys("io_uring_setup", 4, $parameters);
});
probe("io_uring: enter", sub { sys("io_uring_enter", 0, 0, 0, 0, 0, 0) });
probe("io_uring: register", sub { sys("io_uring_register", 0, 0, 0, 0) });
my %new = (
  user => 0x10000000, mnt => 0x20000, net => 0x40000000, pid => 0x20000000,
  uts => 0x4000000, ipc => 0x8000000, cgroup => 0x2000000, time => 0x80,
);
for my $kind (sort keys %new) {
  probe("unshare: $kind", sub {
    my $child = fork // return "fork: " . errname();
    if ($child == 0) {
      my $done = syscall(nr("unshare"), $new{$kind}) >= 0;
      POSIX::_exit($done ? 0 : $! + 0);
    }
    waitpid $child, 0;
    $! = $? >> 8;
    outcome($? == 0);
  });
}
probe("unshare: clone", sub {
  my $child = syscall(nr("clone"), $new{user} | 17, 0, 0, 0, 0);
  POSIX::_exit(0) if $child == 0;
  return "made" if $child > 0;
  errname();
});
probe("unshare: clone, network", sub {
  my $child = syscall(nr("clone"), $new{net} | 17, 0, 0, 0, 0);
  POSIX::_exit(0) if $child == 0;
  return "made" if $child > 0;
  errname();
});
probe("unshare: clone3", sub {
  my $args = pack("Q11", $new{user}, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0);
  my $child = syscall(nr("clone3"), $args, 88);
  POSIX::_exit(0) if $child == 0;
  return "made" if $child > 0;
  errname();
});

1;
