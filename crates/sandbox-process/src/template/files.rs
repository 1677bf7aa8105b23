//! The synthetic `/etc`: what interpreters and their libraries look for, and nothing of the host's.

/// Files and their content.
pub(super) const ETC: [(&str, &str); 5] = [
    (
        "/etc/passwd",
        "root:x:0:0:root:/:/sbin/nologin\n\
         sandbox:x:1000:1000:sandbox:/tmp:/sbin/nologin\n\
         nobody:x:65534:65534:nobody:/:/sbin/nologin\n",
    ),
    ("/etc/group", "root:x:0:\nsandbox:x:1000:\nnogroup:x:65534:\n"),
    ("/etc/hosts", "127.0.0.1 localhost sandbox\n::1 localhost\n"),
    ("/etc/hostname", "sandbox\n"),
    ("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
];

/// Where libraries look for the local time zone, and what it is. A link, because ICU (in Node) reads the zone's name
/// off the link; without one it compares every file of the time zone database, 10 ms for each process.
pub(super) const LOCAL_TIME: (&str, &str) = ("/usr/share/zoneinfo/Etc/UTC", "/etc/localtime");

/// Device nodes: name, minor number; the major number is 1 (memory devices).
pub(super) const DEVICES: [(&str, u32); 5] =
    [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)];

/// Links in `/dev`.
pub(super) const DEVICE_LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

/// Folders that something is mounted on later, and the empty one that covers what is masked.
pub(super) const FOLDERS: [&str; 4] = ["/tmp", "/var/task", "/var/empty", "/etc"];
