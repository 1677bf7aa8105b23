//! The yard: the network namespace in which an ordinary user's server does what a server with root does in the
//! machine's own. The server cannot enter it, having many threads; so a process of the spawner's is there
//! and does what it is told.
//!
//! ```text
//!   sandbox ── link ──► yard: rules, resolver's sockets ── tap ──► pasta ──► the machine's sockets
//! ```
//!
//! The process is process 1 of a pid namespace, killed with the spawner, and every `pasta` with it. Its main thread stays
//! in the machine's network, as do the processes that this starts; a thread for each of the server's is in the yard.

use std::fs;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::thread::{
    CapabilitySet, CapabilitySets, LinkNameSpaceType, UnshareFlags, move_into_link_name_space,
};
use serde::{Deserialize, Serialize};

use super::ground::{Local, Sockets, level};
use super::link::{self, Plan};
use super::pasta::Pastas;
use super::{nft, trial};
use crate::failure::{Failure, Step};
use crate::{sys, transport};

/// The longest script and the longest answer of `nft`, in bytes: a few thousand lists of 64 entries.
const TEXT_LIMIT: u64 = 32 * 1024 * 1024;

/// What the server asks for.
#[derive(Debug, Serialize, Deserialize)]
enum Order {
    /// Three descriptors come back.
    Sockets {
        gateway: Ipv4Addr,
    },
    /// One descriptor: the sandbox's network namespace.
    Plug {
        plan: Plan,
    },
    End {
        name: String,
        waited: Duration,
    },
    Tend,
    /// One descriptor: a memory file with the script.
    Run,
    /// One descriptor comes back: a memory file with the answer.
    Ask {
        question: Vec<String>,
    },
    RemoveLinks {
        prefix: String,
    },
    /// Try everything that a real network needs.
    Try,
}

/// What is answered, beside descriptors.
type Answer = Result<Vec<String>, Trouble>;

/// An error on its way from one process to another.
#[derive(Debug, Serialize, Deserialize)]
struct Trouble {
    step: String,
    errno: Option<i32>,
    text: String,
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        let text = failure.source.to_string();
        Self { step: failure.step.into_owned(), errno: failure.source.raw_os_error(), text }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Failure::new("", error).into()
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        let source = match trouble.errno {
            Some(errno) => io::Error::from_raw_os_error(errno),
            None => io::Error::other(trouble.text),
        };
        Self::new(trouble.step, source)
    }
}

/// The server's hold on a yard. Dropped, and with the last [`Wire`], the yard's process ends.
#[derive(Debug)]
pub(crate) struct Yard {
    socket: OwnedFd,
}

impl Yard {
    /// A hold, and what the yard's process gets as descriptor 0.
    pub(crate) fn new() -> io::Result<(Self, OwnedFd)> {
        let (socket, theirs) = transport::pair()?;
        Ok((Self { socket }, theirs))
    }

    /// Another thread in the yard, and the wire to it.
    pub(crate) fn wire(&self) -> io::Result<Wire> {
        let (socket, theirs) = transport::pair()?;
        transport::send(&self.socket, &(), &[theirs.as_fd()])?;
        Ok(Wire { socket })
    }

    /// Whether its process has ended.
    pub(super) fn is_gone(&self) -> bool {
        sys::is_hung_up(&self.socket)
    }
}

/// A wire to one thread in a yard. Calls block.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: OwnedFd,
}

impl Wire {
    fn call(
        &mut self,
        order: &Order,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(Vec<String>, Vec<OwnedFd>), Failure> {
        let gone = || Failure::new("reach the yard", io::Error::from_raw_os_error(libc::EPIPE));
        transport::send(&self.socket, order, fds).step("reach the yard")?;
        let (answer, fds) =
            transport::receive::<Answer>(&self.socket).step("reach the yard")?.ok_or_else(gone)?;
        Ok((answer?, fds))
    }

    fn plain(&mut self, order: &Order, fds: &[BorrowedFd<'_>]) -> io::Result<(Vec<String>, Vec<OwnedFd>)> {
        self.call(order, fds).map_err(|failure| failure.source)
    }

    /// Tries everything that a real network needs.
    pub(crate) fn try_all(&mut self) -> Result<(), Failure> {
        self.call(&Order::Try, &[]).map(drop)
    }

    pub(super) fn sockets(&mut self, gateway: Ipv4Addr) -> io::Result<Sockets> {
        let (_, fds) = self.plain(&Order::Sockets { gateway }, &[])?;
        let [udp, tcp, watch] = fds.try_into().map_err(|_| io::Error::from_raw_os_error(libc::EPROTO))?;
        Ok(Sockets { udp, tcp, watch })
    }

    pub(super) fn plug(&mut self, plan: &Plan, namespace: BorrowedFd<'_>) -> Result<(), Failure> {
        self.call(&Order::Plug { plan: plan.clone() }, &[namespace]).map(drop)
    }

    pub(super) fn await_end(&mut self, name: &str, waited: Duration) -> io::Result<()> {
        self.plain(&Order::End { name: name.to_owned(), waited }, &[]).map(drop)
    }

    pub(super) fn tend(&mut self) -> io::Result<Vec<String>> {
        self.plain(&Order::Tend, &[]).map(|(said, _)| said)
    }

    pub(super) fn run(&mut self, script: &str) -> io::Result<()> {
        let file = memory(script.as_bytes())?;
        self.plain(&Order::Run, &[file.as_fd()]).map(drop)
    }

    pub(super) fn ask(&mut self, question: Vec<String>) -> io::Result<Vec<u8>> {
        let (_, fds) = self.plain(&Order::Ask { question }, &[])?;
        read(fds)
    }

    pub(super) fn remove_links(&mut self, prefix: &str) -> io::Result<()> {
        self.plain(&Order::RemoveLinks { prefix: prefix.to_owned() }, &[]).map(drop)
    }
}

/// A memory file with this in it, to be read from the beginning.
fn memory(bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = fs::File::from(memfd_create("impuls-rules", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

fn read(fds: Vec<OwnedFd>) -> io::Result<Vec<u8>> {
    let file = fds.into_iter().next().ok_or(io::Error::from_raw_os_error(libc::EPROTO))?;
    let mut bytes = Vec::new();
    fs::File::from(file).take(TEXT_LIMIT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The life of the yard's process, which has been executed for that. It ends when the server lets go of descriptor 0.
pub(crate) fn keep() -> Result<(), Failure> {
    let socket = sys::adopt(0).step("adopt socket")?;
    let namespace = Arc::new(make().step("make yard")?);
    let pastas = Arc::new(Pastas::new(namespace.path.clone())?);
    while let Some(((), fds)) = transport::receive::<()>(&socket).step("receive wire")? {
        for wire in fds {
            let (namespace, pastas) = (namespace.clone(), pastas.clone());
            let serve = move || {
                let served = enter(&namespace, pastas).and_then(|local| serve(&wire, local));
                // Nobody is told; the server sees its wire end.
                drop(served);
            };
            thread::Builder::new().name("impuls-yard".to_owned()).spawn(serve).step("start a thread")?;
        }
    }
    Ok(())
}

/// A network namespace, and the file that other programs know it by.
struct Namespace {
    handle: OwnedFd,
    path: String,
}

/// Makes a network namespace, and a thread that is in it and has no rights: `pasta` has few when it looks for the
/// namespace, and the kernel lets nobody look into a task that has more.
fn make() -> io::Result<Namespace> {
    let (sender, made) = mpsc::channel();
    thread::Builder::new().name("impuls-yard".to_owned()).spawn(move || {
        let made = settle();
        let stays = made.is_ok();
        let _nobody_waits = sender.send(made);
        if stays {
            loop {
                thread::park();
            }
        }
    })?;
    made.recv().map_err(io::Error::other)?
}

fn settle() -> io::Result<Namespace> {
    sys::unshare(UnshareFlags::NEWNET)?;
    level().map_err(|failure| failure.source)?;
    let handle = fs::File::open("/proc/thread-self/ns/net")?.into();
    // By the numbers of whoever mounted /proc, which are not this process's own.
    let own = fs::read_link("/proc/thread-self")?;
    let task = own.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, none)?;
    Ok(Namespace { handle, path: format!("/proc/{task}/ns/net") })
}

fn enter(namespace: &Namespace, pastas: Arc<Pastas>) -> Result<Local, Failure> {
    let network = Some(LinkNameSpaceType::Network);
    move_into_link_name_space(namespace.handle.as_fd(), network).step("enter yard")?;
    Local::new(Some(pastas)).step("open netlink")
}

fn serve(wire: &OwnedFd, mut local: Local) -> Result<(), Failure> {
    while let Some((order, fds)) = transport::receive::<Order>(wire).step("receive order")? {
        let (answer, fds): (Answer, Vec<OwnedFd>) = match carry_out(&mut local, order, fds) {
            Ok((said, fds)) => (Ok(said), fds),
            Err(trouble) => (Err(trouble), Vec::new()),
        };
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        transport::send(wire, &answer, &fds).step("answer")?;
    }
    Ok(())
}

fn carry_out(
    local: &mut Local,
    order: Order,
    fds: Vec<OwnedFd>,
) -> Result<(Vec<String>, Vec<OwnedFd>), Trouble> {
    let mut said = Vec::new();
    let mut passed = Vec::new();
    match order {
        Order::Sockets { gateway } => {
            let Sockets { udp, tcp, watch } = local.sockets(gateway)?;
            passed.extend([udp, tcp, watch]);
        }
        Order::Plug { plan } => {
            let namespace = fds.first().ok_or(io::Error::from_raw_os_error(libc::EPROTO))?;
            local.plug(&plan, namespace.as_fd())?;
        }
        Order::End { name, waited } => local.await_end(&name, waited)?,
        Order::Tend => said = local.tend(),
        Order::Run => nft::run(&String::from_utf8_lossy(&read(fds)?))?,
        Order::Ask { question } => passed.push(memory(&nft::ask(&question)?)?),
        Order::RemoveLinks { prefix } => link::remove_all(&prefix)?,
        Order::Try => trial::run_in_yard(local)?,
    }
    Ok((said, passed))
}
