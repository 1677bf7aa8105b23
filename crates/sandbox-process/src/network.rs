//! What a sandbox reaches: nothing, until it is assigned to a function whose policy says otherwise.
//!
//! With root and `nft`, a sandbox with a network has a link to the host (`link`), the host passes on what the
//! server's table of rules lets through (`rules`), and names are looked up by a resolver in the server
//! (`resolver`). All of it is made when the first sandbox needs it. Without root or `nft` there is no network but
//! `off`, and an assignment that asks for one fails.
//!
//! IPv6 is off in sandboxes, and dropped on their links. What the server changes on the machine is one table, the
//! links, and forwarding on the links to the outside; all of that is undone when it ends, or by the next server.

mod address;
mod hand;
mod link;
mod netlink;
pub(crate) mod nft;
mod resolver;
mod routes;
mod rules;
pub(crate) mod traces;
pub(crate) mod trial;
mod watch;

use std::collections::BTreeMap;
use std::io;
use std::net::{self, Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use impuls_domain::{Cidr, NetworkPolicy};
use impuls_sandbox::SandboxError;
use parking_lot::Mutex;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use tokio::runtime::Handle;
use tokio::sync::OnceCell;
use tokio::task::AbortHandle;

use self::address::{Addresses, Part};
use self::hand::Hand;
use self::link::{Linker, Plan};
use self::resolver::{Client, Resolver};
use self::rules::{Base, Names, Ports};
use self::watch::Watch;
use crate::config::NetworkConfig;
use crate::driver::Folder;
use crate::isolation::{IsolationReport, LayerName};

/// Connections that wait for the resolver to accept them.
const BACKLOG: i32 = 128;
/// The usual longest packet.
const MTU: u32 = 1_500;

/// The network of one driver, or why there is none.
#[derive(Debug)]
pub(crate) struct Network {
    ready: Result<Ready, String>,
}

/// What is known before the first sandbox needs a network.
#[derive(Debug)]
struct Ready {
    names: Names,
    part: Part,
    operator: Vec<Cidr>,
    uplinks: Vec<String>,
    servers: Vec<net::SocketAddr>,
    folder: Arc<Folder>,
    /// Keeps the part of the pool.
    _claim: UnixDatagram,
    live: OnceCell<Arc<Live>>,
    runtime: Handle,
}

impl Network {
    /// Finds out whether there can be one, and claims addresses for it. To be called in the runtime that is to serve
    /// the resolver. Nothing of the machine changes.
    pub(crate) fn prepare(
        config: &NetworkConfig,
        report: &IsolationReport,
        instance: &str,
        folder: &Arc<Folder>,
    ) -> Self {
        Self { ready: Ready::new(config, report, instance, folder) }
    }

    /// The address that sandboxes ask for names.
    pub(crate) fn resolver(&self) -> Option<Ipv4Addr> {
        self.ready.as_ref().ok().map(|ready| ready.part.gateway())
    }

    /// Gives a sandbox the network that a policy names, through its network namespace; `None` for none at all.
    /// On `Err` nothing is left behind.
    pub(crate) async fn attach(
        &self,
        policy: &NetworkPolicy,
        namespace: OwnedFd,
    ) -> Result<Attachment, SandboxError> {
        let ready = self.usable()?;
        let live = ready.live.get_or_try_init(|| ready.open()).await?;
        live.attach(policy, namespace).await
    }

    /// Fails, saying why, if sandboxes can have no network here.
    pub(crate) fn check(&self) -> Result<(), SandboxError> {
        self.usable().map(drop)
    }

    fn usable(&self) -> Result<&Ready, SandboxError> {
        self.ready.as_ref().map_err(|why| SandboxError::Network(why.clone()))
    }

    /// How many packets of sandboxes were refused, by reason; empty if no sandbox has had a network.
    pub(crate) async fn refused_packets(&self) -> io::Result<BTreeMap<String, u64>> {
        let live = self.ready.as_ref().ok().and_then(|ready| ready.live.get());
        let Some(live) = live else { return Ok(BTreeMap::new()) };
        let table = live.names.table.clone();
        let answer =
            live.filter.ask(move |_| nft::ask(&["list", "counters", "table", "inet", &table])).await??;
        let objects = answer.get("nftables").and_then(|list| list.as_array()).cloned().unwrap_or_default();
        let count = |object: &serde_json::Value| {
            let counter = object.get("counter")?;
            Some((counter.get("name")?.as_str()?.to_owned(), counter.get("packets")?.as_u64()?))
        };
        Ok(objects.iter().filter_map(count).collect())
    }

    /// Takes everything away. Sandboxes are gone by then.
    pub(crate) async fn close(&self) {
        if let Some(live) = self.ready.as_ref().ok().and_then(|ready| ready.live.get()) {
            live.close().await;
        }
    }
}

impl Ready {
    fn new(
        config: &NetworkConfig,
        report: &IsolationReport,
        instance: &str,
        folder: &Arc<Folder>,
    ) -> Result<Self, String> {
        match report.layer(LayerName::FunctionNetwork) {
            Some(layer) if layer.works => {}
            Some(layer) => return Err(format!("{}; to repair: {}", layer.detail, layer.fix)),
            None => return Err("it is not known whether this machine can give them one".to_owned()),
        }
        let (part, claim) = claim(&config.pool)?;
        Ok(Self {
            names: Names::of(instance),
            part,
            operator: rules::v4_only(&config.allow),
            uplinks: config.uplinks.clone(),
            servers: config.resolvers.clone(),
            folder: folder.clone(),
            _claim: claim,
            live: OnceCell::new(),
            runtime: Handle::current(),
        })
    }

    /// Makes the table and starts the resolver.
    async fn open(&self) -> Result<Arc<Live>, SandboxError> {
        let failed =
            |source| SandboxError::Setup { step: "open the network of sandboxes".to_owned(), source };
        let wiring = Hand::start("impuls-links", Linker::new).map_err(failed)?;
        let unlinking = Hand::start("impuls-unlink", Linker::new).map_err(failed)?;
        let filter = Hand::start("impuls-filter", || Ok(())).map_err(failed)?;
        let (names, filter_of_names) = (self.names.clone(), filter.clone());
        let resolver =
            Resolver::new(self.servers.clone(), self.operator.clone(), names.clone(), filter_of_names);
        let mut live = Live {
            names,
            part: self.part,
            addresses: Mutex::new(Addresses::new(self.part)),
            mtu: None,
            base: String::new(),
            wiring,
            unlinking,
            filter,
            resolver: Arc::new(resolver),
            tasks: Mutex::default(),
            folder: self.folder.clone(),
            closed: AtomicBool::new(false),
        };
        // Before the table is made, so that its deletion cannot be missed. Dropped on failure, `live` takes back
        // what has been made.
        let (watch, ports) = self.serve(&live).map_err(failed)?;
        let set_up = self.set_up(ports);
        let made: io::Result<Made> = live.filter.ask(move |_| set_up()).await.and_then(|made| made);
        let made = made.map_err(failed)?;
        (live.mtu, live.base) = (made.mtu, made.base);
        let live = Arc::new(live);
        let task = self.runtime.spawn(keep_rules(Arc::downgrade(&live), watch));
        live.tasks.lock().push(task.abort_handle());
        Ok(live)
    }

    /// What is to be done on the machine, all at once.
    fn set_up(&self, ports: Ports) -> impl FnOnce() -> io::Result<Made> + use<> {
        let (names, part, operator) = (self.names.clone(), self.part, self.operator.clone());
        let (uplinks, folder) = (self.uplinks.clone(), self.folder.clone());
        move || {
            let uplinks = if uplinks.is_empty() { routes::uplinks(&routes::routes()?) } else { uplinks };
            let guarded = traces::not_forwarding(&uplinks)?;
            traces::note(&folder.path, &guarded)?;
            let base = Base { names: &names, part, ports, operator: &operator, guarded: &guarded }.script();
            nft::run(&base)?;
            for link in &guarded {
                tracing::info!(%link, "passing on packets of sandboxes: net.ipv4.conf.{link}.forwarding = 1");
                link::set_forwarding(link)?;
            }
            if uplinks.is_empty() {
                tracing::warn!("this machine has no default route; functions will reach nothing outside");
            }
            tracing::info!(table = %names.table, sandboxes = ?part.range(), ?uplinks, "functions have a network now");
            let mtu = uplinks.iter().filter_map(|link| link::mtu(link)).min().filter(|&mtu| mtu < MTU);
            Ok(Made { mtu, base })
        }
    }

    fn serve(&self, live: &Live) -> io::Result<(Watch, Ports)> {
        // The caller may be on any runtime; the resolver is served by the driver's.
        let _entered = self.runtime.enter();
        let (udp, tcp) = sockets(self.part.gateway())?;
        let ports = Ports { udp: udp.local_addr()?.port(), tcp: tcp.local_addr()?.port() };
        let udp = tokio::net::UdpSocket::from_std(udp)?;
        let tcp = tokio::net::TcpListener::from_std(tcp)?;
        let watch = Watch::open()?;
        live.tasks.lock().extend([
            tokio::spawn(live.resolver.clone().serve_datagrams(udp)).abort_handle(),
            tokio::spawn(live.resolver.clone().serve_streams(tcp)).abort_handle(),
        ]);
        Ok((watch, ports))
    }
}

/// What setting up came to.
struct Made {
    /// The longest packet, if it is not the usual.
    mtu: Option<u32>,
    /// The script of the table.
    base: String,
}

/// Makes the rules anew whenever somebody deletes them.
async fn keep_rules(live: Weak<Live>, watch: Watch) {
    while watch.deleted().await.is_ok() {
        let Some(live) = live.upgrade() else { return };
        live.restore_rules().await;
    }
    tracing::error!("changes of the packet filter cannot be watched any more");
}

/// Claims a part of the pool that no route leads to and no other server has. The claim is a socket with a name that
/// only this machine's network knows (unix(7), abstract addresses): it goes with the process, and takes no port.
fn claim(pool: &Cidr) -> Result<(Part, UnixDatagram), String> {
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
        let name = SocketAddr::from_abstract_name(format!("impuls-network-{}", part.gateway()));
        match name.and_then(|name| UnixDatagram::bind_addr(&name)) {
            Ok(claim) => return Ok((part, claim)),
            Err(error) => {
                refusal = format!("no part of the pool {pool} is free: {}: {error}", part.gateway())
            }
        }
    }
    Err(refusal)
}

/// The resolver's sockets, on an address that the machine will have only once a sandbox is linked to it, and on
/// any ports: the rules lead there what sandboxes send to port 53, where somebody else may listen.
fn sockets(gateway: Ipv4Addr) -> io::Result<(UdpSocket, TcpListener)> {
    let socket = |kind| {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::INET, kind, flags, None)?;
        sockopt::set_ip_freebind(&socket, true)?;
        rustix::net::bind(&socket, &SocketAddrV4::new(gateway, 0))?;
        Ok::<OwnedFd, io::Error>(socket)
    };
    let (udp, tcp) = (socket(SocketType::DGRAM)?, socket(SocketType::STREAM)?);
    rustix::net::listen(&tcp, BACKLOG)?;
    Ok((udp.into(), tcp.into()))
}

/// The network once a sandbox has needed it.
#[derive(Debug)]
struct Live {
    names: Names,
    part: Part,
    addresses: Mutex<Addresses>,
    mtu: Option<u32>,
    /// The script of the table, without what is one sandbox's.
    base: String,
    /// Makes links.
    wiring: Hand<Linker>,
    /// Removes links.
    unlinking: Hand<Linker>,
    /// Sets the packet filter.
    filter: Hand<()>,
    resolver: Arc<Resolver>,
    tasks: Mutex<Vec<AbortHandle>>,
    folder: Arc<Folder>,
    closed: AtomicBool,
}

impl Live {
    async fn attach(
        self: &Arc<Self>,
        policy: &NetworkPolicy,
        namespace: OwnedFd,
    ) -> Result<Attachment, SandboxError> {
        let failed =
            |source| SandboxError::Setup { step: "link a sandbox to the network".to_owned(), source };
        let list = policy.allowlist();
        let taken = self.addresses.lock().take(list.is_some());
        let (number, address) = taken.ok_or(SandboxError::AtCapacity)?;
        let client = Arc::new(Client::new(number, policy.clone()));
        let plan = Plan {
            name: self.names.link(number, list.is_some()),
            address,
            gateway: self.part.gateway(),
            mtu: self.mtu,
        };
        // From here on, a failure and a caller that goes away take everything back.
        let attachment = Attachment {
            live: self.clone(),
            client: client.clone(),
            number,
            plan: plan.clone(),
            listed: list.is_some(),
            detached: false,
        };
        if let Some(list) = list {
            let script = rules::open_list(&self.names, number, address, list);
            self.filter.ask(move |_| nft::run(&script)).await.and_then(|ran| ran).map_err(failed)?;
        }
        self.resolver.enter(address, client);
        let plugged = self.wiring.ask(move |linker| linker.plug(&plan, namespace.as_fd())).await;
        plugged.map_err(failed)??;
        Ok(attachment)
    }

    /// Makes the table again if it is gone, with the lists of live sandboxes. What was opened by name is opened
    /// when it is looked up again. Where that fails, the sandboxes lose their links: no rules, no network.
    async fn restore_rules(&self) {
        let script = format!("{}{}", self.base, self.resolver.lists());
        let names = self.names.clone();
        let restore = move |(): &mut ()| {
            if nft::tables()?.contains(&names.table) {
                return Ok(false);
            }
            nft::run(&script).inspect_err(|_| drop(link::remove_all(&names.link))).map(|()| true)
        };
        match self.filter.ask(restore).await.and_then(|restored| restored) {
            Ok(false) => {}
            Ok(true) => {
                self.resolver.forget_opened().await;
                tracing::warn!(table = %self.names.table, "somebody deleted the rules of sandboxes; they are back");
            }
            Err(error) => {
                tracing::error!(error = %error, "the rules of sandboxes are gone; so are their links")
            }
        }
    }

    async fn close(&self) {
        self.tasks.lock().iter().for_each(AbortHandle::abort);
        let (names, folder) = (self.names.clone(), self.folder.clone());
        let gone = self.filter.ask(move |_| traces::remove(&names, &folder.path)).await;
        if let Err(error) = gone.and_then(|gone| gone) {
            tracing::warn!(error = %error, "the network of sandboxes cannot be removed");
        } else {
            self.closed.store(true, Ordering::Release);
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        self.tasks.lock().iter().for_each(AbortHandle::abort);
        let (names, folder) = (self.names.clone(), self.folder.clone());
        self.filter.post(move |_| drop(traces::remove(&names, &folder.path)));
    }
}

/// The network of one sandbox. Dropped, it is taken away some time soon.
#[derive(Debug)]
pub(crate) struct Attachment {
    live: Arc<Live>,
    client: Arc<Client>,
    number: u32,
    plan: Plan,
    listed: bool,
    detached: bool,
}

impl Attachment {
    /// Lookups that were refused, and addresses that were kept back.
    pub(crate) fn refused_lookups(&self) -> u64 {
        self.client.refused()
    }

    /// Takes the network away, and returns when it is gone.
    pub(crate) async fn detach(mut self) {
        let (gone, told) = tokio::sync::oneshot::channel();
        self.remove(Some(gone));
        let _thread_gone = told.await;
    }

    fn remove(&mut self, gone: Option<tokio::sync::oneshot::Sender<()>>) {
        if std::mem::replace(&mut self.detached, true) {
            return;
        }
        let (live, name, number) = (self.live.clone(), self.plan.name.clone(), self.number);
        live.resolver.leave(self.plan.address);
        let close = self.listed.then(|| rules::close_list(&live.names, number, self.plan.address));
        let (unlinking, filter) = (live.unlinking.clone(), live.filter.clone());
        let finish = move |unplugged: io::Result<()>| {
            // Where making the list failed there is none.
            let _none =
                close.filter(|_| !live.closed.load(Ordering::Acquire)).map(|script| nft::run(&script));
            match unplugged {
                Ok(()) => live.addresses.lock().give_back(number),
                Err(error) => tracing::warn!(link = %name, error = %error, "a link cannot be removed"),
            }
            if let Some(gone) = gone {
                let _nobody_waits = gone.send(());
            }
        };
        let link = self.plan.name.clone();
        // Behind the making of the link, should that still be under way; the list goes only when the link is gone.
        self.live.wiring.post(move |_| {
            unlinking.post(move |linker| {
                let unplugged = linker.await_end(&link);
                filter.post(move |_| finish(unplugged));
            });
        });
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.remove(None);
    }
}
