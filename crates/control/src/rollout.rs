//! How a change becomes effective for calls; implemented where dispatch and worker are wired together.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use impuls_domain::{Built, Contract, FunctionId, FunctionName, LoadFailure, Revision, RuntimeName};
use impuls_store::FunctionSnapshot;

/// Why a runtime cannot be used here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeRefusal {
    /// Nobody knows such a runtime.
    #[error("runtime {name} is unknown; known runtimes: {}", known.join(", "))]
    Unknown {
        /// What was asked for.
        name: RuntimeName,
        /// Every runtime that could be asked for, with aliases.
        known: Vec<String>,
    },
    /// It is known but this machine does not have it.
    #[error("runtime {name} is not installed on this server; {hint}")]
    NotInstalled {
        /// What was asked for.
        name: RuntimeName,
        /// What to install.
        hint: String,
    },
    /// There is no worker that could say which runtimes there are.
    #[error("no worker is there to run functions; start one with `impuls worker`, or try again later")]
    NoWorker,
    /// Its code cannot be shaped so.
    #[error("runtime {runtime} has no contract {}; it has: {}", contract.as_str(), names(supported))]
    Contract {
        /// The runtime.
        runtime: RuntimeName,
        /// What was asked for.
        contract: Contract,
        /// What it has.
        supported: &'static [Contract],
    },
}

fn names(contracts: &[Contract]) -> String {
    contracts.iter().map(|contract| contract.as_str()).collect::<Vec<_>>().join(", ")
}

/// No build could be made, through no fault of the source.
#[derive(Debug, thiserror::Error)]
#[error("the code cannot be built now")]
pub struct BuildUnavailable(#[source] pub Box<dyn std::error::Error + Send + Sync>);

type Listener = dyn Fn(&str) + Send + Sync;

/// Is given what a build writes, as it comes: pieces of text that may end within a line. Called on the thread that waits for the
/// build, so it must not block. By default nobody listens. Two are equal if they are the same listener.
#[derive(Clone, Default)]
pub struct BuildLog(Option<Arc<Listener>>);

impl BuildLog {
    /// Calls this function.
    pub fn new(function: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(function)))
    }

    /// Nobody listens.
    #[must_use]
    pub const fn nobody() -> Self {
        Self(None)
    }

    /// Passes a piece of text on.
    pub fn write(&self, text: &str) {
        if let Some(listener) = &self.0 {
            listener(text);
        }
    }
}

impl PartialEq for BuildLog {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(another)) => Arc::ptr_eq(one, another),
            (None, None) => true,
            _ => false,
        }
    }
}

impl Eq for BuildLog {}

impl fmt::Debug for BuildLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BuildLog")
    }
}

/// What loading a revision once came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// After how long there was a sandbox to load it in, if there ever was.
    pub sandbox_after: Option<Duration>,
    /// Why the code cannot be called.
    pub failure: Option<LoadFailure>,
}

/// What makes changes effective.
#[async_trait]
pub trait Rollout: Send + Sync + 'static {
    /// The version name of the installed runtime that a name or alias means (`nodejs` is the newest Node).
    fn resolve_runtime(&self, name: &RuntimeName) -> Result<RuntimeName, RuntimeRefusal>;

    /// How code of an installed runtime, by version name, may be shaped; the first is the default.
    fn contracts(&self, runtime: &RuntimeName) -> &'static [Contract];

    /// The names under which the single source file of a revision is laid out, relative to the code folder, such
    /// as `index.js`; the first is the one to show.
    fn source_file_names(&self, revision: &Revision) -> Vec<String>;

    /// Lets calls of a function that has nothing to call yet wait until what is returned is dropped, no longer than
    /// `timeout`.
    fn announce(&self, function: &FunctionName, timeout: Duration) -> Box<dyn Send>;

    /// Builds the revision's source if it has to be, unless the same was built before, and says what came out. What
    /// the build writes goes to `log`.
    async fn build(
        &self,
        function: &FunctionName,
        revision: &Revision,
        log: &BuildLog,
    ) -> Result<Built, BuildUnavailable>;

    /// Loads the revision's code in a sandbox that is thrown away and says why it cannot be called: it does not parse,
    /// or has no such handler. An error that the top level throws is not found here: it belongs to the call.
    async fn check(&self, function: &FunctionName, revision: &Revision) -> Checked;

    /// Makes calls see the function as it now is: warms the new revision if the old one was warm, then switches,
    /// then drains the old one. Returns once new calls take the new revision.
    async fn activate(&self, snapshot: &FunctionSnapshot);

    /// Makes the function uncallable and drains its sandboxes.
    async fn remove(&self, id: FunctionId);
}
