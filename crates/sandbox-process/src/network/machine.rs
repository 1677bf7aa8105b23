//! The machine's own addresses, for a table that is not on the machine itself: from a yard, a packet to one of them
//! looks like one to anybody else.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, OwnedFd};

use impuls_domain::Cidr;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use tokio::io::unix::AsyncFd;

use crate::sys;

/// `RTMGRP_IPV4_IFADDR` and `RTMGRP_IPV4_ROUTE` of linux/rtnetlink.h.
const GROUPS: u32 = 0x10 | 0x40;

/// Whatever the kernel takes for the machine itself: addresses, and ranges that an administrator has made local.
pub(super) fn own() -> io::Result<Vec<Cidr>> {
    Ok(parse(&fs::read_to_string("/proc/thread-self/net/fib_trie")?))
}

/// Lines of `|-- <address>`, each followed by one line of `/<prefix> <scope> <type>` for every route to it.
fn parse(text: &str) -> Vec<Cidr> {
    let mut address: Option<Ipv4Addr> = None;
    let mut found = Vec::new();
    for line in text.lines().map(str::trim_start) {
        if let Some(text) = line.strip_prefix("|-- ") {
            address = text.trim().parse().ok();
        } else if let (Some(address), Some((prefix, kind))) = (address, leaf(line))
            && kind == "LOCAL"
        {
            found.extend(Cidr::new(address.into(), prefix));
        }
    }
    found.sort_by_key(ToString::to_string);
    found.dedup();
    found
}

fn leaf(line: &str) -> Option<(u8, &str)> {
    let mut words = line.strip_prefix('/')?.split_ascii_whitespace();
    let prefix = words.next()?.parse().ok()?;
    Some((prefix, words.nth(1)?))
}

/// A socket on which the kernel tells every change of addresses and routes. Everybody may listen.
#[derive(Debug)]
pub(super) struct Changes {
    socket: AsyncFd<OwnedFd>,
}

impl Changes {
    /// Must be called in the runtime that is to wait.
    pub(super) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        Ok(Self { socket: sys::watched(socket)? })
    }

    /// Resolves when something may have changed.
    pub(super) async fn next(&self) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        let mut heard = false;
        loop {
            let mut ready = self.socket.readable().await?;
            // All that waits is one change.
            loop {
                match recv(self.socket.get_ref().as_fd(), &mut buffer[..], RecvFlags::empty()) {
                    // More was told than fits, which is a change too.
                    Ok(_) | Err(rustix::io::Errno::NOBUFS) => heard = true,
                    Err(rustix::io::Errno::AGAIN) => break,
                    Err(error) => return Err(error.into()),
                }
            }
            ready.clear_ready();
            if heard {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_local_is_the_machines_own() {
        let text = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     \
                    +-- 203.0.113.0/24 2 0 2\n        |-- 203.0.113.0\n           /24 link UNICAST\n\
                    Local:\n  +-- 0.0.0.0/0 3 0 5\n     +-- 127.0.0.0/8 2 0 2\n           |-- 127.0.0.0\n              \
                    /8 host LOCAL\n           |-- 127.0.0.1\n              /32 host LOCAL\n        |-- 203.0.113.1\n           \
                    /32 host LOCAL\n        |-- 203.0.113.255\n           /32 link BROADCAST\n        \
                    |-- 192.0.2.0\n           /24 host LOCAL\n";
        let found: Vec<String> = parse(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["127.0.0.0/8", "127.0.0.1", "192.0.2.0/24", "203.0.113.1"]);
        assert!(own().unwrap().iter().all(|range| range.address().is_ipv4()));
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_strange(text: String) {
            let _found = parse(&text);
        }
    }
}
