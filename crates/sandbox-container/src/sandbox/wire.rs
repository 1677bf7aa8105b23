//! A container's part of the network, if its function has one.

use impuls_sandbox::{NetworkLink, Refusals, Traffic};
use parking_lot::Mutex;

/// The link, and what it had counted when it went.
#[derive(Debug, Default)]
pub(super) struct Wire {
    link: Mutex<Option<Box<dyn NetworkLink>>>,
    refused: Mutex<Refusals>,
}

impl Wire {
    /// From now on the container has this one.
    pub(super) fn plug(&self, link: Box<dyn NetworkLink>) {
        *self.link.lock() = Some(link);
    }

    /// What has passed over it: nothing while there is none.
    pub(super) fn traffic(&self) -> Option<Traffic> {
        self.link.lock().as_ref().map_or_else(|| Some(Traffic::default()), |link| link.traffic())
    }

    /// What was refused, also once it is gone.
    pub(super) fn refused(&self) -> Refusals {
        self.link.lock().as_ref().map_or_else(|| *self.refused.lock(), |link| link.refused())
    }

    /// Takes it away. To be called once nothing runs in the container any more.
    pub(super) async fn cut(&self) {
        let link = self.link.lock().take();
        if let Some(link) = link {
            *self.refused.lock() = link.refused();
            let refused = link.detach().await;
            *self.refused.lock() = refused;
        }
    }
}
