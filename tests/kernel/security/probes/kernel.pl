# Mounts, devices, and the kernel itself. Part of main.pl.
use strict;
use warnings;
use Fcntl qw(:DEFAULT :mode);
use POSIX ();
use Socket qw(:DEFAULT inet_pton IPPROTO_TCP IPPROTO_UDP IPPROTO_IP IPPROTO_IPV6);

our (%given, @guests, $base, $is_arm, $pid, $scratch);

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
probe("mount: mount_setattr", sub {
  my $attributes = pack("Q4", 0, 1, 0, 0);
  sys("mount_setattr", -100, path("/"), 0, $attributes, 32);
});
probe("mount: pivot_root", sub { sys("pivot_root", path("/tmp"), path("/tmp")) });
probe("chroot: call", sub { sys("chroot", path("/tmp")) });
probe("chroot: above the root", sub {
  my @root = stat "/";
  my @above = stat "/../../../..";
  chdir "/";
  chdir ".." for 1 .. 64;
  my @walked = stat ".";
  chdir "/work";
  "@root[0,1]" eq "@above[0,1]" && "@root[0,1]" eq "@walked[0,1]" ? "same" : "another";
});
probe("chroot: the old root", sub {
  lists("/run/.host");
});
probe("chroot: open_by_handle_at", sub {
  my $handle = pack("Ll", 8, 1) . "\2\0\0\0\0\0\0\0";
  sys("open_by_handle_at", -100, $handle, 0);
});
probe("devices: character", sub {
  sys("mknodat", -100, path("$scratch/mem"), S_IFCHR | 0666, 0x101);
});
probe("devices: block", sub {
  sys("mknodat", -100, path("$scratch/disk"), S_IFBLK | 0666, 0xfe00);
});
probe("devices: pipe is allowed", sub {
  sys("mknodat", -100, path("$scratch/fifo"), S_IFIFO | 0666, 0);
});
probe("devices: host's node", sub {
  -c "$base/null-node" or return "not there";
  opens("$base/null-node", O_RDWR);
});
for my $name (qw(mem kmem port kmsg fuse kvm loop-control net/tun vda sda)) {
  probe("devices: /dev/$name", sub { opens("/dev/$name", O_RDWR) });
}
probe("devices: add to /dev", sub { opens("/dev/new", O_CREAT | O_WRONLY) });
probe("terminal: TIOCSTI", sub {
  my $letter = "x";
  outcome(defined ioctl(STDIN, 0x5412, $letter));
});
probe("terminal: TIOCSTI on an own one", sub {
  sysopen(my $master, "/dev/ptmx", O_RDWR) or return "ptmx: " . errname();
  my ($unlock, $number) = (pack("i", 0), pack("i", 0));
  ioctl($master, 0x40045431, $unlock) or return "unlock: " . errname();
  ioctl($master, 0x80045430, $number) or return "number: " . errname();
  my $name = "/dev/pts/" . unpack("i", $number);
  sysopen(my $slave, $name, O_RDWR | O_NOCTTY) or return "pts: " . errname();
  my $letter = "x"; outcome(defined ioctl($slave, 0x5412, $letter)) });
probe("terminal: TIOCLINUX", sub {
  my $order = "\2";
  outcome(defined ioctl(STDIN, 0x541c, $order));
});
probe("modules: init_module", sub { sys("init_module", "\177ELF", 4, path("")) });
probe("modules: finit_module", sub { sys("finit_module", 0, path(""), 0) });
probe("modules: delete_module", sub { sys("delete_module", path("dummy"), 0) });
probe("modules: kexec_load", sub { sys("kexec_load", 0, 0, 0, 0) });
probe("modules: kexec_file_load", sub { sys("kexec_file_load", -1, -1, 0, 0, 0) });
probe("bpf: map", sub {
  my $attributes = pack("LLLL", 2, 4, 4, 1) . "\0" x 112;
  sys("bpf", 0, $attributes, 128);
});
probe("bpf: program", sub { my $attributes = "\0" x 128; sys("bpf", 5, $attributes, 128) });
probe("perf: event", sub {
  my $attributes = pack("LLQ", 1, 128, 0) . "\0" x 112;
  sys("perf_event_open", $attributes, 0, -1, -1, 0);
});
probe("perf: userfaultfd", sub { sys("userfaultfd", 1) });
probe("machine: personality", sub { sys("personality", 0x0040000) });
probe("machine: personality is told", sub { sys("personality", 0xffffffff) });
probe("machine: reboot", sub { sys("reboot", 0, 0, 0, 0) });
probe("machine: sethostname", sub { sys("sethostname", "taken", 5) });
probe("machine: settimeofday", sub { my $time = pack("qq", 0, 0); sys("settimeofday", $time, 0) });
probe("machine: clock_settime", sub {
  my $time = pack("qq", 0, 0);
  sys("clock_settime", 0, $time);
});
probe("machine: adjtimex", sub {
  my $parameters = pack("L", 1) . "\0" x 252;
  sys("adjtimex", $parameters);
});
probe("machine: swapon", sub { sys("swapon", path("/tmp/file"), 0) });
probe("machine: acct", sub { sys("acct", path("/tmp/file")) });
probe("machine: quotactl", sub { sys("quotactl", 0x80000100, path("/dev/vda"), 0, 0) });
probe("machine: syslog", sub { my $text = "\0" x 64; sys("syslog", 3, $text, 64) });
probe("machine: iopl", sub { $is_arm ? "EPERM" : sys("iopl", 3) });
probe("machine: ioperm", sub { $is_arm ? "EPERM" : sys("ioperm", 0x70, 2, 1) });
probe("machine: real time", sub {
  my $parameter = pack("i", 50);
  sys("sched_setscheduler", 0, 1, $parameter);
});
probe("machine: open files", sub {
  my $limits = pack("QQ", 1 << 30, 1 << 30);
  sys("prlimit64", 0, 7, $limits, 0);
});
probe("machine: locked memory", sub {
  my $memory = "x" x (1 << 20);
  sys("mlock", $memory, 1 << 20);
});
probe("machine: x32 call", sub { $is_arm ? "EPERM" : outcome(syscall(0x40000000 | 39) >= 0) });
probe("machine: i386 program", sub {
  return "signal 31" if $is_arm;
  -x "$base/i386" or return "not there";
  my (undef, $status) = output_of("$base/i386");
  return "signal " . ($status & 127) if $status & 127;
  return $status >> 8 == 126 ? "not executable" : "code " . ($status >> 8);
});

1;
