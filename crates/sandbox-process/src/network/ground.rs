//! Where the links of sandboxes end, and the rules hold: the machine's own network with root, and as an ordinary
//! user a *yard*, a network namespace of the spawner's. What is done there is the same; only whose hand does it is not.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use super::claim::sockets;
use super::link::{self, Linker, Plan};
use super::nft;
use super::pasta::Pastas;
use super::watch::Watch;
use super::yard::Wire;
use crate::failure::{Failure, Step};

/// What works on the ground. It belongs to a thread of its own, which it may send into sandboxes' namespaces.
#[derive(Debug)]
pub(super) enum Ground {
    /// Where this thread is.
    Here(Local),
    /// In a yard.
    Yard(Wire),
}

/// The ground that a thread is on.
#[derive(Debug)]
pub(super) struct Local {
    linker: Linker,
    /// Ways out, where there are none of the machine's.
    pastas: Option<Arc<Pastas>>,
}

/// What the server listens on, made on the ground.
pub(super) struct Sockets {
    /// The resolver's, for datagrams and for connections.
    pub(super) udp: OwnedFd,
    pub(super) tcp: OwnedFd,
    /// Tells changes of the packet filter.
    pub(super) watch: OwnedFd,
}

impl Local {
    /// To be called by the thread that it belongs to.
    pub(super) fn new(pastas: Option<Arc<Pastas>>) -> io::Result<Self> {
        Ok(Self { linker: Linker::new()?, pastas })
    }

    /// Opens what the server listens on.
    pub(super) fn sockets(&self, gateway: Ipv4Addr) -> io::Result<Sockets> {
        let watch = Watch::socket()?;
        let (udp, tcp) = sockets(gateway)?;
        Ok(Sockets { udp, tcp, watch })
    }

    /// Links a sandbox's network namespace to this one, and gives it its way out. On `Err` nothing is left behind.
    pub(super) fn plug(&mut self, plan: &Plan, namespace: BorrowedFd<'_>) -> Result<(), Failure> {
        self.linker.plug(plan, namespace)?;
        let Some(exit) = &plan.exit else { return Ok(()) };
        let pastas = self.pastas.as_ref().ok_or(io::Error::from_raw_os_error(libc::ENODEV));
        let raised =
            pastas.step("find way out").and_then(|pastas| pastas.raise(&mut self.linker, plan, exit));
        raised.inspect_err(|_| drop(self.linker.unplug(&plan.name)))
    }

    /// Ends a sandbox's way out, and waits until its link is gone, which has waited in line for this.
    pub(super) fn await_end(&mut self, name: &str, waited: Duration) -> io::Result<()> {
        let lowered = self.pastas.as_ref().and_then(|pastas| pastas.lower(name));
        // Both take the kernel a while.
        let ended = self.linker.await_end(name, waited);
        if let Some(lowered) = lowered {
            lowered.wait(&mut self.linker);
        }
        ended
    }

    /// Makes ways out again that have ended; returns why each did.
    pub(super) fn tend(&mut self) -> Vec<String> {
        self.pastas.as_ref().map(|pastas| pastas.tend(&mut self.linker)).unwrap_or_default()
    }
}

impl Ground {
    /// On the ground of this thread, which leads to the outside by itself.
    pub(super) fn here() -> io::Result<Self> {
        Local::new(None).map(Self::Here)
    }

    /// See [`Local::sockets`].
    pub(super) fn sockets(&mut self, gateway: Ipv4Addr) -> io::Result<Sockets> {
        match self {
            Self::Here(local) => local.sockets(gateway),
            Self::Yard(wire) => wire.sockets(gateway),
        }
    }

    /// See [`Local::plug`].
    pub(super) fn plug(&mut self, plan: &Plan, namespace: OwnedFd) -> Result<(), Failure> {
        match self {
            Self::Here(local) => local.plug(plan, namespace.as_fd()),
            Self::Yard(wire) => wire.plug(plan, namespace.as_fd()),
        }
    }

    /// See [`Local::await_end`].
    pub(super) fn await_end(&mut self, name: &str, waited: Duration) -> io::Result<()> {
        match self {
            Self::Here(local) => local.await_end(name, waited),
            Self::Yard(wire) => wire.await_end(name, waited),
        }
    }

    /// See [`Local::tend`].
    pub(super) fn tend(&mut self) -> io::Result<Vec<String>> {
        match self {
            Self::Here(local) => Ok(local.tend()),
            Self::Yard(wire) => wire.tend(),
        }
    }

    /// Carries a script for `nft` out: all of it or, on `Err`, nothing.
    pub(super) fn run(&mut self, script: &str) -> io::Result<()> {
        match self {
            Self::Here(_) => nft::run(script),
            Self::Yard(wire) => wire.run(script),
        }
    }

    /// What `nft` answers to a question.
    pub(super) fn ask(&mut self, question: &[&str]) -> io::Result<Vec<u8>> {
        let question: Vec<String> = question.iter().map(|&word| word.to_owned()).collect();
        match self {
            Self::Here(_) => nft::ask(&question),
            Self::Yard(wire) => wire.ask(question),
        }
    }

    /// Removes every link whose name begins so.
    pub(super) fn remove_links(&mut self, prefix: &str) -> io::Result<()> {
        match self {
            Self::Here(_) => link::remove_all(prefix),
            Self::Yard(wire) => wire.remove_links(prefix),
        }
    }
}

/// Makes the network namespace that this thread is in fit to be a yard: packets come in by ways that no route of the
/// main table leads back by.
pub(super) fn level() -> Result<(), Failure> {
    crate::sys::loopback_up().step("bring loopback up")?;
    for of in ["all", "default"] {
        fs::write(format!("/proc/sys/net/ipv4/conf/{of}/rp_filter"), "0").step("set rp_filter")?;
    }
    Ok(())
}
