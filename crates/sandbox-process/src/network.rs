//! What a sandbox reaches: nothing, until it is assigned to a function whose policy says otherwise.
//!
//! A sandbox with a network has a link (`link`) to where a table of rules (`rules`) decides what is passed on, and
//! names are looked up by a resolver in the server (`resolver`). All of it is made when the first sandbox needs it.
//! With root, links end on the machine itself. As an ordinary user they end in a network namespace of the server's
//! (`yard`), from which `pasta` makes connections of the machine (`pasta`): whatever else is done, is done by the same
//! code (`ground`). Without `nft`, or without both root and `pasta`, there is no network but `off`, and an assignment
//! that asks for one fails.
//!
//! IPv6 is off in sandboxes, and dropped on their links. What the server changes on the machine is, with root, one
//! table, the links, and forwarding on the links to the outside; all of that is undone when it ends, or by the next
//! server. As an ordinary user it changes nothing.

mod address;
mod claim;
mod ground;
mod hand;
mod lent;
mod link;
mod live;
mod machine;
mod netlink;
pub(crate) mod nft;
pub(crate) mod pasta;
mod ready;
mod refusals;
mod resolver;
mod routes;
mod rules;
pub(crate) mod traces;
pub(crate) mod trial;
mod watch;
pub(crate) mod yard;

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use impuls_domain::NetworkPolicy;
use impuls_sandbox::SandboxError;

use self::ground::Ground;
pub(crate) use self::lent::Lent;
pub(crate) use self::live::Attachment;
use self::live::Live;
use self::ready::Ready;
use crate::config::NetworkConfig;
use crate::driver::{Folder, Link};
use crate::isolation::IsolationReport;

/// The network of one driver, or why there is none.
#[derive(Debug)]
pub(crate) struct Network {
    ready: Result<Ready, String>,
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
        self.ready.as_ref().ok().map(|ready| ready.resolver())
    }

    /// Gives a sandbox of a function, by name and id, the network that a policy names, through its network namespace,
    /// which the spawner of this link has made. On `Err` nothing is left behind.
    pub(crate) async fn attach(
        &self,
        policy: &NetworkPolicy,
        function: (&str, &str),
        namespace: OwnedFd,
        spawner: &Link,
    ) -> Result<Attachment, SandboxError> {
        let live = self.usable()?.live(spawner).await?;
        live.attach(policy, function, namespace).await
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
        let Some(live) = self.opened() else { return Ok(BTreeMap::new()) };
        let table = live.names.table.clone();
        let ask = move |ground: &mut Ground| nft::counters(&table, |question| ground.ask(question));
        live.filter.ask(ask).await?
    }

    /// What this server's table is or will be called, if there can be one.
    pub(crate) fn table(&self) -> Option<&str> {
        self.ready.as_ref().ok().map(Ready::table)
    }

    fn opened(&self) -> Option<Arc<Live>> {
        self.ready.as_ref().ok().and_then(Ready::opened)
    }

    /// Takes everything away. Sandboxes are gone by then.
    pub(crate) async fn close(&self) {
        if let Some(live) = self.opened() {
            live.close().await;
        }
    }
}
