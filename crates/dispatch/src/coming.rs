//! Functions that are being deployed and have nothing yet that could be called: calls of them wait.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::DispatchError;

/// Calls of one name that may wait; further ones are told to come back.
const WAITERS: usize = 10_000;

/// What is being deployed, by name.
#[derive(Debug, Default)]
pub(crate) struct Coming {
    /// As many as there are announcements, so that calls need no lock while there are none.
    count: AtomicUsize,
    names: Mutex<HashMap<Box<str>, Vec<Arc<Deploy>>>>,
}

/// One deploy.
#[derive(Debug)]
pub(crate) struct Deploy {
    ended: watch::Sender<bool>,
    /// The time that the function gives its calls.
    timeout: Duration,
}

/// A deploy that calls of a name wait for, until this is dropped.
#[derive(Debug)]
pub struct Announcement {
    coming: Arc<Coming>,
    name: Box<str>,
    deploy: Arc<Deploy>,
}

impl Coming {
    pub(crate) fn announce(self: &Arc<Self>, name: &str, timeout: Duration) -> Announcement {
        let deploy = Arc::new(Deploy { ended: watch::Sender::new(false), timeout });
        self.count.fetch_add(1, Ordering::SeqCst);
        self.names.lock().entry(name.into()).or_default().push(deploy.clone());
        Announcement { coming: self.clone(), name: name.into(), deploy }
    }

    /// Whether nothing is being deployed.
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0
    }

    /// The deploy of this name that has been going on for longest, if there is one.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Deploy>> {
        self.names.lock().get(name)?.first().cloned()
    }
}

impl Deploy {
    /// Waits for its end, no longer than the function's timeout; returns how long that took.
    pub(crate) async fn wait(&self, name: &str) -> Result<Duration, DispatchError> {
        let too_long = || DispatchError::Deploying(name.to_owned());
        if self.ended.receiver_count() >= WAITERS {
            return Err(too_long());
        }
        let begun = Instant::now();
        let mut ended = self.ended.subscribe();
        let ended = tokio::time::timeout(self.timeout, ended.wait_for(|ended| *ended)).await;
        ended.map(|_| begun.elapsed()).map_err(|_| too_long())
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        let mut names = self.coming.names.lock();
        if let Some(deploys) = names.get_mut(&self.name) {
            deploys.retain(|deploy| !Arc::ptr_eq(deploy, &self.deploy));
            if deploys.is_empty() {
                names.remove(&self.name);
            }
        }
        drop(names);
        self.coming.count.fetch_sub(1, Ordering::SeqCst);
        self.deploy.ended.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_waits_for_the_deploy_of_its_name_and_no_longer_than_its_timeout() {
        let coming = Arc::new(Coming::default());
        assert!(coming.find("a").is_none());
        let announcement = coming.announce("a", Duration::from_secs(3));
        assert!(coming.find("b").is_none());
        let deploy = coming.find("a").unwrap();
        assert!(matches!(deploy.wait("a").await, Err(DispatchError::Deploying(name)) if name == "a"));
        let waiting = tokio::spawn({
            let deploy = deploy.clone();
            async move { deploy.wait("a").await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(announcement);
        assert_eq!(waiting.await.unwrap().unwrap(), Duration::from_secs(1));
        assert!(coming.find("a").is_none());
        // Whoever found it before it ended does not wait any more.
        assert_eq!(deploy.wait("a").await.unwrap(), Duration::ZERO);
    }

    #[test]
    fn of_two_deploys_of_a_name_one_may_end_before_the_other() {
        let coming = Arc::new(Coming::default());
        let first = coming.announce("a", Duration::from_secs(3));
        let second = coming.announce("a", Duration::from_secs(3));
        drop(first);
        assert!(coming.find("a").is_some());
        drop(second);
        assert!(coming.is_empty() && coming.names.lock().is_empty());
    }
}
