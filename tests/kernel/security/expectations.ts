/**
 * What each probe of `probes/` must be told, by the test that it belongs to.
 *
 * An answer is the errno's name, `ok`, or a word of the probe's own. Several answers stand for
 * kernels that differ: a file that one kernel has not, another refuses to open. A probe that
 * answers nothing, or that no test names, fails.
 *
 * @module
 */
import type { CellUser } from "./support.ts";

/** One answer, or any of several, for both users or for each. */
export type Expected = string | readonly string[] | Readonly<Record<CellUser, string>>;

/** Probes and what they must be told. */
export type Expectations = Readonly<Record<string, Expected>>;

/** Read-only for everybody, or closed to this user before that is asked. */
const READ_ONLY = ["EROFS", "EACCES", "ENOENT"];
const NO_CAPABILITIES = "CapAmb=0000000000000000 CapBnd=0000000000000000 " +
  "CapEff=0000000000000000 CapInh=0000000000000000 CapPrm=0000000000000000 " +
  "NoNewPrivs=1 Seccomp=2";
/** Four times the uid that the cell has anyway, and no effective capability. */
const OWN_IDS = "own own own own, 0000000000000000";

/** The same answer for each name. */
function all(prefix: string, names: readonly string[], expected: Expected): Expectations {
  return Object.fromEntries(names.map((name) => [`${prefix}: ${name}`, expected]));
}

/** Tests of probes, by name. */
export const PROBE_TESTS: Readonly<Record<string, Expectations>> = {
  "what a cell may do works, so that a refusal means something": {
    "control: an allowed server answers": "ok",
    "control: an allowed server answers over IPv6": "ok",
    "control: a datagram is answered": "ok",
    "control: an echo is answered": "ok",
    "control: files can be made": "ok",
    "control: own secret": "read",
    "tcp: own loopback": "ECONNREFUSED",
    "udp: own loopback": "ECONNREFUSED",
    "ping: own loopback": "ok",
    "protocol: mptcp": ["ok", "EPROTONOSUPPORT"],
    "devices: pipe is allowed": "ok",
    "machine: personality is told": "ok",
    "ptrace: own child": "ok",
  },
  "routes, addresses, links and rules cannot be changed over rtnetlink": {
    "route: add": "EPERM",
    "route: delete": "EPERM",
    "address: add": "EPERM",
    "link: down": "EPERM",
    "link: add": "EPERM",
    "neighbour: add": "EPERM",
    "rule: add": "EPERM",
    "tc: add": "EPERM",
  },
  "routes and addresses cannot be changed by ioctl": {
    "route: ioctl": "EPERM",
    "address: ioctl": "EPERM",
  },
  "nftables, iptables, xfrm and audit cannot be spoken to": {
    "nft: socket": "EPERM",
    "nft: xfrm socket": "EPERM",
    "nft: audit socket": "EPERM",
    "nft: iptables": ["EPERM", "ENOPROTOOPT"],
  },
  "raw sockets are refused": {
    "raw: IPv4": "EPERM",
    "raw: IPv4, any protocol": "EPERM",
    "raw: IPv6": "EPERM",
  },
  "packet sockets are refused": {
    "packet: raw": "EAFNOSUPPORT",
    "packet: datagram": "EAFNOSUPPORT",
    "packet: old": "EPERM",
  },
  "AF_VSOCK does not lead out of the machine": {
    "vsock: stream": "EAFNOSUPPORT",
    "vsock: datagram": "EAFNOSUPPORT",
    "vsock: device": "ENOENT",
  },
  "no other socket family and no other protocol can be had": {
    "family: all others": "EAFNOSUPPORT",
    "protocol: sctp": "EPROTONOSUPPORT",
    "protocol: sctp, IPv6": "EPROTONOSUPPORT",
    "protocol: dccp": "EPROTONOSUPPORT",
    "protocol: udplite": "EPROTONOSUPPORT",
    "protocol: l2tp": "EPROTONOSUPPORT",
  },
  "a program cannot send from a source that is not the cell's": {
    "spoof: transparent": "option: EPERM",
    "spoof: transparent, IPv6": "option: EPERM",
    "spoof: freebind": ["EINVAL", "ENETUNREACH"],
    // Here the kernel allows it, and the cell's table refuses.
    "spoof: freebind, IPv6": "EPERM",
    "spoof: other cell, IPv6": "EPERM",
    "spoof: mark": "EPERM",
    "spoof: header included": "ENOPROTOOPT",
  },
  "a socket bound to lo does not reach past the policy": {
    "device: lo to a forbidden address": ["silent", "ENETUNREACH", "EINVAL", "EPERM"],
  },
  "a program's own fragments and extension headers reach nothing more": {
    "fragments: of a forbidden datagram": "EPERM",
    "fragments: of a forbidden datagram, IPv6": "EPERM",
    "extension: hop by hop": "EPERM",
    "extension: destination": "EPERM",
    "extension: routing header, type 0": "option: EINVAL",
    "extension: routing header, type 2": ["option: EINVAL", "EPERM"],
    "extension: routing header, type 4": ["option: EINVAL", "EPERM"],
    "extension: source route": "option: EPERM",
  },
  "a cell does not reach another cell, both with rules for every address": {
    ...all("tcp", ["other cell", "other cell, IPv6"], "ECONNREFUSED"),
    ...all("udp", ["other cell", "other cell, IPv6"], "EPERM"),
    "ping: other cell": "EPERM",
    "ping: other cell, IPv6": "EACCES",
    "guest: reached": "0",
  },
  "a cell does not reach ports of the host": {
    ...all("tcp", ["host", "host, IPv6", "gateway", "gateway, IPv6"], "ECONNREFUSED"),
    ...all("udp", ["host", "host, IPv6", "gateway", "gateway, IPv6"], "EPERM"),
    ...all("ping", ["host", "gateway"], "EPERM"),
    ...all("ping", ["host, IPv6", "gateway, IPv6"], "EACCES"),
  },
  "a rule for every address does not open the metadata service": {
    "tcp: metadata": "ECONNREFUSED",
    "udp: metadata": "EPERM",
    "ping: metadata": "EPERM",
  },
  "a rule for every address opens no link-local, multicast, or translated address": {
    "tcp: link-local": "ECONNREFUSED",
    "udp: link-local": "EPERM",
    "ping: link-local": "EPERM",
    "tcp: multicast": "ENETUNREACH",
    "udp: multicast": "EPERM",
    "ping: multicast": "EPERM",
    "tcp: multicast, IPv6": "ENETUNREACH",
    "udp: multicast, IPv6": "EINVAL",
    "ping: multicast, IPv6": "EINVAL",
    "tcp: IPv4 in IPv6": "ECONNREFUSED",
    "udp: IPv4 in IPv6": "EPERM",
    "ping: IPv4 in IPv6": "EACCES",
  },
  "a Unix socket of the host is seen by its path and not connected to": {
    "unix: seen": "ok",
    "unix: stream": "ECONNREFUSED",
    "unix: by /proc": "ECONNREFUSED",
    "unix: datagram": "ECONNREFUSED",
    "unix: in /run": "ENOENT",
  },
  "an abstract Unix socket of the host is in another namespace": {
    "unix: abstract": "ECONNREFUSED",
  },
  "a named pipe of the host does not carry anything to the host": {
    "unix: pipe": "ENXIO",
  },
  "no descriptor of celld's or of its starter's is inherited": {
    "fds: open": "none",
    "fds: of init": "EACCES",
  },
  "namespaces cannot be joined through /proc": {
    "namespaces: setns to own": "EPERM",
    "namespaces: setns to init": "EPERM",
    ...all("init's namespace", ["net", "mnt", "pid", "user", "uts", "ipc", "cgroup"], "EACCES"),
    "namespaces: root of init": "EACCES",
    "namespaces: working directory of init": "EACCES",
    "namespaces: host process": "ENOENT",
    "namespaces: root of a host process": "ENOENT",
    "namespaces: pidfd of a host process": "ESRCH",
  },
  "signals reach no process of the host": {
    "signals: host process": "ESRCH",
    "signals: host process, stop": "ESRCH",
    "signals: limits of a host process": "ESRCH",
    "celld: processes of others": "none",
  },
  "a cell cannot kill or stop its init": {
    "signals: kill init": "S",
  },
  "ptrace ends at the cell's own children": {
    "ptrace: host process": "ESRCH",
    "ptrace: init": "EPERM",
    "ptrace: init, seize": "EPERM",
    "ptrace: memory of init": "EACCES",
    "ptrace: environment of init": "EACCES",
    "ptrace: process_vm_readv": "EPERM",
    "ptrace: process_vm_writev": "EPERM",
    "ptrace: pidfd_getfd": "EPERM",
    "ptrace: kcmp": "EPERM",
  },
  "setuid programs and file capabilities give nothing": {
    "setuid: copy in a host directory": OWN_IDS,
    "setuid: copy in a bind": OWN_IDS,
    "setuid: file capabilities": OWN_IDS,
    "setuid: plain": OWN_IDS,
    "setuid: made by the cell": OWN_IDS,
    "setuid: su": "refused",
  },
  "no privilege is held and none can be taken": {
    "setuid: state": NO_CAPABILITIES,
    "setuid: capset": "EPERM",
    "setuid: root": { auto: "EPERM", root: "ok" },
    "setuid: another user": { auto: "EPERM", root: "EINVAL" },
    "setuid: groups": "EPERM",
    "setuid: ambient": "EPERM",
  },
  "keyrings are out of reach": {
    "keyrings: add_key": "EPERM",
    "keyrings: request_key": "EPERM",
    "keyrings: keyctl": "EPERM",
    "keyrings: /proc/keys": ["empty", "ENOENT"],
  },
  "io_uring is refused": {
    "io_uring: setup": "EPERM",
    "io_uring: enter": "EPERM",
    "io_uring: register": "EPERM",
  },
  "no namespace can be made, a user namespace least of all": {
    ...all("unshare", ["user", "mnt", "net", "pid", "uts", "ipc", "cgroup", "time"], "EPERM"),
    "unshare: clone": "EPERM",
    "unshare: clone, network": "EPERM",
    "unshare: clone3": "ENOSYS",
  },
  "nothing can be mounted, unmounted or made writable": all("mount", [
    "tmpfs",
    "proc",
    "bind",
    "root writable",
    "/proc/sys writable",
    "umount",
    "open_tree",
    "move_mount",
    "fsopen",
    "fsmount",
    "fsconfig",
    "fspick",
    "mount_setattr",
    "pivot_root",
  ], "EPERM"),
  "there is no way out of the root": {
    "chroot: call": "EPERM",
    "chroot: above the root": "same",
    "chroot: the old root": "EACCES",
    "chroot: open_by_handle_at": "EPERM",
  },
  "device nodes cannot be made, and those of the host do not work": {
    "devices: character": "EPERM",
    "devices: block": "EPERM",
    "devices: host's node": "EACCES",
    "devices: add to /dev": "EROFS",
  },
  "/dev has no memory, disk, kernel log, or tunnel": all("devices", [
    "/dev/mem",
    "/dev/kmem",
    "/dev/port",
    "/dev/kmsg",
    "/dev/fuse",
    "/dev/kvm",
    "/dev/loop-control",
    "/dev/net/tun",
    "/dev/vda",
    "/dev/sda",
  ], "ENOENT"),
  "nothing can be typed into a terminal": {
    "terminal: TIOCSTI": "EPERM",
    "terminal: TIOCSTI on an own one": "EPERM",
    "terminal: TIOCLINUX": "EPERM",
  },
  "kernel modules and kernels cannot be loaded": {
    "modules: init_module": "EPERM",
    "modules: finit_module": "EPERM",
    "modules: delete_module": "EPERM",
    "modules: kexec_load": "EPERM",
    "modules: kexec_file_load": "EPERM",
  },
  "bpf(2) is refused": {
    "bpf: map": "EPERM",
    "bpf: program": "EPERM",
  },
  "perf events and userfaultfd are refused": {
    "perf: event": "EPERM",
    "perf: userfaultfd": "EPERM",
  },
  "the machine's name, clock, power, swap and log are out of reach": {
    "machine: personality": "EPERM",
    "machine: reboot": "EPERM",
    "machine: sethostname": "EPERM",
    "machine: settimeofday": "EPERM",
    "machine: clock_settime": "EPERM",
    "machine: adjtimex": "EPERM",
    "machine: swapon": "EPERM",
    "machine: acct": "EPERM",
    "machine: quotactl": "EPERM",
    "machine: syslog": "EPERM",
    "machine: iopl": "EPERM",
    "machine: ioperm": "EPERM",
  },
  "limits cannot be raised": {
    "machine: real time": "EPERM",
    "machine: open files": "EPERM",
    "machine: locked memory": ["ENOMEM", "EPERM"],
    "kernel: oom_score_adj": "EACCES",
  },
  "system calls of another architecture do not pass the filter": {
    "machine: x32 call": "EPERM",
    // Where a kernel cannot run such programs at all, there is nothing to pass.
    "machine: i386 program": ["signal 31", "not executable"],
  },
  "files of the host cannot be written, even where everybody may": {
    ...all("write", [
      "/etc/passwd",
      "/usr/bin",
      "world-writable file",
      "world-writable directory",
      "truncate",
      "remove",
      "rename",
      "link",
      "chmod",
      "times",
      "by a link",
      "read-only bind",
    ], "EROFS"),
  },
  "files that only the host's root may read stay so": {
    "read: /etc/shadow": "EACCES",
    "read: a root-only file": "EACCES",
    "read: homes": "EACCES",
  },
  "celld's state and the other cells' files and secrets are hidden": all("celld", [
    "state directory",
    "event log",
    "runtime directory",
    "leases",
    "cells",
    "secret of another cell",
    "output of another cell",
  ], "EACCES"),
  "a cell's output files are only written to": {
    "celld: own output reopened": "EACCES",
    "celld: own output's mode": "EPERM",
    "celld: own output preallocated": "EOPNOTSUPP",
    "celld: own output preallocated by ioctl": "EOPNOTSUPP EOPNOTSUPP EOPNOTSUPP",
  },
  "/proc/sysrq-trigger and /proc/sys cannot be written": {
    ...all("kernel", ["sysrq", "core_pattern", "ip_forward", "hostname"], READ_ONLY),
    ...all("kernel", ["modprobe", "binfmt"], READ_ONLY),
  },
  "/sys cannot be written": {
    "kernel: uevent_helper": READ_ONLY,
    "kernel: mtu by /sys": "EROFS",
    "kernel: memory settings by /sys": ["EROFS", "EISDIR"],
    "kernel: cgroups": ["empty", "ENOENT"],
  },
  "the kernel's memory and log cannot be read": {
    "kernel: kcore": ["empty", "ENOENT"],
    "kernel: kmsg": ["empty", "ENOENT"],
    "kernel: timer_list": "empty",
    "kernel: kallsyms": "none",
  },
};
