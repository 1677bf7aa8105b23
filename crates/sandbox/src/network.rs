//! The network of a machine's sandboxes, as whoever has it lends it to drivers that have none of their own.
//!
//! A driver that makes network namespaces hands them in and gets a link for each: what a policy means, how names are
//! looked up and what is counted is then the same for sandboxes of every driver.

use std::fmt::Debug;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use async_trait::async_trait;
use impuls_domain::NetworkPolicy;

use crate::driver::{Refusals, Traffic};
use crate::error::SandboxError;

/// A network that sandboxes can be linked to. It outlives the drivers that use it.
#[async_trait]
pub trait SandboxNetwork: Debug + Send + Sync + 'static {
    /// The address that sandboxes ask for names, the same in all of them; `None` where there is no network.
    fn resolver(&self) -> Option<Ipv4Addr>;

    /// Gives a network namespace what a policy other than `off` names, for a function of this name and id. The namespace has
    /// nothing but its loopback, and nothing that runs in it has privileges there. On `Err`, and when dropped half-way,
    /// nothing is left behind.
    async fn attach(
        &self,
        policy: &NetworkPolicy,
        function: (&str, &str),
        namespace: OwnedFd,
    ) -> Result<Box<dyn NetworkLink>, SandboxError>;
}

/// The network of one sandbox. Dropped, it is taken away some time soon.
#[async_trait]
pub trait NetworkLink: Debug + Send + Sync + 'static {
    /// What was refused so far: lookups until now, packets as of some seconds ago.
    fn refused(&self) -> Refusals;

    /// What has passed over it; `None` where that cannot be told, or it is gone.
    fn traffic(&self) -> Option<Traffic>;

    /// Takes it away, and returns when it is gone, with all that was refused. To be called once nothing runs in the
    /// namespace any more.
    async fn detach(self: Box<Self>) -> Refusals;
}
