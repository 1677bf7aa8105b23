# Makes deploy/kubernetes/seccomp.json out of the default profile of Docker and containerd (file seccomp/default.json of
# github.com/moby/profiles, made from v0.2.3, Apache-2.0):
#
#   jq -f deploy/seccomp.jq default.json > deploy/kubernetes/seccomp.json
#
# The result is that profile as it is for a container without any capability on x86-64 or 64-bit Arm, in the form of the
# OCI runtime specification, which Docker and Kubernetes both read, and with the calls that sandboxes are made of. What
# is inside a sandbox may make none of these: the server gives each a stricter filter of its own.

# With a user namespace around them, the kernel allows these to ordinary users. `clone3` cannot be filtered by flags.
["clone", "clone3", "mount", "mount_setattr", "move_mount", "open_tree", "pivot_root", "sethostname", "setns",
 "umount2", "unshare"] as $added
| def applies:
    (.includes.caps // [] | length == 0)
    and (.includes.arches // ["amd64"] | any(. == "amd64" or . == "arm64"))
    and (.names - $added | length > 0);
{
  defaultAction, defaultErrnoRet,
  architectures: ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
  syscalls: (
    [.syscalls[] | select(applies) | {names: (.names - $added)} + (. | {action, args, errnoRet} | del(.[] | nulls))]
    + [{names: $added, action: "SCMP_ACT_ALLOW"}]
  )
}
