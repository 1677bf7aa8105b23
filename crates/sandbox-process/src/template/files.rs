//! What every root has beside its runtime and [`/etc`](impuls_sandbox::etc): devices and folders.

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
