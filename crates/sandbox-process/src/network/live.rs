//! The network once a sandbox has needed it: giving it to sandboxes and taking it away, and keeping its rules.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use impuls_domain::NetworkPolicy;
use impuls_sandbox::SandboxError;
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use super::address::{Addresses, Part};
use super::hand::Hand;
use super::link::{self, Linker, Plan};
use super::resolver::{Client, Resolver};
use super::rules::{self, Names};
use super::watch::Watch;
use super::{nft, traces};
use crate::driver::Folder;

/// The network once a sandbox has needed it.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) names: Names,
    pub(super) part: Part,
    pub(super) addresses: Mutex<Addresses>,
    pub(super) mtu: Option<u32>,
    /// The script of the table, without what is one sandbox's.
    pub(super) base: String,
    /// Makes links.
    pub(super) wiring: Hand<Linker>,
    /// Removes links.
    pub(super) unlinking: Hand<Linker>,
    /// Sets the packet filter.
    pub(super) filter: Hand<()>,
    pub(super) resolver: Arc<Resolver>,
    pub(super) tasks: Mutex<Vec<AbortHandle>>,
    pub(super) folder: Arc<Folder>,
    pub(super) closed: AtomicBool,
}

impl Live {
    /// Gives a sandbox its network. On `Err`, and when dropped half-way, nothing is left behind.
    pub(super) async fn attach(
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

    /// Takes everything away.
    pub(super) async fn close(&self) {
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

/// Makes the rules anew whenever somebody deletes them.
pub(super) async fn keep_rules(live: Weak<Live>, watch: Watch) {
    while watch.deleted().await.is_ok() {
        let Some(live) = live.upgrade() else { return };
        live.restore_rules().await;
    }
    tracing::error!("changes of the packet filter cannot be watched any more");
}
