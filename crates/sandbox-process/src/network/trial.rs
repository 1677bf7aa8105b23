//! Whether this machine can give sandboxes a network: tried with everything that a real one needs, in a network
//! namespace that goes with the process that tries.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use rustix::thread::UnshareFlags;

use super::address::Part;
use super::ground::Local;
use super::link::{Exit, Plan};
use super::netlink::{Netlink, Request};
use super::nft;
use super::rules::{self, Base, Names, Outside, Ports};
use crate::failure::{Failure, Step};

fn find_nft() -> Result<(), Failure> {
    nft::find("nft").map(drop).ok_or(io::Error::from_raw_os_error(libc::ENOENT)).step("find nft")
}

/// A part of the usual pool, in a namespace where all of it is free.
fn part() -> Result<Part, Failure> {
    let pool = "198.18.0.0/24".parse().map_err(io::Error::other).step("read range")?;
    let part = Part::of(&pool, 0).into_iter().next();
    part.ok_or(io::Error::from_raw_os_error(libc::EINVAL)).step("read range")
}

/// To be called in a new network namespace, with the rights that the server has over the machine's own.
pub(crate) fn run() -> Result<(), Failure> {
    find_nft()?;
    let mut netlink = Netlink::open().step("open netlink")?;
    let own = File::open("/proc/self/ns/net").step("open network namespace")?;
    netlink.transact(&[Request::add_pair("im0", "im1", own.as_fd(), None)]).step("make a veth link")?;
    let (ports, guarded) = (Ports { udp: 53, tcp: 53 }, ["im0".to_owned()]);
    let (outside, part) = (Outside::Links(&guarded), part()?);
    let base = Base { names: &Names::of("1-1-1", part.gateway()), part, ports, operator: &[], outside };
    nft::run(&base.script()).step("load packet filter")
}

/// One that stands for a sandbox's.
fn other_namespace() -> io::Result<File> {
    let make = || {
        crate::sys::unshare(UnshareFlags::NEWNET)?;
        File::open("/proc/thread-self/ns/net")
    };
    let thread = std::thread::Builder::new().spawn(make)?;
    thread.join().map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?
}

/// To be called by a thread in a new yard. Leaves nothing behind.
pub(super) fn run_in_yard(local: &mut Local) -> Result<(), Failure> {
    find_nft()?;
    let part = part()?;
    let names = Names::of("1-1-1", part.gateway());
    let base = Base {
        names: &names,
        part,
        ports: Ports { udp: 53, tcp: 53 },
        operator: &[],
        outside: Outside::Taps,
    };
    nft::run(&format!("{}{}", base.script(), rules::machine(&names, &[]))).step("load packet filter")?;
    let plan = Plan {
        name: names.link(2, false),
        address: part.beyond(),
        gateway: part.gateway(),
        mtu: None,
        exit: Some(Exit { tap: names.tap(2), number: 2, beyond: part.beyond() }),
    };
    let namespace = other_namespace().step("make network namespace")?;
    let plugged = local.plug(&plan, namespace.as_fd());
    drop(namespace);
    local.await_end(&plan.name, Duration::ZERO).step("remove link")?;
    plugged?;
    nft::run(&rules::remove(&names.table)).step("remove packet filter")
}
