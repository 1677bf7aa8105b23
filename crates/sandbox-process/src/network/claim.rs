//! What a server takes for its network before anybody needs it, and the resolver's sockets.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use impuls_domain::Cidr;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::address::Part;
use super::routes;

/// Connections that wait for the resolver to accept them.
const BACKLOG: i32 = 128;

/// Claims a part of the pool that no route leads to and no other server has. The claim is a socket with a name that
/// only this machine's network knows (unix(7), abstract addresses): it goes with the process, and takes no port.
pub(super) fn claim(pool: &Cidr) -> Result<(Part, UnixDatagram), String> {
    let routes = routes::routes().map_err(|error| format!("the machine's routes cannot be read: {error}"))?;
    let mut refusal = format!("the pool {pool} is no IPv4 range of at least 16 addresses");
    for part in Part::of(pool, crate::sys::own_pid()) {
        let used =
            |range: Cidr| routes.iter().find(|route| route.to.prefix() > 0 && route.to.overlaps(&range));
        if let Some(route) = part.range().and_then(used) {
            refusal =
                format!("no part of the pool {pool} is free: {} is a route of {}", route.to, route.link);
            continue;
        }
        match bind(part.gateway()) {
            Ok(claim) => return Ok((part, claim)),
            Err(error) => {
                refusal = format!("no part of the pool {pool} is free: {}: {error}", part.gateway())
            }
        }
    }
    Err(refusal)
}

fn bind(gateway: Ipv4Addr) -> io::Result<UnixDatagram> {
    let name = SocketAddr::from_abstract_name(format!("impuls-network-{gateway}"))?;
    UnixDatagram::bind_addr(&name)
}

/// Whether a server that shares this machine's network lives and has claimed the part with this gateway, in whichever
/// container it runs.
pub(super) fn is_claimed(gateway: Ipv4Addr) -> bool {
    bind(gateway).is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

/// The resolver's sockets, on an address that the machine will have only once a sandbox is linked to it, and on
/// any ports: the rules lead there what sandboxes send to port 53, where somebody else may listen.
pub(super) fn sockets(gateway: Ipv4Addr) -> io::Result<(OwnedFd, OwnedFd)> {
    let socket = |kind| {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::INET, kind, flags, None)?;
        sockopt::set_ip_freebind(&socket, true)?;
        rustix::net::bind(&socket, &SocketAddrV4::new(gateway, 0))?;
        Ok::<OwnedFd, io::Error>(socket)
    };
    let (udp, tcp) = (socket(SocketType::DGRAM)?, socket(SocketType::STREAM)?);
    rustix::net::listen(&tcp, BACKLOG)?;
    Ok((udp, tcp))
}
