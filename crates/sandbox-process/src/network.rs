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
mod claim;
mod hand;
mod link;
mod live;
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
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use impuls_domain::{Cidr, NetworkPolicy};
use impuls_sandbox::SandboxError;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;

use self::address::{Addresses, Part};
use self::claim::{claim, sockets};
use self::hand::Hand;
use self::link::Linker;
pub(crate) use self::live::Attachment;
use self::live::{Live, keep_rules};
use self::resolver::Resolver;
use self::rules::{Base, Names, Ports};
use self::watch::Watch;
use crate::config::NetworkConfig;
use crate::driver::Folder;
use crate::isolation::{IsolationReport, LayerName};

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
    servers: Vec<SocketAddr>,
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

    /// Gives a sandbox the network that a policy names, through its network namespace.
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
            let _alone = traces::exclusively()?;
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
