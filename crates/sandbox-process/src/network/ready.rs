//! The network before a sandbox has needed it, and its opening.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use impuls_domain::Cidr;
use impuls_sandbox::SandboxError;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::address::{Addresses, Part};
use super::claim::claim;
use super::ground::{Ground, Sockets};
use super::hand::Hand;
use super::live::{Live, keep_addresses, keep_count, keep_rules};
use super::machine::Changes;
use super::resolver::Resolver;
use super::rules::{self, Base, Names, Outside, Ports};
use super::watch::Watch;
use super::yard::Yard;
use super::{link, routes, traces};
use crate::config::NetworkConfig;
use crate::driver::{Folder, Link};
use crate::isolation::{IsolationReport, LayerName};
use crate::messages::Request;

/// The usual longest packet.
const MTU: u32 = 1_500;

/// What is known before the first sandbox needs a network.
#[derive(Debug)]
pub(super) struct Ready {
    names: Names,
    part: Part,
    operator: Vec<Cidr>,
    uplinks: Vec<String>,
    servers: Vec<SocketAddr>,
    folder: Arc<Folder>,
    /// Keeps the part of the pool.
    _claim: UnixDatagram,
    /// What has been opened last: a yard goes with the spawner.
    live: Mutex<Option<Arc<Live>>>,
    /// Held while another is opened.
    opening: tokio::sync::Mutex<()>,
    runtime: Handle,
}

/// What setting up came to.
#[derive(Default)]
struct Made {
    /// The longest packet, if it is not the usual.
    mtu: Option<u32>,
    /// The script of the table.
    base: String,
}

fn failed(source: io::Error) -> SandboxError {
    SandboxError::Setup { step: "open the network of sandboxes".to_owned(), source }
}

impl Ready {
    /// Fails, saying why and how to repair it, if there can be no network.
    pub(super) fn new(
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
            names: Names::of(instance, part.gateway()),
            part,
            operator: rules::v4_only(&config.allow),
            uplinks: config.uplinks.clone(),
            servers: config.resolvers.clone(),
            folder: folder.clone(),
            _claim: claim,
            live: Mutex::new(None),
            opening: tokio::sync::Mutex::new(()),
            runtime: Handle::current(),
        })
    }

    /// The address that sandboxes ask for names.
    pub(super) const fn resolver(&self) -> Ipv4Addr {
        self.part.gateway()
    }

    /// What the table is or will be called.
    pub(super) fn table(&self) -> &str {
        &self.names.table
    }

    /// What has been opened last.
    pub(super) fn opened(&self) -> Option<Arc<Live>> {
        self.live.lock().clone()
    }

    /// The network, opened if need be.
    pub(super) async fn live(&self, spawner: &Link) -> Result<Arc<Live>, SandboxError> {
        let usable = || self.opened().filter(|live| !live.is_gone());
        if let Some(live) = usable() {
            return Ok(live);
        }
        let _alone = self.opening.lock().await;
        if let Some(live) = usable() {
            return Ok(live);
        }
        let live = self.open(spawner).await?;
        *self.live.lock() = Some(live.clone());
        Ok(live)
    }

    /// Has the spawner make a yard, if links cannot end on the machine itself.
    async fn yard(&self, spawner: &Link) -> Result<Option<Yard>, SandboxError> {
        if rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let (yard, theirs) = Yard::new().map_err(failed)?;
        spawner.order(|request| Request::Yard { request }, &[theirs.as_fd()]).await?;
        Ok(Some(yard))
    }

    /// Makes the table and starts the resolver.
    async fn open(&self, spawner: &Link) -> Result<Arc<Live>, SandboxError> {
        let yard = self.yard(spawner).await?;
        let hand = |name| {
            let wire = yard.as_ref().map(Yard::wire).transpose().map_err(failed)?;
            let ground = move || wire.map_or_else(Ground::here, |wire| Ok(Ground::Yard(wire)));
            Hand::start(name, ground).map_err(failed)
        };
        let (wiring, unlinking, filter) =
            (hand("impuls-links")?, hand("impuls-unlink")?, hand("impuls-filter")?);
        let (servers, operator) = (self.servers.clone(), self.operator.clone());
        let resolver = Resolver::new(servers, operator, self.names.clone(), filter.clone());
        let mut live = Live {
            names: self.names.clone(),
            part: self.part,
            addresses: Mutex::new(Addresses::new(self.part)),
            mtu: None,
            base: String::new(),
            wiring,
            unlinking,
            filter,
            yard,
            ledger: Mutex::default(),
            resolver: Arc::new(resolver),
            tasks: Mutex::default(),
            folder: self.folder.clone(),
            closed: AtomicBool::new(false),
        };
        // Before the table is made, so that nothing can be missed. Dropped on failure, `live` takes back what has
        // been made.
        let (watch, ports) = self.serve(&live).await.map_err(failed)?;
        let changes = self.changes(&live).map_err(failed)?;
        let made = self.set_up(&live, ports).await.map_err(failed)?;
        (live.mtu, live.base) = (made.mtu, made.base);
        let live = Arc::new(live);
        let weak = || Arc::downgrade(&live);
        let mut tasks = vec![self.runtime.spawn(keep_rules(weak(), watch))];
        tasks.extend(changes.map(|changes| self.runtime.spawn(keep_addresses(weak(), changes))));
        tasks.push(self.runtime.spawn(keep_count(weak())));
        live.tasks.lock().extend(tasks.iter().map(tokio::task::JoinHandle::abort_handle));
        Ok(live)
    }

    /// Starts the resolver.
    async fn serve(&self, live: &Live) -> io::Result<(Watch, Ports)> {
        let gateway = self.part.gateway();
        let Sockets { udp, tcp, watch } = live.filter.ask(move |ground| ground.sockets(gateway)).await??;
        // The caller may be on any runtime; the resolver is served by the driver's.
        let _entered = self.runtime.enter();
        let (udp, tcp) = (std::net::UdpSocket::from(udp), std::net::TcpListener::from(tcp));
        let ports = Ports { udp: udp.local_addr()?.port(), tcp: tcp.local_addr()?.port() };
        let udp = tokio::net::UdpSocket::from_std(udp)?;
        let tcp = tokio::net::TcpListener::from_std(tcp)?;
        live.tasks.lock().extend([
            tokio::spawn(live.resolver.clone().serve_datagrams(udp)).abort_handle(),
            tokio::spawn(live.resolver.clone().serve_streams(tcp)).abort_handle(),
        ]);
        Ok((Watch::on(watch)?, ports))
    }

    /// What tells that the machine's own addresses change, if the table has them.
    fn changes(&self, live: &Live) -> io::Result<Option<Changes>> {
        let _entered = self.runtime.enter();
        live.yard.as_ref().map(|_| Changes::open()).transpose()
    }

    async fn set_up(&self, live: &Live, ports: Ports) -> io::Result<Made> {
        if live.yard.is_none() {
            let set_up = self.set_up_machine(ports);
            return live.filter.ask(set_up).await?;
        }
        let base = self.base(ports, Outside::Taps);
        let script = format!("{base}{}", live.own_addresses()?);
        live.filter.ask(move |ground| ground.run(&script)).await??;
        tracing::info!(sandboxes = ?self.part.range(), "functions have a network now, through pasta");
        Ok(Made { mtu: None, base })
    }

    fn base(&self, ports: Ports, outside: Outside<'_>) -> String {
        Base { names: &self.names, part: self.part, ports, operator: &self.operator, outside }.script()
    }

    /// What is to be done on the machine, all at once.
    fn set_up_machine(&self, ports: Ports) -> impl FnOnce(&mut Ground) -> io::Result<Made> + use<> {
        let (names, part, operator) = (self.names.clone(), self.part, self.operator.clone());
        let (uplinks, folder) = (self.uplinks.clone(), self.folder.clone());
        move |ground| {
            let uplinks = if uplinks.is_empty() { routes::uplinks(&routes::routes()?) } else { uplinks };
            let _alone = traces::exclusively()?;
            let guarded = traces::not_forwarding(&uplinks)?;
            traces::note(&folder.path, &guarded)?;
            let outside = Outside::Links(&guarded);
            let base = Base { names: &names, part, ports, operator: &operator, outside }.script();
            ground.run(&base)?;
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
}
