//! How a change becomes effective for calls; implemented where dispatch and worker are wired together.

use async_trait::async_trait;
use impuls_domain::{Contract, FunctionId, FunctionName, FunctionState, Revision, RuntimeName};
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

    /// Loads the revision's code in a sandbox that is thrown away and says whether it parses and has the
    /// handler. An error that the top level throws is not found here: it belongs to the call.
    async fn check(&self, function: &FunctionName, revision: &Revision) -> FunctionState;

    /// Makes calls see the function as it now is: warms the new revision if the old one was warm, then switches,
    /// then drains the old one. Returns once new calls take the new revision.
    async fn activate(&self, snapshot: &FunctionSnapshot);

    /// Makes the function uncallable and drains its sandboxes.
    async fn remove(&self, id: FunctionId);
}
