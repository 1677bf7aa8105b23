//! The synthetic `/etc` of sandboxes: what interpreters and their libraries look for, and nothing of the host's. One for all
//! drivers, so that code sees the same in each.

/// Files and their content, all but `/etc/resolv.conf`, which depends on the network.
pub const FILES: [(&str, &str); 5] = [
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

/// What libraries take for the local time zone, and where they look for it. A link, because ICU (in Node) reads the zone's name
/// off the link; without one it compares every file of the time zone database, 10 ms for each process.
pub const LOCAL_TIME: (&str, &str) = ("/usr/share/zoneinfo/Etc/UTC", "/etc/localtime");

/// The text of `/etc/resolv.conf` for a resolver at this address. Without one it is empty: where the file is missing, the C
/// library would ask the sandbox itself.
#[must_use]
pub fn resolv_conf(resolver: Option<std::net::Ipv4Addr>) -> String {
    resolver.map(|address| format!("nameserver {address}\n")).unwrap_or_default()
}
