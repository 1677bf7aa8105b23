//! Runtimes without a language: executables of any origin, command lines, and custom runtimes of AWS Lambda. Their
//! sandboxes hold the machine's own programs and libraries, read-only.

use std::sync::Arc;

use impuls_domain::{Contract, Handler};

use crate::agent;
use crate::language::{Installed, Language, SearchPath};

/// One of these runtimes; the contracts tell them apart.
pub struct System {
    name: &'static str,
    aliases: &'static [&'static str],
    contracts: &'static [Contract],
}

/// A zip archive with an executable `bootstrap` that asks the Lambda Runtime API for events.
pub const PROVIDED: System = System {
    name: "provided",
    aliases: &["provided.al2023", "provided.al2"],
    contracts: &[Contract::Bootstrap, Contract::Program, Contract::Http],
};
/// Any executable; the handler is its path within the code.
pub const EXECUTABLE: System = System {
    name: "executable",
    aliases: &[],
    contracts: &[Contract::Program, Contract::Http, Contract::Command],
};
/// A command line of the machine's own programs.
pub const COMMAND: System =
    System { name: "command", aliases: &[], contracts: &[Contract::Command, Contract::Http] };

impl Language for System {
    fn aliases(&self) -> &'static [&'static str] {
        self.aliases
    }

    fn known(&self) -> Vec<String> {
        vec![self.name.to_owned()]
    }

    fn installation_hint(&self, _: &str) -> String {
        "it needs nothing but this server".to_owned()
    }

    fn detect(&self, search: &SearchPath) -> Vec<Installed> {
        let Ok(name) = self.name.parse() else { return Vec::new() };
        let image = Arc::new(agent::system(&name, &search.agent, Vec::new()));
        vec![Installed {
            name,
            order: (0, 0),
            version: String::new(),
            path: search.agent.clone(),
            image: image.clone(),
            agent_image: image,
            interpreter: Vec::new(),
            toolchain: None,
        }]
    }

    fn contracts(&self) -> &'static [Contract] {
        self.contracts
    }

    fn source_files(&self, contract: Contract, handler: &Handler) -> Vec<String> {
        match contract {
            Contract::Bootstrap => vec!["bootstrap".to_owned()],
            _ => vec![self.program(handler)],
        }
    }

    fn program(&self, handler: &Handler) -> String {
        if self.contracts.contains(&Contract::Bootstrap) {
            return "bootstrap".to_owned();
        }
        handler.as_str().to_owned()
    }
}
