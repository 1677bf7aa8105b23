//! The drivers of one server, and which of them makes the sandboxes of a function.

use std::sync::Arc;

use impuls_domain::DriverChoice;
use impuls_sandbox::{InitError, InitErrorKind, SandboxDriver};

/// The drivers of one server.
#[derive(Clone)]
pub struct Drivers {
    /// Makes the sandboxes of functions that ask for none in particular, and of commands; the only one whose sandboxes are
    /// made in advance.
    pub standard: Arc<dyn SandboxDriver>,
    /// Makes the sandboxes of builds.
    pub builds: Arc<dyn SandboxDriver>,
    /// Those that a function can ask for by name.
    pub named: Vec<(DriverChoice, Arc<dyn SandboxDriver>)>,
}

impl Drivers {
    /// One driver for everything, which functions can ask for by this name.
    #[must_use]
    pub fn one(name: DriverChoice, driver: Arc<dyn SandboxDriver>) -> Self {
        Self { standard: driver.clone(), builds: driver.clone(), named: vec![(name, driver)] }
    }

    /// The driver of a function that asks for this one; otherwise what its owner is told. A function never gets another
    /// driver than the one that it asks for.
    pub(crate) fn of(&self, choice: DriverChoice) -> Result<&Arc<dyn SandboxDriver>, InitError> {
        if choice == DriverChoice::Auto {
            return Ok(&self.standard);
        }
        let found = self.named.iter().find(|(name, _)| *name == choice).map(|(_, driver)| driver);
        found.ok_or_else(|| {
            let names: Vec<&str> = self.named.iter().map(|(name, _)| name.as_str()).collect();
            let (choice, names) = (choice.as_str(), names.join(", "));
            InitError {
                // Known before any code has run, like code that cannot be read.
                kind: InitErrorKind::Syntax,
                class: "DriverUnavailable".to_owned(),
                message: format!(
                    "this server has no driver {choice:?}; set the function's driver to auto, {names}"
                ),
                stack: None,
                file: None,
                line: None,
            }
        })
    }

    /// Whether a function that asks for this one may have a sandbox that was made in advance.
    pub(crate) fn is_standard(&self, choice: DriverChoice) -> bool {
        let named = self.named.iter().find(|(name, _)| *name == choice);
        choice == DriverChoice::Auto || named.is_some_and(|(_, driver)| Arc::ptr_eq(driver, &self.standard))
    }
}
