# Files of the host, of celld, and of the kernel. Part of main.pl.
use strict;
use warnings;
use Fcntl qw(:DEFAULT :mode);
use POSIX ();
use Socket qw(:DEFAULT inet_pton IPPROTO_TCP IPPROTO_UDP IPPROTO_IP IPPROTO_IPV6);

our (%given, @guests, $base, $is_arm, $pid, $scratch);

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
probe("write: by a link", sub {
  symlink "$base/open/file", "$scratch/link";
  opens("$scratch/link", O_WRONLY);
});
probe("write: read-only bind", sub { opens("/srv/probe/new", O_CREAT | O_WRONLY) });
probe("read: /etc/shadow", sub { has_read("/etc/shadow") });
probe("read: a root-only file", sub { has_read("$base/secret") });
probe("read: homes", sub { lists("/root") });
probe("celld: state directory", sub { lists($given{STATE_DIR}) });
probe("celld: event log", sub { has_read("$given{STATE_DIR}/events.db") });
probe("celld: runtime directory", sub { lists($given{RUNTIME_DIR}) });
probe("celld: leases", sub { lists("$given{RUNTIME_DIR}/leases") });
probe("celld: cells", sub { lists("$given{RUNTIME_DIR}/cells") });
probe("celld: secret of another cell", sub {
  has_read("$given{RUNTIME_DIR}/cells/$given{OTHER_CELL}/secrets/TOKEN");
});
probe("celld: output of another cell", sub {
  has_read("$given{RUNTIME_DIR}/cells/$given{OTHER_CELL}/stdout");
});
probe("celld: processes of others", sub {
  opendir my $d, "/proc";
  my @pids = grep { /^\d+$/ && $_ != 1 && $_ != $$ } readdir $d;
  @pids ? "seen: @pids" : "none";
});
probe("celld: own output reopened", sub { opens("/proc/self/fd/1", O_RDWR) });
probe("celld: own output preallocated", sub { sys("fallocate", 1, 1, 0, 1 << 20) });
probe("celld: own output preallocated by ioctl", sub {
  my $range = pack("ssx4qqlL", 0, 0, 0, 1 << 20, 0, 0) . "\0" x 16;
  join " ", map { outcome(defined ioctl(STDOUT, $_, $range)) } 0x40305828, 0x4030582a, 0x40305839;
});
probe("celld: own output's mode", sub { outcome(chmod 0777, \*STDOUT) });
probe("kernel: sysrq", sub { writes("/proc/sysrq-trigger", "h") });
probe("kernel: core_pattern", sub { writes("/proc/sys/kernel/core_pattern", "|/tmp/x") });
probe("kernel: ip_forward", sub { writes("/proc/sys/net/ipv4/ip_forward", "1") });
probe("kernel: hostname", sub { writes("/proc/sys/kernel/hostname", "taken") });
probe("kernel: modprobe", sub { writes("/proc/sys/kernel/modprobe", "/tmp/x") });
probe("kernel: uevent_helper", sub {
  my $file = "/sys/kernel/uevent_helper";
  -e $file ? writes($file, "/tmp/x") : opens("/sys/kernel/uevent_helper", O_WRONLY);
});
probe("kernel: mtu by /sys", sub { writes("/sys/class/net/eth0/mtu", "9000") });
probe("kernel: memory settings by /sys", sub {
  my $settings = "/sys/kernel/mm";
  my ($file) = grep { -e } "$settings/transparent_hugepage/enabled", "$settings/ksm/run";
  writes($file // "/sys/kernel/mm", "0");
});
probe("kernel: cgroups", sub {
  opendir my $d, "/sys/fs/cgroup" or return errname();
  join(" ", grep { !/^\.\.?$/ } readdir $d) || "empty";
});
probe("kernel: kcore", sub { has_read("/proc/kcore") });
probe("kernel: kmsg", sub { has_read("/proc/kmsg") });
probe("kernel: timer_list", sub { -e "/proc/timer_list" ? has_read("/proc/timer_list") : "empty" });
probe("kernel: kallsyms", sub {
  my ($line) = grep { !/^0+ / } lines("/proc/kallsyms");
  defined $line ? "addresses" : "none";
});
probe("kernel: oom_score_adj", sub { writes("/proc/self/oom_score_adj", "-1000") });
probe("kernel: binfmt", sub { opens("/proc/sys/fs/binfmt_misc/register", O_WRONLY) });

1;
