//! What handlers work with.

use std::sync::Arc;

use impuls_control::Control;
use impuls_dispatch::Dispatch;
use impuls_ingress::BodyRoom;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::blueprint::CallCounts;
use crate::cache::Cache;
use crate::metrics::Metrics;
use crate::running::Executions;
use crate::stream::WATCHERS;

/// What handlers work with; cheap to clone.
#[derive(Clone)]
pub struct State {
    pub(crate) control: Arc<Control>,
    pub(crate) dispatch: Arc<Dispatch>,
    pub(crate) room: BodyRoom,
    pub(crate) executions: Executions,
    pub(crate) cache: Arc<Mutex<Cache>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) calls: CallCounts,
    pub(crate) watchers: Arc<Semaphore>,
}

impl State {
    /// The state of a server that has run nothing yet.
    #[must_use]
    pub fn new(control: Arc<Control>, dispatch: Arc<Dispatch>) -> Self {
        Self {
            control,
            dispatch,
            room: BodyRoom::default(),
            executions: Executions::default(),
            cache: Arc::default(),
            metrics: Arc::default(),
            calls: CallCounts::default(),
            watchers: Arc::new(Semaphore::new(WATCHERS)),
        }
    }
}
