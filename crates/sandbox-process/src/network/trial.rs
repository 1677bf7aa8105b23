//! Whether this machine can give sandboxes a network: tried with everything that a real one needs, in a network
//! namespace that goes with the process that tries.

use std::io;
use std::os::fd::AsFd as _;

use super::address::Part;
use super::netlink::{Netlink, Request};
use super::nft;
use super::rules::{Base, Names, Ports};
use crate::failure::{Failure, Step};

/// To be called in a new network namespace, with the rights that the server has over the machine's own.
pub(crate) fn run() -> Result<(), Failure> {
    if nft::find("nft").is_none() {
        return Err(Failure::new("find nft", io::Error::from_raw_os_error(libc::ENOENT)));
    }
    let names = Names::of("1-1-1");
    let pool = "198.18.0.0/24".parse().map_err(io::Error::other).step("read range")?;
    let part = Part::of(&pool, 0).into_iter().next();
    let part = part.ok_or(io::Error::from_raw_os_error(libc::EINVAL)).step("read range")?;
    let mut netlink = Netlink::open().step("open netlink")?;
    let own = std::fs::File::open("/proc/self/ns/net").step("open network namespace")?;
    netlink.transact(&[Request::add_pair("im0", "im1", own.as_fd(), None)]).step("make a veth link")?;
    let (ports, guarded) = (Ports { udp: 53, tcp: 53 }, ["im0".to_owned()]);
    let base = Base { names: &names, part, ports, operator: &[], guarded: &guarded };
    nft::run(&base.script()).step("load packet filter")
}
