# Files of the host that need a system call: a program with file capabilities, a pipe, a device.
# Takes the directory.
use strict;
use warnings;
use POSIX ();

my ($directory) = @ARGV;
my $is_arm = (POSIX::uname())[4] eq "aarch64";
my %NR = (setxattr => $is_arm ? 5 : 188, mknodat => $is_arm ? 33 : 259);

# struct vfs_cap_data, revision 2, effective: CAP_NET_ADMIN and CAP_NET_RAW, as an old ping has.
my $capabilities = pack("L5", 0x02000001, 0x3000, 0, 0, 0);
my ($program, $name) = ("$directory/capable-perl\0", "security.capability\0");
syscall($NR{setxattr}, $program, $name, $capabilities, 20, 0) == 0 or die "setxattr: $!";

POSIX::mkfifo("$directory/pipe", 0666) or die "mkfifo: $!";
chmod 0666, "$directory/pipe";

# Character device 1:3, /dev/null.
my $node = "$directory/null-node\0";
syscall($NR{mknodat}, -100, $node, 0020666, 0x103) == 0 or die "mknod: $!";
chmod 0666, "$directory/null-node";
