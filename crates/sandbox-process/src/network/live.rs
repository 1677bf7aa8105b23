//! The network once a sandbox has needed it: giving it to sandboxes and taking it away, and keeping its rules.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use impuls_domain::NetworkPolicy;
use impuls_sandbox::{Refusals, SandboxError, Traffic};
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use super::address::{Addresses, Part};
use super::ground::Ground;
use super::hand::Hand;
use super::link::{Exit, Plan};
use super::machine::{self, Changes};
use super::netlink::Netlink;
use super::refusals::Ledger;
use super::resolver::{Client, Resolver};
use super::rules::{self, Names};
use super::watch::Watch;
use super::yard::Yard;
use super::{nft, traces};
use crate::driver::Folder;

/// How often what was refused is counted, and ways out are looked after.
const ROUND: Duration = Duration::from_secs(5);

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
    pub(super) wiring: Hand<Ground>,
    /// Removes links.
    pub(super) unlinking: Hand<Ground>,
    /// Sets the packet filter.
    pub(super) filter: Hand<Ground>,
    /// The yard, unless all of it is on the machine itself.
    pub(super) yard: Option<Yard>,
    /// What was refused and has been told.
    pub(super) ledger: Mutex<Ledger>,
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
        (function, function_id): (&str, &str),
        namespace: OwnedFd,
    ) -> Result<Attachment, SandboxError> {
        let failed =
            |source| SandboxError::Setup { step: "link a sandbox to the network".to_owned(), source };
        let list = policy.allowlist();
        let taken = self.addresses.lock().take(list.is_some());
        let (number, address) = taken.ok_or(SandboxError::AtCapacity)?;
        let share = self.resolver.share(function_id);
        let client = Arc::new(Client::new(number, policy.clone(), function, share));
        let exit = || Exit { tap: self.names.tap(number), number, beyond: self.part.beyond() };
        let plan = Plan {
            name: self.names.link(number, list.is_some()),
            address,
            gateway: self.part.gateway(),
            mtu: self.mtu,
            exit: self.yard.as_ref().map(|_| exit()),
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
            self.filter.ask(move |ground| ground.run(&script)).await.and_then(|ran| ran).map_err(failed)?;
        }
        self.resolver.enter(address, client);
        let plugged = self.wiring.ask(move |ground| ground.plug(&plan, namespace)).await;
        plugged.map_err(failed)??;
        Ok(attachment)
    }

    /// Makes the table again if it is gone, with the lists of live sandboxes. What was opened by name is opened
    /// when it is looked up again. Where that fails, the sandboxes lose their links: no rules, no network.
    async fn restore_rules(&self) {
        let own = self.own_addresses();
        let script = own.map(|own| format!("{}{own}{}", self.base, self.resolver.lists()));
        let names = self.names.clone();
        let restore = move |ground: &mut Ground| {
            if nft::tables(|question| ground.ask(question))?.contains(&names.table) {
                return Ok(false);
            }
            let ran = script.and_then(|script| ground.run(&script));
            ran.inspect_err(|_| drop(ground.remove_links(&names.link))).map(|()| true)
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

    /// The script that tells the table the machine's own addresses, if it must be told.
    pub(super) fn own_addresses(&self) -> io::Result<String> {
        match self.yard {
            Some(_) => Ok(rules::machine(&self.names, &machine::own()?)),
            None => Ok(String::new()),
        }
    }

    /// Whether it has gone with the spawner, and all that it had.
    pub(super) fn is_gone(&self) -> bool {
        self.yard.as_ref().is_some_and(Yard::is_gone)
    }

    /// Counts what was refused to each sandbox that there is.
    async fn count_refusals(&self) -> io::Result<()> {
        let names = self.names.clone();
        let ask = move |ground: &mut Ground| refused(ground, &names);
        let packets = self.filter.ask(ask).await??;
        for client in self.resolver.clients() {
            let link = self.names.link(client.number(), client.is_listed());
            client.set_refused_packets(packets.get(&link).copied().unwrap_or_default());
            self.ledger.lock().note(client.function(), client.untold());
        }
        Ok(())
    }

    /// Logs what has been refused, each function once in a while.
    fn tell_refusals(&self) {
        let due = self.ledger.lock().due(tokio::time::Instant::now());
        for (function, Refusals { packets, lookups }) in due {
            tracing::warn!(%function, packets, lookups, "the network policy of a function refused what it tried");
        }
    }

    /// Takes everything away.
    pub(super) async fn close(&self) {
        self.tasks.lock().iter().for_each(AbortHandle::abort);
        if self.yard.is_some() {
            self.closed.store(true, Ordering::Release);
            return;
        }
        let (names, folder) = (self.names.clone(), self.folder.clone());
        let gone = self.filter.ask(move |_here| traces::remove(&names, &folder.path)).await;
        if let Err(error) = gone.and_then(|gone| gone) {
            tracing::warn!(error = %error, "the network of sandboxes cannot be removed");
        } else {
            self.closed.store(true, Ordering::Release);
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.tasks.lock().iter().for_each(AbortHandle::abort);
        if self.closed.load(Ordering::Acquire) || self.yard.is_some() {
            return;
        }
        let (names, folder) = (self.names.clone(), self.folder.clone());
        self.filter.post(move |_here| drop(traces::remove(&names, &folder.path)));
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
    /// What was refused so far: lookups and addresses that were kept back until now, packets as of some seconds
    /// ago.
    pub(crate) fn refused(&self) -> Refusals {
        self.client.refused()
    }

    /// What has passed over the link; `None` in a yard, into which this thread cannot look.
    pub(crate) fn traffic(&self) -> Option<Traffic> {
        if self.plan.exit.is_some() {
            return None;
        }
        // Seen from the host's end.
        let (sent_bytes, received_bytes) = Netlink::open().ok()?.bytes(&self.plan.name).ok()?;
        Some(Traffic { received_bytes, sent_bytes })
    }

    /// Takes the network away, and returns when it is gone, with all that was refused.
    pub(crate) async fn detach(mut self) -> Refusals {
        let (gone, told) = tokio::sync::oneshot::channel();
        self.remove(Some(gone));
        let _thread_gone = told.await;
        self.client.refused()
    }

    fn remove(&mut self, gone: Option<tokio::sync::oneshot::Sender<()>>) {
        if std::mem::replace(&mut self.detached, true) {
            return;
        }
        let (live, name, number) = (self.live.clone(), self.plan.name.clone(), self.number);
        live.resolver.leave(self.plan.address);
        let close = self.listed.then(|| rules::close_list(&live.names, number, self.plan.address));
        let (unlinking, filter) = (live.unlinking.clone(), live.filter.clone());
        let client = self.client.clone();
        let finish = move |ground: &mut Ground, unplugged: io::Result<()>| {
            if live.closed.load(Ordering::Acquire) || live.is_gone() {
                return;
            }
            let packets = refused(ground, &live.names).ok().and_then(|mut all| all.remove(&name));
            if let Some(packets) = packets {
                client.set_refused_packets(packets);
                let _none = ground.run(&rules::forget(&live.names, &name));
            }
            live.ledger.lock().note(client.function(), client.untold());
            // Where making the list failed there is none.
            let _none = close.map(|script| ground.run(&script));
            match unplugged {
                Ok(()) => live.addresses.lock().give_back(number),
                Err(error) => tracing::warn!(link = %name, error = %error, "a link cannot be removed"),
            }
        };
        let (link, queued) = (self.plan.name.clone(), Instant::now());
        // Behind the making of the link, should that still be under way; the list goes only when the link is gone.
        self.live.wiring.post(move |_| {
            unlinking.post(move |ground| {
                let unplugged = ground.await_end(&link, queued.elapsed());
                filter.post(move |ground| {
                    finish(ground, unplugged);
                    if let Some(gone) = gone {
                        let _nobody_waits = gone.send(());
                    }
                });
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

fn refused(ground: &mut Ground, names: &Names) -> io::Result<HashMap<String, u64>> {
    nft::counting_set((&names.table, rules::REFUSED), |question| ground.ask(question))
}

/// Tells the table of a yard the machine's own addresses whenever they change.
pub(super) async fn keep_addresses(live: Weak<Live>, changes: Changes) {
    let mut known = None;
    while changes.next().await.is_ok() {
        let Some(live) = live.upgrade() else { return };
        let told = match live.own_addresses() {
            Ok(script) if known.as_ref() == Some(&script) => continue,
            Ok(script) => {
                known = Some(script.clone());
                live.filter.ask(move |ground| ground.run(&script)).await.and_then(|ran| ran)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = told
            && !live.is_gone()
        {
            known = None;
            tracing::error!(error = %error, "the machine's addresses have changed, and the rules of sandboxes have not");
        }
    }
    tracing::error!("changes of the machine's addresses cannot be watched any more");
}

/// Counts refusals and looks after ways out, from time to time.
pub(super) async fn keep_count(live: Weak<Live>) {
    loop {
        tokio::time::sleep(ROUND).await;
        let Some(live) = live.upgrade() else { return };
        if live.is_gone() {
            return;
        }
        live.tell_refusals();
        if live.resolver.clients().is_empty() {
            continue;
        }
        if let Err(error) = live.count_refusals().await {
            tracing::debug!(error = %error, "what was refused to sandboxes cannot be counted");
        }
        live.tell_refusals();
        let tended = live.wiring.ask(Ground::tend).await.and_then(|tended| tended);
        for why in tended.unwrap_or_default() {
            tracing::warn!(%why, "a sandbox's way out had ended; it has another");
        }
    }
}
