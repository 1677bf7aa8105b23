//! A sandbox's link: a pair of virtual Ethernet devices, one end on the host and one in the sandbox.
//!
//! The sandbox's end has one address and a route to the host's, which every sandbox of a server shares; there is
//! no network around them on which sandboxes would be neighbours.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};

use super::netlink::{Netlink, Request};
use crate::failure::{Failure, Step};

/// What the link is called in the sandbox.
const GUEST_NAME: &str = "eth0";
/// How long the kernel may take to remove the link of a namespace that ends, and how often it is asked.
const PATIENCE: Duration = Duration::from_millis(300);
const PAUSE: Duration = Duration::from_millis(1);

/// Where routes that are one sandbox's are, which has the number that comes on top.
const TABLES: u32 = 1_000;
/// Comes after the main table (32766), which has the way to other sandboxes: the packet filter refuses those.
const PRIORITY: u32 = 33_000;

/// A link to be made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    /// Its name on the host.
    pub(super) name: String,
    /// The sandbox's address.
    pub(super) address: Ipv4Addr,
    /// The host's.
    pub(super) gateway: Ipv4Addr,
    /// The longest packet, if it is not the usual.
    pub(super) mtu: Option<u32>,
    /// The way out that is this sandbox's alone; `None` where it uses the machine's.
    pub(super) exit: Option<Exit>,
}

/// A sandbox's own way out of a yard.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Exit {
    /// The device.
    pub(super) tap: String,
    /// The sandbox's number.
    pub(super) number: u32,
    /// What is named as the next hop; whoever is behind the device passes everything on.
    pub(super) beyond: Ipv4Addr,
}

impl Exit {
    const fn table(&self) -> u32 {
        TABLES + self.number
    }
}

/// Makes links. It belongs to a thread of its own, which enters sandboxes' network namespaces for a moment.
#[derive(Debug)]
pub(super) struct Linker {
    home: OwnedFd,
    host: Netlink,
    /// Set when the way back was not found; nothing may be done then.
    lost: bool,
    /// When a link that was waited for went.
    last_end: Option<Instant>,
}

impl Linker {
    /// At home where the thread is now.
    pub(super) fn new() -> io::Result<Self> {
        let home = fs::File::open("/proc/thread-self/ns/net")?.into();
        Ok(Self { home, host: Netlink::open()?, lost: false, last_end: None })
    }

    /// Links a network namespace to this one. On `Err` nothing is left behind.
    pub(super) fn plug(&mut self, plan: &Plan, namespace: BorrowedFd<'_>) -> Result<(), Failure> {
        let mut guest = self.guest(namespace)?;
        let pair = Request::add_pair(&plan.name, GUEST_NAME, namespace, plan.mtu);
        self.host.transact(&[pair]).step("make link")?;
        let made = self.set_up_host(plan).and_then(|()| set_up_guest(&mut guest, plan));
        made.inspect_err(|_| drop(self.unplug(&plan.name)))
    }

    /// A socket in another namespace, where IPv6 is off for links to come. The packet filter drops what a kernel
    /// sends all the same.
    fn guest(&mut self, namespace: BorrowedFd<'_>) -> Result<Netlink, Failure> {
        if self.lost {
            return Err(Failure::new("leave sandbox", io::Error::from_raw_os_error(libc::ESRCH)));
        }
        let network = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(namespace, network).step("enter sandbox")?;
        let _without_ipv6 = fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
        let guest = Netlink::open().step("open netlink");
        self.lost = move_into_link_name_space(self.home.as_fd(), network).is_err();
        guest
    }

    fn set_up_host(&mut self, plan: &Plan) -> Result<(), Failure> {
        let name = &plan.name;
        let _without_ipv6 = fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1");
        // It would let a packet name where to go behind the address that the rules see.
        let _without_source_routes = fs::write(sysctl(name, "accept_source_route"), "0");
        set_forwarding(name).step("forward packets of sandbox")?;
        let index = self.host.index(name).step("find link")?;
        let requests = [
            Request::add_address(index, plan.gateway),
            Request::up(index),
            Request::add_neighbour(index, plan.address),
        ];
        self.host.transact(&requests).step("set up link on the host")
    }

    /// The number of a link of this namespace, if there is one.
    pub(super) fn index(&self, name: &str) -> Option<u32> {
        self.host.index(name).ok()
    }

    /// Leads what comes in on a sandbox's link to its own way out, which is there.
    pub(super) fn lead_out(&mut self, plan: &Plan, exit: &Exit) -> Result<(), Failure> {
        let (name, tap) = (&plan.name, &exit.tap);
        let _without_ipv6 = fs::write(format!("/proc/sys/net/ipv6/conf/{tap}/disable_ipv6"), "1");
        set_forwarding(tap).step("forward packets to sandbox")?;
        let index = self.host.index(tap).step("find way out")?;
        let requests = [
            Request::add_address(index, plan.gateway),
            Request::up(index),
            Request::add_exit(index, exit.beyond, exit.table()),
            Request::rule(true, name, exit.table(), PRIORITY),
        ];
        self.host.transact(&requests).step("set up way out")
    }

    /// Leads it there no more; the way itself goes with its device.
    pub(super) fn lead_out_no_more(&mut self, name: &str, exit: &Exit) -> io::Result<()> {
        match self.host.transact(&[Request::rule(false, name, exit.table(), PRIORITY)]) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            other => other,
        }
    }

    /// Waits until a link is gone. With a sandbox's network namespace the kernel removes its link, many at once
    /// if many end; one alone takes as long. A link whose namespace stays, because one of its connections is not
    /// acknowledged for example, is removed.
    ///
    /// Links have to wait in line for this, each for `waited` by now, and their patience runs out together: those whose
    /// namespaces stay hold up the line once. It starts again when the kernel has just removed one that was waited for.
    pub(super) fn await_end(&mut self, name: &str, waited: Duration) -> io::Result<()> {
        let begun = Instant::now();
        let mut was_there = false;
        while self.host.index(name).is_ok() {
            let moved = self.last_end.map_or(Duration::MAX, |end| end.elapsed());
            if moved.min(waited + begun.elapsed()) > PATIENCE {
                return self.unplug(name);
            }
            was_there = true;
            std::thread::park_timeout(PAUSE);
        }
        if was_there {
            self.last_end = Some(Instant::now());
        }
        Ok(())
    }

    /// Removes a link from both ends; one that is gone is no failure.
    pub(super) fn unplug(&mut self, name: &str) -> io::Result<()> {
        match self.host.transact(&[Request::remove(name)]) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            other => other,
        }
    }
}

fn set_up_guest(guest: &mut Netlink, plan: &Plan) -> Result<(), Failure> {
    let index = guest.index(GUEST_NAME).step("find link in sandbox")?;
    let requests = [
        Request::add_address(index, plan.address),
        Request::up(index),
        Request::add_neighbour(index, plan.gateway),
        Request::add_default(index, plan.gateway),
    ];
    guest.transact(&requests).step("set up link in sandbox")
}

fn sysctl(link: &str, name: &str) -> String {
    format!("/proc/sys/net/ipv4/conf/{link}/{name}")
}

fn forwarding(link: &str) -> String {
    sysctl(link, "forwarding")
}

/// Lets the kernel pass on what comes in on a link.
pub(super) fn set_forwarding(link: &str) -> io::Result<()> {
    fs::write(forwarding(link), "1")
}

/// Does so no more.
pub(crate) fn reset_forwarding(link: &str) -> io::Result<()> {
    fs::write(forwarding(link), "0")
}

/// Whether the kernel passes on what comes in on a link; `all` is the whole machine's switch.
pub(super) fn is_forwarding(link: &str) -> io::Result<bool> {
    Ok(fs::read_to_string(forwarding(link))?.trim() == "1")
}

/// The longest packet of a link.
pub(super) fn mtu(link: &str) -> Option<u32> {
    fs::read_to_string(format!("/sys/class/net/{link}/mtu")).ok()?.trim().parse().ok()
}

/// Removes every link of this namespace whose name begins so.
pub(crate) fn remove_all(prefix: &str) -> io::Result<()> {
    // Lines of `name: figures`, after two of headings. Unlike /sys, it is about this namespace wherever it is mounted.
    let text = fs::read_to_string("/proc/thread-self/net/dev")?;
    let names = text.lines().filter_map(|line| Some(line.split_once(':')?.0.trim()));
    let mut linker: Option<Linker> = None;
    for name in names.filter(|name| name.starts_with(prefix)) {
        let linker = match &mut linker {
            Some(linker) => linker,
            None => linker.insert(Linker::new()?),
        };
        linker.unplug(name)?;
    }
    Ok(())
}
