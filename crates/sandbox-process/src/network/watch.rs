//! Notices that tables of the packet filter were deleted. Tools that set up a machine's firewall begin by
//! deleting everything (`nft flush ruleset`, which is what reloading Debian's nftables service does), and sandboxes
//! must not be without rules then.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use tokio::io::unix::AsyncFd;

use crate::sys;

/// `NFNLGRP_NFTABLES` of linux/netfilter/nfnetlink.h, as a bit.
const GROUP: u32 = 1 << (7 - 1);
/// `NFNL_SUBSYS_NFTABLES` and `NFT_MSG_DELTABLE`.
const DELETED: u16 = 10 << 8 | 2;
/// Length of `nlmsghdr`.
const HEADER: usize = 16;

/// A socket on which the kernel tells every change of the packet filter.
#[derive(Debug)]
pub(super) struct Watch {
    socket: AsyncFd<OwnedFd>,
}

impl Watch {
    /// The socket, which hears of the network namespace that it is made in.
    pub(super) fn socket() -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(NETFILTER))?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUP))?;
        Ok(socket)
    }

    /// Listens. Must be called in the runtime that is to wait.
    pub(super) fn on(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self { socket: sys::watched(socket)? })
    }

    /// Resolves when a table may have been deleted, whoever's it was.
    pub(super) async fn deleted(&self) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let mut ready = self.socket.readable().await?;
            match recv(self.socket.get_ref().as_fd(), &mut buffer[..], RecvFlags::empty()) {
                Ok((length, _)) if tells_deletion(buffer.get(..length).unwrap_or_default()) => return Ok(()),
                Ok(_) => {}
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                // More was told than fits; a deletion may have been among it.
                Err(rustix::io::Errno::NOBUFS) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn tells_deletion(mut bytes: &[u8]) -> bool {
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        if rest.first_chunk().copied().map(u16::from_ne_bytes) == Some(DELETED) {
            return true;
        }
        let length = usize::try_from(u32::from_ne_bytes(*length)).unwrap_or(usize::MAX).max(HEADER);
        bytes = bytes.get(length.saturating_add(3) & !3..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, length: u32) -> Vec<u8> {
        let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes()].concat();
        bytes.resize(length.next_multiple_of(4) as usize, 0);
        bytes
    }

    #[test]
    fn a_deletion_is_found_wherever_it_is() {
        assert!(tells_deletion(&[message(0xa0c, 21), message(DELETED, 24)].concat()));
        assert!(!tells_deletion(&[message(0xa0c, 21), message(0xa00, 24)].concat()));
        assert!(!tells_deletion(&[0, 0, 0, 0, 1]));
        assert!(!tells_deletion(&[]));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes: Vec<u8>) {
            let _found = tells_deletion(&bytes);
        }
    }
}
