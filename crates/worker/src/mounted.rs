//! Which sandboxes have which folders of code, so that none is removed below a sandbox that is alive.

use std::collections::HashMap;

use impuls_artifacts::CodeFolder;
use impuls_domain::SandboxId;
use parking_lot::Mutex;

/// Folders by the sandboxes that have them.
#[derive(Default)]
pub(crate) struct Mounted(Mutex<HashMap<SandboxId, CodeFolder>>);

impl Mounted {
    /// A sandbox is about to be given this code.
    pub(crate) fn enter(&self, sandbox: SandboxId, code: &CodeFolder) {
        self.0.lock().insert(sandbox, code.clone());
    }

    /// A sandbox is gone. One of which that is not known keeps its folder.
    pub(crate) fn leave(&self, sandbox: SandboxId) {
        self.0.lock().remove(&sandbox);
    }
}
