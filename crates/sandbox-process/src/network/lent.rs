//! The network as other drivers of the server have it: the same links, table and resolver as process sandboxes.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use async_trait::async_trait;
use impuls_domain::NetworkPolicy;
use impuls_sandbox::{NetworkLink, Refusals, SandboxError, SandboxNetwork, Traffic};

use super::{Attachment, Network};
use crate::driver::Core;

/// The network of a driver, lent.
#[derive(Debug)]
pub(crate) struct Lent {
    core: Arc<Core>,
    network: Arc<Network>,
}

impl Lent {
    pub(crate) const fn new(core: Arc<Core>, network: Arc<Network>) -> Self {
        Self { core, network }
    }
}

#[async_trait]
impl SandboxNetwork for Lent {
    fn resolver(&self) -> Option<Ipv4Addr> {
        self.network.resolver()
    }

    async fn attach(
        &self,
        policy: &NetworkPolicy,
        function: (&str, &str),
        namespace: OwnedFd,
    ) -> Result<Box<dyn NetworkLink>, SandboxError> {
        self.network.check()?;
        let station = self.core.station()?;
        let attachment = self.network.attach(policy, function, namespace, &station.link).await?;
        Ok(Box::new(attachment))
    }
}

#[async_trait]
impl NetworkLink for Attachment {
    fn refused(&self) -> Refusals {
        Self::refused(self)
    }

    fn traffic(&self) -> Option<Traffic> {
        Self::traffic(self)
    }

    async fn detach(self: Box<Self>) -> Refusals {
        Self::detach(*self).await
    }
}
