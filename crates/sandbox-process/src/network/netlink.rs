//! Route netlink (rtnetlink(7)): messages as bytes, and a socket that sends some at once and waits for the
//! kernel's word on each.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

/// Length of a message's own header (`nlmsghdr`).
const HEADER: usize = 16;
/// `VETH_INFO_PEER` of linux/veth.h.
const VETH_PEER: u16 = 1;
/// Says that an attribute holds attributes (`NLA_F_NESTED`).
const NESTED: u16 = 1 << 15;
const UP: u32 = libc::IFF_UP as u32;

/// One request, without its header.
#[derive(Debug)]
pub(super) struct Request {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend(((value.len() + 4) as u16).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    pad(body);
}

fn text(body: &mut Vec<u8>, kind: u16, value: &str) {
    let mut bytes = value.as_bytes().to_vec();
    bytes.push(0);
    attribute(body, kind, &bytes);
}

fn nested(body: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    fill(&mut inner);
    attribute(body, kind | NESTED, &inner);
}

/// `ifinfomsg`: family, padding, type, index, flags, which flags to change.
fn link_header(index: u32, flags: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    for word in [index, flags, flags] {
        body.extend(word.to_ne_bytes());
    }
    body
}

/// `rtmsg`: a unicast route of the main table.
fn route_header(length: u8, scope: u8) -> Vec<u8> {
    let family = libc::AF_INET as u8;
    let mut body =
        vec![family, length, 0, 0, libc::RT_TABLE_MAIN, libc::RTPROT_STATIC, scope, libc::RTN_UNICAST];
    body.extend([0; 4]);
    body
}

/// Marks a next hop as one that is on the link, whatever the addresses say (`RTNH_F_ONLINK`).
const ON_LINK: u32 = 4;
/// Of linux/fib_rules.h.
const TO_TABLE: u8 = 1;
const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_TABLE: u16 = 15;
const CREATE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;

impl Request {
    /// A pair of links: `name` here, and `peer` in another namespace.
    pub(super) fn add_pair(name: &str, peer: &str, namespace: BorrowedFd<'_>, mtu: Option<u32>) -> Self {
        let with_mtu = |body: &mut Vec<u8>| {
            if let Some(mtu) = mtu {
                attribute(body, libc::IFLA_MTU, &mtu.to_ne_bytes());
            }
        };
        let mut body = link_header(0, 0);
        text(&mut body, libc::IFLA_IFNAME, name);
        with_mtu(&mut body);
        nested(&mut body, libc::IFLA_LINKINFO, |info| {
            text(info, libc::IFLA_INFO_KIND, "veth");
            nested(info, libc::IFLA_INFO_DATA, |data| {
                nested(data, VETH_PEER, |other| {
                    other.extend(link_header(0, 0));
                    text(other, libc::IFLA_IFNAME, peer);
                    with_mtu(other);
                    attribute(other, libc::IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes());
                });
            });
        });
        Self { kind: libc::RTM_NEWLINK, flags: CREATE, body }
    }

    /// Brings a link up.
    pub(super) fn up(index: u32) -> Self {
        Self { kind: libc::RTM_SETLINK, flags: 0, body: link_header(index, UP) }
    }

    /// Removes a link, and its peer.
    pub(super) fn remove(name: &str) -> Self {
        let mut body = link_header(0, 0);
        text(&mut body, libc::IFLA_IFNAME, name);
        Self { kind: libc::RTM_DELLINK, flags: 0, body }
    }

    /// Asks for all that is known of a link.
    fn link(name: &str) -> Self {
        let mut body = link_header(0, 0);
        text(&mut body, libc::IFLA_IFNAME, name);
        Self { kind: libc::RTM_GETLINK, flags: 0, body }
    }

    /// Gives a link one address, without a network around it.
    pub(super) fn add_address(index: u32, address: Ipv4Addr) -> Self {
        // `ifaddrmsg`: family, prefix length, flags, scope, index.
        let mut body = vec![libc::AF_INET as u8, 32, 0, libc::RT_SCOPE_UNIVERSE];
        body.extend(index.to_ne_bytes());
        attribute(&mut body, libc::IFA_LOCAL, &address.octets());
        attribute(&mut body, libc::IFA_ADDRESS, &address.octets());
        Self { kind: libc::RTM_NEWADDR, flags: CREATE, body }
    }

    /// A route to one address that is on a link.
    pub(super) fn add_neighbour(index: u32, address: Ipv4Addr) -> Self {
        let mut body = route_header(32, libc::RT_SCOPE_LINK);
        attribute(&mut body, libc::RTA_DST, &address.octets());
        attribute(&mut body, libc::RTA_OIF, &index.to_ne_bytes());
        Self { kind: libc::RTM_NEWROUTE, flags: CREATE, body }
    }

    /// The route to everything else.
    pub(super) fn add_default(index: u32, gateway: Ipv4Addr) -> Self {
        let mut body = route_header(0, libc::RT_SCOPE_UNIVERSE);
        attribute(&mut body, libc::RTA_GATEWAY, &gateway.octets());
        attribute(&mut body, libc::RTA_OIF, &index.to_ne_bytes());
        Self { kind: libc::RTM_NEWROUTE, flags: CREATE, body }
    }

    /// In a table of its own, the route to everything: by a link on which the next hop is.
    pub(super) fn add_exit(index: u32, beyond: Ipv4Addr, table: u32) -> Self {
        // `rtmsg`, whose table has one byte only.
        let scope = libc::RT_SCOPE_UNIVERSE;
        let unspecified = libc::RT_TABLE_UNSPEC;
        let mut body = vec![libc::AF_INET as u8, 0, 0, 0, unspecified, libc::RTPROT_STATIC, scope];
        body.push(libc::RTN_UNICAST);
        body.extend(ON_LINK.to_ne_bytes());
        attribute(&mut body, libc::RTA_GATEWAY, &beyond.octets());
        attribute(&mut body, libc::RTA_OIF, &index.to_ne_bytes());
        attribute(&mut body, libc::RTA_TABLE, &table.to_ne_bytes());
        Self { kind: libc::RTM_NEWROUTE, flags: CREATE, body }
    }

    /// Adds or removes the rule that what comes in on a link is led by a table.
    pub(super) fn rule(add: bool, link: &str, table: u32, priority: u32) -> Self {
        // `fib_rule_hdr`: family, lengths of destination and source, tos, table, two reserved, action, flags.
        let mut body = vec![libc::AF_INET as u8, 0, 0, 0, libc::RT_TABLE_UNSPEC, 0, 0, TO_TABLE];
        body.extend([0; 4]);
        text(&mut body, FRA_IIFNAME, link);
        attribute(&mut body, FRA_TABLE, &table.to_ne_bytes());
        attribute(&mut body, FRA_PRIORITY, &priority.to_ne_bytes());
        if add {
            Self { kind: libc::RTM_NEWRULE, flags: CREATE, body }
        } else {
            Self { kind: libc::RTM_DELRULE, flags: 0, body }
        }
    }
}

/// A socket to one network namespace: that of the thread that made it.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Opens it. Protocol 0 is `NETLINK_ROUTE`.
    pub(super) fn open() -> io::Result<Self> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// The number of a link in the socket's namespace.
    pub(super) fn index(&self, name: &str) -> io::Result<u32> {
        Ok(rustix::net::netdevice::name_to_index(self.socket.as_fd(), name)?)
    }

    /// How many bytes a link of the socket's namespace has received and sent.
    pub(super) fn bytes(&mut self, name: &str) -> io::Result<(u64, u64)> {
        self.send(&[Request::link(name)], libc::NLM_F_REQUEST as u16)?;
        let mut buffer = [0; 8 * 1024];
        let (length, _) = recv(&self.socket, &mut buffer[..], RecvFlags::empty())?;
        link_bytes(buffer.get(..length).unwrap_or_default()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn send(&mut self, requests: &[Request], flags: u16) -> io::Result<()> {
        let mut datagram = Vec::new();
        for request in requests {
            self.sequence = self.sequence.wrapping_add(1);
            let length = HEADER + request.body.len();
            datagram.extend((length as u32).to_ne_bytes());
            datagram.extend(request.kind.to_ne_bytes());
            datagram.extend((request.flags | flags).to_ne_bytes());
            datagram.extend(self.sequence.to_ne_bytes());
            datagram.extend([0; 4]);
            datagram.extend(&request.body);
            pad(&mut datagram);
        }
        sendto(&self.socket, &datagram, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        Ok(())
    }

    /// Has all requests carried out, in order, and returns the first failure.
    pub(super) fn transact(&mut self, requests: &[Request]) -> io::Result<()> {
        self.send(requests, (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16)?;
        let mut first = Ok(());
        let mut left = requests.len();
        let mut buffer = [0; 8 * 1024];
        while left > 0 {
            let (length, _) = recv(&self.socket, &mut buffer[..], RecvFlags::empty())?;
            for error in answers(buffer.get(..length).unwrap_or_default()) {
                left = left.saturating_sub(1);
                if error != 0 && first.is_ok() {
                    first = Err(io::Error::from_raw_os_error(-error));
                }
            }
        }
        first
    }
}

/// The statistics (`IFLA_STATS64`) of an `RTM_NEWLINK` message: bytes received and sent.
fn link_bytes(message: &[u8]) -> Option<(u64, u64)> {
    let kind = u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?);
    let mut attributes = message.get(HEADER + 16..).filter(|_| kind == libc::RTM_NEWLINK)?;
    loop {
        let length = usize::from(u16::from_ne_bytes(attributes.get(..2)?.try_into().ok()?)).max(4);
        let kind = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?);
        let value = attributes.get(4..length)?;
        if kind == libc::IFLA_STATS64 {
            // `rtnl_link_stats64`: packets received and sent, then bytes.
            let number = |at: usize| Some(u64::from_ne_bytes(value.get(at..at + 8)?.try_into().ok()?));
            return Some((number(16)?, number(24)?));
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

/// The error numbers of the `NLMSG_ERROR` messages in a datagram; 0 is success.
fn answers(mut bytes: &[u8]) -> Vec<i32> {
    let mut errors = Vec::new();
    let word = |bytes: &[u8], at: usize| {
        bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, i32::from_ne_bytes)
    };
    while bytes.len() >= HEADER {
        let length = usize::try_from(word(bytes, 0)).unwrap_or_default().max(HEADER);
        let kind = bytes.get(4..6).and_then(|kind| kind.try_into().ok()).map_or(0, u16::from_ne_bytes);
        if i32::from(kind) == libc::NLMSG_ERROR {
            errors.push(word(bytes, HEADER));
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    errors
}
